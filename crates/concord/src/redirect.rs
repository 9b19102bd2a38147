//! The door through which a browser brings a person's answer back: one path on a port of loopback, open until the answer has
//! been dealt with. What is no answer to the question, from whoever knocks, is turned away. Shows the person what became of it, and opens the browser where there is one. Knows nothing
//! of what is asked.

use axum::Router;
use axum::extract::{RawQuery, State};
use axum::http::StatusCode;
use axum::http::header::{CACHE_CONTROL, CONTENT_SECURITY_POLICY, REFERRER_POLICY};
use axum::response::{Html, IntoResponse, Response};
use axum::routing::get;
use concord_engine::error::{Code, Error, Result};
use std::io::ErrorKind;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::process::Stdio;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

/// The path behind the port.
const PATH: &str = "/callback";
/// How long the page may take to reach the browser once everything is done.
const GOODBYE_MAX: Duration = Duration::from_secs(2);
/// How many are turned away before it is given up: somebody tries to guess.
const STRANGERS_MAX: usize = 20;
/// How many may wait at the door.
const WAITING_MAX: usize = 4;

/// An open port.
pub struct Door {
    first: TcpListener,
    second: Option<TcpListener>,
    port: u16,
}

/// An answer that came, and the way back to the browser that brought it.
type Brought = (String, oneshot::Sender<Page>);

/// What a person is shown at the end.
struct Page {
    status: StatusCode,
    heading: &'static str,
    text: String,
}

impl Door {
    /// Opens the port; 0 lets the machine choose. Vendors want the name `localhost`, which a browser may take for either
    /// address of loopback: both are opened where the machine has both.
    pub async fn open(port: u16) -> Result<Door> {
        let taken = |error: std::io::Error| {
            let message = format!("port {port} of loopback cannot be opened for the browser's answer");
            Error::new(Code::PortTaken, message).because(error)
        };
        let first = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await.map_err(taken)?;
        let port = first.local_addr().map_err(taken)?.port();
        let second = match TcpListener::bind((Ipv6Addr::LOCALHOST, port)).await {
            Ok(second) => Some(second),
            // Somebody else would get the answer.
            Err(error) if error.kind() == ErrorKind::AddrInUse => return Err(taken(error)),
            Err(_) => None,
        };
        Ok(Door { first, second, port })
    }

    /// Where the browser is sent.
    pub fn url(&self) -> String {
        format!("http://localhost:{}{PATH}", self.port)
    }

    /// Waits for the browser, has its answer dealt with, tells the person what came of it, and closes the door. What is no
    /// answer to what was asked is turned away, and the wait goes on.
    pub async fn answer<T>(
        self,
        wait: Duration,
        is_answer: impl Fn(&str) -> bool,
        deal: impl AsyncFnOnce(String) -> Result<T>,
    ) -> Result<T> {
        let (sender, mut receiver) = mpsc::channel::<Brought>(WAITING_MAX);
        let router = Router::new().route(PATH, get(brought)).with_state(sender);
        let close = CancellationToken::new();
        let servers = async {
            let second = async {
                if let Some(listener) = self.second {
                    serve(listener, router.clone(), close.clone()).await;
                }
            };
            tokio::join!(serve(self.first, router.clone(), close.clone()), second);
        };
        let work = async {
            let brought = tokio::time::timeout(wait, first_answer(&mut receiver, is_answer)).await;
            // Whoever comes now comes too late.
            receiver.close();
            let result = match brought {
                Ok(Ok((query, back))) => {
                    let result = deal(query).await;
                    // A browser that has gone away is told nothing.
                    let _ = back.send(Page::of(&result));
                    result
                }
                Ok(Err(error)) => Err(error),
                Err(_) => {
                    let message = format!("nobody answered in the browser within {} seconds", wait.as_secs());
                    Err(Error::new(Code::ConsentTimedOut, message))
                }
            };
            close.cancel();
            result
        };
        tokio::pin!(servers);
        let result = tokio::select! {
            result = work => result,
            () = &mut servers => return Err(Error::new(Code::PortTaken, "the port for the browser's answer was closed")),
        };
        if tokio::time::timeout(GOODBYE_MAX, servers).await.is_err() {
            tracing::debug!("the browser kept its connection");
        }
        result
    }
}

/// The first that is an answer to what was asked.
async fn first_answer(receiver: &mut mpsc::Receiver<Brought>, is_answer: impl Fn(&str) -> bool) -> Result<Brought> {
    let foreign = |message: String| Error::new(Code::ConsentForeign, message);
    for _ in 0..STRANGERS_MAX {
        let Some((query, back)) = receiver.recv().await else {
            return Err(Error::new(Code::PortTaken, "the port for the browser's answer was closed"));
        };
        if is_answer(&query) {
            return Ok((query, back));
        }
        tracing::warn!("what was brought to the port is no answer to the question: it was turned away");
        let message = "what the browser brought is no answer to the question that was asked: it carries another state";
        let _ = back.send(Page::of(&Err::<(), _>(foreign(message.to_owned()))));
    }
    Err(foreign(format!("{STRANGERS_MAX} times something was brought that is no answer to the question: nothing was accepted")))
}

async fn serve(listener: TcpListener, router: Router, close: CancellationToken) {
    if let Err(error) = axum::serve(listener, router).with_graceful_shutdown(close.cancelled_owned()).await {
        tracing::debug!(%error, "the browser is no longer waited for");
    }
}

async fn brought(State(sender): State<mpsc::Sender<Brought>>, RawQuery(query): RawQuery) -> Response {
    let (back, page) = oneshot::channel();
    if sender.send((query.unwrap_or_default(), back)).await.is_err() {
        let text = "An answer has been dealt with already.".to_owned();
        return Page { status: StatusCode::CONFLICT, heading: "Too late", text }.into_response();
    }
    match page.await {
        Ok(page) => page.into_response(),
        Err(_) => StatusCode::SERVICE_UNAVAILABLE.into_response(),
    }
}

impl Page {
    fn of<T>(result: &Result<T>) -> Page {
        let text = match result {
            Ok(_) => return Page { status: StatusCode::OK, heading: "Connected", text: "You can close this window.".into() },
            Err(error) => format!("{error}. {}", error.code.remedy()),
        };
        Page { status: StatusCode::BAD_REQUEST, heading: "Not connected", text }
    }
}

impl IntoResponse for Page {
    fn into_response(self) -> Response {
        let headers = [
            (CACHE_CONTROL, "no-store"),
            (REFERRER_POLICY, "no-referrer"),
            (CONTENT_SECURITY_POLICY, "default-src 'none'; style-src 'unsafe-inline'"),
        ];
        let Page { status, heading, text } = self;
        let text = text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
        let body = format!(
            "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><title>Concord: {heading}</title>\
             <body style=\"font: 1.1rem/1.5 sans-serif; max-width: 36rem; margin: 20vh auto; padding: 0 1rem\">\
             <h1>{heading}</h1><p>{text}</p>\n"
        );
        (status, headers, Html(body)).into_response()
    }
}

/// Opens an address in the person's browser, where there is a screen to show one. Whether it opens is up to the person's
/// machine: the address is printed all the same.
pub fn open_browser(url: &str) {
    let has_screen =
        ["DISPLAY", "WAYLAND_DISPLAY"].iter().any(|name| std::env::var_os(name).is_some_and(|value| !value.is_empty()));
    let program = match (cfg!(target_os = "macos"), has_screen) {
        (true, _) => "open",
        (false, true) => "xdg-open",
        (false, false) => return,
    };
    let started =
        tokio::process::Command::new(program).arg(url).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
    if let Err(error) = started {
        tracing::debug!(%error, program, "no browser could be opened");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpStream;

    async fn get(port: u16, path: &str) -> String {
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await.unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    }

    #[tokio::test]
    async fn the_first_answer_is_dealt_with_and_its_outcome_is_shown() {
        let door = Door::open(0).await.unwrap();
        let port = door.port;
        let browser = async {
            assert!(get(port, "/favicon.ico").await.starts_with("HTTP/1.1 404"));
            get(port, "/callback?code=1&state=2").await
        };
        let (brought, page) = tokio::join!(door.answer(Duration::from_secs(30), |_| true, async |query| Ok(query)), browser);
        assert_eq!(brought.unwrap(), "code=1&state=2");
        assert!(page.starts_with("HTTP/1.1 200") && page.contains("You can close this window"), "{page}");
        assert!(page.contains("cache-control: no-store"), "{page}");
        assert!(TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await.is_err(), "the door is closed");
    }

    #[tokio::test]
    async fn a_failure_is_shown_with_its_code_and_nothing_of_it_is_markup() {
        let door = Door::open(0).await.unwrap();
        let port = door.port;
        let deal = async |_| Err::<(), _>(Error::new(Code::ConsentDenied, "told <script>"));
        let (result, page) = tokio::join!(door.answer(Duration::from_secs(30), |_| true, deal), get(port, "/callback?error=x"));
        assert_eq!(result.unwrap_err().code, Code::ConsentDenied);
        assert!(page.starts_with("HTTP/1.1 400") && page.contains("CON-5020 told &lt;script&gt;"), "{page}");
    }

    #[tokio::test]
    async fn a_stranger_is_turned_away_and_the_wait_goes_on_but_not_for_ever() {
        let is_ours = |query: &str| query.contains("state=2");
        let door = Door::open(0).await.unwrap();
        let port = door.port;
        let browser = async {
            for foreign in ["/callback", "/callback?code=1&state=3", "/callback?error=access_denied"] {
                let page = get(port, foreign).await;
                assert!(page.starts_with("HTTP/1.1 400") && page.contains("CON-5022"), "{page}");
            }
            get(port, "/callback?code=1&state=2").await
        };
        let (brought, page) = tokio::join!(door.answer(Duration::from_secs(30), is_ours, async |query| Ok(query)), browser);
        assert_eq!(brought.unwrap(), "code=1&state=2");
        assert!(page.starts_with("HTTP/1.1 200"), "{page}");

        let door = Door::open(0).await.unwrap();
        let port = door.port;
        let guesses = async {
            for _ in 0..STRANGERS_MAX {
                get(port, "/callback?state=x").await;
            }
        };
        let (result, ()) = tokio::join!(door.answer(Duration::from_secs(30), is_ours, async |query| Ok(query)), guesses);
        assert_eq!(result.unwrap_err().code, Code::ConsentForeign);
    }

    #[tokio::test]
    async fn a_wait_ends_and_a_taken_port_is_said() {
        let door = Door::open(0).await.unwrap();
        let error = Door::open(door.port).await.err().unwrap();
        assert_eq!(error.code, Code::PortTaken);
        let result = door.answer(Duration::ZERO, |_| true, async |_| Ok(())).await;
        assert_eq!(result.unwrap_err().code, Code::ConsentTimedOut);
    }
}
