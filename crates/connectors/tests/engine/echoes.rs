//! Writes of ours that come back: without their marks, changed by a trigger, or for ever; and one record that the other
//! side refuses in the middle of many.

use crate::support::{File, LOAD_DEADLINE, Server, Side, Story, wait_within};
use concord_engine::ledger::{Entry, LedgerRow};
use concord_engine::review::Subject;
use concord_engine::value::Value;
use std::sync::atomic::Ordering;

const TABLE: &str = "CREATE TABLE accounts (id serial PRIMARY KEY, email text UNIQUE, name text);
    INSERT INTO accounts (email, name) VALUES ('ann@x.org', 'Ann');";
const ALL: &str = "SELECT email, name FROM accounts ORDER BY email";

async fn stage() -> Story {
    Story::tables(TABLE).await.sync("accounts", &["email", "name"]).await
}

const TAKER: &str = "CREATE FUNCTION take() RETURNS trigger LANGUAGE plpgsql AS
        'BEGIN IF NEW.name = ''Nobody'' THEN DELETE FROM accounts WHERE id = NEW.id; END IF; RETURN NULL; END';
    CREATE TRIGGER take AFTER INSERT OR UPDATE ON accounts FOR EACH ROW EXECUTE FUNCTION take();";

/// A trigger of the right side takes away what we write there: nothing is believed in, and nothing is deleted for it.
async fn is_taken_away(sides: [Box<dyn Side>; 2], table: &str, taker: &str) {
    let right = format!("{table}{taker}");
    let mut story = Story::between(sides, table, &right).await.sync("accounts", &["email", "name"]).await.started().await;
    story.left.run("INSERT INTO accounts (email, name) VALUES ('bob@x.org', 'Nobody'), ('cyd@x.org', 'Cyd')").await;
    story.settle().await;
    story.left.run("UPDATE accounts SET name = 'Nobody' WHERE email = 'ann@x.org'").await;
    story.settle().await;
    let left = ["ann@x.org|Nobody", "bob@x.org|Nobody", "cyd@x.org|Cyd"];
    story.left_shows("SELECT count(*) FROM accounts", &left.len().to_string()).await;
    let there = story.on_right(ALL).await;
    assert_eq!(there.len(), 2, "{there:?}");
    let reviews = story.reviews().await;
    assert_eq!(reviews.len(), 2, "{reviews:#?}");
    assert!(reviews.iter().all(|review| review.code == "CON-3001"), "{reviews:#?}");
    // What the trigger lets stand is written.
    story.left.run("UPDATE accounts SET name = 'Somebody' WHERE name = 'Nobody'").await;
    story.settle().await;
    story.both_show(ALL, &["ann@x.org|Somebody", "bob@x.org|Somebody", "cyd@x.org|Cyd"]).await;
    assert!(story.reviews().await.is_empty(), "{:#?}", story.reviews().await);
    story.stop().await;
}

#[tokio::test]
async fn a_record_that_a_trigger_of_the_server_takes_away_again_is_not_believed_in() {
    let sides: [Box<dyn Side>; 2] = [Box::new(Server::make("left").await), Box::new(Server::make("right").await)];
    is_taken_away(sides, TABLE, TAKER).await;
}

#[tokio::test]
async fn a_record_that_a_trigger_of_the_file_takes_away_again_is_not_believed_in() {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str| -> Box<dyn Side> { Box::new(File::make(folder.path().join(name))) };
    let table = "CREATE TABLE accounts (id INTEGER PRIMARY KEY, email TEXT UNIQUE, name TEXT);
        INSERT INTO accounts (email, name) VALUES ('ann@x.org', 'Ann');";
    let take = "WHEN NEW.name = 'Nobody' BEGIN DELETE FROM accounts WHERE id = NEW.id; END;";
    let taker = format!(
        "CREATE TRIGGER take_new AFTER INSERT ON accounts {take} CREATE TRIGGER take_changed AFTER UPDATE ON accounts {take}"
    );
    is_taken_away([file("left.db"), file("right.db")], table, &taker).await;
}

#[tokio::test]
async fn writes_that_come_back_without_their_marks_are_known_by_their_values() {
    let story = stage().await;
    for tap in &story.taps {
        tap.strips_marks.store(true, Ordering::SeqCst);
    }
    let mut story = story.started().await;
    for turn in 0..3 {
        story.left.run(&format!("UPDATE accounts SET name = 'Left {turn}'")).await;
        story.right_shows("SELECT name FROM accounts", &format!("Left {turn}")).await;
        story.right.run(&format!("UPDATE accounts SET name = 'Right {turn}'")).await;
        story.settle().await;
        story.both_show(ALL, &[&format!("ann@x.org|Right {turn}")]).await;
    }
    assert_eq!(story.writes().await, 6, "{:#?}", story.ledger().await);
    assert!(story.lost().await.is_empty(), "{:#?}", story.lost().await);

    story.left.run("INSERT INTO accounts (email, name) VALUES ('bob@x.org', 'Bob')").await;
    story.right.run("INSERT INTO accounts (email, name) VALUES ('cyd@x.org', 'Cyd')").await;
    story.settle().await;
    story.left.run("DELETE FROM accounts WHERE email = 'ann@x.org'").await;
    story.settle().await;
    story.both_show(ALL, &["bob@x.org|Bob", "cyd@x.org|Cyd"]).await;
    assert_eq!(story.writes().await, 9, "{:#?}", story.ledger().await);
    assert!(story.reviews().await.is_empty());
    story.stop().await;
}

// The unmarked echo arrives before the answer of the write.
#[tokio::test]
async fn unmarked_echoes_that_come_before_their_answers_are_known_by_their_values() {
    let story = stage().await;
    story.taps[1].strips_marks.store(true, Ordering::SeqCst);
    let mut story = story.started().await;
    story.taps[1].after_apply.close();
    story.left.run("UPDATE accounts SET name = 'Anna'").await;
    story.left.run("INSERT INTO accounts (email, name) VALUES ('bob@x.org', 'Bob')").await;
    story.right_shows("SELECT count(*) FROM accounts WHERE name IN ('Anna', 'Bob')", "2").await;
    // A change of the beat's row that has come through shows that the feed has told of the writes.
    story.fence().await;
    story.taps[1].after_apply.open();
    story.settle().await;
    story.both_show(ALL, &["ann@x.org|Anna", "bob@x.org|Bob"]).await;
    assert_eq!(story.links().await.len(), 2);
    assert_eq!(story.writes().await, 2, "{:#?}", story.ledger().await);
    story.stop().await;
}

/// Three records are made and one is changed by what is one batch to us, and several transactions to the server; one comes back
/// without its mark.
async fn splits_a_batch(unmarked: &str, answers_are_lost: bool) {
    let mut story = stage().await.started().await;
    let tap = std::sync::Arc::clone(&story.taps[1]);
    tap.splits.store(true, Ordering::SeqCst);
    *tap.strips_mark_of.lock().unwrap() = Some(Value::text(unmarked));
    tap.loses_answers.store(answers_are_lost, Ordering::SeqCst);
    tap.after_apply.close();
    story
        .left
        .run(
            "BEGIN; UPDATE accounts SET name = 'Anna'; \
             INSERT INTO accounts (email, name) VALUES ('bob@x.org', 'Bob'), ('cyd@x.org', 'Cyd'), ('dan@x.org', 'Dan'); COMMIT",
        )
        .await;
    story.right_shows("SELECT count(*) FROM accounts WHERE name IN ('Anna', 'Bob', 'Cyd', 'Dan')", "4").await;
    story.right_shows("SELECT count(DISTINCT xmin::text) FROM accounts", "4").await;
    tap.after_apply.open();
    // What is written again is answered.
    tap.after_apply.passed().await;
    tap.loses_answers.store(false, Ordering::SeqCst);
    // A create that meets its own record waits for the search, a minute at most.
    for _ in 0..2 {
        story.fence().await;
        wait_within(LOAD_DEADLINE, "nothing left to do", || async { story.status().syncs[0].level }).await;
    }
    story.settle().await;
    let all = ["ann@x.org|Anna", "bob@x.org|Bob", "cyd@x.org|Cyd", "dan@x.org|Dan"];
    story.both_show(ALL, &all).await;
    assert_eq!(story.links().await.len(), 4);
    let ledger = story.ledger().await;
    let goes_back = |row: &LedgerRow| row.entry != Entry::Linked && (row.member != 1 || row.entry == Entry::Lost);
    assert!(!ledger.iter().any(goes_back), "nothing goes back: {ledger:#?}");
    assert!(story.reviews().await.is_empty(), "{:#?}", story.reviews().await);
    let written = story.writes().await;
    assert!(if answers_are_lost { written <= 4 } else { written == 4 }, "{ledger:#?}");
    // An edit behind it is one: each is carried once, either way.
    story.right.run("UPDATE accounts SET name = name || '!'").await;
    story.settle().await;
    story.left.run("UPDATE accounts SET name = name || '?'").await;
    story.settle().await;
    story.both_show(ALL, &all.map(|line| format!("{line}!?")).iter().map(String::as_str).collect::<Vec<_>>()).await;
    assert_eq!(story.writes().await, written + 8, "{:#?}", story.ledger().await);
    story.stop().await;
}

#[tokio::test]
async fn a_batch_split_over_several_transactions_one_of_which_lacks_its_mark_is_no_edit() {
    splits_a_batch("Bob", false).await;
    splits_a_batch("Anna", false).await;
}

// The marks, and the one that is missing, are all that tells what became of it.
#[tokio::test]
async fn a_split_batch_without_answers_one_part_of_which_lacks_its_mark_is_written_once() {
    splits_a_batch("Bob", true).await;
    splits_a_batch("Anna", true).await;
}

fn trigger(side: &str, expression: &str) -> String {
    format!(
        "{TABLE} CREATE FUNCTION {side}() RETURNS trigger LANGUAGE plpgsql AS
            $$ BEGIN NEW.name := {expression}; RETURN NEW; END $$;
        CREATE TRIGGER {side} BEFORE INSERT OR UPDATE ON accounts FOR EACH ROW EXECUTE FUNCTION {side}();"
    )
}

#[tokio::test]
async fn what_a_trigger_makes_of_our_write_is_that_sides_edit_and_both_come_to_rest() {
    let story = Story::servers(TABLE, &trigger("shouts", "upper(NEW.name)")).await;
    let mut story = story.sync("accounts", &["email", "name"]).await.started().await;
    story.left.run("UPDATE accounts SET name = 'Anna'").await;
    story.left.run("INSERT INTO accounts (email, name) VALUES ('bob@x.org', 'Bob')").await;
    story.settle().await;
    story.both_show(ALL, &["ann@x.org|ANNA", "bob@x.org|BOB"]).await;
    assert_eq!(story.writes().await, 4, "there and back: {:#?}", story.ledger().await);
    assert!(story.reviews().await.is_empty());
    story.stop().await;
}

#[tokio::test]
async fn two_triggers_that_undo_each_other_are_brought_before_a_person() {
    let left = trigger("whispers", "lower(NEW.name)");
    let story = Story::servers(&left, &trigger("shouts", "upper(NEW.name)")).await;
    let mut story = story.sync("accounts", &["email", "name"]).await.started().await;
    story.left.run("UPDATE accounts SET name = 'Anna'").await;
    let review = story.review().await;
    assert!(matches!(review.subject, Subject::Loop { .. }), "{review:#?}");
    story.settle().await;
    assert!(story.writes().await < 20, "{:#?}", story.ledger().await);
    story.left_shows("SELECT name FROM accounts", "anna").await;
    story.right_shows("SELECT name FROM accounts", "ANNA").await;
    story.stop().await;
}

#[tokio::test]
async fn two_triggers_that_drive_each_other_on_are_brought_before_a_person() {
    let left = trigger("adds", "NEW.name || '!'").replace("BEFORE INSERT OR UPDATE", "BEFORE UPDATE");
    let right = trigger("adds", "NEW.name || '?'").replace("BEFORE INSERT OR UPDATE", "BEFORE UPDATE");
    let mut story = Story::servers(&left, &right).await.sync("accounts", &["email", "name"]).await.started().await;
    story.left.run("UPDATE accounts SET name = 'Anna'").await;
    let review = story.review().await;
    assert!(matches!(review.subject, Subject::Loop { .. }), "{review:#?}");
    story.settle().await;
    assert!(story.writes().await < 20, "{:#?}", story.ledger().await);
    story.stop().await;
}

#[tokio::test]
async fn a_record_that_the_other_side_refuses_waits_alone_and_flows_once_repaired() {
    let strict = format!("{TABLE} ALTER TABLE accounts ADD CHECK (name <> 'poison');");
    let mut story = Story::servers(TABLE, &strict).await.sync("accounts", &["email", "name"]).await.started().await;
    story
        .left
        .run(
            "INSERT INTO accounts (email, name)
             SELECT 'user' || n || '@x.org', CASE n WHEN 25 THEN 'poison' ELSE 'User ' || n END FROM generate_series(1, 50) n",
        )
        .await;
    story.settle().await;
    story.right_shows("SELECT count(*) FROM accounts", "50").await;
    let reviews = story.reviews().await;
    assert_eq!(reviews.len(), 1, "{reviews:#?}");
    assert!(matches!(reviews[0].subject, Subject::Rejected { member: 1, .. }), "{reviews:#?}");

    // A record that is there already, in a stream of changes of others.
    story.left.run("UPDATE accounts SET name = CASE email WHEN 'ann@x.org' THEN 'poison' ELSE name || '!' END").await;
    story.settle().await;
    story.right_shows("SELECT count(*) FROM accounts WHERE name LIKE '%!'", "50").await;
    story.right_shows("SELECT name FROM accounts WHERE email = 'ann@x.org'", "Ann").await;
    assert_eq!(story.reviews().await.len(), 1, "the repaired one is over, the other waits: {:#?}", story.reviews().await);

    // While it waits, its other side goes on; repaired, it flows.
    story.left.run("UPDATE accounts SET name = 'Antidote' WHERE email = 'ann@x.org'").await;
    story.settle().await;
    story.are_equal(ALL).await;
    assert!(story.reviews().await.is_empty(), "{:#?}", story.reviews().await);
    story.stop().await;
}
