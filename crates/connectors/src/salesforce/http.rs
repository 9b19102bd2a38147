//! One HTTP exchange with the org, over TLS or plainly on loopback: what comes back, or whether the request may have
//! arrived all the same. Knows no session, retries nothing and reads no body's meaning.

use super::coding::Gunzip;
use bytes::Bytes;
use concord_engine::error::{Code, Error, Result};
use http::{HeaderMap, Request};
use http_body_util::{BodyExt, Full, Limited};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// The most bytes of one answer (invariant 10): a page of 2,000 wide records stays far below.
const ANSWER_BYTES_MAX: usize = 256 * 1024 * 1024;
/// How long an idle connection is kept.
const IDLE: Duration = Duration::from_secs(50);

/// Makes exchanges.
#[derive(Clone)]
pub(super) struct Http {
    client: Client<HttpsConnector<HttpConnector>, Full<Bytes>>,
    timeout: Duration,
}

/// What came back.
pub(super) struct Answer {
    pub status: u16,
    pub headers: HeaderMap,
    pub body: Bytes,
}

impl Answer {
    /// A header's text.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }
}

/// An exchange without an answer.
#[derive(Debug)]
pub(super) struct Failure {
    pub error: Error,
    /// Whether the request may have arrived, and taken effect.
    pub sent: bool,
}

impl From<Failure> for Error {
    fn from(failure: Failure) -> Error {
        failure.error
    }
}

impl From<Error> for Failure {
    /// An error from before anything was sent.
    fn from(error: Error) -> Failure {
        Failure { error, sent: false }
    }
}

/// What is trusted: the usual authorities, and those of the configured file.
pub(super) fn tls(authorities: Option<&Path>) -> Result<ClientConfig> {
    let mut roots = RootCertStore::empty();
    roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
    if let Some(path) = authorities {
        let failed = || Error::new(Code::TlsFailed, format!("{} holds no certificate of an authority", path.display()));
        let found = CertificateDer::pem_file_iter(path).map_err(|error| failed().because(error))?;
        let found: Vec<CertificateDer<'static>> = found.flatten().collect();
        if roots.add_parsable_certificates(found).0 == 0 {
            return Err(failed());
        }
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| Error::new(Code::TlsFailed, "no protocol version is left").because(error))?;
    Ok(builder.with_root_certificates(roots).with_no_client_auth())
}

/// Why a body did not come to its end.
type BrokenOff = Box<dyn std::error::Error + Send + Sync>;

/// A body, taken apart as it comes where it is compressed.
async fn whole<B>(mut body: B, is_compressed: bool) -> std::result::Result<Bytes, BrokenOff>
where
    B: BodyExt<Data = Bytes, Error = BrokenOff> + Unpin,
{
    if !is_compressed {
        return Ok(body.collect().await?.to_bytes());
    }
    let (mut gunzip, mut is_empty) = (Gunzip::new(ANSWER_BYTES_MAX), true);
    let has_none = body.size_hint().exact() == Some(0);
    while let Some(frame) = body.frame().await {
        if let Some(part) = frame?.data_ref() {
            is_empty &= part.is_empty();
            gunzip.add(part)?;
        }
    }
    // Nothing at all, as an answer without a body has it, is not compressed, whatever somebody on the way has called it.
    Ok(if is_empty && has_none { Bytes::new() } else { gunzip.finish()?.into() })
}

impl Http {
    /// Exchanges with servers that these further authorities (PEM) vouch for, none of which takes longer than `timeout`.
    pub fn new(authorities: Option<&Path>, timeout: Duration) -> Result<Http> {
        let connector = HttpsConnectorBuilder::new().with_tls_config(tls(authorities)?).https_or_http().enable_http1().build();
        let client = Client::builder(TokioExecutor::new()).pool_idle_timeout(IDLE).pool_timer(TokioTimer::new()).build(connector);
        Ok(Http { client, timeout })
    }

    /// One exchange.
    pub async fn exchange(&self, request: Request<Full<Bytes>>) -> std::result::Result<Answer, Failure> {
        let unreachable = |what: &str| Error::new(Code::Unreachable, what.to_owned());
        let all = async {
            let answer = self.client.request(request).await.map_err(|error| {
                let sent = !error.is_connect();
                Failure { error: unreachable("the system could not be reached, or cut the connection").because(error), sent }
            })?;
            let (parts, body) = answer.into_parts();
            let coding = parts.headers.get("content-encoding").and_then(|coding| coding.to_str().ok());
            let is_compressed = coding.is_some_and(|coding| coding.eq_ignore_ascii_case("gzip"));
            let body = whole(Limited::new(body, ANSWER_BYTES_MAX), is_compressed)
                .await
                .map_err(|error| Failure { error: unreachable("the answer broke off").because(error), sent: true })?;
            Ok(Answer { status: parts.status.as_u16(), headers: parts.headers, body })
        };
        match tokio::time::timeout(self.timeout, all).await {
            Ok(result) => result,
            Err(_) => Err(Failure { error: unreachable("the system did not answer in time"), sent: true }),
        }
    }
}
