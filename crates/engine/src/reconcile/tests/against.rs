//! Deletes and edits against the flow beside what flows: whose word counts when both come at once, and what comes after.

use super::script::check;
use super::support::{one_way, rules};
use crate::rules::{DeleteAgainstEdit, OnDelete, SyncRules, TargetEdits};
use crate::validate::{Rule, RuleSpec};

const SAME: &str = "
    a edits name=Ada city=Rome
    b edits name=Ada city=Rome
    decide
";

fn with(edits: TargetEdits) -> SyncRules {
    SyncRules { target_edits: edits, ..one_way(rules(2, &["name", "city"])) }
}

#[test]
fn a_delete_against_the_flow_is_not_asked_about_where_the_source_deletes_as_well() {
    check(
        with(TargetEdits::Review),
        &format!(
            "{SAME}
        a deletes
        b deletes
        decide
        write"
        ),
        "name=Ada by a (FirstSeen); city=Rome by a (FirstSeen)
        deleted by a
        no write",
    );
}

#[test]
fn what_was_deleted_against_the_flow_while_no_source_had_it_is_made_anew_with_the_sources_record() {
    let mut rules = with(TargetEdits::Overwrite);
    (rules.deletes.on_delete, rules.deletes.against_edit) = (OnDelete::Ignore, DeleteAgainstEdit::DeleteWins);
    check(
        rules,
        &format!(
            "{SAME}
        a deletes
        decide
        b deletes
        decide
        write
        a edits name=Eve city=Bern
        decide
        write"
        ),
        "name=Ada by a (FirstSeen); city=Rome by a (FirstSeen)
        skipped on_delete: ignore; a left alone
        nothing
        no write
        name=Eve by a (OnlyChange); city=Bern by a (OnlyChange); b owes life
        b create city=Bern id=1 name=Eve",
    );
}

#[test]
fn a_refused_value_that_was_left_is_not_taken_by_deciding_for_its_side_against_an_edit() {
    let mut rules = with(TargetEdits::Review);
    let spec: RuleSpec = serde_json::from_value(serde_json::json!({"field": "name", "rule": "required"})).unwrap();
    rules.validation = vec![Rule::compile(&spec, None).unwrap()];
    check(
        rules,
        &format!(
            "{SAME}
        a edits name=null
        decide
        rule name leave
        b edits name=Bob
        decide
        rule name take a
        write"
        ),
        "name=Ada by a (FirstSeen); city=Rome by a (FirstSeen)
        name held for a CON-3010
        name=Ada by a (LeftAsItIs); closed 1: decided
        name held for b CON-3009
        name held for a CON-3010; closed 2: decided
        no write",
    );
}

#[test]
fn who_deleted_along_with_the_source_gets_back_what_a_person_keeps() {
    let mut rules = SyncRules { target_edits: TargetEdits::Review, ..one_way(rules(3, &["name"])) };
    rules.deletes.against_edit = DeleteAgainstEdit::Manual;
    check(
        rules,
        "a edits name=Ada
        b edits name=Ada
        c edits name=Ada
        decide
        a deletes
        b deletes
        rule keep
        write",
        "name=Ada by a (FirstSeen)
        b owes life
        b create id=1 name=Ada",
    );
}

#[test]
fn what_no_source_has_is_not_brought_back_from_nothing() {
    check(
        with(TargetEdits::Review),
        "b edits name=Ada city=Rome
        decide
        b deletes
        decide
        rule keep
        write",
        "nothing
        b left alone; held CON-3008 for a person
        closed 1: decided
        no write",
    );
}
