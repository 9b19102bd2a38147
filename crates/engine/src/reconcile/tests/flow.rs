//! Where values flow and where not: one-way and read-only fields, edits against the flow, writing back, echoes, rejects.

use super::script::{check, check_in};
use super::support::{at, one_way, pipeline, rules};
use super::world::World;
use crate::rules::{SyncRules, TargetEdits};
use crate::validate::{Rule, RuleSpec};
use crate::value::Value;

const SAME: &str = "
    a edits name=Ada city=Rome
    b edits name=Ada city=Rome
    decide
";

fn agreed(script: &str) -> String {
    format!("{SAME}{script}")
}

fn pair() -> SyncRules {
    rules(2, &["name", "city"])
}

#[test]
pub fn an_edit_against_the_flow_is_written_over_kept_or_asked_about() {
    let with = |edits| SyncRules { target_edits: edits, ..one_way(pair()) };
    let script = agreed(
        "b edits name=Mine
        decide
        write
        a edits name=Theirs
        decide
        write",
    );
    check(
        with(TargetEdits::Overwrite),
        &script,
        "name=Ada by a (FirstSeen); city=Rome by a (FirstSeen)
        b owes name
        b update name=Ada
        name=Theirs by a (OnlyChange); b owes name
        b update name=Theirs",
    );
    check(
        with(TargetEdits::Keep),
        &script,
        "name=Ada by a (FirstSeen); city=Rome by a (FirstSeen)
        nothing
        no write
        name=Theirs by a (OnlyChange); b owes name
        b update name=Theirs",
    );
    check(
        with(TargetEdits::Review),
        &script,
        "name=Ada by a (FirstSeen); city=Rome by a (FirstSeen)
        name held for b CON-3009
        no write
        name=Theirs by a (OnlyChange); b owes name; closed 1: decided
        b update name=Theirs",
    );
    check(
        with(TargetEdits::Review),
        &agreed(
            "b edits name=Mine
        decide
        rule name leave
        write",
        ),
        "name=Ada by a (FirstSeen); city=Rome by a (FirstSeen)
        name held for b CON-3009
        name=Ada by a (LeftAsItIs); closed 1: decided
        no write",
    );
    check(
        with(TargetEdits::Review),
        &agreed(
            "b edits name=Mine
        decide
        rule name take a
        write",
        ),
        "name=Ada by a (FirstSeen); city=Rome by a (FirstSeen)
        name held for b CON-3009
        name=Ada by a (Manual); b owes name; closed 1: decided
        b update name=Ada",
    );
}

#[test]
pub fn a_field_flows_only_from_its_owner() {
    let mut rules = pair();
    rules.fields[0].owner = Some(0);
    check(
        rules,
        &agreed(
            "b edits name=Mine city=Oslo
        decide
        write",
        ),
        "name=Ada by a (FirstSeen); city=Rome by a (FirstSeen)
        city=Oslo by b (OnlyChange); a owes city; b owes name
        a update city=Oslo; b update name=Ada",
    );
}

#[test]
fn a_read_only_field_is_never_written() {
    let mut rules = pair();
    at(&mut rules, 1, "name").updatable = false;
    check(
        rules.clone(),
        &agreed(
            "a edits name=Bob city=Oslo
        decide
        write",
        ),
        "name=Ada by a (FirstSeen); city=Rome by a (FirstSeen)
        name=Bob by a (OnlyChange); city=Oslo by a (OnlyChange); b owes city
        b update city=Oslo",
    );
    at(&mut rules, 1, "name").inward = false;
    at(&mut rules, 1, "name").creatable = false;
    check(
        rules,
        "a edits name=Ada city=Rome
        decide
        write
        decide",
        "name=Ada by a (FirstSeen); city=Rome by a (FirstSeen); b owes life
        b create city=Rome
        name=Ada by a (FirstSeen)",
    );
}

#[test]
fn the_transformed_form_goes_back_only_where_the_mapping_says_so() {
    let mut rules = pair();
    at(&mut rules, 0, "name").mapping.to = Some(pipeline("uppercase"));
    let script = "a edits name=ADA city=Rome
        b edits name=ADA city=Rome
        decide
        a edits name=Bob
        decide
        write
        decide";
    check(
        rules.clone(),
        script,
        "name=ADA by a (FirstSeen); city=Rome by a (FirstSeen)
        name=BOB by a (OnlyChange); b owes name
        b update name=BOB
        nothing",
    );
    at(&mut rules, 0, "name").write_back = true;
    check(
        rules,
        script,
        "name=ADA by a (FirstSeen); city=Rome by a (FirstSeen)
        name=BOB by a (OnlyChange); a owes name; b owes name
        a update name=BOB; b update name=BOB
        nothing",
    );
}

#[test]
fn an_echo_writes_nothing_and_confirms() {
    let mut world = World::new(pair());
    world.late_echoes = true;
    check_in(
        world,
        &agreed(
            "a edits name=Bob
        decide
        write
        b tells
        decide
        write",
        ),
        "name=Ada by a (FirstSeen); city=Rome by a (FirstSeen)
        name=Bob by a (OnlyChange); b owes name
        b update name=Bob
        nothing
        no write",
    );
}

#[test]
pub fn what_a_system_makes_of_our_write_is_an_edit_by_that_system() {
    let mut world = World::new(pair());
    world.triggers[1] = Some(|cells| {
        if let Some(Value::Text(name)) = &mut cells[0] {
            *name = name.to_uppercase();
        }
    });
    check_in(
        world,
        &agreed(
            "a edits name=Bob
        decide
        write
        decide
        write
        a tells
        b tells
        decide",
        ),
        "name=Ada by a (FirstSeen); city=Rome by a (FirstSeen)
        name=Bob by a (OnlyChange); b owes name
        b update name=Bob
        name=BOB by b (OnlyChange); a owes name
        a update name=BOB
        nothing",
    );
}

#[test]
fn what_a_system_fills_in_on_a_create_flows_back() {
    let mut rules = pair();
    at(&mut rules, 1, "city").creatable = false;
    let mut world = World::new(rules);
    world.triggers[1] = Some(|cells| cells[1] = Some(Value::text("B-7")));
    check_in(
        world,
        "a edits name=Ada city=null
        decide
        write
        decide
        write",
        "name=Ada by a (FirstSeen); city=null by a (FirstSeen); b owes life
        b create name=Ada
        city=B-7 by b (FirstSeen); a owes city
        a update city=B-7",
    );
}

#[test]
fn a_value_that_does_not_fit_is_refused_and_the_next_edit_tries_again() {
    let mut rules = pair();
    at(&mut rules, 1, "name").ty = super::support::text(Some(3));
    check(
        rules,
        &agreed(
            "a edits name=Augusta
        decide
        write
        a edits name=Gus
        decide
        write",
        ),
        "name=Ada by a (FirstSeen); city=Rome by a (FirstSeen)
        name=Augusta by a (OnlyChange); b owes name
        b refused CON-3002
        name=Gus by a (OnlyChange); b owes name; closed 1: superseded by a later change
        b update name=Gus",
    );
}

#[test]
fn a_record_that_fails_validation_is_held_and_a_correction_ends_it() {
    let mut rules = pair();
    let spec: RuleSpec = serde_json::from_value(serde_json::json!({"field": "name", "rule": "required"})).unwrap();
    rules.validation = vec![Rule::compile(&spec, None).unwrap()];
    check(
        rules.clone(),
        &agreed(
            "a edits name=null city=Oslo
        decide
        write
        a edits name=Bob
        decide
        write",
        ),
        "name=Ada by a (FirstSeen); city=Rome by a (FirstSeen)
        name held for a CON-3010; city held for a CON-3010
        no write
        name=Bob by a (OnlyChange); city=Oslo by a (OnlyChange); b owes name,city; closed 1: decided
        b update city=Oslo name=Bob",
    );
    // The edit of b, seen together with the reject of a, is not lost with it.
    check(
        rules,
        &agreed(
            "a edits name=null at 20
        b edits name=Bob at 30
        decide
        a edits name=Gus at 25
        decide
        write",
        ),
        "name=Ada by a (FirstSeen); city=Rome by a (FirstSeen)
        name held for a+b CON-3010
        name=Bob by b (LastWriteWins); a lost name=Gus; a owes name; closed 1: decided
        a update name=Bob",
    );
}

#[test]
fn a_review_that_several_groups_share_stays_open_until_the_last_of_them_is_decided() {
    let mut rules = super::support::by(pair(), crate::rules::Policy::Manual);
    let spec: RuleSpec = serde_json::from_value(serde_json::json!({"field": "name", "rule": "required"})).unwrap();
    rules.validation = vec![Rule::compile(&spec, None).unwrap()];
    check(
        rules,
        &agreed(
            "a edits name=null city=Oslo
        b edits city=Bern
        decide
        a edits name=Bob
        decide
        rule city take a
        write",
        ),
        "name=Ada by a (FirstSeen); city=Rome by a (FirstSeen)
        name held for a CON-3010; city held for a+b CON-3010
        name=Bob by a (OnlyChange); city held for a+b CON-3006; b owes name
        city=Oslo by a (Manual); b lost city=Bern; b owes name,city; closed 1: decided
        b update city=Oslo name=Bob",
    );
}

#[test]
fn items_that_one_reject_had_held_together_do_not_hide_one_another() {
    let mut rules = pair();
    let spec: RuleSpec = serde_json::from_value(serde_json::json!({"field": "name", "rule": "required"})).unwrap();
    rules.validation = vec![Rule::compile(&spec, None).unwrap()];
    check(
        rules,
        "a edits name=null city=Oslo
        b edits name=Bob city=Bern
        decide
        a edits name=Ada
        decide
        rule city take a
        rule name take b",
        "name held for a+b CON-3010; city held for a+b CON-3010
        name held for a+b CON-3006; city held for a+b CON-3006
        name held for a+b CON-3006; city=Oslo by a (Manual); b lost city=Bern; b owes city; closed 1: decided
        name=Bob by b (Manual); a lost name=Ada; a owes name; b owes city; closed 2: decided",
    );
}

#[test]
fn a_record_waits_for_a_key_that_waits_for_a_person() {
    let mut rules = super::support::by(super::support::rules(3, &["code", "name"]), crate::rules::Policy::Manual);
    rules.members[2].schema.key = vec!["code".into()];
    check(
        rules,
        "a edits code=1 name=Ada
        b edits code=2 name=Ada
        decide
        write
        rule code take b
        write",
        "code held for a+b CON-3006; name=Ada by a (FirstSeen); c owes life
        no write
        code=2 by b (Manual); a lost code=1; a owes code; c owes life; closed 1: decided
        a update code=2; c create code=2 name=Ada",
    );
}

#[test]
fn a_refused_record_that_a_person_leaves_as_it_is_is_made_nowhere_until_it_is_put_right() {
    let mut rules = pair();
    let spec: RuleSpec = serde_json::from_value(serde_json::json!({"field": "name", "rule": "required"})).unwrap();
    rules.validation = vec![Rule::compile(&spec, None).unwrap()];
    check(
        rules,
        "a edits name=null city=Oslo
        decide
        rule name leave
        rule city leave
        write
        a edits name=Ada
        decide
        write",
        "name held for a CON-3010; city held for a CON-3010; b owes life
        name=null by a (LeftRefused); city held for a CON-3010; b owes life
        city=Oslo by a (LeftRefused); b owes life; closed 1: decided
        no write
        name=Ada by a (OnlyChange); city=Oslo by a (OnlyChange); b owes life
        b create city=Oslo name=Ada",
    );
}
