//! The logs that systems keep for syncs which have begun and do not run now: their other system is away, a person has to
//! approve something, or nothing runs at all. Nobody reads these feeds, so that this is when a log grows until its disk is full.
//! Looked at now and then, or when somebody asks, and shown and warned of like that of a feed that is read. Reads only.

use crate::answers::AT_REST;
use crate::setup::Systems;
use concord_engine::config::{Config, SyncConfig};
use concord_engine::connector::Connector;
use concord_engine::error::{Code, Error, Result};
use concord_engine::mirror;
use concord_engine::record::{FeedName, SystemName};
use concord_engine::runtime::status::FeedStatus;
use concord_engine::store::Store;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::task::JoinSet;

/// How often they are looked at.
pub const LOOK_INTERVAL: Duration = Duration::from_secs(5);
/// How long a system may take to tell of one.
const LOOK_WAIT_MAX: Duration = Duration::from_secs(30);
/// The same where somebody waits for the answer.
const ASKED_WAIT_MAX: Duration = Duration::from_secs(3);

/// A feed that nobody reads, and whom it is asked of.
struct Unread {
    system: SystemName,
    connector: Arc<dyn Connector>,
    feed: FeedName,
    /// What it is called while nothing runs: a mirrored sync's by the sync, for its progress is not in the store.
    at_rest: String,
}

/// Looks at the feeds of some syncs, by their names, for as long as it is waited for; not at the one feed that all but the
/// mirrored syncs share, where a sync that runs reads it. Never ends.
pub async fn watch(
    config: &Config,
    store: &dyn Store,
    systems: &[(SystemName, Arc<dyn Connector>)],
    syncs: &[&str],
    read: &BTreeSet<SystemName>,
    found: &watch::Sender<Vec<FeedStatus>>,
) {
    let unread = match unread(config, store, systems, syncs, read).await {
        Ok(unread) if !unread.is_empty() => unread,
        Ok(_) => return std::future::pending().await,
        Err(error) => {
            tracing::warn!(error = error.chain(), "the logs that are kept for syncs that wait are not looked at");
            return std::future::pending().await;
        }
    };
    let mut warned: BTreeMap<FeedName, bool> = BTreeMap::new();
    loop {
        let mut shown = Vec::new();
        for one in &unread {
            match tokio::time::timeout(LOOK_WAIT_MAX, one.connector.health(&one.feed)).await {
                Ok(Ok(health)) => {
                    let before = warned.insert(one.feed.clone(), health.warning.is_some());
                    if let Some(warning) = health.warning.as_ref().filter(|_| before != Some(true)) {
                        tracing::warn!(system = %one.system, feed = %one.feed, warning, "feed of a sync that does not run now");
                    }
                    shown.push(FeedStatus {
                        system: one.system.to_string(),
                        feed: one.feed.to_string(),
                        state: "not read".to_owned(),
                        position: health.position,
                        retained_bytes: health.retained_bytes,
                        retained_bytes_max: health.retained_bytes_max,
                        warning: health.warning,
                        lag_ms: None,
                    });
                }
                // That the system is away is said elsewhere.
                Ok(Err(error)) => tracing::debug!(feed = %one.feed, error = error.chain(), "no health"),
                Err(_) => tracing::debug!(feed = %one.feed, "no health in time"),
            }
        }
        found.send_replace(shown);
        tokio::time::sleep(LOOK_INTERVAL).await;
    }
}

/// The feeds of the syncs that have begun: a mirrored one's own, and that of each system for all others.
async fn unread(
    config: &Config,
    store: &dyn Store,
    systems: &[(SystemName, Arc<dyn Connector>)],
    syncs: &[&str],
    read: &BTreeSet<SystemName>,
) -> Result<Vec<Unread>> {
    let mut unread: Vec<Unread> = Vec::new();
    for sync in config.syncs.iter().filter(|sync| syncs.contains(&sync.name.as_str())) {
        // A store that may only be read has no number for a sync that never ran, and for which nothing is kept.
        let Ok(id) = store.sync_id(sync.name.as_str()).await else { continue };
        let is_mirrored = mirror::has_begun(store, id).await?;
        if !is_mirrored && store.setting(&format!("begun/{}", id.0)).await?.is_none() {
            continue;
        }
        for (system, connector) in systems.iter().filter(|(system, _)| is_of(sync, system, is_mirrored)) {
            if !is_mirrored && read.contains(system) {
                continue;
            }
            let connector = match is_mirrored {
                true => connector.for_one_sync(&mirror::feed_of(id)),
                false => Some(Arc::clone(connector)),
            };
            let Some((connector, feed)) = connector.and_then(|own| own.own_feed().map(|feed| (own, feed))) else { continue };
            if unread.iter().all(|known| known.feed != feed) {
                let at_rest = if is_mirrored { sync.name.to_string() } else { feed.to_string() };
                unread.push(Unread { system: system.clone(), connector, feed, at_rest });
            }
        }
    }
    Ok(unread)
}

/// Whether a system has a feed of a sync: a mirrored one has none at its target.
fn is_of(sync: &SyncConfig, system: &SystemName, is_mirrored: bool) -> bool {
    match sync.pair() {
        Some((source, _)) if is_mirrored => source.system == *system,
        _ => sync.systems().contains(&system),
    }
}

/// Shows of feeds, none of which is read for nothing runs, how much log their sources keep for them. All systems are asked at
/// once, and waited for no longer than a person likes to wait; of one that cannot be asked it is said why.
///
/// # Errors
/// What the store says.
pub async fn at_rest(feeds: &mut [FeedStatus], config: &Config, store: &dyn Store, systems: &Systems) -> Result<()> {
    let all: Vec<&str> = config.syncs.iter().map(|sync| sync.name.as_str()).collect();
    let mut asked = JoinSet::new();
    for one in unread(config, store, &systems.open, &all, &BTreeSet::new()).await? {
        asked.spawn(async move {
            let health = tokio::time::timeout(ASKED_WAIT_MAX, one.connector.health(&one.feed)).await;
            let late = |_| Error::new(Code::Unreachable, format!("no answer within {} seconds", ASKED_WAIT_MAX.as_secs()));
            (one.system, one.at_rest, health.map_err(late).and_then(|health| health))
        });
    }
    while let Some(answer) = asked.join_next().await {
        let Ok((system, name, health)) = answer else { continue };
        let is_it = |feed: &&mut FeedStatus| feed.state == AT_REST && feed.system == system.as_str() && feed.feed == name;
        let Some(feed) = feeds.iter_mut().find(is_it) else { continue };
        match health {
            Ok(health) => {
                feed.retained_bytes = health.retained_bytes;
                feed.retained_bytes_max = health.retained_bytes_max;
                feed.warning = health.warning;
            }
            Err(error) => feed.warning = Some(not_known(&error)),
        }
    }
    for (system, error) in &systems.closed {
        for feed in feeds.iter_mut().filter(|feed| feed.state == AT_REST && feed.system == system.as_str()) {
            feed.warning = Some(not_known(error));
        }
    }
    Ok(())
}

/// Why it is not known how much log is kept.
pub fn not_known(why: &Error) -> String {
    format!("how much log is kept is not known: {why}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trial::Trial;

    async fn feeds(trial: &Trial, syncs: &[&str], read: &[&str]) -> Vec<String> {
        let (systems, read) = (trial.systems(), read.iter().copied().map(SystemName::from).collect());
        let found = unread(&trial.written.config, &*trial.store, &systems.open, syncs, &read).await.unwrap();
        found.into_iter().map(|one| format!("{} of {}", one.feed, one.system)).collect()
    }

    #[tokio::test]
    async fn a_feed_that_syncs_share_is_looked_at_once_and_not_while_one_of_them_reads_it() {
        let trial = Trial::new();
        trial.spy.has_feed("slot");
        trial.other.has_feed("another");
        assert!(feeds(&trial, &["ready", "late"], &[]).await.is_empty(), "nothing is kept for what has not begun");
        trial.begin("late").await;
        let both = ["slot of one", "another of two"];
        assert_eq!(feeds(&trial, &["late"], &[]).await, both);
        assert_eq!(feeds(&trial, &["late"], &["one"]).await, both[1..]);
        assert!(feeds(&trial, &["late"], &["one", "two"]).await.is_empty());
        assert!(feeds(&trial, &["ready"], &[]).await.is_empty());
        trial.begin("ready").await;
        assert_eq!(feeds(&trial, &["ready", "late"], &[]).await, both, "one feed of each system");
    }

    #[tokio::test]
    async fn a_source_that_does_not_tell_is_said_to_and_asked_no_more_than_it_need_be() {
        let trial = Trial::new();
        trial.begin("late").await;
        trial.spy.has_feed("slot");
        let feed = |system: &str, feed: &str, state: &str| FeedStatus {
            system: system.into(),
            feed: feed.into(),
            state: state.into(),
            ..FeedStatus::default()
        };
        let mut feeds = [feed("one", "slot", AT_REST), feed("two", "another", AT_REST), feed("one", "slot", "reading")];
        at_rest(&mut feeds, &trial.written.config, &*trial.store, &trial.systems()).await.unwrap();
        // The file has no such feed.
        let why = feeds[0].warning.as_deref().unwrap_or_default();
        assert!(why.starts_with("how much log is kept is not known: CON-"), "{why}");
        assert!(feeds[1].warning.is_none() && feeds[2].warning.is_none(), "{feeds:?}");
        let mut systems = trial.systems();
        systems.open.clear();
        systems.closed.push(("two".into(), Error::new(Code::SecretMissing, "the secret is not there")));
        at_rest(&mut feeds[1..2], &trial.written.config, &*trial.store, &systems).await.unwrap();
        assert!(feeds[1].warning.as_deref().is_some_and(|why| why.contains("the secret is not there")), "{feeds:?}");
    }
}
