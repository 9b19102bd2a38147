//! Values that must be unique: looked for before they are agreed, and what follows where another record has them.

use super::script::check;
use super::support::rules;
use crate::rules::SyncRules;
use crate::validate::{OnError, Rule, RuleSpec};
use serde_json::Value as Json;

fn unique(on_error: OnError) -> SyncRules {
    let spec = RuleSpec { field: "name".into(), rule: "unique".into(), on_error, arguments: Json::Null };
    SyncRules { validation: vec![Rule::compile(&spec, None).unwrap()], ..rules(2, &["name", "city"]) }
}

const BEGIN: &str = "
    a edits name=Ada city=Rome
    decide
    taken name Ada no
    decide
    write
";
const BEGAN: &str = "look for name=Ada
    name=Ada by a (FirstSeen); city=Rome by a (FirstSeen); b owes life
    b create city=Rome name=Ada
";

#[test]
fn a_new_value_is_looked_for_and_an_agreed_one_is_not() {
    check(
        unique(OnError::RejectRecord),
        &format!(
            "{BEGIN}
            a edits city=Oslo
            decide
            b edits name=Eve
            decide
            taken name Eve no
            decide"
        ),
        &format!(
            "{BEGAN}
            city=Oslo by a (OnlyChange); b owes city
            look for name=Eve
            name=Eve by b (OnlyChange); a owes name; b owes city"
        ),
    );
}

#[test]
fn a_value_that_another_record_has_sends_the_record_to_review_until_it_is_free() {
    check(
        unique(OnError::RejectRecord),
        "a edits name=Ada city=Rome
        taken name Ada yes
        decide
        write
        a edits name=Eve
        taken name Eve no
        decide
        write",
        "name held for a CON-3010; city held for a CON-3010; b owes life
        no write
        name=Eve by a (FirstSeen); city=Rome by a (FirstSeen); b owes life; closed 1: decided
        b create city=Rome name=Eve",
    );
}

#[test]
fn a_value_that_another_record_has_becomes_null_or_is_noted_where_the_rule_says_so() {
    check(
        unique(OnError::SetNull),
        "a edits name=Ada city=Rome
        taken name Ada yes
        decide
        write",
        "name=null by a (FirstSeen); city=Rome by a (FirstSeen); b owes life
        b create city=Rome name=null",
    );
    check(
        unique(OnError::Warn),
        "a edits name=Ada city=Rome
        taken name Ada yes
        decide
        write",
        "name=Ada by a (FirstSeen); city=Rome by a (FirstSeen); warned another record has the value; b owes life
        b create city=Rome name=Ada",
    );
}

#[test]
fn a_person_who_decides_is_asked_nothing_more() {
    check(
        unique(OnError::RejectRecord),
        "a edits name=Ada city=Rome
        taken name Ada yes
        decide
        rule name take a
        write",
        "name held for a CON-3010; city held for a CON-3010; b owes life
        name=Ada by a (Manual); city=Rome by a (FirstSeen); b owes life; closed 1: decided
        b create city=Rome name=Ada",
    );
}
