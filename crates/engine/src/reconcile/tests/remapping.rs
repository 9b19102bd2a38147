//! A mapping that a person changes while records are known: what was decided last goes through the new one, and nothing is
//! ever written under a mixture of both.

use super::script::check;
use super::support::rules;
use crate::rules::{Policy, SyncRules};

fn pair() -> SyncRules {
    rules(2, &["name", "city"])
}

const SAME: &str = "
    a edits name=Ada city=Rome
    b edits name=Ada city=Rome
    decide
";
const BEGAN: &str = "name=Ada by a (FirstSeen); city=Rome by a (FirstSeen)";

fn began(script: &str, expect: &str) {
    check(pair(), &format!("{SAME}{script}"), &format!("{BEGAN}\n{expect}"));
}

#[test]
fn a_value_is_written_anew_as_the_new_mapping_has_it() {
    began(
        "mapping b name writes uppercase
        decide
        write
        mapping b name writes none
        decide
        write",
        "name=Ada by a (NewMapping); b owes name
        b update name=ADA
        name=Ada by a (NewMapping); b owes name
        b update name=Ada",
    );
}

#[test]
fn the_member_that_a_value_came_from_keeps_its_own_form() {
    began(
        "b edits name=Bo
        decide
        write
        mapping b name writes uppercase
        decide
        write
        mapping a name writes uppercase
        decide
        write",
        "name=Bo by b (OnlyChange); a owes name
        a update name=Bo
        name=Bo by b (NewMapping)
        no write
        name=Bo by b (NewMapping); a owes name
        a update name=BO",
    );
}

#[test]
fn what_a_member_entered_is_read_anew_where_the_new_mapping_reads_it_otherwise() {
    began(
        "mapping a name reads uppercase
        decide
        write",
        "name=ADA by a (NewMapping); b owes name
        b update name=ADA",
    );
}

#[test]
fn an_edit_that_waits_wins_under_the_new_mapping() {
    began(
        "a edits name=Eve
        mapping b name writes uppercase
        decide
        write
        b edits city=Oslo
        mapping a city writes uppercase
        decide
        write",
        "name=Eve by a (OnlyChange); b owes name
        b update name=EVE
        city=Oslo by b (OnlyChange); a owes city
        a update city=OSLO",
    );
}

#[test]
fn an_edit_does_not_contend_with_a_value_that_only_the_mapping_changed() {
    let manual = {
        let mut rules = pair();
        rules.groups[0].policy = Policy::Manual;
        rules
    };
    check(
        manual,
        &format!(
            "{SAME}
            mapping a name reads uppercase
            b edits name=Bo
            decide
            write"
        ),
        &format!(
            "{BEGAN}
            name=Bo by b (OnlyChange); a owes name
            a update name=Bo"
        ),
    );
}

#[test]
fn what_is_owed_is_never_written_as_the_old_mapping_had_it() {
    began(
        "a edits name=Eve
        decide
        mapping b name writes uppercase
        decide
        write",
        "name=Eve by a (OnlyChange); b owes name
        name=Eve by a (NewMapping); b owes name
        b update name=EVE",
    );
}

#[test]
fn a_value_that_is_owed_and_edited_meanwhile_contends_as_the_new_mapping_has_it() {
    began(
        "a edits name=Eve at 30
        decide
        mapping a name reads uppercase
        b edits name=Bo at 20
        decide
        write",
        "name=Eve by a (OnlyChange); b owes name
        name=EVE by a (LastWriteWins); b lost name=Bo; b owes name
        b update name=EVE",
    );
}

#[test]
fn a_value_that_the_new_mapping_refuses_waits_for_a_person_and_stays_as_it_is() {
    began(
        "mapping a name reads format_phone
        decide
        write
        a edits name=+16502530000
        decide
        write",
        "name held for a CON-3113
        no write
        name=+16502530000 by a (OnlyChange); b owes name; closed 1: decided
        b update name=+16502530000",
    );
}

#[test]
fn what_a_person_left_to_differ_stays_so() {
    let mut rules = pair();
    rules.groups[0].policy = Policy::Manual;
    check(
        rules,
        "a edits name=A city=Rome
        b edits name=B city=Rome
        decide
        rule name leave
        mapping b name writes uppercase
        decide
        write",
        "name held for a+b CON-3006; city=Rome by a (FirstSeen)
        name=A by a (LeftAsItIs); closed 1: decided
        nothing
        no write",
    );
}

#[test]
fn a_mapping_that_means_the_same_changes_nothing() {
    check(
        pair(),
        "mapping b name writes uppercase
        a edits name=Ada city=Rome
        b edits name=ADA city=Rome
        decide
        mapping b name writes uppercase
        decide
        write",
        "name=Ada by a (FirstSeen); city=Rome by a (FirstSeen)
        nothing
        no write",
    );
}
