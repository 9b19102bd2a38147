//! Feeds that cannot be resumed, and commits that the feed tells before a read can see them.

use crate::server;
use crate::support::{Server, Side, Story, wait_until};
use concord_engine::runtime::command::Request;
use std::sync::Arc;

const TABLE: &str = "CREATE TABLE accounts (id serial PRIMARY KEY, email text UNIQUE, name text);
    INSERT INTO accounts (email, name) VALUES ('ann@x.org', 'Ann'), ('bob@x.org', 'Bob'), ('cyd@x.org', 'Cyd');";
const ALL: &str = "SELECT email, name FROM accounts ORDER BY email";

async fn story() -> Story {
    Story::tables(TABLE).await.sync("accounts", &["email", "name"]).await.started().await
}

/// A DBA drops the left side's slot and makes one of the same name; what is committed between is in neither.
pub async fn slot_made_anew(story: &Story, between: &str) {
    let dba = story.left.session().await;
    let sql = "SELECT slot_name FROM pg_replication_slots WHERE database = current_database()";
    let slot = story.on_left(sql).await[0][0].clone().unwrap();
    let end = format!("SELECT pg_terminate_backend(active_pid) FROM pg_replication_slots WHERE slot_name = '{slot}' AND active");
    let drop = format!("SELECT pg_drop_replication_slot('{slot}')");
    wait_until("the slot to be free", || async {
        dba.batch_execute(&end).await.unwrap();
        dba.batch_execute(&drop).await.is_ok()
    })
    .await;
    dba.batch_execute(between).await.unwrap();
    let make = format!("SELECT pg_create_logical_replication_slot('{slot}', 'pgoutput')");
    dba.batch_execute(&make).await.unwrap();
}

const BETWEEN: &str = "UPDATE accounts SET name = 'Anna' WHERE email = 'ann@x.org';
    DELETE FROM accounts WHERE email = 'bob@x.org';
    INSERT INTO accounts (email, name) VALUES ('dee@x.org', 'Dee');";

async fn is_repaired_by_a_reread(story: &mut Story) {
    story.wait_for_stage("stopped").await;
    assert!(story.stage().contains("gap") || story.stage().contains("slot"), "{}", story.stage());
    // Both sides go on working; nothing travels, nothing is lost.
    story.left.run("UPDATE accounts SET name = 'Anne' WHERE email = 'ann@x.org'").await;
    story.right.run("UPDATE accounts SET name = 'Cydney' WHERE email = 'cyd@x.org'").await;
    assert!(story.ask(Request::Resume(story.id())).await.is_err(), "a gap is not passed over");
    assert_eq!(story.writes().await, 0);
    story.ask(Request::Reread(story.id())).await.unwrap();
    story.settle().await;
    story.both_show(ALL, &["ann@x.org|Anne", "cyd@x.org|Cydney", "dee@x.org|Dee"]).await;
    assert!(story.reviews().await.is_empty());
    story.left.run("UPDATE accounts SET name = 'Deirdre' WHERE email = 'dee@x.org'").await;
    story.settle().await;
    story.both_show(ALL, &["ann@x.org|Anne", "cyd@x.org|Cydney", "dee@x.org|Deirdre"]).await;
    story.stop().await;
}

#[tokio::test]
async fn a_slot_made_anew_while_nothing_ran_is_noticed_and_repaired_by_a_reread() {
    let mut story = story().await;
    story.stop().await;
    slot_made_anew(&story, BETWEEN).await;
    story.start().await;
    is_repaired_by_a_reread(&mut story).await;
}

#[tokio::test]
async fn a_slot_made_anew_under_a_running_engine_is_noticed_and_repaired_by_a_reread() {
    let mut story = story().await;
    slot_made_anew(&story, BETWEEN).await;
    is_repaired_by_a_reread(&mut story).await;
}

// The stop outlives the engine.
#[tokio::test]
async fn a_gap_is_still_a_gap_after_a_kill() {
    let mut story = story().await;
    story.stop().await;
    slot_made_anew(&story, BETWEEN).await;
    story.start().await;
    story.wait_for_stage("stopped").await;
    story.crash_and_restart().await;
    is_repaired_by_a_reread(&mut story).await;
}

/// A server whose commits wait for a standby that never comes, where a session does not say otherwise. They are in the
/// log, and so in the feed, but nobody's snapshot sees them before the wait is ended.
async fn waiting_for_a_standby() -> Story {
    // From the start, for a session that has not heard yet that its commits need not wait would wait for ever.
    let settings = vec![("synchronous_commit".to_owned(), "local".to_owned())];
    let server = Arc::new(server::Server::start(&server::Options { settings, ..server::Options::default() }));
    // The databases are made before anybody waits.
    let sides: [Box<dyn Side>; 2] = [Box::new(Server::on(&server, "left").await), Box::new(Server::on(&server, "right").await)];
    server.psql("ALTER SYSTEM SET synchronous_standby_names = 'nobody'");
    server.psql("SELECT pg_reload_conf()");
    let story = Story::between(sides, TABLE, TABLE).await.sync("accounts", &["email", "name"]).await;
    story.started().await
}

/// A commit that hangs; gives back the session's process, to be cancelled, and its end.
async fn hanging(story: &Story, sql: &str) -> (i32, tokio::task::JoinSet<()>) {
    let session = story.left.session().await;
    session.batch_execute("SET synchronous_commit = on").await.unwrap();
    let process: i32 = session.query_one("SELECT pg_backend_pid()", &[]).await.unwrap().get(0);
    let sql = sql.to_owned();
    let mut ends = tokio::task::JoinSet::new();
    ends.spawn(async move { session.batch_execute(&sql).await.unwrap() });
    (process, ends)
}

#[tokio::test]
async fn a_commit_that_the_feed_tells_before_a_chunk_can_see_it_is_not_undone_by_the_chunk() {
    let mut story = waiting_for_a_standby().await;
    let (update, mut updated) = hanging(&story, "UPDATE accounts SET name = 'NEW' WHERE email = 'ann@x.org'").await;
    let (delete, mut deleted) = hanging(&story, "DELETE FROM accounts WHERE email = 'bob@x.org'").await;
    let (insert, mut inserted) = hanging(&story, "INSERT INTO accounts (email, name) VALUES ('dee@x.org', 'Dee')").await;
    let there = ["ann@x.org|NEW", "cyd@x.org|Cyd", "dee@x.org|Dee"];
    let joined = "SELECT string_agg(email || '|' || name, ';' ORDER BY email) FROM accounts";
    story.right_shows(joined, &there.join(";")).await;
    // The left side still shows what was; a chunk of it sees just that.
    story.left_shows(joined, "ann@x.org|Ann;bob@x.org|Bob;cyd@x.org|Cyd").await;
    story.ask(Request::Reread(story.id())).await.unwrap();
    wait_until("the chunk", || async { story.stage() == "live" }).await;
    story.fence().await;
    story.right_shows(joined, &there.join(";")).await;
    for process in [update, delete, insert] {
        story.left.run(&format!("SELECT pg_cancel_backend({process})")).await;
    }
    for ends in [&mut updated, &mut deleted, &mut inserted] {
        ends.join_next().await.unwrap().unwrap();
    }
    story.settle().await;
    story.both_show(ALL, &there).await;
    assert_eq!(story.writes().await, 3, "{:#?}", story.ledger().await);
    story.stop().await;
}

// A transaction that stays open over the read, and commits after it.
#[tokio::test]
async fn a_transaction_that_commits_after_the_chunk_that_missed_it_has_the_last_word() {
    let mut story = story().await;
    let session = story.left.session().await;
    session.batch_execute("BEGIN; UPDATE accounts SET name = 'NEW' WHERE email = 'ann@x.org'").await.unwrap();
    story.taps[0].after_chunk.close();
    story.ask(Request::Reread(story.id())).await.unwrap();
    story.taps[0].after_chunk.reached().await;
    session.batch_execute("COMMIT").await.unwrap();
    story.right_shows("SELECT name FROM accounts WHERE email = 'ann@x.org'", "NEW").await;
    story.taps[0].after_chunk.open();
    story.settle().await;
    story.both_show(ALL, &["ann@x.org|NEW", "bob@x.org|Bob", "cyd@x.org|Cyd"]).await;
    assert_eq!(story.writes().await, 1, "{:#?}", story.ledger().await);
    story.stop().await;
}
