//! How a sync begins: everything is read, only what both sides have in common, nothing, or what changed since a time. What
//! was not read is linked when it is first seen to change, and is never made a second time.

use crate::support::{File, Server, Side, Story};
use concord_engine::clock::Moment;
use concord_engine::record::FieldName;
use concord_engine::rules::{Carrying, InitialStrategy};

const TABLE: &str =
    "CREATE TABLE accounts (id serial PRIMARY KEY, email text UNIQUE, name text, changed timestamptz NOT NULL DEFAULT now());";
const LEFT: &str = "INSERT INTO accounts (email, name, changed) VALUES ('old@x.org', 'Old', '2020-01-01'),
    ('left-old@x.org', 'Left old', '2020-01-01'), ('new@x.org', 'New', '2026-05-01'), ('left-new@x.org', 'Left new', '2026-05-01');";
const RIGHT: &str = "INSERT INTO accounts (email, name, changed) VALUES ('old@x.org', 'Old on the right', '2020-01-01'),
    ('right-old@x.org', 'Right old', '2020-01-01'), ('new@x.org', 'New', '2019-01-01'), ('right-new@x.org', 'Right new', '2026-05-01');";
const NAMES: &str = "SELECT string_agg(email || '=' || name, ' ' ORDER BY email) FROM accounts";

async fn story(strategy: InitialStrategy) -> Story {
    let sides: [Box<dyn Side>; 2] = [Box::new(Server::make("left").await), Box::new(Server::make("right").await)];
    let (left, right) = (format!("{TABLE}{LEFT}"), format!("{TABLE}{RIGHT}"));
    let story = Story::between(sides, &left, &right).await.sync("accounts", &["email", "name"]).await;
    story.with(|rules| {
        rules.initial.strategy = strategy;
        for member in &mut rules.members {
            member.edit_time_field = Some(FieldName::from("changed"));
            member.selection.fields.push(FieldName::from("changed"));
        }
    })
}

/// 2026-01-01.
fn since() -> InitialStrategy {
    InitialStrategy::Since(Moment(1_767_225_600_000_000))
}

#[tokio::test]
async fn only_what_changed_since_is_read_and_what_it_matches_is_found_by_search() {
    let mut story = story(since()).await.started().await;
    let right =
        "left-new@x.org=Left new new@x.org=New old@x.org=Old on the right right-new@x.org=Right new right-old@x.org=Right old";
    let left = "left-new@x.org=Left new left-old@x.org=Left old new@x.org=New old@x.org=Old right-new@x.org=Right new";
    story.right_shows(NAMES, right).await;
    story.left_shows(NAMES, left).await;
    assert_eq!(story.writes().await, 2, "one record made on each side: {:#?}", story.ledger().await);
    assert_eq!(story.links().await.len(), 3);

    // What was not read is linked when it changes, with the record that it matches; what matches nothing is made.
    story.left.run("UPDATE accounts SET name = 'Edited', changed = now() WHERE email = 'old@x.org'").await;
    story.right.run("UPDATE accounts SET name = 'Came late', changed = now() WHERE email = 'right-old@x.org'").await;
    story.settle().await;
    story.right_shows("SELECT count(*) FROM accounts WHERE email = 'old@x.org'", "1").await;
    story.right_shows("SELECT name FROM accounts WHERE email = 'old@x.org'", "Edited").await;
    story.left_shows("SELECT name FROM accounts WHERE email = 'right-old@x.org'", "Came late").await;
    story.left_shows("SELECT count(*) FROM accounts", "6").await;
    story.stop().await;
}

#[tokio::test]
async fn a_reread_reads_what_changed_since_and_every_linked_record_and_nothing_else() {
    let mut story = story(since()).await.started().await;
    let writes = story.writes().await;
    story.ask(concord_engine::runtime::command::Request::Reread(story.id())).await.unwrap();
    story.settle().await;
    assert_eq!(story.writes().await, writes, "{:#?}", story.ledger().await);
    assert_eq!(story.links().await.len(), 3);
    story.stop().await;
}

#[tokio::test]
async fn a_member_that_cannot_tell_when_its_records_changed_is_not_read_at_first() {
    let story = story(since()).await.with(|rules| rules.members[1].edit_time_field = None);
    let mut story = story.started().await;
    story.left_shows("SELECT count(*) FROM accounts", "4").await;
    story.right_shows("SELECT count(*) FROM accounts", "5").await;
    story.right.run("UPDATE accounts SET name = 'Came late' WHERE email = 'right-new@x.org'").await;
    story.settle().await;
    story.left_shows("SELECT name FROM accounts WHERE email = 'right-new@x.org'", "Came late").await;
    story.stop().await;
}

#[tokio::test]
async fn matching_alone_makes_nothing_but_what_is_made_meanwhile_is_carried() {
    let mut story = story(InitialStrategy::MatchOnly).await;
    story.taps[0].after_chunk.close();
    story.start().await;
    story.taps[0].after_chunk.reached().await;
    story.right.run("INSERT INTO accounts (email, name) VALUES ('meanwhile@x.org', 'Meanwhile')").await;
    story.taps[0].after_chunk.open();
    story.settle().await;
    let left = "left-new@x.org=Left new left-old@x.org=Left old meanwhile@x.org=Meanwhile new@x.org=New old@x.org=Old";
    assert_eq!(story.on_left(NAMES).await, [[Some(left.to_owned())]], "{:#?}", story.ledger().await);
    story.right_shows("SELECT name FROM accounts WHERE email = 'old@x.org'", "Old").await;
    story.right_shows("SELECT count(*) FROM accounts", "5").await;
    // Later changes flow like any others.
    story.left.run("UPDATE accounts SET name = 'Edited' WHERE email = 'left-old@x.org'").await;
    story.settle().await;
    story.right_shows("SELECT name FROM accounts WHERE email = 'left-old@x.org'", "Edited").await;
    story.stop().await;
}

#[tokio::test]
async fn from_now_on_nothing_is_read_and_an_edit_finds_its_match() {
    let mut story = story(InitialStrategy::FromNow).await.started().await;
    assert_eq!((story.writes().await, story.links().await.len()), (0, 0));
    story.left.run("UPDATE accounts SET name = 'Edited', changed = now() WHERE email = 'old@x.org'").await;
    story.left.run("INSERT INTO accounts (email, name) VALUES ('made@x.org', 'Made')").await;
    story.settle().await;
    story.right_shows("SELECT name FROM accounts WHERE email = 'old@x.org'", "Edited").await;
    story.right_shows("SELECT name FROM accounts WHERE email = 'made@x.org'", "Made").await;
    story.right_shows("SELECT count(*) FROM accounts", "5").await;
    // Nor does a later reading make what was there before.
    story.ask(concord_engine::runtime::command::Request::Reread(story.id())).await.unwrap();
    story.settle().await;
    story.right_shows("SELECT count(*) FROM accounts", "5").await;
    story.left_shows("SELECT count(*) FROM accounts", "5").await;
    story.stop().await;
}

#[tokio::test]
async fn a_file_is_read_since_a_time_as_well() {
    let table = "CREATE TABLE accounts (id INTEGER PRIMARY KEY, email TEXT UNIQUE, name TEXT, changed TIMESTAMP);";
    let rows = |side: &str| {
        format!(
            "{table} INSERT INTO accounts (email, name, changed) VALUES ('{side}-old@x.org', 'Old', '2020-01-01 00:00:00'),
            ('{side}-new@x.org', 'New', '2026-05-01 00:00:00');"
        )
    };
    let folder = tempfile::tempdir().unwrap();
    let sides: [Box<dyn Side>; 2] =
        [Box::new(File::make(folder.path().join("left.db"))), Box::new(File::make(folder.path().join("right.db")))];
    let story = Story::between(sides, &rows("left"), &rows("right")).await.sync("accounts", &["email", "name"]).await;
    let story = story.with(|rules| {
        rules.initial.strategy = since();
        for member in &mut rules.members {
            member.edit_time_field = Some(FieldName::from("changed"));
            member.selection.fields.push(FieldName::from("changed"));
        }
    });
    let mut story = story.started().await;
    let emails = "SELECT group_concat(email, ' ') FROM (SELECT email FROM accounts ORDER BY email)";
    story.left_shows(emails, "left-new@x.org left-old@x.org right-new@x.org").await;
    story.right_shows(emails, "left-new@x.org right-new@x.org right-old@x.org").await;
    story.stop().await;
}

#[tokio::test]
async fn changes_are_recorded_as_they_happen_and_carried_when_they_are_due() {
    let table = "CREATE TABLE accounts (id serial PRIMARY KEY, email text UNIQUE, name text);";
    let mut story = Story::tables(table).await.sync("accounts", &["email", "name"]).await;
    story.syncs[0].carrying = Carrying::Every(std::time::Duration::from_secs(3_600));
    story.start().await;
    story.wait_for_stage("waiting until").await;
    story.left.run("INSERT INTO accounts (email, name) VALUES ('ann@x.org', 'Ann')").await;
    story.pending(0, 1).await;
    story.fence().await;
    assert_eq!((story.writes().await, story.on_right("SELECT 1 FROM accounts").await.len()), (0, 0));
    // It is due at every start.
    story.stop().await;
    story.start().await;
    story.right_shows("SELECT name FROM accounts", "Ann").await;
    story.wait_for_stage("waiting until").await;
    story.stop().await;
}
