//! An engine that is killed at the worst moments: between the write and its settling, between what is durable and its
//! acknowledgement, around an edit and its revert.

use crate::support::Story;

const TABLE: &str = "CREATE TABLE accounts (id serial PRIMARY KEY, email text UNIQUE, name text);
    INSERT INTO accounts (email, name) VALUES ('ann@x.org', 'Ann');";
const ALL: &str = "SELECT email, name FROM accounts ORDER BY email";
const NAME: &str = "SELECT name FROM accounts WHERE email = 'ann@x.org'";

async fn story() -> Story {
    let story = Story::tables(TABLE).await.sync("accounts", &["email", "name"]).await.started().await;
    assert_eq!(story.writes().await, 0, "equal records need no write");
    story
}

/// Has the engine's writes to the right happen without the engine learning of it.
fn deafen(story: &Story) {
    story.taps[1].after_apply.close();
    story.taps[1].before_batch.close();
}

#[tokio::test]
async fn a_kill_between_an_update_and_its_settling_writes_it_once() {
    let mut story = story().await;
    deafen(&story);
    story.left.run("UPDATE accounts SET name = 'Anna'").await;
    story.right_shows(NAME, "Anna").await;
    story.crash_and_restart().await;
    story.settle().await;
    story.both_show(ALL, &["ann@x.org|Anna"]).await;
    assert_eq!(story.writes().await, 1, "{:#?}", story.ledger().await);
    assert!(story.reviews().await.is_empty());
    story.stop().await;
}

#[tokio::test]
async fn a_kill_between_a_create_and_its_settling_makes_one_record() {
    let mut story = story().await;
    deafen(&story);
    story.left.run("INSERT INTO accounts (email, name) VALUES ('bob@x.org', 'Bob')").await;
    story.right_shows("SELECT name FROM accounts WHERE email = 'bob@x.org'", "Bob").await;
    story.crash_and_restart().await;
    story.settle().await;
    story.both_show(ALL, &["ann@x.org|Ann", "bob@x.org|Bob"]).await;
    assert_eq!(story.writes().await, 1, "{:#?}", story.ledger().await);
    story.left.run("UPDATE accounts SET name = 'Robert' WHERE email = 'bob@x.org'").await;
    story.settle().await;
    story.both_show(ALL, &["ann@x.org|Ann", "bob@x.org|Robert"]).await;
    assert_eq!(story.links().await.len(), 2);
    story.stop().await;
}

#[tokio::test]
async fn a_kill_between_a_delete_and_its_settling_leaves_nothing_behind() {
    let mut story = story().await;
    deafen(&story);
    story.left.run("DELETE FROM accounts").await;
    story.right_shows("SELECT count(*) FROM accounts", "0").await;
    story.crash_and_restart().await;
    story.settle().await;
    story.both_show(ALL, &[]).await;
    assert_eq!(story.writes().await, 1, "{:#?}", story.ledger().await);
    story.stop().await;
}

// The write never left.
#[tokio::test]
async fn a_kill_between_the_intent_and_the_write_writes_it_after_the_restart() {
    let mut story = story().await;
    story.taps[1].before_apply.close();
    story.left.run("UPDATE accounts SET name = 'Anna'").await;
    story.left.run("INSERT INTO accounts (email, name) VALUES ('bob@x.org', 'Bob')").await;
    story.taps[1].before_apply.reached().await;
    story.crash_and_restart().await;
    story.settle().await;
    story.both_show(ALL, &["ann@x.org|Anna", "bob@x.org|Bob"]).await;
    assert_eq!(story.writes().await, 2, "{:#?}", story.ledger().await);
    story.stop().await;
}

#[tokio::test]
async fn a_kill_between_durable_and_acknowledged_loses_nothing_and_repeats_nothing() {
    let mut story = story().await;
    story.taps[0].before_acknowledge.close();
    story.left.run("UPDATE accounts SET name = 'Anna'").await;
    story.left.run("INSERT INTO accounts (email, name) VALUES ('bob@x.org', 'Bob')").await;
    story.left.run("UPDATE accounts SET name = 'Anne' WHERE email = 'ann@x.org'").await;
    story.taps[0].before_acknowledge.reached().await;
    story.right_shows(NAME, "Anne").await;
    let ledger_before = story.writes().await;
    story.crash().await;
    story.right.run("UPDATE accounts SET name = 'Annette' WHERE email = 'ann@x.org'").await;
    story.start().await;
    story.settle().await;
    story.both_show(ALL, &["ann@x.org|Annette", "bob@x.org|Bob"]).await;
    let writes = story.writes().await - ledger_before;
    assert!(writes <= 3, "the later edit once, and what was not yet settled: {:#?}", story.ledger().await);
    story.stop().await;
}

// The engine dies before what it has read is durable.
#[tokio::test]
async fn a_kill_before_what_was_read_is_durable_has_it_read_again() {
    let mut story = story().await;
    story.taps[0].before_batch.close();
    story.left.run("UPDATE accounts SET name = 'Anna'").await;
    story.taps[0].before_batch.reached().await;
    story.crash_and_restart().await;
    story.settle().await;
    story.both_show(ALL, &["ann@x.org|Anna"]).await;
    assert_eq!(story.writes().await, 1);
    story.stop().await;
}

// An edit and its revert around a kill: the revert must not be taken for the other side's edit.
#[tokio::test]
async fn an_edit_and_its_revert_around_a_kill_end_at_the_reverted_value() {
    let mut story = story().await;
    deafen(&story);
    story.left.run("UPDATE accounts SET name = 'Anna'").await;
    story.right_shows(NAME, "Anna").await;
    story.crash().await;
    story.left.run("UPDATE accounts SET name = 'Ann'").await;
    story.start().await;
    story.settle().await;
    story.both_show(ALL, &["ann@x.org|Ann"]).await;
    assert_eq!(story.writes().await, 2, "there and back: {:#?}", story.ledger().await);
    assert!(story.lost().await.is_empty(), "{:#?}", story.lost().await);
    story.stop().await;
}

// The feeds go on without the sync before it is run again: that they tell nothing of its write proves nothing.
#[tokio::test]
async fn a_write_that_the_feeds_told_while_the_sync_was_left_out_is_not_taken_for_an_edit() {
    let mut story = story().await;
    deafen(&story);
    story.left.run("UPDATE accounts SET name = 'Anna'").await;
    story.right_shows(NAME, "Anna").await;
    story.crash().await;
    let left_out = std::mem::take(&mut story.syncs);
    story.start().await;
    story.fence().await;
    story.left.run("UPDATE accounts SET name = 'Ann'").await;
    story.fence().await;
    story.stop().await;
    story.syncs = left_out;
    story.start().await;
    story.settle().await;
    story.both_show(ALL, &["ann@x.org|Ann"]).await;
    assert_eq!(story.writes().await, 2, "there and back: {:#?}", story.ledger().await);
    assert!(story.lost().await.is_empty(), "{:#?}", story.lost().await);
    story.stop().await;
}

// The same, with the revert at the side that was written to.
#[tokio::test]
async fn a_revert_at_the_written_side_around_a_kill_is_that_sides_edit() {
    let mut story = story().await;
    deafen(&story);
    story.left.run("UPDATE accounts SET name = 'Anna'").await;
    story.right_shows(NAME, "Anna").await;
    story.crash().await;
    story.right.run("UPDATE accounts SET name = 'Ann'").await;
    story.start().await;
    story.settle().await;
    story.both_show(ALL, &["ann@x.org|Ann"]).await;
    assert!(story.reviews().await.is_empty());
    story.stop().await;
}

// The answer is lost, the engine lives: the outcome is looked up in the feed, never tried a second time.
#[tokio::test]
async fn a_lost_answer_is_looked_up_and_nothing_is_made_twice() {
    let mut story = story().await;
    story.taps[1].loses_answers.store(true, std::sync::atomic::Ordering::SeqCst);
    story.left.run("UPDATE accounts SET name = 'Anna'").await;
    story.left.run("INSERT INTO accounts (email, name) VALUES ('bob@x.org', 'Bob')").await;
    story.right_shows("SELECT count(*) FROM accounts", "2").await;
    story.settle().await;
    story.both_show(ALL, &["ann@x.org|Anna", "bob@x.org|Bob"]).await;
    assert_eq!(story.writes().await, 2, "{:#?}", story.ledger().await);
    story.stop().await;
}
