//! Keys that change: the same link goes on under another key.

use crate::support::Story;

const NATURAL: &str = "CREATE TABLE accounts (email text PRIMARY KEY, name text);
    INSERT INTO accounts VALUES ('ann@x.org', 'Ann'), ('bob@x.org', 'Bob');";
const SERIAL: &str = "CREATE TABLE accounts (id serial PRIMARY KEY, email text UNIQUE, name text);
    INSERT INTO accounts (email, name) VALUES ('ann@x.org', 'Ann'), ('bob@x.org', 'Bob');";
const ALL: &str = "SELECT email, name FROM accounts ORDER BY email";

async fn both_survive(table: &str, key_change: &str, rows: &[&str], writes: usize) {
    // Seen at once, in either order, and one after the other.
    for turn in 0..3 {
        let mut story = Story::tables(table).await.sync("accounts", &["email", "name"]).await.started().await;
        let edit = "UPDATE accounts SET name = 'Anna' WHERE email = 'ann@x.org'";
        if turn < 2 {
            story.pause().await;
        }
        if turn == 0 {
            story.left.run(key_change).await;
            story.pending(0, 1).await;
            story.right.run(edit).await;
        } else {
            story.right.run(edit).await;
            story.left.run(key_change).await;
        }
        if turn < 2 {
            story.pending(0, 1).await;
            story.pending(1, 1).await;
            story.resume().await;
        }
        story.settle().await;
        story.both_show(ALL, rows).await;
        assert_eq!(story.links().await.len(), 2, "the same link: {:#?}", story.ledger().await);
        assert!(story.lost().await.is_empty(), "{:#?}", story.lost().await);
        assert!(story.reviews().await.is_empty(), "{:#?}", story.reviews().await);
        assert_eq!(story.writes().await, writes, "{:#?}", story.ledger().await);
        // The record goes on under its new key, both ways.
        story.right.run("UPDATE accounts SET name = 'Annie' WHERE name = 'Anna'").await;
        story.settle().await;
        story.left_shows("SELECT name FROM accounts WHERE name LIKE 'Ann%'", "Annie").await;
        story.left.run("DELETE FROM accounts WHERE name = 'Annie'").await;
        story.settle().await;
        story.both_show(ALL, &["bob@x.org|Bob"]).await;
        story.stop().await;
    }
}

#[tokio::test]
async fn a_natural_key_changed_on_one_side_and_a_field_on_the_other_both_survive() {
    let change = "UPDATE accounts SET email = 'anna@x.org' WHERE email = 'ann@x.org'";
    both_survive(NATURAL, change, &["anna@x.org|Anna", "bob@x.org|Bob"], 2).await;
}

#[tokio::test]
async fn an_unmapped_key_changed_on_one_side_and_a_field_on_the_other_both_survive() {
    let change = "UPDATE accounts SET id = 500 WHERE email = 'ann@x.org'";
    both_survive(SERIAL, change, &["ann@x.org|Anna", "bob@x.org|Bob"], 1).await;
}

// The engine is killed with the key change in flight.
#[tokio::test]
async fn a_key_change_around_a_kill_makes_no_second_record() {
    let mut story = Story::tables(NATURAL).await.sync("accounts", &["email", "name"]).await.started().await;
    story.taps[1].after_apply.close();
    story.taps[1].before_batch.close();
    story.left.run("UPDATE accounts SET email = 'anna@x.org' WHERE email = 'ann@x.org'").await;
    story.right_shows("SELECT count(*) FROM accounts WHERE email = 'anna@x.org'", "1").await;
    story.crash().await;
    story.right.run("UPDATE accounts SET name = 'Anna' WHERE email = 'anna@x.org'").await;
    story.start().await;
    story.settle().await;
    story.both_show(ALL, &["anna@x.org|Anna", "bob@x.org|Bob"]).await;
    assert_eq!(story.links().await.len(), 2);
    assert_eq!(story.writes().await, 2, "{:#?}", story.ledger().await);
    story.stop().await;
}

// A key that one record gives up is taken by another at once.
#[tokio::test]
async fn a_key_that_passes_from_one_record_to_another_takes_nothing_along() {
    let mut story = Story::tables(NATURAL).await.sync("accounts", &["email", "name"]).await.started().await;
    story
        .left
        .run(
            "BEGIN; UPDATE accounts SET email = 'old@x.org' WHERE email = 'ann@x.org';
             UPDATE accounts SET email = 'ann@x.org' WHERE email = 'bob@x.org'; COMMIT",
        )
        .await;
    story.settle().await;
    story.both_show(ALL, &["ann@x.org|Bob", "old@x.org|Ann"]).await;
    assert!(story.reviews().await.is_empty(), "{:#?}", story.reviews().await);
    assert_eq!(story.links().await.len(), 2, "{:#?}", story.ledger().await);
    story.stop().await;
}
