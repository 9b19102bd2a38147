//! Values that must be unique across records: looked for at both sides, and claimed by the first that is decided.

use crate::support::{Story, wait_until};
use concord_engine::ledger::Entry;
use concord_engine::runtime::command::Resolution;
use concord_engine::validate::{OnError, Rule, RuleSpec};

const TABLE: &str = "CREATE TABLE accounts (id serial PRIMARY KEY, email text, code text);
    CREATE INDEX ON accounts (code);";
const ALL: &str = "SELECT email, code FROM accounts ORDER BY email";

async fn story(on_error: OnError) -> Story {
    let spec = RuleSpec { field: "code".into(), rule: "unique".into(), on_error, arguments: serde_json::Value::Null };
    let rule = Rule::compile(&spec, None).unwrap();
    Story::tables(TABLE).await.sync("accounts", &["email", "code"]).await.with(|rules| rules.validation = vec![rule])
}

#[tokio::test]
async fn of_two_records_that_claim_one_value_at_once_one_passes_and_the_other_waits_until_it_is_free() {
    let mut story = story(OnError::RejectRecord).await.started().await;
    story.left.run("INSERT INTO accounts (email, code) VALUES ('ann@x.org', 'A'), ('bob@x.org', 'A'), ('cyd@x.org', 'C')").await;
    story.settle().await;
    let review = story.review().await;
    assert_eq!(review.code, "CON-3010");
    assert!(review.message.contains("code") && review.message.contains("another record"), "{}", review.message);
    assert_eq!(story.reviews().await.len(), 1, "{:#?}", story.reviews().await);
    let on_right = story.on_right("SELECT email FROM accounts ORDER BY email").await;
    assert_eq!(on_right.len(), 2, "{on_right:?}");
    let (first, second) = match on_right[0][0].as_deref() {
        Some("ann@x.org") => ("ann@x.org", "bob@x.org"),
        _ => ("bob@x.org", "ann@x.org"),
    };

    // A retry while the value is taken changes nothing; once it is free, the second has it.
    story.resolve(review.id, Resolution::Retry).await;
    story.settle().await;
    let review = story.review().await;
    story.left.run(&format!("UPDATE accounts SET code = 'B' WHERE email = '{first}'")).await;
    story.settle().await;
    story.resolve(review.id, Resolution::Retry).await;
    story.settle().await;
    assert!(story.reviews().await.is_empty());
    story.are_equal(ALL).await;
    story.right_shows(&format!("SELECT code FROM accounts WHERE email = '{second}'"), "A").await;
    story.stop().await;
}

#[tokio::test]
async fn a_value_taken_on_the_other_side_is_seen_and_the_record_s_next_change_is_tried_again() {
    let mut story = story(OnError::RejectRecord).await.started().await;
    story.left.run("INSERT INTO accounts (email, code) VALUES ('ann@x.org', 'A'), ('bob@x.org', 'B')").await;
    story.settle().await;
    story.right.run("UPDATE accounts SET code = 'A' WHERE email = 'bob@x.org'").await;
    let review = story.review().await;
    assert_eq!(review.code, "CON-3010");
    story.settle().await;
    story.left_shows("SELECT code FROM accounts WHERE email = 'bob@x.org'", "B").await;
    story.right.run("UPDATE accounts SET code = 'D' WHERE email = 'bob@x.org'").await;
    story.settle().await;
    story.both_show(ALL, &["ann@x.org|A", "bob@x.org|D"]).await;
    assert!(story.reviews().await.is_empty());
    story.stop().await;
}

#[tokio::test]
async fn a_claim_outlives_a_kill_before_the_value_is_written() {
    let mut story = story(OnError::RejectRecord).await.started().await;
    story.taps[1].before_apply.close();
    story.left.run("INSERT INTO accounts (email, code) VALUES ('ann@x.org', 'A')").await;
    story.taps[1].before_apply.reached().await;
    story.right.run("INSERT INTO accounts (email, code) VALUES ('bob@x.org', 'A')").await;
    story.crash_and_restart().await;
    story.settle().await;
    let claimed = story.on_right("SELECT email FROM accounts WHERE code = 'A'").await.len();
    let waits = story.reviews().await.len();
    assert_eq!((claimed, waits), (2, 1), "each side keeps its own, and the later of them is asked about");
    story.stop().await;
}

#[tokio::test]
async fn a_taken_value_becomes_null_or_is_let_through_with_a_note_where_the_rule_says_so() {
    let rows = "INSERT INTO accounts (email, code) VALUES ('ann@x.org', 'A')";
    let more = "INSERT INTO accounts (email, code) VALUES ('bob@x.org', 'A')";
    for (on_error, expected) in [(OnError::SetNull, "NULL"), (OnError::Warn, "A")] {
        let mut story = story(on_error).await.started().await;
        story.left.run(rows).await;
        story.settle().await;
        story.left.run(more).await;
        story.settle().await;
        story.right_shows("SELECT code FROM accounts WHERE email = 'bob@x.org'", expected).await;
        let warned = story.ledger().await.iter().filter(|row| matches!(row.entry, Entry::Warned(_))).count();
        assert_eq!(warned, usize::from(on_error == OnError::Warn));
        assert!(story.reviews().await.is_empty());
        story.stop().await;
    }
}

/// Records of the first run are held to the rule as well, also those that are already linked by their match.
#[tokio::test]
async fn the_first_run_lets_one_of_each_value_through() {
    let story = story(OnError::RejectRecord).await;
    story.left.run("INSERT INTO accounts (email, code) SELECT n || '@x.org', n / 2 FROM generate_series(2, 41) n").await;
    let mut story = story.started().await;
    wait_until("the reviews", || async { story.reviews().await.len() == 20 }).await;
    story.right_shows("SELECT count(*) || ' ' || count(DISTINCT code) FROM accounts", "20 20").await;
    story.stop().await;
}

#[tokio::test]
async fn a_value_that_a_system_cannot_look_for_keeps_no_other_record_waiting() {
    let mut story = story(OnError::RejectRecord).await.started().await;
    *story.taps[1].cannot_find.lock().unwrap() = Some(concord_engine::value::Value::text("BAD"));
    story
        .left
        .run("INSERT INTO accounts (email, code) SELECT n || '@x.org', CASE n WHEN 7 THEN 'BAD' ELSE 'C' || n END FROM generate_series(1, 20) n")
        .await;
    story.right_shows("SELECT count(*) FROM accounts", "19").await;
    let review = story.review().await;
    assert!(review.message.contains("cannot be looked"), "{}", review.message);
    story.settle().await;
    assert_eq!(story.reviews().await.len(), 1, "{:#?}", story.reviews().await);
    // It is looked at again when it has another value.
    story.left.run("UPDATE accounts SET code = 'C7' WHERE email = '7@x.org'").await;
    story.right_shows("SELECT count(*) FROM accounts", "20").await;
    story.settle().await;
    story.are_equal(ALL).await;
    assert!(story.reviews().await.is_empty(), "{:#?}", story.reviews().await);
    story.stop().await;
}
