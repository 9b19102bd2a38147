//! Records that go away: against an edit on the other side, in masses, and to come back under the same key.

use crate::support::Story;
use concord_engine::ledger::Entry;
use concord_engine::link::Life;
use concord_engine::review::Subject;
use concord_engine::rules::DeleteAgainstEdit;
use concord_engine::runtime::command::Resolution;

const TABLE: &str = "CREATE TABLE accounts (id serial PRIMARY KEY, email text UNIQUE, name text);
    INSERT INTO accounts (email, name) VALUES ('ann@x.org', 'Ann'), ('bob@x.org', 'Bob');";
const ALL: &str = "SELECT email, name FROM accounts ORDER BY email";
const DELETE: &str = "DELETE FROM accounts WHERE email = 'ann@x.org'";
const UPDATE: &str = "UPDATE accounts SET name = 'Anna' WHERE email = 'ann@x.org'";

async fn story(policy: DeleteAgainstEdit) -> Story {
    let story = Story::tables(TABLE).await.sync("accounts", &["email", "name"]).await;
    story.with(|rules| rules.deletes.against_edit = policy).started().await
}

/// A deletes while B edits; both are seen before anything is decided.
async fn at_once(policy: DeleteAgainstEdit, delete_first: bool) -> Story {
    let story = story(policy).await;
    story.pause().await;
    if delete_first {
        story.left.run(DELETE).await;
        story.pending(0, 1).await;
        story.right.run(UPDATE).await;
    } else {
        story.right.run(UPDATE).await;
        story.pending(1, 1).await;
        story.left.run(DELETE).await;
    }
    story.pending(0, 1).await;
    story.pending(1, 1).await;
    story.resume().await;
    story.settle().await;
    story
}

#[tokio::test]
async fn under_update_wins_an_edited_record_is_made_anew_where_it_was_deleted() {
    for delete_first in [true, false] {
        let mut story = at_once(DeleteAgainstEdit::UpdateWins, delete_first).await;
        story.both_show(ALL, &["ann@x.org|Anna", "bob@x.org|Bob"]).await;
        assert_eq!(story.writes().await, 1, "no flicker: {:#?}", story.ledger().await);
        assert_eq!(story.links().await.len(), 2, "the same link");
        assert!(story.reviews().await.is_empty());
        story.stop().await;
    }
}

#[tokio::test]
async fn under_delete_wins_an_edited_record_goes_and_its_edit_is_in_the_ledger() {
    for delete_first in [true, false] {
        let mut story = at_once(DeleteAgainstEdit::DeleteWins, delete_first).await;
        story.both_show(ALL, &["bob@x.org|Bob"]).await;
        assert_eq!(story.writes().await, 1, "no flicker: {:#?}", story.ledger().await);
        assert_eq!(story.lost().await.len(), 1, "{:#?}", story.ledger().await);
        story.stop().await;
    }
}

#[tokio::test]
async fn under_manual_a_delete_against_an_edit_waits_for_a_person() {
    for (delete_first, keep) in [(true, true), (false, false)] {
        let mut story = at_once(DeleteAgainstEdit::Manual, delete_first).await;
        assert_eq!(story.on_left(ALL).await.len(), 1);
        assert_eq!(story.on_right(ALL).await.len(), 2);
        assert_eq!(story.writes().await, 0);
        let review = story.review().await;
        assert_eq!(review.subject, Subject::DeleteAgainstEdit { deleted_by: 0, edited_by: vec![1] });
        story.resolve(review.id, Resolution::Take(if keep { 1 } else { 0 })).await;
        story.settle().await;
        let all: &[&str] = if keep { &["ann@x.org|Anna", "bob@x.org|Bob"] } else { &["bob@x.org|Bob"] };
        story.both_show(ALL, all).await;
        assert!(story.reviews().await.is_empty());
        story.stop().await;
    }
}

// In flight: the delete is on its way to B when B's user edits the record.
#[tokio::test]
async fn an_edit_that_comes_before_our_delete_meets_the_policy() {
    for policy in [DeleteAgainstEdit::UpdateWins, DeleteAgainstEdit::DeleteWins, DeleteAgainstEdit::Manual] {
        let mut story = story(policy).await;
        story.taps[1].before_apply.close();
        story.left.run(DELETE).await;
        story.taps[1].before_apply.reached().await;
        story.right.run(UPDATE).await;
        story.taps[1].before_apply.open();
        story.settle().await;
        match policy {
            DeleteAgainstEdit::UpdateWins => story.both_show(ALL, &["ann@x.org|Anna", "bob@x.org|Bob"]).await,
            DeleteAgainstEdit::DeleteWins => {
                story.both_show(ALL, &["bob@x.org|Bob"]).await;
                assert_eq!(story.lost().await.len(), 1, "{:#?}", story.ledger().await);
            }
            DeleteAgainstEdit::Manual => {
                assert_eq!(story.on_right(ALL).await.len(), 2, "nothing is deleted before a person has spoken");
                let review = story.review().await;
                assert_eq!(review.subject, Subject::DeleteAgainstEdit { deleted_by: 0, edited_by: vec![1] });
            }
        }
        story.stop().await;
    }
}

// In flight the other way: the edit is on its way to A when A's user deletes the record.
#[tokio::test]
async fn a_delete_that_comes_before_our_update_meets_the_policy() {
    for policy in [DeleteAgainstEdit::UpdateWins, DeleteAgainstEdit::DeleteWins, DeleteAgainstEdit::Manual] {
        let mut story = story(policy).await;
        story.taps[0].before_apply.close();
        story.right.run(UPDATE).await;
        story.taps[0].before_apply.reached().await;
        story.left.run(DELETE).await;
        story.taps[0].before_apply.open();
        story.settle().await;
        match policy {
            DeleteAgainstEdit::UpdateWins => story.both_show(ALL, &["ann@x.org|Anna", "bob@x.org|Bob"]).await,
            DeleteAgainstEdit::DeleteWins => {
                story.both_show(ALL, &["bob@x.org|Bob"]).await;
                assert_eq!(story.lost().await.len(), 1, "{:#?}", story.ledger().await);
            }
            DeleteAgainstEdit::Manual => {
                assert_eq!(story.on_right(ALL).await.len(), 2, "nothing is deleted before a person has spoken");
                assert_eq!(story.reviews().await.len(), 1);
            }
        }
        story.stop().await;
    }
}

// A record is deleted and made anew with the same key while an edit of the old one is in flight.
#[tokio::test]
async fn a_record_made_anew_under_its_key_while_an_edit_is_in_flight_ends_equal() {
    let natural = "CREATE TABLE accounts (email text PRIMARY KEY, name text);
        INSERT INTO accounts (email, name) VALUES ('ann@x.org', 'Ann'), ('bob@x.org', 'Bob');";
    let story = Story::tables(natural).await.sync("accounts", &["email", "name"]).await;
    let mut story = story.with(|rules| rules.deletes.against_edit = DeleteAgainstEdit::UpdateWins).started().await;
    story.taps[1].before_apply.close();
    story.left.run(UPDATE).await;
    story.taps[1].before_apply.reached().await;
    story.left.run(DELETE).await;
    story.left.run("INSERT INTO accounts VALUES ('ann@x.org', 'Another Ann')").await;
    story.taps[1].before_apply.open();
    story.settle().await;
    story.both_show(ALL, &["ann@x.org|Another Ann", "bob@x.org|Bob"]).await;
    assert!(story.reviews().await.is_empty());
    story.stop().await;
}

// The same at the side that is written to: the old one is gone and another stands under its key when our write arrives.
#[tokio::test]
async fn a_record_made_anew_at_the_target_while_our_edit_is_in_flight_ends_equal() {
    let natural = "CREATE TABLE accounts (email text PRIMARY KEY, name text);
        INSERT INTO accounts (email, name) VALUES ('ann@x.org', 'Ann'), ('bob@x.org', 'Bob');";
    let story = Story::tables(natural).await.sync("accounts", &["email", "name"]).await;
    let mut story = story.with(|rules| rules.deletes.against_edit = DeleteAgainstEdit::UpdateWins).started().await;
    story.taps[1].before_apply.close();
    story.left.run(UPDATE).await;
    story.taps[1].before_apply.reached().await;
    story.right.run(DELETE).await;
    story.right.run("INSERT INTO accounts VALUES ('ann@x.org', 'Another Ann')").await;
    story.taps[1].before_apply.open();
    story.settle().await;
    story.both_show(ALL, &["ann@x.org|Another Ann", "bob@x.org|Bob"]).await;
    story.stop().await;
}

const MANY: &str = "CREATE TABLE accounts (id serial PRIMARY KEY, email text UNIQUE, name text);
    INSERT INTO accounts (email, name) SELECT 'user' || n || '@x.org', 'User ' || n FROM generate_series(1, 40) n;";
const COUNT: &str = "SELECT count(*) FROM accounts";

/// Everything goes away on the left; the guard asks, and nothing is deleted on the right.
async fn emptied(how: &str) -> (Story, concord_engine::link::ReviewId) {
    let story = Story::tables(MANY).await.sync("accounts", &["email", "name"]).await.started().await;
    story.left.run(how).await;
    let review = story.review().await;
    let Subject::MassChange { member: 0, deletes } = review.subject else { panic!("{review:#?}") };
    assert!(deletes > 20, "{review:#?}");
    // Others go on meanwhile.
    story.right.run("INSERT INTO accounts (email, name) VALUES ('new@x.org', 'New')").await;
    story.left_shows(COUNT, "1").await;
    story.settle().await;
    story.right_shows(COUNT, "41").await;
    assert!(story.ledger().await.iter().all(|row| row.entry != Entry::Deleted), "{:#?}", story.ledger().await);
    (story, review.id)
}

#[tokio::test]
async fn a_mass_delete_is_let_through_only_by_a_person() {
    for how in ["DELETE FROM accounts", "TRUNCATE accounts"] {
        let (mut story, review) = emptied(how).await;
        story.resolve(review, Resolution::Retry).await;
        story.settle().await;
        story.both_show(ALL, &["new@x.org|New"]).await;
        assert!(story.reviews().await.is_empty());
        let buried = story.links().await.iter().filter(|link| matches!(link.life, Life::Deleted { .. })).count();
        assert_eq!(buried, 40);
        story.stop().await;
    }
}

#[tokio::test]
async fn a_mass_delete_that_a_person_refuses_is_undone() {
    for how in ["DELETE FROM accounts", "TRUNCATE accounts"] {
        let (mut story, review) = emptied(how).await;
        story.resolve(review, Resolution::Ignore).await;
        story.settle().await;
        story.left_shows(COUNT, "41").await;
        story.are_equal(ALL).await;
        assert!(story.ledger().await.iter().all(|row| row.entry != Entry::Deleted));
        assert!(story.reviews().await.is_empty());
        // What lives again is kept equal again.
        story.right.run("UPDATE accounts SET name = 'Changed' WHERE email = 'user7@x.org'").await;
        story.settle().await;
        story.are_equal(ALL).await;
        story.stop().await;
    }
}

/// Records that are long deleted are no part of those of which a share may go.
#[tokio::test]
async fn a_mass_delete_is_measured_by_the_records_that_are_alive() {
    let story = Story::tables(MANY).await.sync("accounts", &["email", "name"]).await;
    let window = std::time::Duration::from_millis(500);
    let mut story = story.with(|rules| (rules.guard.window, rules.guard.max_deletes_percent) = (window, 50.0)).started().await;
    story.left.run("DELETE FROM accounts WHERE id <= 16").await;
    story.settle().await;
    story.both_show(COUNT, &["24"]).await;
    // Until none of them is counted any more.
    crate::support::wait_until("the window is over", || async {
        tokio::time::sleep(4 * window).await;
        story.status().syncs[0].links == 24
    })
    .await;
    story.left.run("DELETE FROM accounts WHERE id <= 31").await;
    let review = story.review().await;
    assert!(matches!(review.subject, Subject::MassChange { member: 0, .. }), "{review:#?}");
    story.right_shows(COUNT, "24").await;
    story.resolve(review.id, Resolution::Retry).await;
    story.settle().await;
    story.both_show(COUNT, &["9"]).await;
    story.stop().await;
}

// The question outlives the engine that asked it.
#[tokio::test]
async fn a_mass_delete_is_still_in_question_after_a_kill() {
    let (mut story, review) = emptied("DELETE FROM accounts").await;
    story.crash_and_restart().await;
    story.settle().await;
    story.right_shows(COUNT, "41").await;
    story.resolve(review, Resolution::Retry).await;
    story.settle().await;
    story.both_show(ALL, &["new@x.org|New"]).await;
    story.stop().await;
}
