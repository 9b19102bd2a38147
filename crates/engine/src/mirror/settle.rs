//! What of the written changes is safe in the target, and up to where the source may forget. A commit that waits for the disk
//! would hold up every change behind it, so that is waited for beside the writing.

use super::bulk::MirrorSession;
use crate::change::Position;
use crate::error::Result;
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// How often the target is made to reach its disk while changes keep coming.
const SETTLE_INTERVAL: Duration = Duration::from_millis(100);

/// What is written and not safe yet.
pub(super) struct Settling {
    session: Arc<dyn MirrorSession>,
    /// Written up to here.
    written: Option<Position>,
    /// On its way to the disk: up to where.
    running: Option<(Position, BoxFuture<'static, Result<()>>)>,
    begun: Instant,
}

impl Settling {
    pub fn new(session: &Arc<dyn MirrorSession>) -> Settling {
        Settling { session: Arc::clone(session), written: None, running: None, begun: Instant::now() }
    }

    /// Something was written that brings the target up to here.
    pub fn wrote(&mut self, upto: Position) {
        self.written = Some(upto);
        if self.begun.elapsed() >= SETTLE_INTERVAL {
            self.begin();
        }
    }

    /// All that was written is safe by other means.
    pub fn is_safe(&mut self) {
        self.written = None;
        self.running = None;
    }

    /// Has what was written reach the disk now, unless that is under way.
    pub fn begin(&mut self) {
        if self.running.is_some() {
            return;
        }
        if let Some(upto) = self.written.take() {
            let session = Arc::clone(&self.session);
            self.running = Some((upto, async move { session.settle().await }.boxed()));
            self.begun = Instant::now();
        }
    }

    /// Up to where everything is safe, once that is so; never, where nothing is under way. Cancel-safe.
    pub async fn safe(&mut self) -> Result<Position> {
        let Some((_, settled)) = &mut self.running else { return std::future::pending().await };
        let settled = settled.await;
        match self.running.take() {
            Some((upto, _)) => settled.map(|()| upto),
            None => std::future::pending().await,
        }
    }
}
