//! What a person says: which value, whether the record lives, that a hold is over.

use super::script::check;
use super::support::{by, rules};
use crate::rules::Policy;

const CONFLICT: &str = "
    a edits name=Ada city=Rome
    b edits name=Ada city=Rome
    decide
    a edits name=A
    b edits name=B
    decide
";

fn conflict(script: &str) -> String {
    format!("{CONFLICT}{script}")
}

#[test]
fn a_member_is_taken_and_the_other_value_is_in_the_ledger() {
    let rules = by(rules(2, &["name", "city"]), Policy::Manual);
    check(
        rules,
        &conflict(
            "rule name take b
        write
        decide",
        ),
        "name=Ada by a (FirstSeen); city=Rome by a (FirstSeen)
        name held for a+b CON-3006
        name=B by b (Manual); a lost name=A; a owes name; closed 1: decided
        a update name=B
        nothing",
    );
}

#[test]
fn a_value_of_neither_is_given_and_both_are_written() {
    let rules = by(rules(2, &["name", "city"]), Policy::Manual);
    check(
        rules,
        &conflict(
            "rule name give C
        write
        decide",
        ),
        "name=Ada by a (FirstSeen); city=Rome by a (FirstSeen)
        name held for a+b CON-3006
        name=C by person (Manual); a lost name=A; b lost name=B; a owes name; b owes name; closed 1: decided
        a update name=C; b update name=C
        nothing",
    );
}

#[test]
fn a_given_value_that_is_still_owed_contends_like_any_other() {
    let rules = by(rules(2, &["name", "city"]), Policy::Manual);
    check(
        rules,
        &conflict(
            "rule name give C
        b edits name=B2
        decide
        write
        rule name take b
        write",
        ),
        "name=Ada by a (FirstSeen); city=Rome by a (FirstSeen)
        name held for a+b CON-3006
        name=C by person (Manual); a lost name=A; b lost name=B; a owes name; b owes name; closed 1: decided
        name held for b+person CON-3006; a owes name
        no write
        name=B2 by b (Manual); a lost name=A; a owes name; closed 2: decided
        a update name=B2",
    );
}

#[test]
fn members_left_as_they_are_differ_until_the_next_change() {
    let rules = by(rules(2, &["name", "city"]), Policy::Manual);
    check(
        rules,
        &conflict(
            "rule name leave
        write
        a edits city=Oslo
        decide
        write
        a edits name=A2
        decide
        write",
        ),
        "name=Ada by a (FirstSeen); city=Rome by a (FirstSeen)
        name held for a+b CON-3006
        name=Ada by a (LeftAsItIs); closed 1: decided
        no write
        city=Oslo by a (OnlyChange); b owes city
        b update city=Oslo
        name=A2 by a (OnlyChange); b lost name=B; b owes name
        b update name=A2",
    );
}

#[test]
fn a_change_back_to_what_was_once_agreed_ends_the_difference() {
    let rules = by(rules(2, &["name", "city"]), Policy::Manual);
    check(
        rules,
        &conflict(
            "rule name leave
        b edits name=Ada
        decide
        write",
        ),
        "name=Ada by a (FirstSeen); city=Rome by a (FirstSeen)
        name held for a+b CON-3006
        name=Ada by a (LeftAsItIs); closed 1: decided
        name=Ada by b (OnlyChange); a lost name=A; a owes name
        a update name=Ada",
    );
}

#[test]
fn a_ruling_is_planned_from_the_present_state() {
    let rules = by(rules(2, &["name", "city"]), Policy::Manual);
    check(
        rules,
        &conflict(
            "b edits name=B2
        rule name take b
        write",
        ),
        "name=Ada by a (FirstSeen); city=Rome by a (FirstSeen)
        name held for a+b CON-3006
        name=B2 by b (Manual); a lost name=A; a owes name; closed 1: decided
        a update name=B2",
    );
}
