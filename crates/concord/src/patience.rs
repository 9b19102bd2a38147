//! How long `run --once` waits for systems that cannot be reached: somebody waits for its end. Looks at the status alone.

use concord_engine::error::{Class, Code, Error};
use concord_engine::runtime::status::{Status, SyncStatus};
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::Instant;

/// The longest wait, unless another one was asked for.
pub const USUAL_SECS: u64 = 600;
/// How often is looked while the status does not change.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);

/// Waits until a system has been out of reach for so long while nothing else came forward, and says which. Never answers
/// where all are reached.
pub async fn exhausted(mut status: watch::Receiver<Status>, longest: Duration) -> Error {
    let mut since: Option<(Instant, Vec<u64>)> = None;
    loop {
        let (hindered, progress) = {
            let status = status.borrow_and_update();
            (hindered(&status), progress(&status))
        };
        since = match since {
            _ if hindered.is_empty() => None,
            Some((since, before)) if before == progress => Some((since, before)),
            _ => Some((Instant::now(), progress)),
        };
        if since.as_ref().is_some_and(|(since, _)| since.elapsed() >= longest) {
            let message = format!("given up after {} seconds without {}", longest.as_secs(), hindered.join("; "));
            return Error::new(Code::Unreachable, message);
        }
        tokio::select! {
            changed = status.changed() => if changed.is_err() {
                return std::future::pending().await;
            },
            () = tokio::time::sleep(LOOK_INTERVAL.min(longest)) => {}
        }
    }
}

/// What is waited for. A system that asks for patience is reached.
fn hindered(status: &Status) -> Vec<String> {
    let mut hindered = Vec::new();
    for sync in &status.syncs {
        if let Some(why) = sync.stage.strip_prefix("waiting: ") {
            hindered.push(format!("the systems of {}: {why}", sync.name));
        }
        for member in &sync.members {
            let is_lost = member.reach.starts_with("down") || member.reach.starts_with("unreachable");
            if is_lost && !is_throttled(&member.reach) && !is_over(sync) {
                hindered.push(format!("{}, {}", member.system, member.reach));
            }
        }
    }
    hindered.dedup();
    hindered
}

/// Whether a sync keeps nobody waiting: only a person lets it go on.
fn is_over(sync: &SyncStatus) -> bool {
    ["stopped", "paused", "waiting for approval"].iter().any(|stage| sync.stage.starts_with(stage))
}

fn is_throttled(reach: &str) -> bool {
    Code::ALL.iter().any(|code| code.class() == Class::Throttled && reach.contains(&code.to_string()))
}

/// What grows while anything comes forward.
fn progress(status: &Status) -> Vec<u64> {
    status.syncs.iter().flat_map(|sync| [sync.links, sync.observed, sync.written]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use concord_engine::runtime::status::MemberStatus;

    fn status(stage: &str, reach: &str, written: u64) -> Status {
        let member = MemberStatus { system: "erp".into(), reach: reach.into(), ..MemberStatus::default() };
        let sync =
            SyncStatus { name: "accounts".into(), stage: stage.into(), written, members: vec![member], ..SyncStatus::default() };
        Status { syncs: vec![sync], ..Status::default() }
    }

    #[test]
    fn only_what_is_out_of_reach_is_waited_for() {
        let of = |stage, reach| hindered(&status(stage, reach, 0));
        assert!(of("live", "up").is_empty());
        assert!(of("stopped: CON-2008 gone", "stopped: CON-2008 gone").is_empty());
        assert!(of("live", "down since 9:00: CON-2301 the calls of the day are used up").is_empty());
        assert_eq!(of("live", "down since 9:00: CON-2001 no answer"), ["erp, down since 9:00: CON-2001 no answer"]);
        assert_eq!(of("waiting: CON-2001 no answer", "up"), ["the systems of accounts: CON-2001 no answer"]);
    }

    #[tokio::test(start_paused = true)]
    async fn patience_ends_when_nothing_comes_forward_for_long() {
        let longest = Duration::from_secs(600);
        let (told, told_to) = watch::channel(status("live", "unreachable since 9:00: CON-2001 no answer", 0));
        let begun = Instant::now();
        let telling = async {
            tokio::time::sleep(Duration::from_secs(300)).await;
            told.send_replace(status("live", "unreachable since 9:00: CON-2001 no answer", 7));
            std::future::pending::<()>().await;
        };
        let error = tokio::select! {
            error = exhausted(told_to, longest) => error,
            () = telling => unreachable!(),
        };
        assert!((900..=905).contains(&begun.elapsed().as_secs()), "{:?}", begun.elapsed());
        assert!(error.code == Code::Unreachable && error.message.contains("erp"), "{error}");
    }
}
