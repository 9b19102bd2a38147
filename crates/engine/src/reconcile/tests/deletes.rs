//! Deletes: against nothing, against edits, against the flow, and records that come back.

use super::script::{check, check_in};
use super::support::{by, deleting, one_way, rules};
use super::world::World;
use crate::change::EditTime;
use crate::clock::Moment;
use crate::link::Shown;
use crate::rules::{DeleteAgainstEdit, OnDelete, Policy, SyncRules, TargetEdits};
use crate::value::Value;

const SAME: &str = "
    a edits name=Ada city=Rome
    b edits name=Ada city=Rome
    decide
";

fn agreed(script: &str) -> String {
    format!("{SAME}{script}")
}

fn pair(on_delete: OnDelete, against_edit: DeleteAgainstEdit) -> SyncRules {
    deleting(rules(2, &["name", "city"]), on_delete, against_edit)
}

#[test]
fn a_delete_against_no_change_does_what_the_rule_says() {
    let script = agreed(
        "a deletes
        decide
        write",
    );
    check(
        pair(OnDelete::Propagate, DeleteAgainstEdit::Manual),
        &script,
        "name=Ada by a (FirstSeen); city=Rome by a (FirstSeen)
        deleted by a; b owes life
        b delete",
    );
    check(
        pair(OnDelete::Detach, DeleteAgainstEdit::Manual),
        &script,
        "name=Ada by a (FirstSeen); city=Rome by a (FirstSeen)
        skipped on_delete: detach; detached
        no write",
    );
    check(
        pair(OnDelete::Ignore, DeleteAgainstEdit::Manual),
        &script,
        "name=Ada by a (FirstSeen); city=Rome by a (FirstSeen)
        skipped on_delete: ignore; a left alone
        no write",
    );
}

#[test]
fn a_soft_delete_sets_the_field_and_leaves_the_record() {
    let mut rules = pair(OnDelete::SoftDelete, DeleteAgainstEdit::Manual);
    let script = agreed(
        "a deletes
        decide
        write
        b tells
        decide",
    );
    check(
        rules.clone(),
        &script,
        "name=Ada by a (FirstSeen); city=Rome by a (FirstSeen)
        deleted by a; b owes life
        b refused CON-3012
        b owes life",
    );
    rules.members[1].soft_delete_field = Some("deleted".into());
    check(
        rules,
        &script,
        "name=Ada by a (FirstSeen); city=Rome by a (FirstSeen)
        deleted by a; b owes life
        b update deleted=true
        nothing",
    );
}

#[test]
fn a_soft_delete_is_taken_back_where_the_record_lives_on() {
    let mut rules = deleting(rules(3, &["name"]), OnDelete::SoftDelete, DeleteAgainstEdit::UpdateWins);
    for member in &mut rules.members {
        member.soft_delete_field = Some("deleted".into());
    }
    let script = "a edits name=Ada
        b edits name=Ada
        c edits name=Ada
        decide
        a deletes
        decide
        c secretly edits name=Cat
        write
        c tells
        decide
        write";
    check(
        rules.clone(),
        script,
        "name=Ada by a (FirstSeen)
        deleted by a; b owes life; c owes life
        b update deleted=true; c missed
        name=Cat by c (OnlyChange); lives; a owes life; b owes name; b owes life
        a create id=0 name=Cat; b update deleted=false name=Cat",
    );
    // What is marked as deleted may be removed for good before the mark is off: then it is made anew.
    check(
        rules,
        &script.replace("c tells\n        decide\n", "c tells\n        decide\n        b deletes\n        decide\n"),
        "name=Ada by a (FirstSeen)
        deleted by a; b owes life; c owes life
        b update deleted=true; c missed
        name=Cat by c (OnlyChange); lives; a owes life; b owes name; b owes life
        a owes life; b owes life
        a create id=0 name=Cat; b create id=1 name=Cat",
    );
}

#[test]
fn an_edit_that_is_owed_to_the_member_that_deletes_stands_against_the_delete_until_that_is_decided() {
    let script = agreed(
        "b edits name=Bob
        decide
        a deletes
        decide
        rule ",
    );
    let held = "name=Ada by a (FirstSeen); city=Rome by a (FirstSeen)
        name=Bob by b (OnlyChange); a owes name
        name held for b CON-3007; held CON-3007";
    check(
        pair(OnDelete::Propagate, DeleteAgainstEdit::Manual),
        &format!("{script}bury"),
        &format!("{held}\nb lost name=Bob; deleted by a; b owes life; closed 1: the record was deleted"),
    );
    check(
        pair(OnDelete::Propagate, DeleteAgainstEdit::Manual),
        &format!("{script}keep\nwrite"),
        &format!("{held}\nname=Bob by b (NoLongerInConflict); a owes life; closed 1: decided\na create city=Rome id=0 name=Bob"),
    );
}

#[test]
fn values_that_a_person_left_to_differ_are_in_the_ledger_when_the_record_goes() {
    check(
        super::support::by(pair(OnDelete::Propagate, DeleteAgainstEdit::Manual), Policy::Manual),
        &agreed(
            "a edits name=A
        b edits name=B
        decide
        rule name leave
        a deletes
        decide",
        ),
        "name=Ada by a (FirstSeen); city=Rome by a (FirstSeen)
        name held for a+b CON-3006
        name=Ada by a (LeftAsItIs); closed 1: decided
        b lost name=B; deleted by a; b owes life",
    );
}

#[test]
fn an_ignored_delete_takes_no_edit_with_it() {
    let mut rules = deleting(rules(3, &["name"]), OnDelete::Ignore, DeleteAgainstEdit::DeleteWins);
    let script = "a edits name=Ada
        b edits name=Ada
        c edits name=Ada
        decide
        a deletes
        b edits name=Bob
        decide
        write";
    check(
        rules.clone(),
        script,
        "name=Ada by a (FirstSeen)
        name=Bob by b (OnlyChange); skipped on_delete: ignore; a left alone; c owes name
        c update name=Bob",
    );
    rules.deletes.against_edit = DeleteAgainstEdit::Manual;
    check(
        rules,
        &format!(
            "{script}
        rule bury
        write"
        ),
        "name=Ada by a (FirstSeen)
        name held for b CON-3007; held CON-3007
        no write
        name=Bob by b (OnlyChange); skipped on_delete: ignore; a left alone; c owes name; closed 1: decided
        c update name=Bob",
    );
}

#[test]
fn an_edit_wins_against_a_delete_and_the_record_is_made_anew() {
    check(
        pair(OnDelete::Propagate, DeleteAgainstEdit::UpdateWins),
        &agreed(
            "a deletes
        b edits name=Bob
        decide
        write
        a tells
        decide",
        ),
        "name=Ada by a (FirstSeen); city=Rome by a (FirstSeen)
        name=Bob by b (OnlyChange); a owes life
        a create city=Rome id=0 name=Bob
        nothing",
    );
}

#[test]
fn a_delete_wins_against_an_edit_which_is_in_the_ledger() {
    check(
        pair(OnDelete::Propagate, DeleteAgainstEdit::DeleteWins),
        &agreed(
            "a deletes
        b edits name=Bob
        decide
        write",
        ),
        "name=Ada by a (FirstSeen); city=Rome by a (FirstSeen)
        b lost name=Bob; deleted by a; b owes life
        b delete",
    );
}

#[test]
fn a_delete_wins_against_an_edit_that_was_agreed_and_never_shown() {
    check(
        pair(OnDelete::Propagate, DeleteAgainstEdit::DeleteWins),
        &agreed(
            "b edits name=Bob
        decide
        a deletes
        decide
        write",
        ),
        "name=Ada by a (FirstSeen); city=Rome by a (FirstSeen)
        name=Bob by b (OnlyChange); a owes name
        b lost name=Bob; deleted by a; b owes life
        b delete",
    );
}

#[test]
fn a_person_decides_between_a_delete_and_an_edit() {
    let script = agreed(
        "a deletes
        b edits name=Bob
        decide
        write
        b edits city=Oslo
        decide",
    );
    let rules = pair(OnDelete::Propagate, DeleteAgainstEdit::Manual);
    check(
        rules.clone(),
        &format!(
            "{script}
        rule keep
        write"
        ),
        "name=Ada by a (FirstSeen); city=Rome by a (FirstSeen)
        name held for b CON-3007; held CON-3007
        no write
        name held for b CON-3007; city held for b CON-3007; held CON-3007
        name=Bob by b (OnlyChange); city=Oslo by b (OnlyChange); a owes life; closed 1: decided
        a create city=Oslo id=0 name=Bob",
    );
    check(
        rules,
        &format!(
            "{script}
        rule bury
        write"
        ),
        "name=Ada by a (FirstSeen); city=Rome by a (FirstSeen)
        name held for b CON-3007; held CON-3007
        no write
        name held for b CON-3007; city held for b CON-3007; held CON-3007
        b lost name=Bob,city=Oslo; deleted by a; b owes life; closed 1: the record was deleted
        b delete",
    );
}

#[test]
fn an_edit_that_waits_for_a_person_is_an_edit_that_a_delete_is_against() {
    let rules = by(pair(OnDelete::Propagate, DeleteAgainstEdit::Manual), Policy::Manual);
    let script = agreed(
        "a edits name=A
        b edits name=B
        decide
        a deletes
        decide",
    );
    check(
        rules.clone(),
        &format!(
            "{script}
        rule bury
        write"
        ),
        "name=Ada by a (FirstSeen); city=Rome by a (FirstSeen)
        name held for a+b CON-3006
        name held for a+b CON-3006; held CON-3007
        b lost name=B; deleted by a; b owes life; closed 1: the record was deleted; closed 2: decided
        b delete",
    );
    check(
        rules,
        &format!(
            "{script}
        rule keep
        write"
        ),
        "name=Ada by a (FirstSeen); city=Rome by a (FirstSeen)
        name held for a+b CON-3006
        name held for a+b CON-3006; held CON-3007
        name=B by b (OnlyChange); a lost name=A; a owes life; closed 1: decided; closed 2: decided
        a create city=Rome id=0 name=B",
    );
}

#[test]
fn detaching_ends_what_waits_for_a_person() {
    let rules = by(pair(OnDelete::Detach, DeleteAgainstEdit::DeleteWins), Policy::Manual);
    check(
        rules,
        &agreed(
            "a edits name=A
        b edits name=B
        decide
        a deletes
        decide
        write",
        ),
        "name=Ada by a (FirstSeen); city=Rome by a (FirstSeen)
        name held for a+b CON-3006
        skipped on_delete: detach; detached; closed 1: the record was deleted
        no write",
    );
}

#[test]
fn a_person_may_keep_a_record_that_nobody_edited() {
    check(
        pair(OnDelete::Propagate, DeleteAgainstEdit::Manual),
        &agreed(
            "a deletes
        rule keep
        write",
        ),
        "name=Ada by a (FirstSeen); city=Rome by a (FirstSeen)
        a owes life
        a create city=Rome id=0 name=Ada",
    );
}

#[test]
fn a_record_that_comes_back_before_its_counterpart_went_is_the_same_record() {
    check(
        pair(OnDelete::Propagate, DeleteAgainstEdit::Manual),
        &agreed(
            "a deletes
        decide
        a edits name=Ada city=Oslo
        decide
        write",
        ),
        "name=Ada by a (FirstSeen); city=Rome by a (FirstSeen)
        deleted by a; b owes life
        city=Oslo by a (OnlyChange); lives; b owes city
        b update city=Oslo",
    );
}

#[test]
fn what_was_owed_before_the_delete_is_owed_after_the_return() {
    check(
        pair(OnDelete::Propagate, DeleteAgainstEdit::DeleteWins),
        &agreed(
            "a edits name=Bob
        decide
        a deletes
        decide
        a edits name=Bob city=Rome
        decide
        write",
        ),
        "name=Ada by a (FirstSeen); city=Rome by a (FirstSeen)
        name=Bob by a (OnlyChange); b owes name
        deleted by a; b owes life
        lives; b owes name
        b update name=Bob",
    );
}

#[test]
fn what_was_decided_while_a_record_was_away_is_owed_when_it_returns() {
    check(
        pair(OnDelete::Propagate, DeleteAgainstEdit::UpdateWins),
        &agreed(
            "a deletes
        b edits name=Bob
        decide
        a edits name=Ada city=Rome
        decide
        write",
        ),
        "name=Ada by a (FirstSeen); city=Rome by a (FirstSeen)
        name=Bob by b (OnlyChange); a owes life
        a owes name
        a update name=Bob",
    );
}

#[test]
fn a_record_that_comes_back_after_its_counterpart_went_is_a_new_one() {
    check(
        pair(OnDelete::Propagate, DeleteAgainstEdit::Manual),
        &agreed(
            "a deletes
        decide
        write
        a edits name=New
        decide",
        ),
        "name=Ada by a (FirstSeen); city=Rome by a (FirstSeen)
        deleted by a; b owes life
        b delete
        a is a new record",
    );
}

#[test]
fn an_edit_of_a_record_that_is_about_to_go_is_a_delete_against_an_edit() {
    let script = agreed(
        "a deletes
        decide
        b secretly edits name=Bob
        write
        decide
        write",
    );
    check(
        pair(OnDelete::Propagate, DeleteAgainstEdit::Manual),
        &script,
        "name=Ada by a (FirstSeen); city=Rome by a (FirstSeen)
        deleted by a; b owes life
        b missed
        name held for b CON-3007; lives; held CON-3007
        no write",
    );
    check(
        pair(OnDelete::Propagate, DeleteAgainstEdit::UpdateWins),
        &script,
        "name=Ada by a (FirstSeen); city=Rome by a (FirstSeen)
        deleted by a; b owes life
        b missed
        name=Bob by b (OnlyChange); lives; a owes life
        a create city=Rome id=0 name=Bob",
    );
    check(
        pair(OnDelete::Propagate, DeleteAgainstEdit::DeleteWins),
        &script,
        "name=Ada by a (FirstSeen); city=Rome by a (FirstSeen)
        deleted by a; b owes life
        b missed
        b lost name=Bob; b owes life
        b delete",
    );
}

#[test]
fn a_delete_where_deletes_do_not_flow_from_is_put_right_left_or_asked_about() {
    let script = agreed(
        "b deletes
        a edits name=Bob
        decide
        write",
    );
    let with = |edits| SyncRules { target_edits: edits, ..one_way(rules(2, &["name", "city"])) };
    check(
        with(TargetEdits::Overwrite),
        &script,
        "name=Ada by a (FirstSeen); city=Rome by a (FirstSeen)
        name=Bob by a (OnlyChange); b owes life
        b create city=Rome id=1 name=Bob",
    );
    check(
        with(TargetEdits::Keep),
        &script,
        "name=Ada by a (FirstSeen); city=Rome by a (FirstSeen)
        name=Bob by a (OnlyChange); b left alone
        no write",
    );
    check(
        with(TargetEdits::Review),
        &format!(
            "{script}
        rule release
        write"
        ),
        "name=Ada by a (FirstSeen); city=Rome by a (FirstSeen)
        name held for a CON-3008; b left alone; held CON-3008 for a person
        no write
        name=Bob by a (OnlyChange); closed 1: decided
        no write",
    );
    check(
        with(TargetEdits::Review),
        &format!(
            "{script}
        rule keep
        write"
        ),
        "name=Ada by a (FirstSeen); city=Rome by a (FirstSeen)
        name held for a CON-3008; b left alone; held CON-3008 for a person
        no write
        name=Bob by a (OnlyChange); b owes life; closed 1: decided
        b create city=Rome id=1 name=Bob",
    );
    check(
        with(TargetEdits::Review),
        &format!(
            "{script}
        rule bury
        write"
        ),
        "name=Ada by a (FirstSeen); city=Rome by a (FirstSeen)
        name held for a CON-3008; b left alone; held CON-3008 for a person
        no write
        name=Bob by a (OnlyChange); closed 1: decided
        no write",
    );
}

#[test]
fn a_released_hold_does_not_make_a_conflict_of_a_plain_delete() {
    let mut rules = pair(OnDelete::Propagate, DeleteAgainstEdit::Manual);
    rules.loops.max = 0;
    let mut world = World::new(rules);
    world.triggers[1] = Some(|cells| cells[0] = Some(crate::value::Value::text("X")));
    check_in(
        world,
        &agreed(
            "a edits name=Bob
        decide
        write
        decide
        b deletes
        decide
        rule release",
        ),
        "name=Ada by a (FirstSeen); city=Rome by a (FirstSeen)
        name=Bob by a (OnlyChange); b owes name
        b update name=Bob
        name=X by b (OnlyChange); a owes name; held CON-3011 for a person
        a person must speak
        deleted by b; a owes life; closed 1: decided",
    );
}

#[test]
fn a_record_made_anew_where_it_was_left_alone_shows_nothing_of_the_one_before() {
    let mut world = World::new(pair(OnDelete::Ignore, DeleteAgainstEdit::DeleteWins));
    let time = |at| EditTime { at: Moment(at), granularity_micros: 1, estimated: false };
    for member in [0, 1] {
        world.edit(member, &[(0, Value::text("Ada")), (1, Value::text("Rome"))], time(1), false);
        world.deliver(member);
    }
    world.decide(None).unwrap();
    world.delete(0, time(2));
    world.deliver(0);
    world.decide(None).unwrap();
    // The event of the insert names nothing but what was given.
    world.edit(0, &[(0, Value::text("Eve"))], time(3), false);
    let mut event = world.feeds[0].pop_front().unwrap();
    let Shown::Present { cells, times, full, .. } = &mut event.shown else { panic!("the record is there") };
    (cells[1], times[1], *full) = (None, None, false);
    world.pending[0] = Some(event);
    world.decide(None).unwrap();
    let city = world.link.groups[1].agreed.as_ref().map(|agreed| agreed.values.clone());
    assert_eq!(city, Some(vec![Value::Null]), "the city is not the one before's");
}
