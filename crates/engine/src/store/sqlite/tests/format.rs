//! Formats: every format that was ever released opens, and one that comes from the future is refused untouched.

use super::*;
use crate::error::Code;
use rusqlite::Connection;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src/store/fixtures")
}

/// What a fixture shows, as text. Does not ask for what is pending under the sides' keys: that hangs on how a key is
/// encoded, not on the file.
async fn contents(folder: &Path) -> String {
    let store = SqliteStore::open(folder, &StoreOptions::default()).unwrap();
    let addresses: Vec<Address> = sample().keys.into_iter().map(|(address, _)| address).collect();
    let shown = picture(&store, &addresses, &[b"ada@example.org".to_vec()]).await;
    let identity = store.identity().await.unwrap().store;
    let sync = store.sync_id("contacts").await.unwrap();
    let mut text = format!("store {identity}\nsync contacts {sync:?}\n");
    writeln!(text, "{shown:#?}").unwrap();
    text
}

/// Writes the fixture of the present format when asked to by CONCORD_WRITE_FIXTURE, which is done once per format.
async fn write_fixture(folder: &Path, number: usize) {
    let options = StoreOptions { identity: Some(format!("fixture-{number}")), ..StoreOptions::default() };
    let store = SqliteStore::open(folder, &options).unwrap();
    for name in ["accounts", "contacts"] {
        store.sync_id(name).await.unwrap();
    }
    submit(&store, sample()).await.unwrap();
    drop(store);
    let format: i64 =
        Connection::open(folder.join("concord.db")).unwrap().query_row("PRAGMA user_version", [], |row| row.get(0)).unwrap();
    assert_eq!(format, i64::try_from(number).unwrap(), "only a store of the present format can be written");
    std::fs::copy(folder.join("concord.db"), fixtures().join(format!("format_{number}.sqlite"))).unwrap();
    std::fs::write(fixtures().join(format!("format_{number}.txt")), contents(folder).await).unwrap();
}

#[tokio::test]
async fn a_store_of_format_1_opens_and_shows_what_it_held() {
    if std::env::var_os("CONCORD_WRITE_FIXTURE").is_some_and(|number| number == "1") {
        write_fixture(tempfile::tempdir().unwrap().path(), 1).await;
    }
    let folder = tempfile::tempdir().unwrap();
    std::fs::copy(fixtures().join("format_1.sqlite"), folder.path().join("concord.db")).unwrap();
    let expected = std::fs::read_to_string(fixtures().join("format_1.txt")).unwrap();
    assert_eq!(contents(folder.path()).await, expected);

    let store = SqliteStore::open(folder.path(), &StoreOptions::default()).unwrap();
    submit(&store, Transaction { links: vec![link(77, 1).into()], ..Transaction::default() }).await.unwrap();
    assert_eq!(store.identity().await.unwrap().last_link, 77);
}

#[tokio::test]
async fn a_store_of_format_2_opens_and_shows_what_it_held() {
    if std::env::var_os("CONCORD_WRITE_FIXTURE").is_some_and(|number| number == "2") {
        write_fixture(tempfile::tempdir().unwrap().path(), 2).await;
    }
    let folder = tempfile::tempdir().unwrap();
    std::fs::copy(fixtures().join("format_2.sqlite"), folder.path().join("concord.db")).unwrap();
    let expected = std::fs::read_to_string(fixtures().join("format_2.txt")).unwrap();
    assert_eq!(contents(folder.path()).await, expected);
}

#[tokio::test]
async fn a_store_of_format_3_opens_and_shows_what_it_held() {
    if std::env::var_os("CONCORD_WRITE_FIXTURE").is_some_and(|number| number == "3") {
        write_fixture(tempfile::tempdir().unwrap().path(), 3).await;
    }
    let folder = tempfile::tempdir().unwrap();
    std::fs::copy(fixtures().join("format_3.sqlite"), folder.path().join("concord.db")).unwrap();
    let expected = std::fs::read_to_string(fixtures().join("format_3.txt")).unwrap();
    assert_eq!(contents(folder.path()).await, expected);
}

#[tokio::test]
async fn a_newer_format_is_refused_and_not_touched() {
    let folder = tempfile::tempdir().unwrap();
    drop(open(&folder));
    let path = folder.path().join("concord.db");
    let raw = Connection::open(&path).unwrap();
    raw.pragma_update(None, "user_version", 999).unwrap();
    drop(raw);
    let before = std::fs::read(&path).unwrap();
    for refused in [SqliteStore::open(folder.path(), &StoreOptions::default()), SqliteStore::open_read_only(folder.path())] {
        let refused = refused.err().expect("a store from the future was opened");
        assert_eq!(refused.code, Code::StoreTooNew);
        assert!(refused.message.contains("999"), "{refused}");
    }
    assert_eq!(std::fs::read(&path).unwrap(), before);
}

#[test]
fn a_store_that_was_being_made_when_the_process_died_is_made_again() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("concord.db"), "").unwrap();
    assert_eq!(SqliteStore::open_read_only(folder.path()).err().map(|error| error.code), Some(Code::StoreMissing));
    drop(open(&folder));
    assert!(SqliteStore::open_read_only(folder.path()).is_ok());
}
