//! Proofs of the rules: what each lets through, what it repairs, and that nothing panics.

use super::*;
use crate::value::Date;
use crate::value::tests::generators::{close_values, values};
use proptest::prelude::*;
use serde_json::json;

fn rule(name: &str, arguments: serde_json::Value, on_error: OnError) -> Rule {
    let spec = RuleSpec { field: "f".to_owned(), rule: name.to_owned(), on_error, arguments };
    Rule::compile(&spec, Some("US")).unwrap_or_else(|error| panic!("{error}"))
}

fn record(value: Value) -> Record {
    [("f".into(), value), ("other".into(), Value::Int(5))].into_iter().collect()
}

fn check(name: &str, arguments: serde_json::Value, value: Value) -> std::result::Result<(), String> {
    let validation = validate(&[rule(name, arguments, OnError::RejectRecord)], &record(value.clone()));
    assert_eq!(validation.record, record(value), "rejecting never changes the record");
    validation.rejects.first().map_or(Ok(()), |reject| Err(reject.message.clone()))
}

#[test]
fn each_rule_lets_through_what_it_should() {
    let date = |year| Value::Date(Date::new(year, 1, 1).unwrap());
    for (name, arguments, good, bad) in [
        (
            "required",
            json!(null),
            vec![Value::text("a"), Value::Int(0), Value::Bool(false)],
            vec![Value::Null, Value::text(" "), Value::text("")],
        ),
        (
            "email_format",
            json!(null),
            vec![Value::text("ada@example.com"), Value::text("a+b@sub.example.org"), Value::Null],
            vec![
                Value::text("ada"),
                Value::text("ada@localhost"),
                Value::text("Ada <ada@example.com>"),
                Value::text(" ada@example.com"),
                Value::Int(1),
            ],
        ),
        ("regex", json!("^[A-Z]{2}$"), vec![Value::text("DE")], vec![Value::text("DEU"), Value::text("de")]),
        (
            "phone",
            json!(null),
            vec![Value::text("650 253 0000"), Value::text("+4930901820")],
            vec![Value::text("12"), Value::text("")],
        ),
        ("phone", json!("GB"), vec![Value::text("020 7031 3000")], vec![Value::text("650 253 0000")]),
        (
            "length",
            json!({"min": 2, "max": 3}),
            vec![Value::text("äö"), Value::Int(123)],
            vec![Value::text("a"), Value::text("abcd")],
        ),
        ("length", json!(1), vec![Value::Array(vec![Value::Null])], vec![Value::Array(vec![Value::Null, Value::Null])]),
        (
            "range",
            json!({"min": 0.5, "max": 10}),
            vec![Value::Int(1), Value::decimal("0.50").unwrap(), Value::float(9.9), Value::UInt(10)],
            vec![
                Value::decimal("0.49999999999999999999").unwrap(),
                Value::Int(11),
                Value::text("5"),
                Value::decimal("NaN").unwrap(),
            ],
        ),
        (
            "range",
            json!({"min": "2020-01-01"}),
            vec![date(2020), Value::Date(Date::PositiveInfinity)],
            vec![date(2019), Value::Int(2021)],
        ),
        (
            "one_of",
            json!({"values": ["a", 1, null]}),
            vec![Value::text("a"), Value::Enum("a".to_owned()), Value::decimal("1.0").unwrap()],
            vec![Value::text("b")],
        ),
        ("expression", json!("value > 3 and other == 5"), vec![Value::Int(4)], vec![Value::Int(3), Value::text("x")]),
    ] {
        for value in good {
            assert_eq!(check(name, arguments.clone(), value.clone()), Ok(()), "{name} {arguments} and {value:?}");
        }
        for value in bad {
            assert!(check(name, arguments.clone(), value.clone()).is_err(), "{name} {arguments} and {value:?}");
        }
    }
}

#[test]
fn what_can_be_brought_into_standard_form_is_repaired_and_the_rest_is_rejected() {
    for (name, arguments, from, to) in [
        ("phone", json!(null), "(650) 253-0000", Some("+16502530000")),
        ("phone", json!(null), "650 253 0000 ext. 4", None),
        ("phone", json!(null), "call me", None),
        ("email_format", json!(null), " Ada@EXAMPLE.Com ", Some("Ada@example.com")),
        ("email_format", json!(null), "ada at example", None),
        ("regex", json!("^[a-z]+$"), " abc ", Some("abc")),
        ("regex", json!("^[a-z]+$"), " ABC ", None),
        ("one_of", json!({"values": ["open"]}), "open ", Some("open")),
    ] {
        let validation = validate(&[rule(name, arguments, OnError::StandardizeFormat)], &record(Value::text(from)));
        match to {
            Some(to) => {
                assert_eq!(validation.record.get("f"), Some(&Value::text(to)));
                let repair = Repair { field: "f".into(), from: Value::text(from), to: Value::text(to), rule: name.to_owned() };
                assert_eq!((validation.repairs, validation.rejects), (vec![repair], vec![]));
            }
            None => {
                assert_eq!(validation.record, record(Value::text(from)), "a rejected record stays as it was");
                assert_eq!((validation.repairs.len(), validation.rejects.len()), (0, 1), "{name} {from}");
            }
        }
    }
}

#[test]
fn the_other_ways_to_go_on_do_what_they_say() {
    let bad = record(Value::text("x"));
    let run = |arguments: serde_json::Value, on_error| validate(&[rule("regex", arguments, on_error)], &bad);
    let pattern = json!({"pattern": "^[0-9]+$"});
    assert_eq!(run(pattern.clone(), OnError::SetNull).record.get("f"), Some(&Value::Null));
    assert_eq!(run(json!({"pattern": "^[0-9]+$", "default": "0"}), OnError::UseDefault).record.get("f"), Some(&Value::text("0")));
    let warned = run(pattern, OnError::Warn);
    assert_eq!((warned.record, warned.warnings.len(), warned.rejects.len()), (bad, 1, 0));
}

#[test]
fn uniqueness_is_handed_back_as_a_question() {
    let unique = rule("unique", json!(null), OnError::RejectRecord);
    assert!(unique.needs_lookup());
    let asked = validate(std::slice::from_ref(&unique), &record(Value::text("a")));
    assert_eq!(
        asked.lookups,
        [NeedsLookup { field: "f".into(), value: Value::text("a"), rule: "unique".to_owned(), on_error: OnError::RejectRecord }]
    );
    assert!(validate(&[unique], &record(Value::Null)).lookups.is_empty());
}

#[test]
fn rules_look_only_at_what_is_shown_and_see_earlier_repairs() {
    let required = rule("required", json!(null), OnError::RejectRecord);
    assert_eq!(validate(std::slice::from_ref(&required), &Record::new()).rejects, []);
    let expression = rule("expression", json!("missing == 1"), OnError::RejectRecord);
    assert_eq!(validate(&[expression], &record(Value::Int(1))).rejects, []);
    let trimmed = rule("length", json!({"max": 3}), OnError::StandardizeFormat);
    let exact = rule("regex", json!("^abc$"), OnError::RejectRecord);
    assert_eq!(validate(&[trimmed, exact], &record(Value::text(" abc "))).rejects, []);
    let nulled = rule("one_of", json!({"values": ["a"]}), OnError::SetNull);
    assert_eq!(validate(&[nulled, required], &record(Value::text("b"))).rejects.len(), 1);
}

#[test]
fn rules_that_cannot_work_are_refused() {
    for (name, arguments, on_error, hint) in [
        ("requird", json!(null), OnError::Warn, "required"),
        ("regex", json!("("), OnError::Warn, "regular expression"),
        ("regex", json!(null), OnError::Warn, "pattern"),
        ("length", json!({}), OnError::Warn, "min"),
        ("length", json!({"min": 3, "max": 2}), OnError::Warn, "below"),
        ("length", json!({"min": -3}), OnError::Warn, "below zero"),
        ("range", json!({"min": "b", "max": 1}), OnError::Warn, "below"),
        ("one_of", json!({"values": []}), OnError::Warn, "values"),
        ("phone", json!("Narnia"), OnError::Warn, "Narnia"),
        ("required", json!(null), OnError::SetNull, "set_null"),
        ("regex", json!("a"), OnError::UseDefault, "default"),
        ("regex", json!({"pattern": "a", "default": "b"}), OnError::UseDefault, "breaks the rule"),
        ("regex", json!({"pattern": "a", "default": "a"}), OnError::Warn, "use_default"),
        ("unique", json!(null), OnError::StandardizeFormat, "reject_record"),
        ("expression", json!("1 +"), OnError::Warn, "cannot be read"),
    ] {
        let spec = RuleSpec { field: "f".to_owned(), rule: name.to_owned(), on_error, arguments };
        let error = Rule::compile(&spec, None).unwrap_err();
        assert!(matches!(error.code, Code::RuleInvalid | Code::ExpressionInvalid), "{error}");
        assert!(error.message.contains(hint), "{error}");
    }
    let error = Reject { field: "f".into(), rule: "regex".to_owned(), message: "no".to_owned() }.to_error();
    assert_eq!(error.code, Code::ValidationFailed);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn no_rule_panics_and_what_is_repaired_holds(value in prop_oneof![values(), close_values()]) {
        for (name, arguments) in [
            ("required", json!(null)), ("email_format", json!(null)), ("regex", json!("a")), ("phone", json!(null)),
            ("length", json!({"min": 1, "max": 3})), ("range", json!({"min": 0, "max": 2})), ("range", json!({"max": "2024-01-01"})),
            ("one_of", json!({"values": ["a", 1]})), ("expression", json!("value == 1")),
        ] {
            for on_error in [OnError::RejectRecord, OnError::StandardizeFormat, OnError::Warn, OnError::SetNull] {
                if name == "required" && on_error == OnError::SetNull {
                    continue;
                }
                let rule = rule(name, arguments.clone(), on_error);
                let validation = validate(std::slice::from_ref(&rule), &record(value.clone()));
                if on_error == OnError::Warn {
                    prop_assert_eq!(&validation.record, &record(value.clone()));
                    prop_assert!(validation.rejects.is_empty());
                } else if validation.rejects.is_empty() && name != "expression" {
                    let again = validate(&[rule], &validation.record);
                    prop_assert!(again.rejects.is_empty() && again.repairs.is_empty(), "{} {:?}: {:?}", name, value, again);
                }
            }
        }
    }
}
