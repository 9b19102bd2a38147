//! JWTs of the bearer flow: RS256 signatures and claims. Reads what clients really send, an `exp` written as text too.

use aws_lc_rs::signature::{RSA_PKCS1_2048_8192_SHA256, UnparsedPublicKey};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use serde_json::Value as Json;

/// What an assertion claims.
#[derive(Debug)]
pub struct Claims {
    pub issuer: String,
    pub subject: String,
    pub audience: Vec<String>,
    pub expires_s: i64,
}

/// The claims of an assertion, its signature not yet looked at.
pub fn claims(assertion: &str) -> Option<Claims> {
    let mut parts = assertion.split('.');
    let (header, payload) = (parts.next()?, parts.next()?);
    let json = |part: &str| serde_json::from_slice::<Json>(&URL_SAFE_NO_PAD.decode(part).ok()?).ok();
    if json(header)?.get("alg")?.as_str()? != "RS256" {
        return None;
    }
    let payload = json(payload)?;
    let text = |key: &str| payload.get(key).and_then(Json::as_str).map(String::from);
    let audience = match payload.get("aud")? {
        Json::Array(all) => all.iter().filter_map(Json::as_str).map(String::from).collect(),
        one => vec![one.as_str()?.to_string()],
    };
    let expires_s = match payload.get("exp")? {
        Json::String(text) => text.parse().ok()?,
        number => number.as_i64()?,
    };
    Some(Claims { issuer: text("iss")?, subject: text("sub")?, audience, expires_s })
}

/// Whether the assertion was signed with the key that belongs to this public key or certificate.
pub fn signed(assertion: &str, pem: &str) -> bool {
    let Some((message, signature)) = assertion.rsplit_once('.') else { return false };
    let Ok(signature) = URL_SAFE_NO_PAD.decode(signature) else { return false };
    let Some(key) = public_key(pem) else { return false };
    UnparsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, key).verify(message.as_bytes(), &signature).is_ok()
}

/// The DER of a public key: its own PEM, or out of a certificate's.
fn public_key(pem: &str) -> Option<Vec<u8>> {
    let body: String = pem.lines().filter(|line| !line.starts_with("-----")).map(str::trim).collect();
    let der = STANDARD.decode(body).ok()?;
    if !pem.contains("CERTIFICATE") {
        return Some(der);
    }
    // Certificate ::= SEQUENCE { tbs SEQUENCE { [0] version, serial, algorithm, issuer, validity, subject, key … } … }
    let (_, certificate, _) = element(&der)?;
    let (_, mut tbs, _) = element(certificate)?;
    if tbs.first() == Some(&0xA0) {
        tbs = element(tbs)?.2;
    }
    for _ in 0..5 {
        tbs = element(tbs)?.2;
    }
    let rest = element(tbs)?.2;
    tbs.get(..tbs.len() - rest.len()).map(<[u8]>::to_vec)
}

/// The first element of a DER text: its tag, its content, what follows.
fn element(der: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (tag, rest) = der.split_first()?;
    let (first, mut rest) = rest.split_first()?;
    let mut length = usize::from(*first);
    if length > 0x7F {
        let (digits, after) = rest.split_at_checked(length & 0x7F)?;
        length = digits.iter().try_fold(0_usize, |sum, digit| sum.checked_mul(256)?.checked_add(usize::from(*digit)))?;
        rest = after;
    }
    let (content, after) = rest.split_at_checked(length)?;
    Some((*tag, content, after))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_expiry_written_as_text_is_read() {
        let part = |json: &str| URL_SAFE_NO_PAD.encode(json);
        let assertion = format!(
            "{}.{}.sig",
            part(r#"{"alg":"RS256"}"#),
            part(r#"{"iss":"app","sub":"ada@x.example","aud":"https://login.salesforce.com","exp":"1767225600"}"#)
        );
        let claims = claims(&assertion).expect("claims");
        assert_eq!((claims.issuer.as_str(), claims.expires_s), ("app", 1_767_225_600));
    }

    #[test]
    fn other_algorithms_are_refused() {
        let assertion = format!("{}.{}.", URL_SAFE_NO_PAD.encode(r#"{"alg":"none"}"#), URL_SAFE_NO_PAD.encode("{}"));
        assert!(claims(&assertion).is_none());
    }
}
