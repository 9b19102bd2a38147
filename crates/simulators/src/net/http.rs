//! HTTP/1.1 with and without TLS: whole requests in, whole answers out, or a connection cut instead.

use bytes::Bytes;
use futures_util::future::BoxFuture;
use futures_util::stream;
use http_body_util::{BodyExt, Full, Limited, StreamBody, combinators::BoxBody};
use hyper::body::{Frame, Incoming};
use hyper_util::rt::TokioIo;
use std::convert::Infallible;
use std::sync::Arc;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// Largest body that is read, compressed or not.
pub const BODY_BYTES_MAX: usize = 160 * 1024 * 1024;

/// A request, read whole.
#[derive(Clone, Debug)]
pub struct Request {
    pub secure: bool,
    pub host: String,
    pub method: String,
    pub path: String,
    pub query: String,
    pub headers: http::HeaderMap,
    pub body: Bytes,
}

/// An answer.
#[derive(Clone, Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: Bytes,
}

/// What is done about a request.
#[derive(Clone, Debug)]
pub enum Outcome {
    Answer(Answer),
    /// The connection is cut.
    Cut,
    /// The connection is cut behind so many bytes of the body, and before its last one in any case.
    Truncated(Answer, usize),
}

/// Who answers.
pub trait Handler: Send + Sync + 'static {
    fn handle(self: Arc<Self>, request: Request) -> BoxFuture<'static, Outcome>;
}

impl Request {
    /// A header's text.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }
}

impl Answer {
    /// A header's text.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(own, _)| own.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }

    /// An answer in JSON.
    pub fn json(status: u16, body: &impl serde::Serialize) -> Self {
        let body = serde_json::to_vec(body).unwrap_or_default();
        Self { status, headers: vec![("Content-Type".into(), "application/json;charset=UTF-8".into())], body: body.into() }
    }

    /// An answer without a body.
    pub fn empty(status: u16) -> Self {
        Self { status, headers: Vec::new(), body: Bytes::new() }
    }

    /// An answer of another type.
    pub fn of(status: u16, kind: &str, body: impl Into<Bytes>) -> Self {
        Self { status, headers: vec![("Content-Type".into(), kind.into())], body: body.into() }
    }

    /// With one more header.
    pub fn with(mut self, name: &str, value: impl Into<String>) -> Self {
        self.headers.push((name.to_string(), value.into()));
        self
    }
}

/// Serves until `shutdown`; every connection is a task of `tasks`.
pub async fn serve(
    listener: TcpListener,
    tls: Option<TlsAcceptor>,
    handler: Arc<dyn Handler>,
    tasks: TaskTracker,
    shutdown: CancellationToken,
) {
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = shutdown.cancelled() => return,
        };
        let Ok((socket, _)) = accepted else { continue };
        let _ = socket.set_nodelay(true);
        let (tls, handler, shutdown) = (tls.clone(), handler.clone(), shutdown.clone());
        tasks.spawn(async move {
            let work = async {
                match tls {
                    Some(tls) => {
                        if let Ok(socket) = tls.accept(socket).await {
                            connection(socket, true, handler).await;
                        }
                    }
                    None => connection(socket, false, handler).await,
                }
            };
            tokio::select! {
                () = work => {}
                () = shutdown.cancelled() => {}
            }
        });
    }
}

type Body = BoxBody<Bytes, Cut>;

/// The connection ends here, on purpose.
#[derive(Debug)]
struct Cut;

impl std::fmt::Display for Cut {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("cut on purpose")
    }
}

impl std::error::Error for Cut {}

async fn connection(socket: impl AsyncRead + AsyncWrite + Unpin, secure: bool, handler: Arc<dyn Handler>) {
    let service = hyper::service::service_fn(|request: hyper::Request<Incoming>| {
        let handler = handler.clone();
        async move {
            let request = read(request, secure).await.ok_or(Cut)?;
            match handler.handle(request).await {
                Outcome::Answer(answer) => response(answer, None),
                Outcome::Truncated(answer, bytes) => response(answer, Some(bytes)),
                Outcome::Cut => Err(Cut),
            }
        }
    });
    let mut builder = hyper::server::conn::http1::Builder::new();
    builder.max_buf_size(64 * 1024);
    // An error here is a client that went away, or a connection that was cut.
    let _ = builder.serve_connection(TokioIo::new(socket), service).await;
}

async fn read(request: hyper::Request<Incoming>, secure: bool) -> Option<Request> {
    let (parts, body) = request.into_parts();
    let host = parts.headers.get("host").and_then(|host| host.to_str().ok()).unwrap_or("").to_string();
    let body = Limited::new(body, BODY_BYTES_MAX).collect().await.ok()?.to_bytes();
    Some(Request {
        secure,
        host,
        method: parts.method.to_string(),
        path: parts.uri.path().to_string(),
        query: parts.uri.query().unwrap_or("").to_string(),
        headers: parts.headers,
        body,
    })
}

fn response(answer: Answer, cut_after: Option<usize>) -> Result<hyper::Response<Body>, Cut> {
    let mut builder = hyper::Response::builder().status(answer.status);
    for (name, value) in &answer.headers {
        builder = builder.header(name, value);
    }
    let never = |never: Infallible| match never {};
    let body: Body = match cut_after {
        None => Full::new(answer.body).map_err(never).boxed(),
        Some(bytes) => {
            builder = builder.header("Content-Length", answer.body.len());
            // An answer that is no longer than that breaks off before its end, too.
            let front = answer.body.slice(..bytes.min(answer.body.len().saturating_sub(1)));
            BodyExt::boxed(StreamBody::new(stream::iter([Ok(Frame::data(front)), Err(Cut)])))
        }
    };
    builder.body(body).map_err(|_| Cut)
}

/// `%41` and `+` of queries and forms.
pub fn decode(text: &str, plus_is_space: bool) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        match byte {
            b'+' if plus_is_space => bytes.push(b' '),
            b'%' => {
                let digits: String = rest.by_ref().take(2).map(char::from).collect();
                match u8::from_str_radix(&digits, 16) {
                    Ok(byte) if digits.len() == 2 => bytes.push(byte),
                    _ => bytes.extend(std::iter::once(b'%').chain(digits.bytes())),
                }
            }
            other => bytes.push(other),
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// The parameters of a query or a form, in their order.
pub fn parameters(text: &str) -> Vec<(String, String)> {
    let pairs = text.split('&').filter(|pair| !pair.is_empty());
    pairs.map(|pair| pair.split_once('=').unwrap_or((pair, ""))).map(|(k, v)| (decode(k, true), decode(v, true))).collect()
}

/// The opposite of [`decode`].
pub fn encode(text: &str) -> String {
    let mut encoded = String::new();
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            encoded.push_str(&format!("%{byte:02X}"));
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_decoded() {
        let found = parameters("q=SELECT+Id%20FROM+Account&empty=&flag");
        let pair = |a: &str, b: &str| (a.to_string(), b.to_string());
        assert_eq!(found, [pair("q", "SELECT Id FROM Account"), pair("empty", ""), pair("flag", "")]);
        assert_eq!(decode("a%zzb%4", false), "a%zzb%4");
        assert_eq!(decode(&encode("ä /+%"), false), "ä /+%");
    }
}
