//! Which way change events take: gRPC, or long polling where gRPC is closed and the configuration leaves the choice to us. Owns
//! what was found out, and for how long it counts; opens nothing.

use super::config::Events;
use concord_engine::error::{Code, Error};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use tokio::time::Instant;

/// How long a closed way is left alone before it is tried again, when a stream is opened anew.
const CLOSED_FOR: Duration = Duration::from_secs(600);

/// A way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    /// The Pub/Sub API.
    Grpc,
    /// The Streaming API.
    LongPolling,
}

/// The choice.
pub(super) struct Transport {
    asked: Events,
    /// Why gRPC does not work, and since when.
    closed: Mutex<Option<(String, Instant)>>,
}

impl Transport {
    pub fn new(asked: Events) -> Transport {
        Transport { asked, closed: Mutex::default() }
    }

    /// Which way is tried first.
    pub fn first(&self) -> Way {
        let closed = self.closed.lock().unwrap_or_else(PoisonError::into_inner);
        let is_closed = closed.as_ref().is_some_and(|(_, since)| since.elapsed() < CLOSED_FOR);
        match self.asked {
            Events::LongPolling => Way::LongPolling,
            Events::Auto if is_closed => Way::LongPolling,
            Events::Auto | Events::Grpc => Way::Grpc,
        }
    }

    /// Whether the other way is worth a try after this error.
    pub fn has_another(&self, error: &Error) -> bool {
        self.asked == Events::Auto && error.code == Code::Unreachable
    }

    /// gRPC works.
    pub fn is_open(&self) {
        *self.closed.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// gRPC does not work, and the other way does.
    pub fn is_closed(&self, why: &Error) {
        let mut closed = self.closed.lock().unwrap_or_else(PoisonError::into_inner);
        if closed.is_none() {
            tracing::warn!(error = why.chain(), "change events come by long polling, for gRPC is closed");
        }
        *closed = Some((why.message.clone(), Instant::now()));
    }

    /// Why events come by long polling; `None` where they do not.
    pub fn why_polled(&self) -> Option<String> {
        let closed = self.closed.lock().unwrap_or_else(PoisonError::into_inner);
        match self.asked {
            Events::LongPolling => Some("as the configuration wants it".to_owned()),
            Events::Auto => closed.as_ref().map(|(why, _)| format!("gRPC is closed: {why}")),
            Events::Grpc => None,
        }
    }
}
