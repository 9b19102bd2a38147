//! The first decision about records that have no base.

use super::script::check;
use super::support::rules;
use crate::rules::{Authority, SyncRules};

fn with(authority: Authority) -> SyncRules {
    let mut rules = rules(2, &["name", "city"]);
    rules.initial.authority = authority;
    rules
}

#[test]
fn equal_values_are_the_base_and_a_value_beats_null() {
    check(
        with(Authority::Review),
        "a edits name=Ada city=null
        b edits name=Ada city=Rome
        decide
        write",
        "name=Ada by a (FirstSeen); city=Rome by b (FirstSeen); a owes city
        a update city=Rome",
    );
}

#[test]
fn values_that_differ_go_to_the_authority() {
    let script = "a edits name=A city=Rome at 30
        b edits name=B city=Rome at 20
        decide
        write";
    check(
        with(Authority::Member(1)),
        script,
        "name=B by b (Authority); city=Rome by a (FirstSeen); a lost name=A; a owes name
        a update name=B",
    );
    check(
        with(Authority::Policy),
        script,
        "name=A by a (LastWriteWins); city=Rome by a (FirstSeen); b lost name=B; b owes name
        b update name=A",
    );
    check(
        with(Authority::Review),
        script,
        "name held for a+b CON-3006; city=Rome by a (FirstSeen)
        no write",
    );
}

#[test]
fn a_first_review_is_ended_by_a_person() {
    let script = "a edits name=A city=Rome
        b edits name=B city=Rome
        decide";
    check(
        with(Authority::Review),
        &format!(
            "{script}
        rule name take b
        write"
        ),
        "name held for a+b CON-3006; city=Rome by a (FirstSeen)
        name=B by b (Manual); a lost name=A; a owes name; closed 1: decided
        a update name=B",
    );
    check(
        with(Authority::Review),
        &format!(
            "{script}
        rule name give C
        write"
        ),
        "name held for a+b CON-3006; city=Rome by a (FirstSeen)
        name=C by person (Manual); a lost name=A; b lost name=B; a owes name; b owes name; closed 1: decided
        a update name=C; b update name=C",
    );
    check(
        with(Authority::Review),
        &format!(
            "{script}
        rule name leave
        write
        b edits name=B2
        decide
        write"
        ),
        "name held for a+b CON-3006; city=Rome by a (FirstSeen)
        name=A by a (LeftAsItIs); closed 1: decided
        no write
        name=B2 by b (OnlyChange); a lost name=A; a owes name
        a update name=B2",
    );
}

#[test]
fn a_record_that_is_there_only_at_one_member_is_made_at_the_others() {
    check(
        super::support::rules(3, &["name"]),
        "a edits name=Ada
        decide
        write
        b tells
        c tells
        decide",
        "name=Ada by a (FirstSeen); b owes life; c owes life
        b create name=Ada; c create name=Ada
        nothing",
    );
}

#[test]
fn a_record_that_joins_later_is_matched_by_the_same_rules() {
    let script = "a edits name=A
        b edits name=A
        decide
        c edits name=C
        decide
        write";
    let mut rules = super::support::rules(3, &["name"]);
    check(
        rules.clone(),
        script,
        "name=A by a (FirstSeen); c owes life
        name held for a+c CON-3006
        no write",
    );
    rules.initial.authority = Authority::Member(2);
    check(
        rules.clone(),
        script,
        "name=A by a (FirstSeen); c owes life
        name=C by c (Authority); a lost name=A; a owes name; b owes name
        a update name=C; b update name=C",
    );
    rules.initial.authority = Authority::Member(0);
    check(
        rules,
        script,
        "name=A by a (FirstSeen); c owes life
        name=A by a (Authority); c lost name=C; c owes name
        c update name=A",
    );
}

#[test]
fn a_partial_image_without_a_base_is_read_in_full_first() {
    check(
        super::support::rules(2, &["name", "city"]),
        "a secretly edits name=Ada city=Rome
        a secretly edits name=Bob partial
        a tells
        a tells
        decide
        write",
        "name=Bob by a (FirstSeen); city=Rome by a (FirstSeen); b owes life
        b create city=Rome name=Bob",
    );
}
