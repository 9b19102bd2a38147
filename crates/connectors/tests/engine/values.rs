//! Values that do not come back as they went: large ones that a change does not show, and those that the other side can
//! hold only more coarsely. None ping-pongs, none is lost without a declaration.

use crate::support::{Story, rules};

#[tokio::test]
async fn a_large_value_that_an_update_leaves_untouched_is_never_taken_for_null() {
    let table = "CREATE TABLE accounts (id serial PRIMARY KEY, email text UNIQUE, name text, doc text);
        ALTER TABLE accounts ALTER COLUMN doc SET STORAGE EXTERNAL;
        INSERT INTO accounts (email, name, doc) VALUES ('ann@x.org', 'Ann', repeat('0123456789abcdef', 65536));";
    let all = "SELECT email, name, length(doc), md5(doc) FROM accounts ORDER BY email";
    let mut story = Story::tables(table).await.sync("accounts", &["email", "name", "doc"]).await.started().await;
    assert_eq!(story.writes().await, 0);

    // Alone: the value stays.
    story.left.run("UPDATE accounts SET name = 'Anna'").await;
    story.settle().await;
    story.are_equal(all).await;
    story.right_shows("SELECT length(doc) FROM accounts", "1048576").await;

    // Against a change of that very value on the other side.
    story.pause().await;
    story.left.run("UPDATE accounts SET name = 'Anne'").await;
    story.right.run("UPDATE accounts SET doc = repeat('fedcba9876543210', 65537)").await;
    story.pending(0, 1).await;
    story.pending(1, 1).await;
    story.resume().await;
    story.settle().await;
    story.are_equal(all).await;
    story.left_shows("SELECT name || length(doc) FROM accounts", "Anne1048592").await;
    assert!(story.lost().await.is_empty(), "{:#?}", story.lost().await.len());

    // In flight: our write of it stands before the record when an update leaves it untouched.
    story.taps[0].before_apply.close();
    story.right.run("UPDATE accounts SET doc = repeat('x', 1048577)").await;
    story.taps[0].before_apply.reached().await;
    story.left.run("UPDATE accounts SET name = 'Annette'").await;
    story.taps[0].before_apply.open();
    story.settle().await;
    story.are_equal(all).await;
    story.right_shows("SELECT name || length(doc) FROM accounts", "Annette1048577").await;

    // And a null that was meant is one.
    story.left.run("UPDATE accounts SET doc = NULL").await;
    story.settle().await;
    story.right_shows("SELECT doc IS NULL FROM accounts", "t").await;
    story.stop().await;
}

const FINE: &str =
    "CREATE TABLE accounts (id serial PRIMARY KEY, email text UNIQUE, name text, millis timestamptz, seconds timestamp,
    amount numeric, ratio double precision, code text, small integer);";
const COARSE: &str = "CREATE TABLE accounts (id serial PRIMARY KEY, email text UNIQUE, name text, millis timestamptz(3),
    seconds timestamp(0), amount numeric(10,2), ratio real, code char(8), small integer);";
const VALUES: [&str; 5] = ["millis", "seconds", "amount", "ratio", "code"];
const INSERT: &str = "INSERT INTO accounts (email, name, millis, seconds, amount, ratio, code) VALUES ('ann@x.org', 'Ann',
    '2026-03-04 05:06:07.123456Z', '2026-03-04 05:06:07.654321', 1.005, 0.1, 'abc')";

async fn fine_and_coarse() -> Story {
    let fields = ["email", "name", "millis", "seconds", "amount", "ratio", "code"];
    Story::servers(FINE, COARSE).await.sync("accounts", &fields).await
}

#[tokio::test]
async fn values_that_the_other_side_holds_more_coarsely_are_written_once_and_come_to_rest() {
    let story = fine_and_coarse().await;
    let story = story.with(|rules| VALUES.iter().for_each(|field| rules::lossy(rules, field)));
    let mut story = story.started().await;
    story.left.run(INSERT).await;
    story.settle().await;
    assert_eq!(story.writes().await, 1, "{:#?}", story.ledger().await);
    let coarse = "SELECT millis AT TIME ZONE 'UTC', seconds, ratio, code FROM accounts";
    let on_right = story.on_right(coarse).await;
    assert_eq!(on_right[0][1].as_deref(), Some("2026-03-04 05:06:07"));
    assert_eq!(on_right[0][2].as_deref(), Some("0.1"));

    // An edit of another field, on either side, carries nothing of it along.
    let fine = "SELECT millis, seconds, amount, ratio, code FROM accounts";
    let before = story.on_left(fine).await;
    for turn in 0..3 {
        story.right.run(&format!("UPDATE accounts SET name = 'Right {turn}'")).await;
        story.settle().await;
        story.left.run(&format!("UPDATE accounts SET name = 'Left {turn}'")).await;
        story.settle().await;
    }
    assert_eq!(story.writes().await, 7, "{:#?}", story.ledger().await);
    assert_eq!(story.on_left(fine).await, before, "the finer side keeps what it had");
    // A change too fine for the other side to see is none there.
    story.left.run("UPDATE accounts SET millis = millis + interval '1 microsecond', code = code").await;
    story.settle().await;
    assert_eq!(story.on_right(coarse).await, on_right);
    // A real edit on the coarser side flows back.
    story.right.run("UPDATE accounts SET amount = 2.25, seconds = '2027-01-01 00:00:00', code = 'xyz'").await;
    story.settle().await;
    story.left_shows("SELECT amount || ' ' || seconds || ' ' || code FROM accounts", "2.25 2027-01-01 00:00:00 xyz").await;
    assert!(story.reviews().await.is_empty(), "{:#?}", story.reviews().await);
    story.stop().await;
}

#[tokio::test]
async fn a_value_that_does_not_fit_goes_to_review_unless_a_loss_is_declared() {
    let mut story = fine_and_coarse().await.started().await;
    story
        .left
        .run("INSERT INTO accounts (email, name, amount) VALUES ('ann@x.org', 'Ann', 1.25), ('bob@x.org', 'Bob', 1.25)")
        .await;
    story.settle().await;
    assert_eq!(story.writes().await, 2);
    story.left.run("UPDATE accounts SET amount = 1.005 WHERE email = 'ann@x.org'").await;
    story.left.run("UPDATE accounts SET amount = 1.5 WHERE email = 'bob@x.org'").await;
    story.settle().await;
    story.right_shows("SELECT string_agg(amount::text, ',' ORDER BY email) FROM accounts", "1.25,1.50").await;
    assert_eq!(story.reviews().await.len(), 1, "{:#?}", story.reviews().await);
    // Repaired where it was made, it flows, and the item is over.
    story.left.run("UPDATE accounts SET amount = 1.01 WHERE email = 'ann@x.org'").await;
    story.settle().await;
    story.right_shows("SELECT string_agg(amount::text, ',' ORDER BY email) FROM accounts", "1.01,1.50").await;
    assert!(story.reviews().await.is_empty(), "{:#?}", story.reviews().await);
    story.stop().await;
}
