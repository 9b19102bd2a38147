//! Records that live on after all, and members that come back or join late: what was decided past them reaches them, and
//! what they edited meanwhile is not lost. Each of these was once found by the laws.

use super::script::check;
use super::support::{at, deleting, rules};
use crate::rules::{Authority, DeleteAgainstEdit, OnDelete, Policy, SyncRules, TargetEdits};

fn three(against_edit: DeleteAgainstEdit) -> SyncRules {
    deleting(rules(3, &["name"]), OnDelete::Propagate, against_edit)
}

#[test]
fn a_value_that_was_just_cleared_contends_with_that_of_a_record_that_joins() {
    let mut rules = rules(3, &["name"]);
    rules.initial.authority = Authority::Policy;
    check(
        rules,
        "a edits name=Ada
        b edits name=Ada
        decide
        a edits name=null at 30
        c edits name=Cleo at 20
        decide
        write",
        "name=Ada by a (FirstSeen); c owes life
        name=null by a (LastWriteWins); c lost name=Cleo; b owes name; c owes name
        b update name=null; c update name=null",
    );
}

#[test]
fn a_hold_on_a_record_that_joined_outlives_the_member_that_the_agreed_value_came_from() {
    check(
        three(DeleteAgainstEdit::UpdateWins),
        "c edits name=Cleo
        decide
        a edits name=Ada
        c deletes
        decide
        rule name take a
        write",
        "name=Cleo by c (FirstSeen); a owes life; b owes life
        name held for a+c CON-3006; b owes life; c owes life
        name=Ada by a (Manual); c lost name=Cleo; b owes life; c owes life; closed 1: decided
        b create name=Ada; c create id=2 name=Ada",
    );
}

#[test]
fn an_edit_that_was_given_up_for_a_delete_stands_again_when_the_delete_is_undone() {
    check(
        three(DeleteAgainstEdit::DeleteWins),
        "a edits name=Ada
        b edits name=Ada
        c edits name=Ada
        decide
        b edits name=Bob
        decide
        write
        a deletes
        decide
        b edits name=Ben
        decide
        a edits name=Bob
        decide
        write",
        "name=Ada by a (FirstSeen)
        name=Bob by b (OnlyChange); a owes name; c owes name
        a update name=Bob; c update name=Bob
        deleted by a; b owes life; c owes life
        b lost name=Ben; b owes life; c owes life
        name=Ben by b (OnlyChange); lives; a owes name; c owes name
        a update name=Ben; c update name=Ben",
    );
}

#[test]
fn a_member_that_joins_while_the_link_is_held_is_brought_up_to_date_afterwards() {
    let mut rules = three(DeleteAgainstEdit::Manual);
    at(&mut rules, 2, "name").outward = false;
    check(
        rules,
        "a edits name=Ada
        b edits name=Ada
        decide
        a deletes
        b edits name=Bob
        decide
        c edits name=Cleo
        decide
        a edits name=Ada
        decide
        write",
        "name=Ada by a (FirstSeen); c owes life
        name held for b CON-3007; c owes life; held CON-3007
        name held for b CON-3007; held CON-3007
        name=Bob by b (OnlyChange); a owes name; c owes name; closed 1: decided
        a update name=Bob; c update name=Bob",
    );
}

#[test]
fn keeping_edits_at_the_target_is_about_fields_that_do_not_flow_from_there() {
    let mut rules = deleting(rules(2, &["name", "city"]), OnDelete::Propagate, DeleteAgainstEdit::UpdateWins);
    rules.target_edits = TargetEdits::Keep;
    at(&mut rules, 1, "city").outward = false;
    check(
        rules,
        "a edits name=Ada city=Rome
        b edits name=Ada city=Rome
        decide
        b deletes
        a edits name=Bob city=Bern
        decide
        b edits name=Ada city=Rome
        decide
        write",
        "name=Ada by a (FirstSeen); city=Rome by a (FirstSeen)
        name=Bob by a (OnlyChange); city=Bern by a (OnlyChange); b owes life
        b owes name
        b update name=Bob",
    );
}

#[test]
fn a_late_member_of_a_deleted_record_has_a_new_record() {
    check(
        three(DeleteAgainstEdit::Manual),
        "a edits name=Ada
        decide
        a deletes
        decide
        b edits name=Ada
        decide",
        "name=Ada by a (FirstSeen); b owes life; c owes life
        deleted by a
        b is a new record",
    );
}

#[test]
fn an_edit_seen_with_a_manual_hold_and_a_placed_value_are_both_heard() {
    let mut rules = three(DeleteAgainstEdit::Manual);
    rules.groups[0].policy = Policy::Manual;
    check(
        rules,
        "a edits name=Ada
        b edits name=Ada
        c edits name=Ada
        decide
        b edits name=Bob
        c edits name=Cleo
        a deletes
        decide
        rule keep
        rule name take c
        write",
        "name=Ada by a (FirstSeen)
        name held for b+c CON-3007; held CON-3007
        name held for b+c CON-3006; a owes life; closed 1: decided
        name=Cleo by c (Manual); b lost name=Bob; a owes life; b owes name; closed 2: decided
        a create id=0 name=Cleo; b update name=Cleo",
    );
}

#[test]
fn a_soft_delete_is_taken_back_where_the_record_returns_while_a_person_is_asked() {
    let mut rules = deleting(rules(3, &["name"]), OnDelete::SoftDelete, DeleteAgainstEdit::Manual);
    for member in &mut rules.members {
        member.soft_delete_field = Some("deleted".into());
    }
    check(
        rules,
        "a edits name=Ada
        b edits name=Ada
        c edits name=Ada
        decide
        a deletes
        decide
        c secretly edits name=Cat
        write
        c tells
        decide
        a edits name=Cat
        decide
        write",
        "name=Ada by a (FirstSeen)
        deleted by a; b owes life; c owes life
        b update deleted=true; c missed
        name held for c CON-3007; lives; held CON-3007
        name=Cat by a (OnlyChange); b owes name; b owes life; closed 1: decided
        b update deleted=false name=Cat",
    );
}

#[test]
fn what_was_given_up_for_a_delete_stands_again_when_the_record_is_made_anew() {
    let mut rules = rules(2, &["name", "city"]);
    rules.deletes.against_edit = DeleteAgainstEdit::Manual;
    check(
        rules,
        "a edits name=Ada city=Rome
        b edits name=Ada city=Rome
        decide
        a edits name=Eve
        b deletes
        decide
        rule bury
        a edits city=Oslo
        decide
        b edits name=Ada city=Rome
        decide
        write",
        "name=Ada by a (FirstSeen); city=Rome by a (FirstSeen)
        name held for a CON-3007; held CON-3007
        a lost name=Eve; deleted by b; a owes life; closed 1: the record was deleted
        city held for a CON-3007; lives; held CON-3007
        name=Eve by a (OnlyChange); city=Oslo by a (OnlyChange); b owes name,city; closed 2: decided
        b update city=Oslo name=Eve",
    );
}
