//! Failures: a transaction is all or nothing, and the first failure ends all writing until the store is opened anew.

use super::*;
use crate::error::{Class, Code};
use rusqlite::Connection;

/// A transaction whose first half is fine and whose second half cannot be stored.
fn broken() -> Transaction {
    let mut transaction = sample();
    transaction.settings.push(("beyond".to_owned(), Some(vec![1])));
    transaction.reviews.push(review(u64::MAX, 1, None));
    transaction
}

async fn assert_takes_no_more_writes(store: &SqliteStore, first: &crate::error::Error) {
    for _ in 0..3 {
        let later = submit(store, sample()).await.unwrap_err();
        assert_eq!((later.code, &later.message), (first.code, &first.message));
    }
    assert_eq!(store.sync_id("new").await.unwrap_err().code, first.code);
    assert_eq!(store.expire(&ages(1, 1)).await.unwrap_err().code, first.code);
}

#[tokio::test]
async fn a_transaction_that_fails_in_the_middle_leaves_nothing_and_ends_all_writing() {
    let folder = tempfile::tempdir().unwrap();
    for inline in [false, true] {
        let store = if inline { SqliteStore::inline(folder.path(), &StoreOptions::default()).unwrap() } else { open(&folder) };
        let before = picture(&store, &[], &[]).await;
        let failed = submit(&store, broken()).await.unwrap_err();
        assert_eq!(failed.code, Code::Internal);
        assert_eq!(picture(&store, &[], &[]).await, before);
        assert_takes_no_more_writes(&store, &failed).await;
        drop(store);
        let store = open(&folder);
        assert_eq!(picture(&store, &[], &[]).await, before);
        assert_eq!(before, Picture { ..picture(&in_memory(), &[], &[]).await });
    }
    let store = open(&folder);
    submit(&store, sample()).await.unwrap();
    assert_eq!(store.counts(SyncId(1)).await.unwrap().links, 2);
}

#[tokio::test]
async fn a_failure_fails_its_group_and_keeps_what_was_answered_before() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(&folder);
    let setting = |number: u8| Transaction { settings: vec![("last".to_owned(), Some(vec![number]))], ..Transaction::default() };
    submit(&store, setting(1)).await.unwrap();
    let (release, released) = std::sync::mpsc::channel::<()>();
    let busy = store.write(move |_| {
        released.recv().unwrap();
        Ok(())
    });
    let group = [store.submit(setting(2)), store.submit(broken()), store.submit(setting(3))];
    release.send(()).unwrap();
    drop(busy);
    let mut outcomes = Vec::new();
    for answer in group {
        outcomes.push(answer.await.unwrap().is_ok());
    }
    // A commit may have come between the first and the broken one: then, and only then, the first was answered so.
    assert_eq!(outcomes[1..], [false, false]);
    let expected = if outcomes[0] { 2 } else { 1 };
    assert_eq!(store.setting("last").await.unwrap(), Some(vec![expected]));
    drop(store);
    assert_eq!(open(&folder).setting("last").await.unwrap(), Some(vec![expected]));
}

#[tokio::test]
async fn a_full_disk_stops_the_store_with_its_own_error_and_everything_acknowledged_is_there_afterwards() {
    let folder = tempfile::tempdir().unwrap();
    for inline in [false, true] {
        let options = StoreOptions { file_bytes_max: Some(400 << 10), ..StoreOptions::default() };
        let path = folder.path().join(if inline { "inline" } else { "threaded" });
        let open = if inline { SqliteStore::inline } else { SqliteStore::open };
        let store = open(&path, &options).unwrap();
        let mut acknowledged = 0u64;
        let failed = loop {
            let links = (1..=10).map(|place| full_link(acknowledged * 10 + place, 1).into()).collect();
            match submit(&store, Transaction { links, ..Transaction::default() }).await {
                Ok(()) => acknowledged += 1,
                Err(error) => break error,
            }
            assert!(acknowledged < 10_000, "the disk never became full");
        };
        assert_eq!(failed.code, Code::StoreFull);
        assert_eq!(failed.class(), Class::Stop);
        assert!(failed.at.as_deref().is_some_and(|at| at.ends_with("concord.db")), "{failed}");
        assert!(acknowledged > 0);
        assert_takes_no_more_writes(&store, &failed).await;
        assert_eq!(store.counts(SyncId(1)).await.unwrap().links, acknowledged * 10);
        drop(store);

        let store = open(&path, &StoreOptions::default()).unwrap();
        assert_eq!(store.identity().await.unwrap().last_link, acknowledged * 10);
        assert_eq!(store.scan_links(SyncId(1), LinkId(0), EVERYTHING).await.unwrap().len() as u64, acknowledged * 10);
        submit(&store, Transaction { links: vec![link(acknowledged * 10 + 1, 1).into()], ..Transaction::default() })
            .await
            .unwrap();
    }
}

#[tokio::test]
async fn a_row_that_cannot_be_decoded_is_damage_and_not_a_guess() {
    let folder = tempfile::tempdir().unwrap();
    submit(&open(&folder), sample()).await.unwrap();
    let raw = Connection::open(folder.path().join("concord.db")).unwrap();
    raw.execute("UPDATE links SET body = x'FF00' WHERE id = 1", []).unwrap();
    raw.execute("UPDATE links SET body = x'01' WHERE id = 2", []).unwrap();
    raw.execute("UPDATE links SET body = x'' WHERE id = 3", []).unwrap();
    drop(raw);
    let store = open(&folder);
    for id in 1..=3 {
        assert_eq!(store.links(vec![LinkId(id)]).await.unwrap_err().code, Code::StoreDamaged);
    }
    assert_eq!(store.counts(SyncId(1)).await.unwrap().links, 2);
}

#[tokio::test]
async fn a_caller_that_goes_away_does_not_undo_what_it_submitted() {
    let store = in_memory();
    drop(store.submit(sample()));
    assert_eq!(store.counts(SyncId(1)).await.unwrap().links, 2);
}
