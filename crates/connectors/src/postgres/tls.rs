//! TLS for every connection to the server: what each `sslmode` trusts, with the provider named explicitly.
//! Certificates are read here and nowhere else; nothing is trusted that the mode does not say.

use super::config::{Config, SslMode};
use concord_engine::error::{Code, Error, Result};
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use std::path::Path;
use std::sync::Arc;

/// How far the server's certificate is looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trust {
    /// Not at all.
    Anything,
    /// It must come from a trusted authority.
    Authority,
    /// It must come from a trusted authority and name the host.
    AuthorityAndHost,
}

/// What a mode trusts. As in libpq, `require` with a root certificate verifies like `verify-ca`.
pub fn trust(config: &Config) -> Trust {
    match config.sslmode {
        SslMode::VerifyFull => Trust::AuthorityAndHost,
        SslMode::VerifyCa => Trust::Authority,
        SslMode::Require if config.sslrootcert.is_some() => Trust::Authority,
        SslMode::Disable | SslMode::Allow | SslMode::Prefer | SslMode::Require => Trust::Anything,
    }
}

/// The client side of TLS as configured.
pub fn client(config: &Config) -> Result<ClientConfig> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(|error| failed("no protocol version is left").because(error))?
        .dangerous()
        .with_custom_certificate_verifier(verifier(config, &provider)?);
    match (&config.sslcert, &config.sslkey) {
        (Some(certificate), Some(key)) => builder
            .with_client_auth_cert(certificates(certificate)?, private_key(key)?)
            .map_err(|error| failed("sslcert and sslkey do not belong together").because(error)),
        (None, None) => Ok(builder.with_no_client_auth()),
        _ => Err(failed("sslcert and sslkey are given only together")),
    }
}

fn failed(what: impl Into<String>) -> Error {
    Error::new(Code::TlsFailed, what)
}

fn verifier(config: &Config, provider: &Arc<CryptoProvider>) -> Result<Arc<dyn ServerCertVerifier>> {
    let trust = trust(config);
    if trust == Trust::Anything {
        return Ok(Arc::new(Lenient { chain: None, provider: Arc::clone(provider) }));
    }
    let mut roots = RootCertStore::empty();
    match &config.sslrootcert {
        Some(path) => {
            let (added, _) = roots.add_parsable_certificates(certificates(path)?);
            if added == 0 {
                return Err(failed(format!("{} holds no certificate of an authority", path.display())));
            }
        }
        None => roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned()),
    }
    let chain = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::clone(provider))
        .build()
        .map_err(|error| failed("the trusted authorities cannot be used").because(error))?;
    match trust {
        Trust::AuthorityAndHost => Ok(chain),
        _ => Ok(Arc::new(Lenient { chain: Some(chain), provider: Arc::clone(provider) })),
    }
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>> {
    CertificateDer::pem_file_iter(path)
        .and_then(Iterator::collect)
        .map_err(|error| failed(format!("{} cannot be read as PEM certificates", path.display())).because(error))
}

fn private_key(path: &Path) -> Result<PrivateKeyDer<'static>> {
    PrivateKeyDer::from_pem_file(path)
        .map_err(|error| failed(format!("{} cannot be read as a PEM private key", path.display())).because(error))
}

/// A verifier that does not look at the host's name, and at the chain only where there is one to compare with.
/// The handshake's signature is verified in any case.
#[derive(Debug)]
struct Lenient {
    chain: Option<Arc<WebPkiServerVerifier>>,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Lenient {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> std::result::Result<ServerCertVerified, rustls::Error> {
        let Some(chain) = &self.chain else {
            return Ok(ServerCertVerified::assertion());
        };
        match chain.verify_server_cert(certificate, intermediates, server, ocsp, now) {
            Err(rustls::Error::InvalidCertificate(
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
            )) => Ok(ServerCertVerified::assertion()),
            other => other,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> std::result::Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls12_signature(message, certificate, signature, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> std::result::Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls13_signature(message, certificate, signature, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
