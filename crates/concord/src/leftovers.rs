//! What Concord made in systems for syncs or connections that the configuration has no more. A renamed sync is another
//! sync: what was made for it under its old name stays, and keeps the system's log for ever. Found here, so that somebody
//! removes it; nothing is removed unless a release was asked for.

use crate::terminal::Notice;
use concord_engine::config::Config;
use concord_engine::connector::{Connector, FeedHealth, Leftover};
use concord_engine::error::{Code, Result};
use concord_engine::mirror;
use concord_engine::record::{FeedName, SystemName};
use concord_engine::runtime::status::FeedStatus;
use concord_engine::store::Store;
use std::collections::BTreeSet;
use std::sync::Arc;

/// The feeds that the syncs of a configuration have, or may have.
pub async fn known(config: &Config, store: &dyn Store, systems: &[(SystemName, Arc<dyn Connector>)]) -> Vec<FeedName> {
    let mut known: Vec<FeedName> = systems.iter().filter_map(|(_, connector)| connector.own_feed()).collect();
    for sync in &config.syncs {
        // A store that may only be read has no number for a sync that never ran, and that has made nothing.
        let Ok(id) = store.sync_id(sync.name.as_str()).await else { continue };
        // A sync that has another source now has left the feed of its old one behind.
        let source = sync.pair().map(|(source, _)| &source.system);
        let own = |(name, connector): &(SystemName, Arc<dyn Connector>)| {
            let is_source = source.is_none_or(|source| source == name);
            connector.for_one_sync(&mirror::feed_of(id)).filter(|_| is_source)?.own_feed()
        };
        known.extend(systems.iter().filter_map(own));
    }
    known
}

/// Looks for what is left. A system that cannot be asked is passed over: that is said elsewhere.
pub async fn find(systems: &[(SystemName, Arc<dyn Connector>)], known: &[FeedName]) -> Vec<(SystemName, Leftover)> {
    let mut seen = BTreeSet::new();
    let mut found = Vec::new();
    for (name, connector) in systems {
        match connector.leftovers(known).await {
            // Two connections may lead to one database.
            Ok(left) => {
                found.extend(left.into_iter().filter(|one| seen.insert(one.feed.to_string())).map(|one| (name.clone(), one)))
            }
            Err(error) => tracing::debug!(system = name.as_str(), error = error.chain(), "not looked for what is left over"),
        }
    }
    found
}

/// Our own feeds in which the store knows no place, though they are there: left behind by a release that somebody was in the
/// way of, or by a first run that was killed as it began. A publication without a slot keeps nothing, and may be somebody's who
/// made it for us.
pub async fn unused(store: &dyn Store, systems: &[(SystemName, Arc<dyn Connector>)]) -> Result<Vec<(SystemName, Leftover)>> {
    let placed: BTreeSet<FeedName> =
        store.positions().await?.into_iter().filter(|(_, _, place)| !place.0.is_empty()).map(|(_, feed, _)| feed).collect();
    let own: BTreeSet<FeedName> = systems.iter().filter_map(|(_, connector)| connector.own_feed()).collect();
    let mut found = find(systems, &placed.iter().cloned().collect::<Vec<_>>()).await;
    found.retain(|(_, left)| own.contains(&left.feed) && left.retained_bytes.is_some() && !left.is_read);
    Ok(found)
}

/// What the sources keep for the feeds that the store has a place in: what a status cannot tell while nothing runs. A system
/// that cannot be asked is passed over: that is said elsewhere.
pub async fn kept(store: &dyn Store, systems: &[(SystemName, Arc<dyn Connector>)], config: &Config) -> Result<Vec<Notice>> {
    let mut feeds: Vec<(SystemName, Arc<dyn Connector>, FeedName)> = Vec::new();
    for (system, feed, _) in store.positions().await?.into_iter().filter(|(_, _, place)| !place.0.is_empty()) {
        let open = systems.iter().find(|(name, _)| *name == system);
        feeds.extend(open.map(|(_, connector)| (system, Arc::clone(connector), feed)));
    }
    for sync in &config.syncs {
        let Some((source, _)) = sync.pair() else { continue };
        let Ok(id) = store.sync_id(sync.name.as_str()).await else { continue };
        let open = systems.iter().find(|(name, _)| *name == source.system);
        let own = open.and_then(|(_, connector)| connector.for_one_sync(&mirror::feed_of(id)));
        if let Some((own, feed)) = own.and_then(|own| own.own_feed().map(|feed| (own, feed)))
            && mirror::has_begun(store, id).await?
        {
            feeds.push((source.system.clone(), own, feed));
        }
    }
    let mut found = Vec::new();
    for (system, connector, feed) in feeds {
        match connector.health(&feed).await {
            Ok(health) => found.extend(told(&system, &feed, health)),
            Err(error) => tracing::debug!(%system, %feed, error = error.chain(), "what is kept for a feed is not known"),
        }
    }
    Ok(found)
}

fn told(system: &SystemName, feed: &FeedName, health: FeedHealth) -> Vec<Notice> {
    let notice = |severity: &'static str, message: String| Notice {
        code: String::new(),
        severity,
        message,
        place: Some(system.to_string()),
        because: None,
        remedy: String::new(),
    };
    let most = health.retained_bytes_max.map(|most| format!(" of {most} that it is ready to keep")).unwrap_or_default();
    let kept = health.retained_bytes.map(|bytes| format!("{bytes} bytes of log are kept for the feed {feed}{most}"));
    kept.map(|kept| notice("fine", kept)).into_iter().chain(health.warning.map(|warning| notice("warning", warning))).collect()
}

/// An unused feed as a finding.
pub fn notice_unused(system: &SystemName, leftover: &Leftover) -> Notice {
    let kept = leftover.retained_bytes.unwrap_or_default();
    let message = format!("no sync has begun with the feed {}, and {kept} bytes of log are kept for it", leftover.feed);
    let remedy = format!("Begin the sync with `concord run`, or remove the feed with the statement: {}", leftover.removal);
    Notice { message, remedy, ..notice(system, leftover) }
}

/// In words.
fn message(leftover: &Leftover) -> String {
    let kept = leftover.retained_bytes.map(|bytes| format!(", and {bytes} bytes of log are kept for it")).unwrap_or_default();
    let read = if leftover.is_read { "; somebody is reading it" } else { "" };
    format!("the feed {} belongs to no sync of the configuration{kept}{read}", leftover.feed)
}

fn remedy(leftover: &Leftover) -> String {
    format!("{} The statement: {}", Code::FeedLeftOver.remedy(), leftover.removal)
}

/// As a finding.
pub fn notice(system: &SystemName, leftover: &Leftover) -> Notice {
    Notice {
        code: Code::FeedLeftOver.to_string(),
        severity: "warning",
        message: message(leftover),
        place: Some(system.to_string()),
        because: None,
        remedy: remedy(leftover),
    }
}

/// As the status shows it.
pub fn status(system: &SystemName, leftover: &Leftover) -> FeedStatus {
    FeedStatus {
        system: system.to_string(),
        feed: leftover.feed.to_string(),
        state: "left over".to_owned(),
        retained_bytes: leftover.retained_bytes,
        warning: Some(format!("{}. {}", message(leftover), remedy(leftover))),
        ..FeedStatus::default()
    }
}
