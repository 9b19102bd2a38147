//! Records that validation refuses: what is asked about them, what a person's "leave it" means, and when it is over.

use super::script::check;
use super::support::{by, deleting, grouped, one_way, rules};
use crate::rules::{DeleteAgainstEdit, OnDelete, Policy, SyncRules, TargetEdits};
use crate::validate::{Rule, RuleSpec};

const SAME: &str = "
    a edits name=Ada city=Rome
    b edits name=Ada city=Rome
    decide
";

fn pair() -> SyncRules {
    rules(2, &["name", "city"])
}

fn required(field: &str) -> Rule {
    let spec: RuleSpec = serde_json::from_value(serde_json::json!({"field": field, "rule": "required"})).unwrap();
    Rule::compile(&spec, None).unwrap()
}

#[test]
fn a_conflict_that_comes_after_a_shared_reject_is_asked_about_by_itself() {
    let mut rules = by(rules(2, &["name", "city", "zip"]), Policy::Manual);
    rules.validation = vec![required("name")];
    check(
        rules,
        "a edits name=Ada city=Rome zip=1
        b edits name=Ada city=Rome zip=1
        decide
        a edits name=null city=Oslo zip=2
        b edits city=Bern zip=3
        decide
        a edits name=Bob
        decide
        rule city take a
        rule zip take b
        write",
        "name=Ada by a (FirstSeen); city=Rome by a (FirstSeen); zip=1 by a (FirstSeen)
        name held for a CON-3010; city held for a+b CON-3010; zip held for a+b CON-3010
        name=Bob by a (OnlyChange); city held for a+b CON-3006; zip held for a+b CON-3006; b owes name
        city=Oslo by a (Manual); zip held for a+b CON-3006; b lost city=Bern; b owes name,city; closed 2: decided
        zip=3 by b (Manual); a lost zip=2; a owes zip; b owes name,city; closed 1: decided
        a update zip=3; b update city=Oslo name=Bob",
    );
}

#[test]
fn a_refused_record_that_a_person_leaves_is_made_nowhere_and_asked_about_when_it_changes() {
    let mut rules = pair();
    rules.validation = vec![required("name")];
    check(
        rules,
        "a edits name=null city=Rome
        decide
        rule name leave
        rule city leave
        write
        a edits city=Oslo
        decide
        write
        a edits name=Ada
        decide
        write",
        "name held for a CON-3010; city held for a CON-3010; b owes life
        name=null by a (LeftRefused); city held for a CON-3010; b owes life
        city=Rome by a (LeftRefused); b owes life; closed 1: decided
        no write
        name held for a CON-3010; city held for a CON-3010; b owes life
        no write
        name=Ada by a (OnlyChange); city=Oslo by a (OnlyChange); b owes life; closed 2: decided
        b create city=Oslo name=Ada",
    );
}

#[test]
fn a_refused_value_that_a_person_left_does_not_reach_a_record_that_is_bound_later() {
    let mut rules = pair();
    rules.validation = vec![required("name")];
    check(
        rules,
        "a edits name=null city=Rome
        decide
        rule name leave
        rule city leave
        b edits name=Bob city=null
        decide
        write",
        "name held for a CON-3010; city held for a CON-3010; b owes life
        name=null by a (LeftRefused); city held for a CON-3010; b owes life
        city=Rome by a (LeftRefused); b owes life; closed 1: decided
        name held for a+b CON-3010; city held for a+b CON-3010
        no write",
    );
}

#[test]
fn what_was_refused_of_a_member_that_has_lost_the_record_waits_for_nobody() {
    let mut rules = pair();
    rules.validation = vec![required("name")];
    rules.deletes.on_delete = OnDelete::Ignore;
    rules.deletes.against_edit = DeleteAgainstEdit::DeleteWins;
    check(
        rules,
        &format!(
            "{SAME}
        b edits name=null city=Oslo
        decide
        b deletes
        decide
        write",
        ),
        "name=Ada by a (FirstSeen); city=Rome by a (FirstSeen)
        name held for b CON-3010; city held for b CON-3010
        name=Ada by a (NoLongerInConflict); city=Rome by a (NoLongerInConflict); skipped on_delete: ignore; b lost name=null; b lost city=Oslo; b left alone; closed 1: decided
        no write",
    );
}

#[test]
fn a_create_waits_for_the_key_that_it_has_to_give_and_for_no_other_field() {
    let mut rules = by(rules(3, &["name", "code"]), Policy::Manual);
    rules.members[2].schema.key = vec!["code".into()];
    let script = "a edits name=Ada code=1
        b edits name=Bob code=2
        decide
        write
        rule code take b
        write";
    check(
        rules,
        script,
        "name held for a+b CON-3006; code held for a+b CON-3006; c owes life
        no write
        name held for a+b CON-3006; code=2 by b (Manual); a lost code=1; a owes code; c owes life; closed 2: decided
        a update code=2; c create code=2",
    );
}

#[test]
fn a_side_taken_in_a_conflict_is_not_written_if_it_is_refused_by_then() {
    let mut rules = by(pair(), Policy::Manual);
    rules.validation = vec![required("name")];
    check(
        rules,
        &format!(
            "{SAME}
        a edits name=Bob
        b edits name=Eve
        decide
        b edits name=null
        rule name take b
        write
        b edits name=Kim
        decide
        rule name take b
        write"
        ),
        "name=Ada by a (FirstSeen); city=Rome by a (FirstSeen)
        name held for a+b CON-3006
        name held for a+b CON-3010
        no write
        name held for a+b CON-3006
        name=Kim by b (Manual); a lost name=Bob; a owes name; closed 1: decided
        a update name=Kim",
    );
}

#[test]
fn nobody_is_asked_about_a_refused_record_that_is_gone() {
    let mut rules = deleting(pair(), OnDelete::Ignore, DeleteAgainstEdit::DeleteWins);
    rules.validation = vec![required("name")];
    check(
        rules,
        "a edits name=null city=Rome
        b edits name=null city=Rome
        decide
        a deletes
        decide
        b deletes
        decide",
        "name held for a+b CON-3010; city held for a+b CON-3010
        name held for b CON-3010; city held for b CON-3010; skipped on_delete: ignore; a left alone
        skipped on_delete: ignore; b left alone; closed 1: decided",
    );
}

#[test]
fn what_a_member_was_left_with_is_in_the_ledger_when_a_record_made_anew_wins_over_it() {
    let mut rules = deleting(pair(), OnDelete::Ignore, DeleteAgainstEdit::DeleteWins);
    rules.validation = vec![required("name")];
    check(
        rules,
        "a edits name=Ada city=Rome
        b edits name=Ada city=Rome
        decide
        b edits name=Bob
        decide
        write
        b edits name=null
        decide
        rule name leave
        a deletes
        decide
        a edits name=Eve city=Rome
        decide
        write",
        "name=Ada by a (FirstSeen); city=Rome by a (FirstSeen)
        name=Bob by b (OnlyChange); a owes name
        a update name=Bob
        name held for b CON-3010
        name=Bob by b (LeftAsItIs); closed 1: decided
        skipped on_delete: ignore; a left alone
        name=Eve by a (LastWriteWins); b lost name=Bob; b lost name=null; b owes name
        b update name=Eve",
    );
}

#[test]
fn a_refused_value_that_a_person_leaves_overwrites_no_edit_against_the_flow() {
    let mut rules = SyncRules { target_edits: TargetEdits::Overwrite, ..one_way(pair()) };
    rules.validation = vec![required("name")];
    check(
        rules,
        "a edits name=null city=Rome
        b edits name=Bob city=Rome
        decide
        rule name leave
        rule city leave
        b edits name=Eve
        decide
        write",
        "name held for a CON-3010; city held for a CON-3010
        name=null by a (LeftRefused); city held for a CON-3010
        city=Rome by a (LeftRefused); closed 1: decided
        nothing
        no write",
    );
}

#[test]
pub fn a_refused_value_of_a_member_whose_record_has_gone_is_in_the_ledger_when_another_wins() {
    let mut rules = rules(3, &["name"]);
    rules.validation = vec![required("name")];
    rules.deletes.against_edit = DeleteAgainstEdit::UpdateWins;
    check(
        rules,
        "a edits name=Ada
        b edits name=Ada
        c edits name=Ada
        decide
        a edits name=null
        decide
        a deletes
        c edits name=Bob
        decide",
        "name=Ada by a (FirstSeen)
        name held for a CON-3010
        name=Bob by c (OnlyChange); a lost name=null; a owes life; b owes name; closed 1: decided",
    );
}

#[test]
fn a_refused_value_does_not_become_sound_by_its_record_being_gone() {
    let mut rules = grouped(pair(), Policy::LastWriteWins);
    rules.validation = vec![required("name")];
    rules.deletes.on_delete = OnDelete::Ignore;
    check(
        rules,
        "a edits name=null city=Rome
        decide
        rule all leave
        a edits city=Oslo
        decide
        a deletes
        decide
        write",
        "all held for a CON-3010; b owes life
        all=null,Rome by a (LeftRefused); b owes life; closed 1: decided
        all held for a CON-3010; b owes life
        all=null,Rome by a (LeftRefused); skipped on_delete: ignore; a left alone; b owes life; closed 2: decided
        no write",
    );
}

#[test]
pub fn a_refused_value_that_a_person_left_contends_no_more_once_its_record_is_gone() {
    let mut rules = pair();
    rules.validation = vec![required("name")];
    rules.deletes.on_delete = OnDelete::Ignore;
    check(
        rules,
        "a edits name=null city=Rome
        decide
        rule name leave
        rule city leave
        a edits city=Oslo
        decide
        rule city take a
        a deletes
        decide
        write",
        "name held for a CON-3010; city held for a CON-3010; b owes life
        name=null by a (LeftRefused); city held for a CON-3010; b owes life
        city=Rome by a (LeftRefused); b owes life; closed 1: decided
        name held for a CON-3010; city held for a CON-3010; b owes life
        name held for a CON-3010; city=Oslo by a (Manual); b owes life
        name=null by a (LeftRefused); skipped on_delete: ignore; a left alone; b owes life; closed 2: decided
        no write",
    );
}
