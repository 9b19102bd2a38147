//! Proofs of the catalogue: its examples, its promises (inverse, idempotence, nulls), and that nothing panics.

use super::*;
use crate::value::tests::generators::{close_values, texts, values};
use crate::value::{Date, TimestampTz};
use proptest::prelude::*;
use serde_json::json;

fn pipeline(specs: &[(&str, serde_json::Value)], context: &Context) -> Pipeline {
    let specs: Vec<TransformSpec> = specs.iter().map(|(name, arguments)| TransformSpec::with(*name, arguments.clone())).collect();
    Pipeline::compile(&specs, context).unwrap()
}

fn one(name: &str, arguments: serde_json::Value) -> Pipeline {
    pipeline(&[(name, arguments)], &Context::default())
}

fn value(json: &str) -> Value {
    Value::from_json(&serde_json::from_str(json).unwrap()).unwrap()
}

fn account() -> Record {
    [
        ("Amount", Value::decimal("19.99").unwrap()),
        ("Big", Value::decimal("12345678901234567890.01").unwrap()),
        ("City", Value::text("Köln")),
        ("Count", Value::Int(3)),
        ("Details", Value::json(r#"{"tags": ["a", "b"], "price": 1.10, "n": 12345678901234567890123}"#).unwrap()),
        ("Empty", Value::Null),
        ("First", Value::text("Ada")),
        ("Last", Value::text("King")),
        ("Since", Value::Date(Date::new(2024, 2, 29).unwrap())),
    ]
    .into_iter()
    .map(|(name, value)| (name.into(), value))
    .collect()
}

fn evaluate(expression: &str) -> Result<Value> {
    Expression::compile(expression)?.evaluate(&Value::decimal("10.00").unwrap(), &account())
}

/// Every transformation with arguments that reach all of its branches.
fn samples() -> Vec<(&'static str, serde_json::Value)> {
    vec![
        ("none", json!(null)),
        ("format_phone", json!("US")),
        ("format_phone", json!({"extension": "drop"})),
        ("trim", json!(null)),
        ("lowercase", json!(null)),
        ("uppercase", json!(null)),
        ("title_case", json!(null)),
        ("split", json!(" ")),
        ("split", json!({"separator": "a", "index": -1})),
        ("join", json!(",")),
        ("join", json!({"separator": " ", "fields": ["First", "Empty", "Details"]})),
        ("map", json!({"table": {"a": "b", "1": 2.5}})),
        ("map", json!({"table": [[null, "none"], [1, "one"]], "otherwise": null})),
        ("map", json!({"table": {"a": "b"}, "keep_unknown": true})),
        ("date_format", json!({"to": "%d.%m.%Y %H:%M"})),
        ("date_format", json!({"from": "%Y-%m-%d"})),
        ("date_format", json!({"from": "%Y-%m-%d", "to": "%A, %d %B %Y"})),
        ("expression", json!("value")),
        ("expression", json!("value | string | upper | trim")),
        ("expression", json!("[value, Count, Details]")),
        ("expression", json!("value | multiply(3) | round(2)")),
        ("expression", json!("{'a': value}")),
        ("expression", json!("value | trim | split('a') | join(';')")),
    ]
    .into_iter()
    .chain(
        [
            "boolean",
            "smallint",
            "unsigned bigint",
            "decimal(5,2)",
            "decimal",
            "real",
            "double",
            "text(3)",
            "bytes(2)",
            "date",
            "timetz(0)",
        ]
        .into_iter()
        .chain(["time", "timestamp(3)", "timestamptz(0)", "interval", "uuid", "json", "integer[]", "text"])
        .map(|ty| ("cast", json!(ty))),
    )
    .collect()
}

/// Strings of the tokens of the expression language, in any order.
fn expressions() -> impl Strategy<Value = String> {
    let tokens = "value First Count Amount Details.tags Since 1 2.5 1e3 'a' \"b\\\" none true not and or in is if else \
                  == != < <= > >= ( ) [ ] { } , : . | = ~ + - * / // % ** upper trim add(1) round(1) split(' ') none range(9) == ( ) ä";
    let tokens: Vec<&str> = tokens.split_whitespace().collect();
    prop::collection::vec(prop::sample::select(tokens), 1..14).prop_map(|tokens| tokens.join(" "))
}

#[test]
fn every_example_of_the_catalogue_is_true() {
    for entry in CATALOGUE {
        let arguments = serde_json::from_str(entry.example.arguments).unwrap();
        let result = one(entry.name, arguments).apply(&value(entry.example.input), &Record::new()).unwrap();
        assert_eq!(result, value(entry.example.output), "{}", entry.name);
    }
}

#[test]
fn every_transformation_and_rule_is_in_the_documentation() {
    let page = include_str!("../../../../docs/transformations.md");
    for entry in CATALOGUE {
        assert!(page.contains(&format!("### `{}`", entry.name)), "{}", entry.name);
        for argument in entry.arguments {
            assert!(page.contains(&format!("`{}`", argument.name)), "{} of {}", argument.name, entry.name);
        }
    }
    for rule in crate::validate::RULES {
        assert!(page.contains(&format!("| `{}` |", rule.name)), "{}", rule.name);
    }
}

#[test]
fn wrong_names_and_arguments_are_refused_with_what_is_right() {
    for (name, arguments, code, hint) in [
        ("trimm", json!(null), Code::TransformUnknown, "trim"),
        ("trim", json!({"side": "left"}), Code::TransformArgument, "takes no arguments"),
        ("trim", json!("left"), Code::TransformArgument, "takes no arguments"),
        ("split", json!(null), Code::TransformArgument, "separator"),
        ("split", json!(""), Code::TransformArgument, "not empty"),
        ("split", json!({"sep": ","}), Code::TransformArgument, "separator, index"),
        ("format_phone", json!("Narnia"), Code::TransformArgument, "Narnia"),
        ("format_phone", json!({"extension": "keep"}), Code::TransformArgument, "drop"),
        ("map", json!({"table": 5}), Code::TransformArgument, "pairs"),
        ("map", json!({"table": {}, "otherwise": 1, "keep_unknown": true}), Code::TransformArgument, "not both"),
        ("cast", json!("varchr"), Code::TransformArgument, "text(n)"),
        ("cast", json!("decimal(0)"), Code::TransformArgument, "decimal(p,s)"),
        ("cast", json!(null), Code::TransformArgument, "type"),
        ("date_format", json!({}), Code::TransformArgument, "to"),
        ("date_format", json!({"to": "%!"}), Code::TransformArgument, "pattern"),
        ("expression", json!("1 +"), Code::ExpressionInvalid, "cannot be read"),
        ("expression", json!("value | no_such_filter"), Code::TransformFailed, ""),
    ] {
        let compiled = Pipeline::compile(&[TransformSpec::with(name, arguments.clone())], &Context::default());
        let error = match compiled {
            Err(error) => error,
            Ok(pipeline) => pipeline.apply(&Value::Int(1), &Record::new()).unwrap_err(),
        };
        assert_eq!(error.code, code, "{name} {arguments}: {error}");
        assert!(error.message.contains(hint), "{name} {arguments}: {error}");
    }
    let many = vec![TransformSpec::new("trim"); STEPS_MAX + 1];
    assert_eq!(Pipeline::compile(&many, &Context::default()).unwrap_err().code, Code::TransformArgument);
}

#[test]
fn phone_numbers_become_e164_or_go_to_review() {
    let us = one("format_phone", json!("us"));
    for (input, output) in [
        ("(650) 253-0000", "+16502530000"),
        ("+55 11 98765-4321", "+5511987654321"),
        ("+49 (0)30 901820", "+4930901820"),
        ("", ""),
    ] {
        assert_eq!(us.apply(&Value::text(input), &Record::new()).unwrap(), Value::text(output));
    }
    for wrong in ["12", "call me", "+1 650 253 0000 ext. 5"] {
        let error = us.apply(&Value::text(wrong), &Record::new()).unwrap_err();
        assert_eq!(error.code, Code::TransformFailed);
        assert!(!error.message.contains(wrong), "an error never holds a record's value");
    }
    let dropping = one("format_phone", json!({"region": "US", "extension": "drop"}));
    assert_eq!(dropping.apply(&Value::text("650 253 0000 x5"), &Record::new()).unwrap(), Value::text("+16502530000"));
    let by_context = pipeline(&[("format_phone", json!(null))], &Context { region: Some("GB".to_owned()), ..Context::default() });
    assert_eq!(by_context.apply(&Value::text("020 7031 3000"), &Record::new()).unwrap(), Value::text("+442070313000"));
    assert!(
        one("format_phone", json!(null)).apply(&Value::text("020 7031 3000"), &Record::new()).is_err(),
        "no region is assumed"
    );
}

#[test]
fn tables_map_and_refuse_what_they_do_not_name() {
    let table = one("map", json!({"table": {"A": "active", "1": "one"}}));
    assert_eq!(table.apply(&Value::Enum("A".to_owned()), &Record::new()).unwrap(), Value::text("active"));
    assert_eq!(table.apply(&Value::Int(1), &Record::new()).unwrap(), Value::text("one"));
    assert_eq!(table.apply(&Value::text("B"), &Record::new()).unwrap_err().code, Code::TransformFailed);
    assert_eq!(table.apply(&Value::Null, &Record::new()).unwrap(), Value::Null);
    let with_null = one("map", json!({"table": [[null, "unknown"], ["A", null]]}));
    assert_eq!(with_null.apply(&Value::Null, &Record::new()).unwrap(), Value::text("unknown"));
    assert!(matches!(with_null.inverse(), Inverse::None(_)));
    let Inverse::Exact(back) = table.inverse() else { panic!("a table without doubles has a way back") };
    assert_eq!(back.apply(&Value::text("active"), &Record::new()).unwrap(), Value::text("A"));
    assert!(matches!(one("map", json!({"table": {"A": "x", "B": "x"}})).inverse(), Inverse::None(_)));
    assert!(matches!(one("map", json!({"table": {"A": "x"}, "otherwise": "y"})).inverse(), Inverse::None(_)));
    assert!(one("map", json!({"table": {"A": "x", "B": "x"}})).is_lossy());
}

#[test]
fn dates_are_written_and_read_by_patterns() {
    let date = Value::Date(Date::new(2024, 2, 29).unwrap());
    let point = Value::TimestampTz(TimestampTz::parse("2024-02-29T12:30:00.5Z").unwrap());
    for (arguments, input, output) in [
        (json!("%d/%m/%y"), date.clone(), Value::text("29/02/24")),
        (json!("%A, %-d %B"), date.clone(), Value::text("Thursday, 29 February")),
        (json!("%Y-%m-%dT%H:%M:%S%:z"), point.clone(), Value::text("2024-02-29T12:30:00+00:00")),
        (json!({"from": "%d/%m/%Y"}), Value::text("29/02/2024"), date.clone()),
        (json!({"from": "%Y-%m-%d %H:%M:%S%.f %z"}), Value::text("2024-02-29 14:30:00.5 +0200"), point),
        (json!({"from": "%Y-%m-%d %H:%M"}), Value::text("2024-02-29 14:30"), value(r#"{"timestamp": "2024-02-29T14:30:00"}"#)),
        (json!("%Y"), Value::text("2024-02-29"), Value::text("2024")),
    ] {
        assert_eq!(one("date_format", arguments.clone()).apply(&input, &Record::new()).unwrap(), output, "{arguments}");
    }
    for (arguments, input) in [
        (json!("%Y"), Value::Date(Date::PositiveInfinity)),
        (json!("%H"), date),
        (json!("%Y"), Value::Int(5)),
        (json!({"from": "%d/%m/%Y"}), Value::text("31/02/2024")),
    ] {
        assert_eq!(
            one("date_format", arguments.clone()).apply(&input, &Record::new()).unwrap_err().code,
            Code::TransformFailed,
            "{arguments}"
        );
    }
}

#[test]
fn a_date_pattern_has_a_way_back_only_if_it_leaves_nothing_out() {
    let from = |source| Context { source: Some(source), ..Context::default() };
    let exact =
        |arguments, context: &Context| matches!(pipeline(&[("date_format", arguments)], context).inverse(), Inverse::Exact(_));
    assert!(exact(json!("%d.%m.%Y"), &from(Type::Date)));
    assert!(!exact(json!("%m.%Y"), &from(Type::Date)));
    assert!(!exact(json!("%d.%m.%Y"), &from(Type::Timestamp { fraction_digits: 0 })));
    assert!(exact(json!("%d.%m.%Y %H:%M:%S"), &from(Type::Timestamp { fraction_digits: 0 })));
    assert!(!exact(json!("%d.%m.%Y %H:%M:%S"), &from(Type::Timestamp { fraction_digits: 3 })));
    assert!(!exact(json!("%d.%m.%Y"), &Context::default()), "without the source's type nothing is promised");
    assert!(exact(json!({"from": "%d.%m.%Y", "to": "%Y%m%d"}), &Context::default()));
    assert!(!exact(json!({"from": "%d.%m.%Y", "to": "%Y"}), &Context::default()));
}

#[test]
fn expressions_compute_exactly_and_see_the_record() {
    for (expression, expected) in [
        ("First ~ ' ' ~ Last", r#""Ada King""#),
        ("value", r#"{"decimal": "10.00"}"#),
        ("Big | add('0.02')", r#"{"decimal": "12345678901234567890.03"}"#),
        ("Amount | multiply(Count)", r#"{"decimal": "59.97"}"#),
        ("'0.1' | add('0.2')", r#"{"decimal": "0.3"}"#),
        ("1 | divide(3, 4)", r#"{"decimal": "0.3333"}"#),
        ("2 | divide(3, 2)", r#"{"decimal": "0.67"}"#),
        ("-1 | divide(8, 2)", r#"{"decimal": "-0.13"}"#),
        ("'1.005' | round(2)", r#"{"decimal": "1.01"}"#),
        ("'big' if Amount | compare(15) > 0 else 'small'", r#""big""#),
        ("Amount < Big", "true"),
        ("Amount > 100", "false"),
        ("19.99 == Amount", "true"),
        ("Amount >= 19.990000000000000000001", "false"),
        ("Amount == '19.99' | add(0)", "true"),
        ("1.5e1 == 15 and 1.5", r#"{"decimal": "1.5"}"#),
        ("Details.tags.0 ~ '1.5'", r#""a1.5""#),
        ("100 >= Amount and Count<4", "true"),
        ("value == 10", "true"),
        ("not value == 10 or Count != 3", "false"),
        ("value in [1, 10]", "true"),
        ("Count not in [3.0]", "false"),
        ("'d' in First", "true"),
        ("'a > b' ~ \"'\" if (Count > 2) == true else 'x'", r#""a > b'""#),
        ("[Count > 2, {'k': Count > 3}['k']]", "[true, false]"),
        ("Empty == none", "true"),
        ("Since < Since", "false"),
        ("Empty is none", "true"),
        ("record['City'] | upper", r#""KÖLN""#),
        ("record.City | format_phone if false else 'x'", r#""x""#),
        ("'650 253 0000' | format_phone('US')", r#""+16502530000""#),
        ("'650 253 0000' | format_phone(region='US')", r#""+16502530000""#),
        ("'x' | map({'x': 'y'})", r#""y""#),
        ("'x' | map(table={'x': 'y'})", r#""y""#),
        ("Details.tags[1]", r#""b""#),
        ("Details.price", r#"{"decimal": "1.10"}"#),
        ("Details.n", r#"{"decimal": "12345678901234567890123"}"#),
        ("[1, 'a', none]", r#"[1, "a", null]"#),
        ("{'n': Amount, 't': '5'}", r#"{"json": "{\"n\":19.99,\"t\":\"5\"}"}"#),
        ("Since", r#"{"date": "2024-02-29"}"#),
        ("Since | date_format('%Y')", r#""2024""#),
    ] {
        let got = evaluate(expression).unwrap_or_else(|error| panic!("{expression}: {error}"));
        assert!(got.equivalent(&value(expected)), "{expression} gave {got:?}");
    }
}

#[test]
fn expressions_are_strict_bounded_and_keep_values_out_of_errors() {
    for expression in [
        "Nmae",
        "record.Nmae",
        "First + 1",
        "First > 1",
        "Since > '2024-01-01'",
        "Count > 1 is none",
        "> 1",
        "(Count > 1",
        "Amount | divide(0, 2)",
        "First | add(1)",
        "range(100000) | list | length",
        "('x' * 100000000)",
        "First | format_phone",
        "'5' | no_such",
    ] {
        let error = evaluate(expression).unwrap_err();
        assert!(matches!(error.code, Code::TransformFailed | Code::ExpressionInvalid), "{expression}: {error}");
        assert!(!error.to_string().contains("Ada"), "{expression}: {error}");
    }
    assert_eq!(one("expression", json!("First ~ value ~ record.Last")).fields_read(), ["First"]);
    let both_ways = one("expression", json!({"expression": "value | multiply(100)", "inverse": "value | divide(100, 2)"}));
    let Inverse::Exact(back) = both_ways.inverse() else { panic!("an inverse is given") };
    let cents = both_ways.apply(&Value::decimal("19.99").unwrap(), &Record::new()).unwrap();
    assert!(back.apply(&cents, &Record::new()).unwrap().equivalent(&Value::decimal("19.99").unwrap()));
}

#[test]
fn casts_change_only_what_they_are_told_to_and_refuse_the_impossible() {
    let cast = |ty: &str, input: Value| one("cast", json!(ty)).apply(&input, &Record::new());
    assert_eq!(cast("text(3)", Value::text("abcd")).unwrap(), Value::text("abc"));
    assert_eq!(cast("integer", Value::text(" 12.7 ")).unwrap(), Value::Int(13));
    assert_eq!(cast("date", value(r#"{"timestamp": "2024-02-29T23:00:00"}"#)).unwrap(), value(r#"{"date": "2024-02-29"}"#));
    assert_eq!(cast("decimal", Value::float(0.1)).unwrap(), Value::decimal("0.1").unwrap());
    assert_eq!(cast("integer", Value::text("twelve")).unwrap_err().code, Code::TransformFailed);
    let context = Context {
        source: Some(Type::Int { bits: 32, unsigned: false }),
        target: Some(parse_type("text(20)").unwrap()),
        region: None,
    };
    let to_target = pipeline(&[("cast", json!(null))], &context);
    assert_eq!(to_target.apply(&Value::Int(7), &Record::new()).unwrap(), Value::text("7"));
    assert!(to_target.is_lossy() && to_target.allows_lossy_fit());
    let Inverse::Exact(back) = to_target.inverse() else { panic!("both types are known") };
    assert_eq!(back.apply(&Value::text("8"), &Record::new()).unwrap(), Value::Int(8));
    assert!(matches!(one("cast", json!("date")).inverse(), Inverse::None(_)));
}

#[test]
fn pipelines_are_undone_step_by_step_from_the_end() {
    let forth =
        pipeline(&[("trim", json!(null)), ("map", json!({"table": {"a;b": "x-y"}})), ("split", json!("-"))], &Context::default());
    assert_eq!(forth.apply(&Value::text(" a;b "), &Record::new()).unwrap(), value(r#"["x", "y"]"#));
    let Inverse::Exact(back) = forth.inverse() else { panic!("each step has a way back") };
    assert_eq!(back.apply(&value(r#"["x", "y"]"#), &Record::new()).unwrap(), Value::text("a;b"));
    let normal = pipeline(&[("trim", json!(null)), ("lowercase", json!(null))], &Context::default());
    assert!(matches!(normal.inverse(), Inverse::Normaliser));
    let blocked = pipeline(&[("trim", json!(null)), ("expression", json!("value"))], &Context::default());
    assert!(matches!(blocked.inverse(), Inverse::None(reason) if reason.contains("inverse")));
    assert!(pipeline(&[("none", json!(null))], &Context::default()).is_identity());
}

#[test]
fn joined_fields_leave_nulls_out() {
    let joined = one("join", json!({"separator": ", ", "fields": ["First", "Empty", "Nowhere", "Last"]}));
    assert_eq!(joined.apply(&Value::Null, &account()).unwrap(), Value::text("Ada, King"));
    assert_eq!(joined.apply(&Value::Null, &Record::new()).unwrap(), Value::Null);
    assert_eq!(joined.fields_read(), ["Empty", "First", "Last", "Nowhere"]);
    assert!(matches!(joined.inverse(), Inverse::None(_)));
}

#[test]
fn spellings_of_one_value_meet_when_matched() {
    let phone = MatchKind::Phone { region: Some(parse_region("US").unwrap()) };
    let same = |kind: &MatchKind, a: &str, b: &str| {
        normalise_for_match(&Value::text(a), kind).is_some_and(|a| Some(a) == normalise_for_match(&Value::text(b), kind))
    };
    assert!(same(&MatchKind::Email, " Ada@Example.COM", "ada@example.com"));
    assert!(same(&MatchKind::Case, "ACME ", "acme"));
    assert!(!same(&MatchKind::Exact, "ACME", "acme"));
    assert!(same(&phone, "(650) 253-0000", "+1 650-253-0000"));
    assert!(same(&phone, "reception", " reception"));
    assert!(!same(&MatchKind::Case, " ", " "), "blank text matches nothing");
    assert_eq!(normalise_for_match(&Value::Null, &MatchKind::Exact), None);
    assert_eq!(normalise_for_match(&Value::Int(6_502_530_000), &phone), Some(Value::text("+16502530000")));
}

#[test]
fn nulls_follow_their_policy() {
    let text = parse_type("text").unwrap();
    assert_eq!(apply_null_policy(Value::Null, &NullPolicy::Preserve, &text), Some(Value::Null));
    assert_eq!(apply_null_policy(Value::Null, &NullPolicy::Skip, &text), None);
    assert_eq!(apply_null_policy(Value::Null, &NullPolicy::Default(Value::Int(0)), &text), Some(Value::Int(0)));
    assert_eq!(apply_null_policy(Value::Null, &NullPolicy::Empty, &text), Some(Value::text("")));
    assert_eq!(apply_null_policy(Value::Null, &NullPolicy::Empty, &Type::Date), Some(Value::Null));
    assert_eq!(apply_null_policy(Value::Int(1), &NullPolicy::Skip, &text), Some(Value::Int(1)));
}

#[test]
fn timestamps_in_text_fields_follow_the_format() {
    let point = Value::TimestampTz(TimestampTz::parse("2024-02-29T12:30:00.5Z").unwrap());
    for (setting, text) in [
        ("iso8601", "2024-02-29T12:30:00.5Z"),
        ("epoch_seconds", "1709209800.5"),
        ("epoch_millis", "1709209800500"),
        ("%Y-%m-%d %H:%M:%S%.f %z", "2024-02-29 12:30:00.5 +0000"),
    ] {
        let format = TimestampFormat::parse(setting).unwrap();
        assert_eq!(format.write(&point).unwrap(), Value::text(text));
        assert_eq!(format.read(&Value::text(text)).unwrap(), point);
    }
    assert_eq!(TimestampFormat::EpochSeconds.read(&Value::Int(0)).unwrap(), value(r#"{"timestamptz": "1970-01-01T00:00:00Z"}"#));
    assert!(TimestampFormat::EpochSeconds.read(&Value::text("soon")).is_err());
    assert!(TimestampFormat::EpochSeconds.read(&Value::text("1e-12")).is_err(), "nothing is rounded");
    assert!(TimestampFormat::parse("epoch").is_err());
    assert_eq!(TimestampFormat::Iso8601.write(&Value::Int(1)).unwrap(), Value::Int(1));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn no_transformation_panics_and_null_stays_null(input in prop_oneof![values(), close_values()], place in 0..samples().len()) {
        let (name, arguments) = samples().swap_remove(place);
        let pipeline = one(name, arguments.clone());
        let first = pipeline.apply(&input, &account());
        prop_assert_eq!(&first.clone().ok(), &pipeline.apply(&input, &account()).ok(), "the same input gives the same answer");
        if let Err(error) = &first {
            prop_assert!(matches!(error.code, Code::TransformFailed | Code::ValueMalformed), "{}", error);
        }
        if !matches!(name, "expression" | "map") && !arguments.to_string().contains("fields") {
            prop_assert_eq!(pipeline.apply(&Value::Null, &account()).unwrap(), Value::Null);
        }
    }

    #[test]
    fn what_is_declared_idempotent_is(input in prop_oneof![texts().prop_map(Value::Text), values()]) {
        for (name, arguments) in samples() {
            if CATALOGUE.iter().any(|entry| entry.name == name && entry.idempotent) {
                let pipeline = one(name, arguments.clone());
                if let Ok(once) = pipeline.apply(&input, &Record::new()) {
                    prop_assert_eq!(pipeline.apply(&once, &Record::new()).unwrap(), once, "{} {}", name, arguments);
                }
            }
        }
    }

    #[test]
    fn what_has_an_exact_way_back_comes_back(input in close_values(), text in "[a-c,; ]{0,8}", days in -500_000_i64..2_000_000) {
        let date = Date::from_days_since_epoch(days).filter(|date| matches!(date, Date::Day { year: 0..=9999, .. })).map_or(Value::Null, Value::Date);
        let context = Context { source: Some(Type::Date), ..Context::default() };
        for (pipeline, input) in [
            (one("split", json!(",")), Value::text(text.as_str())),
            (one("split", json!("; ")), Value::text(text.as_str())),
            (one("join", json!(",")), Value::Array(text.split(';').map(Value::text).collect())),
            (one("join", json!(", ")), Value::Array(text.split(',').map(Value::text).collect())),
            (one("map", json!({"table": {"a": "x", "1": "y", "": "z"}})), input),
            (pipeline(&[("date_format", json!("%d.%m.%Y"))], &context), date),
        ] {
            let Inverse::Exact(back) = pipeline.inverse() else { panic!("{pipeline:?} has a way back") };
            if let Ok(there) = pipeline.apply(&input, &Record::new()) {
                let again = back.apply(&there, &Record::new()).unwrap();
                prop_assert_eq!(again.to_plain_text().unwrap_or_default(), input.to_plain_text().unwrap_or_default());
                if let Value::Array(_) = input {
                    prop_assert_eq!(again, input);
                }
            }
        }
    }

    #[test]
    fn timestamps_survive_every_format(micros in -60_000_000_000_000_000_i64..250_000_000_000_000_000) {
        let point = Value::TimestampTz(TimestampTz::from_micros(micros));
        for setting in ["iso8601", "epoch_seconds", "epoch_millis"] {
            let format = TimestampFormat::parse(setting).unwrap();
            prop_assert_eq!(format.read(&format.write(&point).unwrap()).unwrap(), point.clone());
        }
    }

    #[test]
    fn normal_forms_for_matching_are_reached_in_one_step(input in prop_oneof![texts().prop_map(Value::Text), values()]) {
        for kind in [MatchKind::Exact, MatchKind::Case, MatchKind::Email, MatchKind::Phone { region: None }] {
            if let Some(normal) = normalise_for_match(&input, &kind) {
                prop_assert_eq!(normalise_for_match(&normal, &kind), Some(normal.clone()), "{:?}", kind);
            }
        }
    }

    #[test]
    fn no_text_makes_compiling_panic(source in prop_oneof![any::<String>(), expressions()], pattern in "[%a-zA-Z0-9:. -]{0,12}", ty in "[a-z]{0,9}[(]?[0-9,-]{0,6}[)]?(\\[\\])?") {
        let _ = Expression::compile(&source).map(|expression| expression.evaluate(&Value::Int(1), &account()));
        let _ = TimestampFormat::parse(&pattern);
        let _ = parse_type(&ty);
        if let Ok(format) = Pipeline::compile(&[TransformSpec::with("date_format", json!(pattern))], &Context::default()) {
            let _ = format.apply(&Value::Date(Date::new(2024, 2, 29).unwrap()), &Record::new());
        }
    }
}
