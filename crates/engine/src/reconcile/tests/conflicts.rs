//! One contender, several, and what each policy makes of a conflict.

use super::script::check;
use super::support::{by, cut, grouped, rules};
use crate::rules::Policy;

const SAME: &str = "
    a edits name=Ada
    b edits name=Ada
    decide
";

/// A script that begins with both members showing the same.
fn agreed(script: &str) -> String {
    format!("{SAME}{script}")
}

#[test]
fn one_contender_is_agreed_and_owed_to_the_others() {
    check(
        rules(2, &["name"]),
        &agreed(
            "a edits name=Bob
        decide
        write
        b tells
        decide",
        ),
        "name=Ada by a (FirstSeen)
        name=Bob by a (OnlyChange); b owes name
        b update name=Bob
        nothing",
    );
}

#[test]
fn equal_contenders_are_agreed_and_nobody_is_written() {
    check(
        rules(2, &["name"]),
        &agreed(
            "a edits name=Bob
        b edits name=Bob
        decide
        write",
        ),
        "name=Ada by a (FirstSeen)
        name=Bob by a (OnlyChange)
        no write",
    );
}

#[test]
pub fn the_latest_edit_wins_and_the_loser_is_in_the_ledger() {
    check(
        rules(2, &["name"]),
        &agreed(
            "a edits name=Early at 20
        b edits name=Late at 30
        decide
        write",
        ),
        "name=Ada by a (FirstSeen)
        name=Late by b (LastWriteWins); a lost name=Early; a owes name
        a update name=Late",
    );
}

#[test]
fn three_contenders_are_compared_at_the_coarsest_granularity_and_a_tie_goes_by_rank() {
    // At 10 µs all three edits are of the same time; c, though the latest to the microsecond, does not win.
    check(
        rules(3, &["name"]),
        "a edits name=Ada
        b edits name=Ada
        c edits name=Ada
        decide
        a edits name=A at 23
        b edits name=B at 25 grain 10
        c edits name=C at 27
        decide
        write",
        "name=Ada by a (FirstSeen)
        name=A by a (LastWriteWins); b lost name=B; c lost name=C; b owes name; c owes name
        b update name=A; c update name=A",
    );
}

#[test]
fn a_coarse_stamp_of_one_contender_does_not_hide_a_later_one() {
    check(
        rules(3, &["name"]),
        "a edits name=Ada
        b edits name=Ada
        c edits name=Ada
        decide
        a edits name=A at 23
        b edits name=B at 25 grain 10
        c edits name=C at 31
        decide",
        "name=Ada by a (FirstSeen)
        name=C by c (LastWriteWins); a lost name=A; b lost name=B; a owes name; b owes name",
    );
}

#[test]
fn a_clock_that_is_ahead_wins_nothing() {
    check(
        rules(2, &["name"]),
        &agreed(
            "a edits name=Ahead at 20 claims 9000
        b edits name=Later at 30
        decide",
        ),
        "name=Ada by a (FirstSeen)
        name=Later by b (LastWriteWins); a lost name=Ahead; a owes name",
    );
}

#[test]
fn a_time_learnt_by_a_read_waits_for_the_feed() {
    check(
        rules(2, &["name"]),
        &agreed(
            "now 10
        a secretly edits name=Early at 20
        b edits name=Late at 30
        now 40
        a reads
        decide
        a tells
        decide",
        ),
        "name=Ada by a (FirstSeen)
        wait until 130
        name=Late by b (LastWriteWins); a lost name=Early; a owes name",
    );
}

#[test]
fn a_time_that_the_feed_never_tells_is_waited_for_no_longer_than_the_bound() {
    check(
        rules(2, &["name"]),
        &agreed(
            "a secretly edits name=Read at 20
        b edits name=Late at 30
        now 40
        a reads
        decide
        now 129
        decide
        now 130
        decide",
        ),
        "name=Ada by a (FirstSeen)
        wait until 130
        wait until 130
        name=Read by a (LastWriteWins); b lost name=Late; b owes name",
    );
}

#[test]
pub fn the_named_member_wins_if_it_contends() {
    let rules = by(rules(3, &["name"]), Policy::Priority(vec![1, 0]));
    let script = "a edits name=Ada
        b edits name=Ada
        c edits name=Ada
        decide";
    check(
        rules.clone(),
        &format!(
            "{script}
        a edits name=A at 20
        b edits name=B at 15
        decide"
        ),
        "name=Ada by a (FirstSeen)
        name=B by b (Priority); a lost name=A; a owes name; c owes name",
    );
    check(
        rules.clone(),
        &format!(
            "{script}
        a edits name=A at 15
        c edits name=C at 20
        decide"
        ),
        "name=Ada by a (FirstSeen)
        name=A by a (Priority); c lost name=C; b owes name; c owes name",
    );
    check(
        by(rules, Policy::Priority(vec![1])),
        &format!(
            "{script}
        a edits name=A at 15
        c edits name=C at 20
        decide"
        ),
        "name=Ada by a (FirstSeen)
        name=C by c (LastWriteWins); a lost name=A; a owes name; b owes name",
    );
}

#[test]
fn a_manual_group_waits_while_the_others_flow() {
    let mut rules = rules(2, &["name", "city"]);
    rules.groups[0].policy = Policy::Manual;
    check(
        rules,
        "a edits name=Ada city=Rome
        b edits name=Ada city=Rome
        decide
        a edits name=A city=Oslo
        b edits name=B
        decide
        write
        b edits name=B2
        decide
        b edits name=A
        decide",
        "name=Ada by a (FirstSeen); city=Rome by a (FirstSeen)
        name held for a+b CON-3006; city=Oslo by a (OnlyChange); b owes city
        b update city=Oslo
        name held for a+b CON-3006
        name=A by a (OnlyChange); closed 1: decided",
    );
}

#[test]
pub fn an_agreed_value_that_is_still_owed_contends() {
    check(
        rules(2, &["name"]),
        &agreed(
            "a edits name=A at 40
        decide
        b edits name=B at 30
        decide
        write",
        ),
        "name=Ada by a (FirstSeen)
        name=A by a (OnlyChange); b owes name
        name=A by a (LastWriteWins); b lost name=B; b owes name
        b update name=A",
    );
    check(
        rules(2, &["name"]),
        &agreed(
            "a edits name=A at 40
        decide
        b edits name=B at 50
        decide
        write",
        ),
        "name=Ada by a (FirstSeen)
        name=A by a (OnlyChange); b owes name
        name=B by b (LastWriteWins); a lost name=A; a owes name
        a update name=B",
    );
}

#[test]
fn an_agreed_value_that_was_shown_does_not_contend() {
    check(
        rules(3, &["name"]),
        "a edits name=Ada
        b edits name=Ada
        c edits name=Ada
        decide
        a edits name=A at 90
        decide
        b edits name=A at 91
        decide
        b edits name=B claims 50
        decide
        write",
        "name=Ada by a (FirstSeen)
        name=A by a (OnlyChange); b owes name; c owes name
        c owes name
        name=B by b (OnlyChange); a owes name; c owes name
        a update name=B; c update name=B",
    );
}

#[test]
fn a_group_stays_whole() {
    check(
        grouped(rules(2, &["street", "city"]), Policy::LastWriteWins),
        "a edits street=Elm city=Rome
        b edits street=Elm city=Rome
        decide
        a edits street=Oak at 20
        b edits city=Oslo at 30
        decide
        write",
        "all=Elm,Rome by a (FirstSeen)
        all=Elm,Oslo by b (LastWriteWins); a lost street=Oak,city=Rome; a owes all
        a update city=Oslo street=Elm",
    );
}

#[test]
fn a_field_that_cuts_does_not_send_its_cut_form_back() {
    check(
        cut(rules(2, &["name"]), 1, "name", 5),
        "a edits name=Ada
        b edits name=Ada
        decide
        a edits name=Augusta
        decide
        write
        b tells
        decide
        b edits name=Augus
        decide
        b edits name=Gusta
        decide
        write",
        "name=Ada by a (FirstSeen)
        name=Augusta by a (OnlyChange); b owes name
        b update name=Augus
        nothing
        nothing
        name=Gusta by b (OnlyChange); a owes name
        a update name=Gusta",
    );
}

#[test]
fn a_finer_value_and_its_cut_form_do_not_conflict() {
    check(
        cut(rules(2, &["name"]), 0, "name", 5),
        "a edits name=Augus
        b edits name=Augusta
        decide
        write",
        "name=Augusta by b (FirstSeen)
        no write",
    );
}
