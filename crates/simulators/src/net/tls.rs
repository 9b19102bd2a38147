//! Certificates made at the start: an authority of our own, and a server certificate for the hosts that are simulated.
//! Nothing is stored; a client is told the authority.

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose};
use rustls::ServerConfig;
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use std::sync::Arc;

/// Keys and certificates of one run.
#[derive(Clone, Debug)]
pub struct Identity {
    /// The authority that clients have to trust, as PEM.
    pub authority_pem: String,
    server: Arc<ServerConfig>,
    server_http2: Arc<ServerConfig>,
}

impl Identity {
    /// A new authority and a certificate for these hosts.
    pub fn new(hosts: &[String]) -> Result<Self, String> {
        Self::make(hosts).map_err(|error| format!("cannot make certificates: {error}"))
    }

    fn make(hosts: &[String]) -> Result<Self, Box<dyn std::error::Error>> {
        let mut authority = CertificateParams::new(Vec::new())?;
        authority.distinguished_name.push(DnType::CommonName, "Simulated authority");
        authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        authority.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let authority_key = KeyPair::generate()?;
        let authority_certificate = authority.self_signed(&authority_key)?;
        let issuer = Issuer::new(authority, authority_key);

        let mut leaf = CertificateParams::new(hosts.to_vec())?;
        leaf.distinguished_name.push(DnType::CommonName, "Simulated host");
        leaf.use_authority_key_identifier_extension = true;
        leaf.key_usages = vec![KeyUsagePurpose::DigitalSignature, KeyUsagePurpose::KeyEncipherment];
        leaf.extended_key_usages = vec![rcgen::ExtendedKeyUsagePurpose::ServerAuth];
        let leaf_key = KeyPair::generate()?;
        let certificate = leaf.signed_by(&leaf_key, &issuer)?;

        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = |protocols: &[&str]| -> Result<Arc<ServerConfig>, rustls::Error> {
            let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(leaf_key.serialize_der()));
            let chain = vec![certificate.der().clone(), authority_certificate.der().clone()];
            let mut config = ServerConfig::builder_with_provider(provider.clone())
                .with_safe_default_protocol_versions()?
                .with_no_client_auth()
                .with_single_cert(chain, key)?;
            config.alpn_protocols = protocols.iter().map(|protocol| protocol.as_bytes().to_vec()).collect();
            Ok(Arc::new(config))
        };
        Ok(Self { authority_pem: authority_certificate.pem(), server: config(&["http/1.1"])?, server_http2: config(&["h2"])? })
    }

    /// For HTTP/1.1.
    pub fn http1(&self) -> tokio_rustls::TlsAcceptor {
        self.server.clone().into()
    }

    /// For HTTP/2.
    pub fn http2(&self) -> tokio_rustls::TlsAcceptor {
        self.server_http2.clone().into()
    }
}
