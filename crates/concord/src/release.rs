//! Lets go of systems: has their connectors remove what they made there, and forgets what a new beginning must not know.
//! Used by the command where nothing runs and by the process that runs. What the store knows of records is kept.

use crate::answers::description::{self, Description, commit};
use crate::answers::{Failed, Released};
use crate::leftovers;
use crate::setup::Written;
use concord_engine::change::Position;
use concord_engine::connector::Connector;
use concord_engine::error::{Error, Result};
use concord_engine::mirror;
use concord_engine::record::{FeedName, ObjectName, SystemName};
use concord_engine::runtime::standstill;
use concord_engine::store::{Store, Transaction};
use std::sync::Arc;

/// Removes slots, publications, triggers and tables of ours from these systems. A system that cannot be reached is
/// named, and hinders no other. What was made for syncs that this configuration does not have is left where it is, for another
/// one of the same store may have them, unless leftovers are asked for.
pub async fn release(
    written: &Written,
    store: &dyn Store,
    systems: &[(SystemName, Arc<dyn Connector>)],
    asked: &[SystemName],
    with_leftovers: bool,
) -> Result<Released> {
    let mut done = Vec::new();
    let mut failed = Vec::new();
    let mut leftovers = Vec::new();
    let known = leftovers::known(&written.config, store, systems).await;
    let kept = kept_for_others(written, store).await?;
    for (name, connector) in systems.iter().filter(|(name, _)| asked.contains(name)) {
        let members = written.config.syncs.iter().flat_map(|sync| sync.source.iter().chain(&sync.target));
        let mut objects: Vec<_> = members.filter(|member| member.system == *name).map(|member| member.object_name()).collect();
        objects.sort();
        objects.dedup();
        let mut fails = |error: Error| failed.push(Failed { system: name.to_string(), code: error.code, message: error.message });
        let let_go = async {
            let_go(written, store, name, connector, &objects, with_leftovers).await?;
            let serves_others = kept.iter().any(|(system, _)| system == name);
            if serves_others { Ok(()) } else { leave_nothing(connector).await }
        };
        match let_go.await {
            // What is let go of is forgotten, whatever becomes of what was left over.
            Ok(()) => done.push(name.clone()),
            Err(error) => {
                fails(error);
                continue;
            }
        }
        if with_leftovers && let Err(error) = remove_leftovers(connector, &known, &mut leftovers).await {
            fails(error);
        }
    }
    forget(store, written, &done).await?;
    Ok(Released { released: done.iter().map(ToString::to_string).collect(), failed, leftovers })
}

/// The objects of the syncs that the store knows and the configuration does not have, as far as those that it has do not share
/// them: another file of the store may have them.
async fn kept_for_others(written: &Written, store: &dyn Store) -> Result<Vec<(SystemName, ObjectName)>> {
    let is_own = |name: &str| written.config.syncs.iter().any(|sync| sync.name.as_str() == name);
    let (own, others): (Vec<_>, Vec<_>) = description::load(store).await?.into_iter().partition(|sync| is_own(&sync.name));
    let named = |syncs: Vec<Description>| -> Vec<(SystemName, ObjectName)> {
        let members = syncs.into_iter().flat_map(|sync| sync.members);
        members.map(|member| (SystemName::from(member.system), ObjectName::from(member.object))).collect()
    };
    let (own, mut others) = (named(own), named(others));
    others.retain(|other| !own.contains(other));
    Ok(others)
}

/// Removes a feed that is still there although nobody has an object in it any more: of a table that was renamed or taken the place
/// of, say, which is not known under the name that the configuration has for it.
async fn leave_nothing(connector: &Arc<dyn Connector>) -> Result<()> {
    let Some(own) = connector.own_feed() else { return Ok(()) };
    let left = connector.leftovers(&[]).await?.into_iter().find(|left| left.feed == own);
    match left {
        Some(left) => connector.remove_leftover(&left).await,
        None => Ok(()),
    }
}

/// Removes what was made for syncs that the configuration has no more.
async fn remove_leftovers(connector: &Arc<dyn Connector>, known: &[FeedName], removed: &mut Vec<String>) -> Result<()> {
    for leftover in connector.leftovers(known).await? {
        connector.remove_leftover(&leftover).await?;
        removed.push(leftover.feed.to_string());
    }
    Ok(())
}

/// Removes what was made in one system: for its syncs together, and for each mirrored sync by itself.
async fn let_go(
    written: &Written,
    store: &dyn Store,
    name: &SystemName,
    connector: &Arc<dyn Connector>,
    objects: &[ObjectName],
    with_leftovers: bool,
) -> Result<()> {
    let (mut own, mut others) = (Vec::new(), Vec::new());
    for sync in &written.config.syncs {
        let Some((source, target)) = sync.pair() else { continue };
        let id = store.sync_id(sync.name.as_str()).await?;
        let of = if target.system == *name { &mut own } else { &mut others };
        of.push(mirror::name_of(store, id).await?);
        if let Some(own) = connector.for_one_sync(&mirror::feed_of(id)).filter(|_| source.system == *name) {
            own.release(&[source.object_name()]).await?;
            leave_nothing(&own).await?;
        }
    }
    if let Some(target) = connector.mirror_target() {
        for sync in target.kept(&mirror::names_of_all(store).await?).await? {
            if own.contains(&sync) || (with_leftovers && !others.contains(&sync)) {
                target.forget(&sync).await?;
            }
        }
    }
    connector.release(objects).await
}

/// The feeds that are gone begin anew one day, and their syncs with a first run.
async fn forget(store: &dyn Store, written: &Written, released: &[SystemName]) -> Result<()> {
    let mut transaction = Transaction::default();
    for (system, feed, _) in store.positions().await? {
        if released.contains(&system) {
            transaction.positions.push((system, feed, Position::default()));
        }
    }
    for sync in &written.config.syncs {
        if sync.systems().iter().any(|system| released.contains(system)) {
            let id = store.sync_id(sync.name.as_str()).await?;
            transaction.settings.push((format!("begun/{}", id.0), None));
            transaction.settings.push((standstill::setting(id), None));
            transaction.settings.extend(mirror::settings(id).into_iter().map(|name| (name, None)));
            let loads = store.settings(&format!("load/{}/", id.0)).await?;
            transaction.settings.extend(loads.into_iter().map(|(name, _)| (name, None)));
        }
    }
    commit(store, transaction).await
}
