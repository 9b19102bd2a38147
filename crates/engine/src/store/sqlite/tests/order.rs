//! Order, grouping and durability: what was submitted before is seen, what was answered is durable.

use super::*;
use std::sync::mpsc;

fn setting(name: &str, value: u64) -> Transaction {
    Transaction { settings: vec![(name.to_owned(), Some(value.to_be_bytes().to_vec()))], ..Transaction::default() }
}

#[tokio::test]
async fn a_read_sees_every_transaction_submitted_before_it_though_none_was_awaited() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(&folder);
    let mut answers = Vec::new();
    for number in 0..500u64 {
        answers.push(store.submit(setting("last", number)));
        if number % 7 == 0 {
            assert_eq!(store.setting("last").await.unwrap(), Some(number.to_be_bytes().to_vec()));
        }
    }
    assert_eq!(store.setting("last").await.unwrap(), Some(499u64.to_be_bytes().to_vec()));
    for answer in answers {
        answer.await.unwrap().unwrap();
    }
}

#[tokio::test]
async fn what_is_answered_is_committed_in_the_order_submitted() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(&folder);
    let looker = SqliteStore::open_read_only(folder.path()).unwrap();
    let answers: Vec<_> = (1..=300u64).map(|number| (number, store.submit(setting("last", number)))).collect();
    for (number, answer) in answers {
        answer.await.unwrap().unwrap();
        let committed = looker.setting("last").await.unwrap().unwrap();
        assert!(u64::from_be_bytes(committed.try_into().unwrap()) >= number);
    }
}

#[tokio::test]
async fn transactions_queued_behind_a_busy_writer_are_committed_together() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(&folder);
    submit(&store, setting("last", 0)).await.unwrap();
    let (release, released) = mpsc::channel::<()>();
    let busy = store.write(move |_| {
        released.recv().unwrap();
        Ok(())
    });
    let answers: Vec<_> = (1..=100u64).map(|number| store.submit(setting("last", number))).collect();
    let pages_before = pages_in_log(&folder);
    release.send(()).unwrap();
    busy.await.unwrap().unwrap();
    for answer in answers {
        answer.await.unwrap().unwrap();
    }
    // Each commit writes at least one page; a hundred of them would write a hundred.
    let pages = pages_in_log(&folder) - pages_before;
    assert!((1..50).contains(&pages), "{pages} pages for 100 transactions");
}

fn pages_in_log(folder: &tempfile::TempDir) -> u64 {
    std::fs::metadata(folder.path().join("concord.db-wal")).unwrap().len() / 4096
}

#[tokio::test]
async fn everything_submitted_is_durable_once_the_store_is_dropped() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(&folder);
    for number in 1..=200 {
        drop(store.submit(setting("last", number)));
    }
    drop(store);
    assert_eq!(open(&folder).setting("last").await.unwrap(), Some(200u64.to_be_bytes().to_vec()));
}

#[tokio::test]
async fn the_log_stays_below_its_bound_while_commits_go_on() {
    let folder = tempfile::tempdir().unwrap();
    let bound = 4 << 20;
    let store = SqliteStore::open(folder.path(), &StoreOptions { wal_bytes_max: bound, ..StoreOptions::default() }).unwrap();
    let mut log_bytes_max = 0;
    for number in 0..300u64 {
        let ledger =
            (0..100).map(|row| ledger_row(row, 1, Some(number * 7919 % 1000), &format!("{}", row * 7919 % 997))).collect();
        submit(&store, Transaction { ledger, ..Transaction::default() }).await.unwrap();
        log_bytes_max = log_bytes_max.max(std::fs::metadata(folder.path().join("concord.db-wal")).unwrap().len());
    }
    assert!(log_bytes_max > bound / 4, "too little was written to prove anything: {log_bytes_max}");
    // One group may go past the bound before the log is looked at.
    assert!(log_bytes_max < bound * 2, "{log_bytes_max}");
    assert_eq!(store.counts(SyncId(1)).await.unwrap().ledger, 30_000);
}

#[tokio::test]
async fn the_inline_store_keeps_its_log_short_too() {
    let folder = tempfile::tempdir().unwrap();
    let bound = 1 << 20;
    let store = SqliteStore::inline(folder.path(), &StoreOptions { wal_bytes_max: bound, ..StoreOptions::default() }).unwrap();
    for number in 0..1000 {
        submit(&store, setting("last", number)).await.unwrap();
    }
    assert!(std::fs::metadata(folder.path().join("concord.db-wal")).unwrap().len() < bound * 2);
}
