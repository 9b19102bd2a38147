//! What goes by age: for how long the ledger and closed reviews of each sync are kept, and the task that removes what is
//! older, now and then. What belongs to a sync that the store knows and that these files do not have stays: its own file may say
//! for how long. What belongs to none goes by the process's setting.

use crate::answers::description;
use concord_engine::clock::{Clock, Moment, SystemClock};
use concord_engine::config::Config;
use concord_engine::error::Result;
use concord_engine::link::SyncId;
use concord_engine::store::{Ages, Store};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// How often what is too old is removed from the store.
const INTERVAL: Duration = Duration::from_secs(3600);
/// How long tombstones are kept.
const TOMBSTONES: Duration = Duration::from_secs(30 * 24 * 3600);

/// How long ledger rows and closed review items are kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Retention {
    /// Of the syncs that say so themselves, and of those that are not in these files; `None` is for ever.
    of_syncs: BTreeMap<SyncId, Option<Duration>>,
    /// Of all others.
    of_others: Duration,
}

impl Retention {
    /// The same of every sync.
    pub fn everywhere(age: Duration) -> Retention {
        Retention { of_syncs: BTreeMap::new(), of_others: age }
    }

    /// As a configuration says.
    pub async fn of(config: &Config, store: &dyn Store) -> Result<Retention> {
        let days = |days: u32| Duration::from_secs(u64::from(days) * 24 * 3600);
        let mut of_syncs = BTreeMap::new();
        for sync in &config.syncs {
            if let Some(own) = sync.monitoring.logging.retention_days {
                of_syncs.insert(store.sync_id(sync.name.as_str()).await?, Some(days(own)));
            }
        }
        for known in description::load(store).await? {
            if !config.syncs.iter().any(|sync| sync.name.as_str() == known.name) {
                of_syncs.insert(SyncId(known.id), None);
            }
        }
        Ok(Retention { of_syncs, of_others: days(config.process_settings.logging.retention_days) })
    }

    /// From when on rows stay, as of now.
    fn ages(&self, now: Moment) -> Ages {
        let before = |age: Duration| {
            let micros = i64::try_from(age.as_micros()).unwrap_or(i64::MAX);
            Moment(now.micros().saturating_sub(micros))
        };
        Ages {
            of_syncs: self.of_syncs.iter().map(|(sync, age)| (*sync, age.map_or(Moment(i64::MIN), before))).collect(),
            of_others: before(self.of_others),
            tombstones: before(TOMBSTONES),
        }
    }
}

/// Removes what is too old, now and then.
pub async fn age(store: Arc<dyn Store>, retention: Retention, shutdown: CancellationToken) {
    while !shutdown.is_cancelled() {
        let ages = retention.ages(SystemClock.now());
        let removed = tokio::select! {
            removed = store.expire(&ages) => removed,
            // It works in short steps: after the one that is under way nothing more is asked for.
            () = shutdown.cancelled() => return,
        };
        match removed {
            Ok(0) => {}
            Ok(rows) => tracing::info!(rows, "removed what was too old"),
            Err(error) => tracing::warn!(error = %error.chain(), "what is too old could not be removed"),
        }
        tokio::select! {
            () = shutdown.cancelled() => {}
            () = tokio::time::sleep(INTERVAL) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::answers::description::Description;
    use concord_engine::config::{self, Document};
    use concord_engine::ledger::{Entry, LedgerRow};
    use concord_engine::link::ReviewId;
    use concord_engine::review::{Review, Subject};
    use concord_engine::store::sqlite::{SqliteStore, StoreOptions};
    use concord_engine::store::{LedgerQuery, Transaction};

    const DAY: Duration = Duration::from_secs(24 * 3600);

    fn two_syncs(of_first: &str, of_second: &str) -> Config {
        let sync = |name: &str, more: &str| {
            format!(r#"{{ "name": "{name}", "sync_type": "one_way", "source": "crm.{name}", "target": "erp.{name}"{more} }}"#)
        };
        let text = format!(
            r#"{{ "connections": {{ "crm": {{ "type": "sqlite", "path": "c" }}, "erp": {{ "type": "sqlite", "path": "e" }} }},
            "syncs": [{}, {}] }}"#,
            sync("first", of_first),
            sync("second", of_second)
        );
        let loaded = config::parse(&[Document { name: "a.json", text: &text }], concord_connectors::kinds::KINDS);
        loaded.config.unwrap_or_else(|| panic!("{:?}", loaded.diagnostics))
    }

    fn row(sync: SyncId, at: Moment) -> LedgerRow {
        let (entry, fields) = (Entry::Created, Vec::new());
        LedgerRow { at, sync, link: None, member: 0, key: "1".into(), entry, fields }
    }

    fn closed(id: u64, sync: SyncId, at: Moment) -> Review {
        Review {
            id: ReviewId(id),
            sync,
            link: None,
            opened: at,
            closed: Some((at, "ignored".into())),
            code: "CON-3017".into(),
            message: "More records went away than the guard lets through.".into(),
            subject: Subject::MassChange { member: 0, deletes: 1 },
        }
    }

    #[tokio::test]
    async fn a_short_memory_of_one_sync_takes_nothing_from_another() {
        let store = SqliteStore::in_memory(&StoreOptions::default()).unwrap();
        let config = two_syncs(r#", "monitoring": { "logging": { "retention_days": 1 } }"#, "");
        let (first, second) = (store.sync_id("first").await.unwrap(), store.sync_id("second").await.unwrap());
        let gone = store.sync_id("in no file any more").await.unwrap();
        let now = SystemClock.now();
        let ago = |days: u32| Moment(now.micros() - i64::try_from((DAY * days).as_micros()).unwrap());
        let ledger = [first, second, gone].into_iter().flat_map(|sync| [row(sync, ago(3)), row(sync, ago(40)), row(sync, now)]);
        let reviews = [first, second, gone].into_iter().zip(1..).map(|(sync, id)| closed(id, sync, ago(3)));
        let transaction = Transaction { ledger: ledger.collect(), reviews: reviews.collect(), ..Transaction::default() };
        store.submit(transaction).await.unwrap().unwrap();

        let store: Arc<dyn Store> = Arc::new(store);
        let retention = Retention::of(&config, &*store).await.unwrap();
        assert_eq!(store.expire(&retention.ages(now)).await.unwrap(), 2 + 1 + 1 + 1);
        for (sync, rows, reviews) in [(first, 1, 0), (second, 2, 1), (gone, 2, 1)] {
            let kept = store.ledger(LedgerQuery { sync: Some(sync), limit: 9, ..LedgerQuery::default() }).await.unwrap();
            let known = store.reviews(Some(sync), false, 9).await.unwrap();
            assert_eq!((kept.len(), known.len()), (rows, reviews), "{sync:?}");
        }
    }

    #[tokio::test]
    async fn what_is_kept_of_a_sync_that_only_another_file_has_stays() {
        let store = SqliteStore::in_memory(&StoreOptions::default()).unwrap();
        let other = store.sync_id("in another file").await.unwrap();
        let described = Description { id: other.0, ..Description::of_nothing("in another file".into()) };
        description::save(&store, &[described]).await.unwrap();
        let now = SystemClock.now();
        let long_ago = Moment(now.micros() - i64::try_from((DAY * 4000).as_micros()).unwrap());
        let (ledger, reviews) = (vec![row(other, long_ago)], vec![closed(1, other, long_ago)]);
        store.submit(Transaction { ledger, reviews, ..Transaction::default() }).await.unwrap().unwrap();
        let retention = Retention::of(&two_syncs("", ""), &store).await.unwrap();
        assert_eq!(store.expire(&retention.ages(now)).await.unwrap(), 0);
        let with_it = Retention::everywhere(DAY);
        assert_eq!(store.expire(&with_it.ages(now)).await.unwrap(), 2);
    }

    #[tokio::test]
    async fn a_stop_waits_for_no_more_than_a_step_of_what_goes_by_age() {
        const ROWS: u64 = 60_000;
        let folder = tempfile::tempdir().unwrap();
        let store = SqliteStore::open(folder.path(), &StoreOptions::default()).unwrap();
        let sync = store.sync_id("first").await.unwrap();
        for _ in 0..ROWS / 5_000 {
            let ledger = (0..5_000).map(|_| row(sync, Moment::default())).collect();
            store.submit(Transaction { ledger, ..Transaction::default() }).await.unwrap().unwrap();
        }
        let (store, shutdown): (Arc<dyn Store>, _) = (Arc::new(store), CancellationToken::new());
        let left = async || store.counts(sync).await.unwrap().ledger;
        let ageing = age(Arc::clone(&store), Retention::everywhere(DAY), shutdown.clone());
        let stopping = async {
            while left().await == ROWS {
                tokio::task::yield_now().await;
            }
            shutdown.cancel();
        };
        tokio::join!(ageing, stopping);
        let left = left().await;
        assert!(0 < left && left < ROWS, "{left} rows are left");
    }

    #[tokio::test]
    async fn a_sync_may_ask_for_longer_than_the_process() {
        let store = SqliteStore::in_memory(&StoreOptions::default()).unwrap();
        let config = two_syncs(r#", "monitoring": { "logging": { "retention_days": 365 } }"#, "");
        let (first, second) = (store.sync_id("first").await.unwrap(), store.sync_id("second").await.unwrap());
        let ages = Retention::of(&config, &store).await.unwrap().ages(Moment::default());
        let days = |sync| i64::try_from(DAY.as_micros()).map(|day| -ages.of(sync).micros() / day);
        assert_eq!((days(first), days(second)), (Ok(365), Ok(30)));
    }
}
