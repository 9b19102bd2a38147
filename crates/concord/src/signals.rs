//! How the process is asked to end, and the one place that ends it at once.

use concord_engine::error::{Code, Error, Result};
use tokio_util::sync::CancellationToken;

/// Cancels the token when the process is asked to end: Ctrl-C, or SIGTERM as service managers send it. A second time
/// ends the process at once: nothing is lost by that.
pub async fn on_signal(shutdown: CancellationToken) -> Result<()> {
    use tokio::signal::unix::{SignalKind, signal};
    let unable = |error| Error::new(Code::Internal, "signals cannot be listened to").because(error);
    let mut interrupt = signal(SignalKind::interrupt()).map_err(unable)?;
    let mut terminate = signal(SignalKind::terminate()).map_err(unable)?;
    let mut next = async || {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
    };
    next().await;
    shutdown.cancel();
    next().await;
    std::process::exit(130);
}
