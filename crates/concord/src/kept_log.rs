//! The logs that systems keep for syncs which have begun and do not run now: their other system is away, or a person has to
//! approve something. Nobody reads these feeds, so that this is when a log grows until its disk is full. Looked at now and
//! then, and shown and warned of like that of a feed that is read. Reads only.

use concord_engine::config::{Config, SyncConfig};
use concord_engine::connector::Connector;
use concord_engine::error::Result;
use concord_engine::mirror;
use concord_engine::record::{FeedName, SystemName};
use concord_engine::runtime::status::FeedStatus;
use concord_engine::store::Store;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;

/// How often they are looked at.
const LOOK_INTERVAL: Duration = Duration::from_secs(5);
/// How long a system may take to tell of one.
const LOOK_WAIT_MAX: Duration = Duration::from_secs(30);

/// A feed that nobody reads, and whom it is asked of.
struct Unread {
    system: SystemName,
    connector: Arc<dyn Connector>,
    feed: FeedName,
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
        let id = store.sync_id(sync.name.as_str()).await?;
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
                unread.push(Unread { system: system.clone(), connector, feed });
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
