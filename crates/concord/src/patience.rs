//! How long `run --once` waits for systems that cannot be reached: somebody waits for its end. Looks at the status alone.

use concord_engine::error::{Class, Code, Error};
use concord_engine::runtime::status::{Status, SyncStatus};
use std::collections::BTreeSet;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::Instant;

/// The longest wait, unless another one was asked for.
pub const USUAL_SECS: u64 = 600;
/// How often is looked while the status does not change.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);

/// Waits until systems have been out of reach for so long, and nothing is written to them, while the other syncs have been level;
/// says which. Never answers where all are reached.
pub async fn exhausted(mut status: watch::Receiver<Status>, longest: Duration) -> Error {
    let mut levelled: BTreeSet<String> = BTreeSet::new();
    let mut since: Option<(Instant, u64)> = None;
    loop {
        let hindered = {
            let status = status.borrow_and_update();
            let hindered = hindered(&status);
            let is_hindered = |sync: &&SyncStatus| hindered.iter().any(|(name, _)| *name == sync.name);
            levelled.extend(status.syncs.iter().filter(|sync| sync.level).map(|sync| sync.name.clone()));
            let is_done = |sync: &SyncStatus| is_over(sync) || waits_for_others(sync) || levelled.contains(&sync.name);
            let others_are_done = status.syncs.iter().filter(|sync| !is_hindered(sync)).all(is_done);
            let written: u64 = status.syncs.iter().filter(is_hindered).map(|sync| sync.written).sum();
            since = match since {
                _ if hindered.is_empty() || !others_are_done => None,
                Some((since, before)) if before == written => Some((since, before)),
                _ => Some((Instant::now(), written)),
            };
            hindered
        };
        if since.as_ref().is_some_and(|(since, _)| since.elapsed() >= longest) {
            let mut what: Vec<String> = hindered.into_iter().map(|(_, what)| what).collect();
            what.dedup();
            let message = format!("given up after {} seconds without {}", longest.as_secs(), what.join("; "));
            return Error::new(Code::Unreachable, message);
        }
        tokio::select! {
            changed = status.changed() => if changed.is_err() {
                return std::future::pending().await;
            },
            () = tokio::time::sleep(LOOK_INTERVAL) => {}
        }
    }
}

/// The syncs whose systems are waited for, and what is. A system that asks for patience is reached.
fn hindered(status: &Status) -> Vec<(String, String)> {
    let mut hindered = Vec::new();
    for sync in &status.syncs {
        if let Some(why) = sync.stage.strip_prefix("waiting: ").filter(|_| !is_throttled(sync.code)) {
            hindered.push((sync.name.clone(), format!("the systems of {}: {why}", sync.name)));
        }
        for member in &sync.members {
            let is_lost = member.reach.starts_with("down") || member.reach.starts_with("unreachable");
            if is_lost && !is_throttled(member.code) && !is_over(sync) {
                hindered.push((sync.name.clone(), format!("{}, {}", member.system, member.reach)));
            }
        }
    }
    hindered
}

/// Whether a sync keeps nobody waiting: only a person lets it go on.
fn is_over(sync: &SyncStatus) -> bool {
    ["stopped", "paused", "waiting for approval"].iter().any(|stage| sync.stage.starts_with(stage))
}

/// Whether all that a sync does is to wait for another one, which is looked at by itself.
fn waits_for_others(sync: &SyncStatus) -> bool {
    sync.mode == "mirror" && !sync.waits_for.is_empty()
}

fn is_throttled(code: Option<Code>) -> bool {
    code.is_some_and(|code| code.class() == Class::Throttled)
}

#[cfg(test)]
mod tests {
    use super::*;
    use concord_engine::runtime::status::MemberStatus;

    const LOST: Option<Code> = Some(Code::Unreachable);
    const USED_UP: Option<Code> = Some(Code::HostedAllowanceUsed);

    /// `code`: why the sync waits, and why its member cannot be reached.
    fn status(stage: &str, reach: &str, code: Option<Code>, written: u64) -> Status {
        let member = MemberStatus { system: "erp".into(), reach: reach.into(), code, ..MemberStatus::default() };
        let (name, stage, members) = ("accounts".into(), stage.into(), vec![member]);
        let sync = SyncStatus { name, stage, code, written, members, ..SyncStatus::default() };
        Status { syncs: vec![sync], ..Status::default() }
    }

    #[test]
    fn only_what_is_out_of_reach_is_waited_for() {
        let of =
            |stage, reach, code| hindered(&status(stage, reach, code, 0)).into_iter().map(|(_, what)| what).collect::<Vec<_>>();
        assert!(of("waiting: the calls of the day are used up", "up", USED_UP).is_empty());
        assert!(of("live", "up", None).is_empty());
        assert!(of("stopped: gone", "stopped: gone", Some(Code::FeedGap)).is_empty());
        assert!(of("live", "down since 9:00: the calls of the day are used up", USED_UP).is_empty());
        // What a message quotes decides nothing.
        assert_eq!(of("live", "down since 9:00: no CON-2301", LOST), ["erp, down since 9:00: no CON-2301"]);
        assert_eq!(of("waiting: no CON-2301", "up", LOST), ["the systems of accounts: no CON-2301"]);
    }

    #[tokio::test(start_paused = true)]
    async fn patience_ends_when_nothing_comes_forward_for_long() {
        let longest = Duration::from_secs(600);
        let (told, told_to) = watch::channel(status("live", "unreachable since 9:00: CON-2001 no answer", LOST, 0));
        let begun = Instant::now();
        let telling = async {
            tokio::time::sleep(Duration::from_secs(300)).await;
            told.send_replace(status("live", "unreachable since 9:00: CON-2001 no answer", LOST, 7));
            std::future::pending::<()>().await;
        };
        let error = tokio::select! {
            error = exhausted(told_to, longest) => error,
            () = telling => unreachable!(),
        };
        assert!((900..=905).contains(&begun.elapsed().as_secs()), "{:?}", begun.elapsed());
        assert!(error.code == Code::Unreachable && error.message.contains("erp"), "{error}");
    }

    // What is read on the other side meanwhile, and a sync that has been level, keep nobody waiting; one that still works does.
    #[tokio::test(start_paused = true)]
    async fn what_goes_on_elsewhere_is_waited_for_until_it_has_been_level_and_no_longer() {
        let lost = "unreachable since 9:00: CON-2001 no answer";
        let with = |observed: u64, level: bool| {
            let mut told = status("live", lost, LOST, 0);
            told.syncs[0].observed = observed;
            let other = SyncStatus { name: "orders".into(), stage: "live".into(), level, observed, ..SyncStatus::default() };
            told.syncs.push(other);
            told
        };
        let (told, told_to) = watch::channel(with(0, false));
        let begun = Instant::now();
        let telling = async {
            for second in 1.. {
                tokio::time::sleep(Duration::from_secs(1)).await;
                told.send_replace(with(second, second == 1_000));
            }
        };
        tokio::select! {
            _ = exhausted(told_to, Duration::from_secs(600)) => {}
            () = telling => unreachable!(),
        }
        assert!((1_600..=1_605).contains(&begun.elapsed().as_secs()), "{:?}", begun.elapsed());
    }
}
