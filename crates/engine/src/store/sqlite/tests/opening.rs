//! Opening: who may, what is refused, and what a store opened to look does.

use super::*;
use crate::error::{Code, Error};
use rusqlite::Connection;

fn refusal(outcome: Result<SqliteStore>) -> Error {
    outcome.err().expect("the store was opened")
}

#[tokio::test]
async fn a_second_opener_is_refused_with_the_holders_pid() {
    let folder = tempfile::tempdir().unwrap();
    let first = open(&folder);
    for refused in [
        refusal(SqliteStore::open(folder.path(), &StoreOptions::default())),
        refusal(SqliteStore::inline(folder.path(), &StoreOptions::default())),
    ] {
        assert_eq!(refused.code, Code::StoreInUse);
        assert!(refused.message.contains(&std::process::id().to_string()), "{refused}");
    }
    submit(&first, sample()).await.unwrap();
    drop(first);
    assert_eq!(open(&folder).counts(SyncId(1)).await.unwrap().links, 2);
}

#[tokio::test]
async fn a_store_opened_to_look_sees_what_is_committed_while_another_writes_and_writes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(&folder);
    let looker = SqliteStore::open_read_only(folder.path()).unwrap();
    assert_eq!(looker.counts(SyncId(1)).await.unwrap(), Counts::default());
    submit(&store, sample()).await.unwrap();
    let written = sample();
    let addresses: Vec<Address> = written.keys.iter().map(|(address, _)| address.clone()).collect();
    assert_eq!(picture(&looker, &addresses, &[]).await, picture(&store, &addresses, &[]).await);
    assert_eq!(looker.identity().await.unwrap().last_link, 3);
    assert_eq!(submit(&looker, sample()).await.unwrap_err().code, Code::StoreReadOnly);
    let (new, newer) = (looker.sync_id("new").await.unwrap(), looker.sync_id("newer").await.unwrap());
    assert_eq!((looker.sync_id("new").await.unwrap(), new == newer), (new, false));
    assert_eq!(looker.counts(new).await.unwrap(), Counts::default());
    assert!(store.sync_id("new").await.unwrap() != new, "what is only looked at is given no number");
    assert_eq!(looker.expire(&Ages::default()).await.unwrap_err().code, Code::StoreReadOnly);
    submit(&store, Transaction { links: vec![link(9, 1).into()], ..Transaction::default() }).await.unwrap();
    assert_eq!(looker.counts(SyncId(1)).await.unwrap().links, 3);
}

#[tokio::test]
async fn a_store_that_nobody_runs_on_can_be_looked_at() {
    let folder = tempfile::tempdir().unwrap();
    submit(&open(&folder), sample()).await.unwrap();
    assert_eq!(SqliteStore::open_read_only(folder.path()).unwrap().counts(SyncId(1)).await.unwrap().links, 2);
    assert_eq!(open(&folder).counts(SyncId(1)).await.unwrap().links, 2);
}

#[test]
fn looking_where_there_is_no_store_makes_none() {
    let folder = tempfile::tempdir().unwrap();
    let missing = refusal(SqliteStore::open_read_only(folder.path()));
    assert_eq!(missing.code, Code::StoreMissing);
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
}

#[test]
fn another_programs_file_is_refused_and_left_as_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("concord.db");
    Connection::open(&path).unwrap().execute_batch("CREATE TABLE theirs (x); INSERT INTO theirs VALUES (1)").unwrap();
    let before = std::fs::read(&path).unwrap();
    assert_eq!(refusal(SqliteStore::open(folder.path(), &StoreOptions::default())).code, Code::StoreForeign);
    assert_eq!(refusal(SqliteStore::open_read_only(folder.path())).code, Code::StoreForeign);
    assert_eq!(std::fs::read(&path).unwrap(), before);

    std::fs::write(&path, "this is a letter, not a database; ".repeat(100)).unwrap();
    assert_eq!(refusal(SqliteStore::open(folder.path(), &StoreOptions::default())).code, Code::StoreForeign);
}

#[test]
fn a_folder_that_cannot_be_made_is_refused_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    std::fs::write(&file, "").unwrap();
    let denied = refusal(SqliteStore::open(&file.join("store"), &StoreOptions::default()));
    assert_eq!(denied.code, Code::StoreDenied);
    assert!(denied.to_string().contains("file/store"), "{denied}");
}

#[cfg(unix)]
#[test]
fn the_stores_files_are_readable_by_their_owner_alone() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().unwrap();
    let store = folder.path().join("store");
    let _store = SqliteStore::open(&store, &StoreOptions::default()).unwrap();
    for name in ["concord.db", "concord.db-wal", "concord.db-shm", "concord.lock", "."] {
        let mode = std::fs::metadata(store.join(name)).unwrap().permissions().mode();
        assert_eq!(mode & 0o077, 0, "{name}");
    }
}

#[tokio::test]
async fn the_file_is_set_up_as_promised() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(&folder);
    let ask = async |pragma: &'static str| {
        store
            .read(move |database| Ok(database.connection.query_row(pragma, [], |row| row.get::<_, rusqlite::types::Value>(0))?))
            .await
            .unwrap()
    };
    use rusqlite::types::Value;
    assert_eq!(ask("PRAGMA journal_mode").await, Value::Text("wal".to_owned()));
    assert_eq!(ask("PRAGMA synchronous").await, Value::Integer(2));
    assert_eq!(ask("PRAGMA page_size").await, Value::Integer(4096));
    assert_eq!(ask("PRAGMA cache_size").await, Value::Integer(-48 * 1024));
    assert_eq!(ask("PRAGMA foreign_keys").await, Value::Integer(0));
}
