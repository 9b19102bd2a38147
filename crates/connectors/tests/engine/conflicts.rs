//! The same record edited on both sides before either edit has travelled: what wins, what is kept of the loser, and what
//! is no conflict at all.

use crate::support::{Story, rules};
use concord_engine::ledger::Rule;
use concord_engine::review::Subject;
use concord_engine::rules::Policy;
use concord_engine::runtime::command::Resolution;
use concord_engine::value::Value;

const TABLE: &str = "CREATE TABLE accounts (id serial PRIMARY KEY, email text UNIQUE, name text, street text, city text);
    INSERT INTO accounts (email, name, street, city) VALUES ('ann@x.org', 'Ann', 'High Street', 'York');";
const ALL: &str = "SELECT email, name, street, city FROM accounts ORDER BY email";

async fn story() -> Story {
    Story::tables(TABLE).await.sync("accounts", &["email", "name", "street", "city"]).await
}

/// Both sides are edited while nothing is written, and both edits are seen before anything is decided.
async fn at_once(story: &Story, left: &str, right: &str, right_first: bool) {
    story.pause().await;
    if right_first {
        story.right.run(right).await;
        story.left.run(left).await;
    } else {
        story.left.run(left).await;
        story.right.run(right).await;
    }
    story.pending(0, 1).await;
    story.pending(1, 1).await;
    story.resume().await;
    story.settle().await;
}

#[tokio::test]
async fn of_two_edits_of_one_field_the_later_one_wins_and_the_loser_is_in_the_ledger() {
    let mut story = story().await.started().await;
    for (turn, right_first) in [false, true, false].into_iter().enumerate() {
        let (left, right) = (format!("Left {turn}"), format!("Right {turn}"));
        at_once(
            &story,
            &format!("UPDATE accounts SET name = '{left}'"),
            &format!("UPDATE accounts SET name = '{right}'"),
            right_first,
        )
        .await;
        let (winner, loser, from) = if right_first { (&left, &right, 1) } else { (&right, &left, 0) };
        story.both_show("SELECT name FROM accounts", &[winner]).await;
        let lost = story.lost().await;
        assert_eq!(lost.len(), turn + 1, "{lost:#?}");
        assert_eq!((lost[turn].member, lost[turn].fields[0].rule), (from, Rule::LastWriteWins));
        assert_eq!(lost[turn].fields[0].old, Some(Value::text(loser)));
        assert_eq!(story.writes().await, turn + 1, "one write for each conflict");
    }
    story.stop().await;
}

// One side's column holds seconds, the other's microseconds; compared at the coarser one, both edits are of the same second, and
// the system that stands first wins, every time alike.
#[tokio::test]
async fn edits_within_the_coarser_clock_are_a_tie_that_the_first_system_wins() {
    let left = "CREATE TABLE accounts (id serial PRIMARY KEY, email text UNIQUE, name text, changed timestamptz);
        INSERT INTO accounts (email, name, changed) VALUES ('ann@x.org', 'Ann', '2026-01-01 00:00:00Z');";
    let right = left.replace("changed timestamptz", "changed timestamptz(0)");
    let mut story = Story::servers(left, &right).await.sync("accounts", &["email", "name"]).await;
    for member in &mut story.syncs[0].members {
        member.edit_time_field = Some("changed".into());
        member.selection.fields.push("changed".into());
    }
    let mut story = story.started().await;
    // Later by the finer clock, and the same second by the coarser.
    let on_left = "UPDATE accounts SET name = 'L1', changed = '2026-02-01 10:00:05.100Z'";
    let on_right = "UPDATE accounts SET name = 'R1', changed = '2026-02-01 10:00:05Z'";
    at_once(&story, on_left, on_right, true).await;
    story.both_show("SELECT name FROM accounts", &["L1"]).await;
    let on_left = "UPDATE accounts SET name = 'L2', changed = '2026-02-01 10:01:05.900Z'";
    let on_right = "UPDATE accounts SET name = 'R2', changed = '2026-02-01 10:01:06Z'";
    at_once(&story, on_left, on_right, false).await;
    story.both_show("SELECT name FROM accounts", &["R2"]).await;
    // A clock that is ten minutes slow loses by its own stamp, though its edit was made last.
    let on_left = "UPDATE accounts SET name = 'L3', changed = '2026-02-01 10:02:00Z'";
    let on_right = "UPDATE accounts SET name = 'R3', changed = '2026-02-01 10:12:00Z'";
    at_once(&story, on_left, on_right, true).await;
    story.both_show("SELECT name FROM accounts", &["R3"]).await;
    assert_eq!(story.lost().await.len(), 3, "{:#?}", story.lost().await);
    story.stop().await;
}

/// A story whose sides stamp their edits in a field of their own.
async fn stamped(left: &str, right: &str) -> Story {
    let mut story = Story::servers(left, right).await.sync("accounts", &["email", "name"]).await;
    for member in &mut story.syncs[0].members {
        member.edit_time_field = Some("changed".into());
        member.selection.fields.push("changed".into());
    }
    story.started().await
}

const STAMPED: &str = "CREATE TABLE accounts (id serial PRIMARY KEY, email text UNIQUE, name text, changed timestamptz);
    INSERT INTO accounts (email, name, changed) VALUES ('ann@x.org', 'Ann', '2026-01-01 00:00:00Z');";

// The right side stamps with minutes, the left one with seconds. What a stamp of minutes means within its minute nobody can tell:
// it counts from the minute's beginning, whichever edit comes first and however often it is looked at.
#[tokio::test]
async fn an_edit_stamped_with_its_minute_counts_from_the_minutes_beginning_in_whichever_order_edits_come() {
    let left = STAMPED.replace("changed timestamptz", "changed timestamptz(0)");
    let right = format!(
        "{STAMPED} CREATE FUNCTION stamp() RETURNS trigger LANGUAGE plpgsql AS
            $$ BEGIN NEW.changed := date_trunc('minute', NEW.changed); RETURN NEW; END $$;
        CREATE TRIGGER stamp BEFORE INSERT OR UPDATE ON accounts FOR EACH ROW EXECUTE FUNCTION stamp();"
    );
    let mut story = stamped(&left, &right).await;
    let edit = |name: &str, at: &str| format!("UPDATE accounts SET name = '{name}', changed = '2026-02-01 {at}Z'");
    let mut lost = 0;
    for (turn, right_first) in [true, false].into_iter().enumerate() {
        // The right edit is the later one of the same minute.
        let (on_left, on_right) = (format!("L{turn}"), format!("R{turn}"));
        let minute = format!("1{turn}:00");
        at_once(&story, &edit(&on_left, &format!("{minute}:20")), &edit(&on_right, &format!("{minute}:50")), right_first).await;
        story.both_show("SELECT name FROM accounts", &[&on_left]).await;
        // It is of the next minute.
        let (on_left, on_right) = (format!("l{turn}"), format!("r{turn}"));
        let next = format!("1{turn}:01:10");
        at_once(&story, &edit(&on_left, &format!("{minute}:59")), &edit(&on_right, &next), right_first).await;
        story.both_show("SELECT name FROM accounts", &[&on_right]).await;
        lost += 2;
        assert_eq!(story.lost().await.len(), lost, "{:#?}", story.lost().await);
    }
    story.stop().await;
}

// The left clock is ten minutes ahead: its edit counts from when it was seen, also where it is delivered again later.
#[tokio::test]
async fn an_edit_by_a_clock_that_is_ahead_counts_from_when_it_was_first_seen_at_every_replay() {
    let mut story = stamped(STAMPED, STAMPED).await;
    story.taps.iter().for_each(|tap| tap.before_acknowledge.close());
    story.pause().await;
    story.left.run("UPDATE accounts SET name = 'Ahead', changed = clock_timestamp() + interval '10 minutes'").await;
    story.pending(0, 1).await;
    story.right.run("UPDATE accounts SET name = 'Later', changed = clock_timestamp()").await;
    story.pending(1, 1).await;
    // Neither feed was acknowledged: both edits come again, before anything was decided and after it.
    for _ in 0..3 {
        story.crash().await;
        story.taps.iter().for_each(|tap| tap.before_acknowledge.close());
        story.start().await;
        story.fence().await;
        story.resume().await;
        story.settle().await;
        story.both_show("SELECT name FROM accounts", &["Later"]).await;
        let lost = story.lost().await;
        assert_eq!((lost.len(), lost[0].member), (1, 0), "{lost:#?}");
        assert_eq!(lost[0].fields[0].old, Some(Value::text("Ahead")));
        assert_eq!(story.writes().await, 1, "{:#?}", story.ledger().await);
    }
    story.stop().await;
}

#[tokio::test]
async fn edits_of_different_fields_both_survive_and_are_no_conflict() {
    let mut story = story().await.started().await;
    let (left, right) = ("UPDATE accounts SET name = 'Anna'", "UPDATE accounts SET city = 'Leeds'");
    at_once(&story, left, right, false).await;
    story.both_show(ALL, &["ann@x.org|Anna|High Street|Leeds"]).await;
    assert!(story.lost().await.is_empty(), "{:#?}", story.lost().await);
    assert!(story.reviews().await.is_empty());
    assert_eq!(story.writes().await, 2, "each edit is written once");
    story.stop().await;
}

// With the policy to ask: there is nothing to ask about.
#[tokio::test]
async fn equal_edits_on_both_sides_are_no_conflict_even_where_a_person_decides() {
    let story = story().await.with(|rules| rules.groups.iter_mut().for_each(|group| group.policy = Policy::Manual));
    let mut story = story.started().await;
    let edit = "UPDATE accounts SET name = 'Anna'";
    at_once(&story, edit, edit, false).await;
    story.both_show(ALL, &["ann@x.org|Anna|High Street|York"]).await;
    assert!(story.reviews().await.is_empty());
    assert_eq!(story.writes().await, 0);
    story.stop().await;
}

#[tokio::test]
async fn an_address_that_both_sides_changed_in_parts_is_never_mixed() {
    let story = story().await.with(|rules| rules::group(rules, "address", &["street", "city"]));
    let mut story = story.started().await;
    let (left, right) = ("UPDATE accounts SET street = 'Low Lane'", "UPDATE accounts SET city = 'Leeds'");
    at_once(&story, left, right, false).await;
    story.both_show(ALL, &["ann@x.org|Ann|High Street|Leeds"]).await;
    let lost = story.lost().await;
    assert_eq!(lost.len(), 1, "{lost:#?}");
    let street = lost[0].fields.iter().find(|field| field.field == "street").unwrap();
    assert_eq!(street.old, Some(Value::text("Low Lane")));
    story.stop().await;
}

#[tokio::test]
async fn a_conflict_that_a_person_decides_holds_only_its_field() {
    let story = story().await.with(|rules| rules.groups[1].policy = Policy::Manual);
    let mut story = story.started().await;
    let left = "UPDATE accounts SET name = 'Anna', city = 'Leeds'";
    at_once(&story, left, "UPDATE accounts SET name = 'Anne'", false).await;
    assert_eq!(story.on_left("SELECT name, city FROM accounts").await, [[Some("Anna".to_owned()), Some("Leeds".to_owned())]]);
    assert_eq!(story.on_right("SELECT name, city FROM accounts").await, [[Some("Anne".to_owned()), Some("Leeds".to_owned())]]);
    let review = story.review().await;
    let Subject::Conflict { values, base, .. } = &review.subject else { panic!("{review:#?}") };
    assert_eq!(base, &Some(vec![Value::text("Ann")]));
    assert_eq!(values, &[(0, vec![Value::text("Anna")]), (1, vec![Value::text("Anne")])]);
    story.resolve(review.id, Resolution::Take(1)).await;
    story.settle().await;
    story.both_show(ALL, &["ann@x.org|Anne|High Street|Leeds"]).await;
    assert!(story.reviews().await.is_empty());
    assert_eq!(story.lost().await.len(), 1, "{:#?}", story.lost().await);
    story.stop().await;
}

// B's user edits the field just before our guarded write reaches it: the guard misses, and the later edit wins.
#[tokio::test]
async fn an_edit_just_before_our_write_is_not_written_over() {
    let mut story = story().await.started().await;
    story.taps[1].before_apply.close();
    story.left.run("UPDATE accounts SET name = 'Anna'").await;
    story.taps[1].before_apply.reached().await;
    story.right.run("UPDATE accounts SET name = 'Anne'").await;
    story.taps[1].before_apply.open();
    story.settle().await;
    story.both_show(ALL, &["ann@x.org|Anne|High Street|York"]).await;
    let lost = story.lost().await;
    assert_eq!((lost.len(), lost[0].member), (1, 0), "{lost:#?}");
    story.stop().await;
}

// The same with another field: both edits survive.
#[tokio::test]
async fn an_edit_of_another_field_just_before_our_write_survives_it() {
    let mut story = story().await.started().await;
    story.taps[1].before_apply.close();
    story.left.run("UPDATE accounts SET name = 'Anna'").await;
    story.taps[1].before_apply.reached().await;
    story.right.run("UPDATE accounts SET city = 'Leeds'").await;
    story.taps[1].before_apply.open();
    story.settle().await;
    story.both_show(ALL, &["ann@x.org|Anna|High Street|Leeds"]).await;
    assert!(story.lost().await.is_empty(), "{:#?}", story.lost().await);
    assert_eq!(story.writes().await, 2);
    story.stop().await;
}

// B's user edits the field just after our write, before its answer has arrived.
#[tokio::test]
async fn an_edit_just_after_our_write_flows_back() {
    let mut story = story().await.started().await;
    story.taps[1].after_apply.close();
    story.left.run("UPDATE accounts SET name = 'Anna'").await;
    story.taps[1].after_apply.reached().await;
    story.right.run("UPDATE accounts SET name = 'Anne' WHERE name = 'Anna'").await;
    story.taps[1].after_apply.open();
    story.settle().await;
    story.both_show(ALL, &["ann@x.org|Anne|High Street|York"]).await;
    assert!(story.lost().await.is_empty(), "{:#?}", story.lost().await);
    assert_eq!(story.writes().await, 2);
    story.stop().await;
}

// The same, where the feed tells of both before the answer arrives.
#[tokio::test]
async fn an_edit_after_our_write_that_comes_before_the_writes_answer_flows_back() {
    let mut story = story().await.started().await;
    story.taps[1].after_apply.close();
    story.left.run("UPDATE accounts SET name = 'Anna'").await;
    story.taps[1].after_apply.reached().await;
    story.right.run("UPDATE accounts SET name = 'Anne' WHERE name = 'Anna'").await;
    story.left_shows("SELECT name FROM accounts", "Anne").await;
    story.taps[1].after_apply.open();
    story.settle().await;
    story.both_show(ALL, &["ann@x.org|Anne|High Street|York"]).await;
    assert_eq!(story.writes().await, 2);
    story.stop().await;
}

// Two quick edits on A, the second while the first one's write and echo are under way.
#[tokio::test]
async fn a_second_edit_while_the_first_ones_echo_is_under_way_is_the_last_word() {
    let mut story = story().await.started().await;
    story.taps[1].after_apply.close();
    story.taps[1].before_batch.close();
    story.left.run("UPDATE accounts SET name = 'Anna'").await;
    story.taps[1].after_apply.reached().await;
    story.left.run("UPDATE accounts SET name = 'Anne'").await;
    story.pending(0, 1).await;
    story.taps[1].after_apply.open();
    story.right_shows("SELECT name FROM accounts", "Anne").await;
    story.taps[1].before_batch.open();
    story.settle().await;
    story.both_show(ALL, &["ann@x.org|Anne|High Street|York"]).await;
    assert_eq!(story.writes().await, 2);
    assert!(story.lost().await.is_empty());
    story.stop().await;
}

// Both sides make a record of the same match value at once.
#[tokio::test]
async fn records_made_on_both_sides_at_once_become_one() {
    let mut story = story().await.started().await;
    for tap in &story.taps {
        tap.before_batch.close();
    }
    story.left.run("INSERT INTO accounts (email, name) VALUES ('bob@x.org', 'Bob')").await;
    story.right.run("INSERT INTO accounts (email, name) VALUES ('bob@x.org', 'Robert')").await;
    for tap in &story.taps {
        tap.before_batch.reached().await;
        tap.before_batch.open();
    }
    story.settle().await;
    story.both_show("SELECT email, name FROM accounts ORDER BY email", &["ann@x.org|Ann", "bob@x.org|Bob"]).await;
    assert_eq!(story.links().await.len(), 2);
    assert_eq!(story.writes().await, 1, "{:#?}", story.ledger().await);
    story.stop().await;
}

// The record is made on B just before our create of it reaches B: the collision goes back to be identified.
#[tokio::test]
async fn a_record_made_just_before_our_create_of_it_is_bound() {
    let mut story = story().await.started().await;
    story.taps[1].before_apply.close();
    story.left.run("INSERT INTO accounts (email, name) VALUES ('bob@x.org', 'Bob')").await;
    story.taps[1].before_apply.reached().await;
    story.right.run("INSERT INTO accounts (email, name, city) VALUES ('bob@x.org', 'Robert', 'Leeds')").await;
    story.taps[1].before_apply.open();
    story.settle().await;
    story.both_show(ALL, &["ann@x.org|Ann|High Street|York", "bob@x.org|Bob|NULL|Leeds"]).await;
    assert_eq!(story.links().await.len(), 2);
    story.stop().await;
}
