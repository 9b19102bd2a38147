//! The signed assertion of the JWT bearer flow: RS256 over three claims and an end. Reads the private key and shows it to
//! nobody. <https://help.salesforce.com/s/articleView?id=xcloud.remoteaccess_oauth_jwt_flow.htm>

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{RSA_PKCS1_SHA256, RsaKeyPair};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use concord_engine::config::SecretText;
use concord_engine::error::{Code, Error, Result};
use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::pem::PemObject;

/// Seconds that an assertion is good for; more than three minutes is refused.
const LIFE_SECONDS: i64 = 150;

/// An assertion: we are this app, acting as this user, and ask this host, now.
pub(super) fn assertion(app: &str, username: &str, audience: &str, now_seconds: i64, key: &SecretText) -> Result<SecretText> {
    let unusable = |what: &str| Error::new(Code::AuthenticationFailed, format!("credentials.private_key {what}"));
    let pair = match PrivateKeyDer::from_pem_slice(key.expose().as_bytes()) {
        Ok(PrivateKeyDer::Pkcs8(key)) => RsaKeyPair::from_pkcs8(key.secret_pkcs8_der()),
        Ok(PrivateKeyDer::Pkcs1(key)) => RsaKeyPair::from_der(key.secret_pkcs1_der()),
        _ => return Err(unusable("is no private key in PEM")),
    };
    let pair = pair.map_err(|_| unusable("is no RSA key of 2048 bits or more"))?;
    let claims =
        serde_json::json!({"iss": app, "sub": username, "aud": audience, "exp": now_seconds.saturating_add(LIFE_SECONDS)});
    let text = format!("{}.{}", URL_SAFE_NO_PAD.encode(r#"{"alg":"RS256"}"#), URL_SAFE_NO_PAD.encode(claims.to_string()));
    let mut signature = vec![0; pair.public_modulus_len()];
    pair.sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), text.as_bytes(), &mut signature)
        .map_err(|_| unusable("could not sign"))?;
    Ok(SecretText::new(format!("{text}.{}", URL_SAFE_NO_PAD.encode(signature))))
}
