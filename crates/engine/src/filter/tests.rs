//! What is read is written alike; truths are SQL's; what does not suit its field is said with its place.

use super::*;
use crate::schema::Field;
use crate::value::{Date, Timestamp, TimestampTz};
use proptest::prelude::*;

fn field(name: &str, ty: Type, native: &str) -> Field {
    Field {
        name: name.into(),
        ty,
        native_type: native.to_owned(),
        nullable: true,
        creatable: true,
        updatable: true,
        has_default: false,
        origin: None,
    }
}

fn text(padded: bool) -> Type {
    Type::Text { max_chars: None, padded, nul: false, empty: true }
}

fn schema() -> Schema {
    let fields = vec![
        field("id", Type::Int { bits: 32, unsigned: false }, "integer"),
        field("country", text(false), "text"),
        field("code", text(true), "character(4)"),
        field("amount", Type::Decimal { precision: Some(12), scale: Some(2), special: true }, "numeric(12,2)"),
        field("ratio", Type::Float { bits: 32 }, "real"),
        field("active", Type::Bool, "boolean"),
        field("born", Type::Date, "date"),
        field("made", Type::Timestamp { fraction_digits: 6 }, "timestamp without time zone"),
        field("seen", Type::TimestampTz { fraction_digits: 6 }, "timestamp with time zone"),
        field("at", Type::Time { fraction_digits: 6, zone: false }, "time without time zone"),
        field("token", Type::Uuid, "uuid"),
        field("mood", Type::Enum { labels: vec!["sad".into(), "ok".into(), "happy".into()] }, "mood"),
        field("extra", Type::Json, "jsonb"),
        field("Last Name", text(false), "text"),
        field("other", Type::Int { bits: 64, unsigned: false }, "bigint"),
    ];
    Schema { object: "people".into(), fields, key: vec!["id".into()], unique: Vec::new(), indexes: Vec::new() }
}

fn condition(text: &str) -> Condition {
    let expression = parse(text).unwrap_or_else(|mistake| panic!("{text}: {mistake}"));
    Condition::new(expression, &schema()).unwrap_or_else(|unfit| panic!("{text}: {unfit:?}"))
}

fn person() -> Record {
    let values = [
        ("id", Value::Int(7)),
        ("country", Value::text("DE")),
        ("code", Value::text("ab  ")),
        ("amount", Value::decimal("12.50").unwrap()),
        ("ratio", Value::float(f64::from(0.1_f32))),
        ("active", Value::Bool(true)),
        ("born", Value::Date(Date::parse("1990-05-17").unwrap())),
        ("made", Value::Timestamp(Timestamp::parse("2026-01-31 12:00:00").unwrap())),
        ("seen", Value::TimestampTz(TimestampTz::parse("2026-01-31 12:00:00+02").unwrap())),
        ("at", Value::parse_as("12:30:00", &Type::Time { fraction_digits: 6, zone: false }).unwrap()),
        ("token", Value::Uuid("6f2c1a34-0000-4000-8000-000000000000".parse().unwrap())),
        ("mood", Value::Enum("ok".into())),
        ("extra", Value::Null),
        ("Last Name", Value::text("O'Neil 100%")),
        ("other", Value::Null),
    ];
    values.into_iter().map(|(name, value)| (FieldName::from(name), value)).collect()
}

#[track_caller]
fn truth(text: &str, expected: Option<bool>) {
    assert_eq!(evaluate::truth(condition(text).test(), &person()).unwrap(), expected, "{text}");
    assert_eq!(condition(text).admits(&person()).unwrap(), expected == Some(true), "{text}");
}

#[test]
fn each_kind_of_value_is_compared_as_its_field_means_it() {
    for text in [
        "id = 7",
        "7 = id",
        "id <> 8 and id != 9",
        "id < 7.5",
        "id >= 7",
        "id > -1",
        "amount = 12.5",
        "amount <= 1.25e1",
        "ratio = 0.1",
        "country = 'DE'",
        "country > 'AT'",
        "country >= 'D' and country < 'E'",
        "code = 'ab'",
        "active",
        "active = true",
        "active <> FALSE",
        "born = '1990-05-17'",
        "born between '1990-01-01' and '1990-12-31'",
        "made > '2026-01-31'",
        "made <= '2026-01-31 12:00:00'",
        "seen = '2026-01-31 10:00:00Z'",
        "at > '12:00:00'",
        "token = '6F2C1A34-0000-4000-8000-000000000000'",
        "mood = 'ok'",
        "mood in ('happy', 'ok')",
        "\"Last Name\" like 'O''N%'",
        "\"Last Name\" like '%100\\%'",
        "\"Last Name\" not like '%100\\%_'",
        "country like '_E'",
        "extra is null",
        "id is not null",
        "not (id = 8)",
        "Country IN ('AT', 'DE', 'CH')",
        "id not in (1, 2)",
        "id not between 8 and 9",
        "id = 7 or other = 1",
        "(id = 8 or country = 'DE') and active",
        "id < id or id = id",
    ] {
        truth(text, Some(true));
    }
    for text in [
        "id = 8",
        "id in (1, 2)",
        "country = 'de'",
        "country like 'D'",
        "id between 8 and 9",
        "not active",
        "country is null",
        "mood <> 'ok'",
        "id = 8 and other = 1",
    ] {
        truth(text, Some(false));
    }
}

#[test]
fn what_is_missing_makes_unknown_and_unknown_takes_no_part() {
    for text in [
        "other = 1",
        "other <> 1",
        "not other = 1",
        "id = null",
        "other = 1 or other = 2 and id = 7",
        "id in (1, null)",
        "id not in (1, null)",
        "other between 1 and 2",
        "id = 7 and other = 1",
        "id = 8 or other = 1",
        "other = other",
    ] {
        truth(text, None);
    }
    // What decides, decides beside what is unknown.
    truth("id in (7, null)", Some(true));
    truth("id not in (7, null)", Some(false));
    truth("id = 7 or other = 1", Some(true));
    truth("id = 8 and other = 1", Some(false));
}

#[test]
fn a_field_that_is_not_shown_is_an_error_and_no_null() {
    let mut record = person();
    record.remove("country");
    assert_eq!(condition("country is null").admits(&record).unwrap_err().code, crate::error::Code::SchemaDrift);
    assert!(condition("id = 7").admits(&record).unwrap());
}

#[track_caller]
fn refused(text: &str, expected: &str) {
    let said = match parse(text) {
        Err(mistake) => mistake.to_string(),
        Ok(expression) => {
            let unfit = Condition::new(expression, &schema()).expect_err(text);
            unfit
                .iter()
                .map(|one| format!("{} {}", one.mistake, one.remedy.clone().unwrap_or_default()).trim().to_owned())
                .collect::<Vec<_>>()
                .join(" | ")
        }
    };
    assert_eq!(said, expected, "{text}");
}

#[test]
fn what_is_wrong_is_said_with_its_place() {
    refused("", "1:1: the condition ends where a field or a value should be");
    refused("id = ", "1:6: the condition ends where a field or a value should be");
    refused("id = 1 id = 2", "1:8: `id` stands where AND, OR or the end should be");
    refused("id = 1\n  and (country = 'DE'", "2:22: the condition ends where `)` should be");
    refused("country = 'DE", "1:11: the text has no closing quote");
    refused("\"Last Name = 'x'", "1:1: the name has no closing quote");
    refused("id == 1", "1:5: `=` stands where a field or a value should be");
    refused("id = 1 ; drop table people", "1:8: `;` means nothing here");
    refused("id = 12ab", "1:6: this is no number");
    refused("id is 5", "1:7: `5` stands where NULL should be");
    refused("id not 5", "1:8: `5` stands where IN, BETWEEN or LIKE should be");
    refused("id in ()", "1:8: `)` stands where a value should be");
    refused("lower(country) = 'de'", "1:6: `(` stands where AND, OR or the end should be");
    refused(&format!("{}id = 1", "not ".repeat(70)), "1:257: more than 64 are nested");
    refused("id between 1 or 2", "1:14: `or` stands where AND and the upper bound should be");
    refused("1", "1:2: the condition ends where a comparison should be");
}

#[test]
fn what_does_not_suit_its_field_is_said_with_its_place_and_what_to_write() {
    refused("contry = 'DE'", "1:1: `people` has no field `contry` Write `country`.");
    refused("active and id = '7'", "1:17: '7' is nothing that `id` (integer) could hold Write a number without quotes.");
    refused("country = 49", "1:11: 49 is nothing that `country` (text) could hold Write it as a text: '49'.");
    refused("born > '31.1.2026'", "1:8: '31.1.2026' is nothing that `born` (date) could hold Write a day: '2026-01-31'.");
    refused(
        "seen > '2026-01-31 12:00:00'",
        "1:8: '2026-01-31 12:00:00' is nothing that `seen` (timestamp with time zone) could hold Write a day and a time with its \
         zone: '2026-01-31 12:30:00+00'.",
    );
    refused("mood = 'glad'", "1:8: 'glad' is nothing that `mood` (mood) could hold Write one of its labels: sad, ok, happy.");
    refused("mood > 'ok'", "1:1: `mood` (mood) has values without an order: only = and <> can be asked");
    refused(
        "extra = 'x'",
        "1:1: `extra` (jsonb) has values that cannot be compared here: only IS NULL and IS NOT NULL can be asked",
    );
    refused("id like '7%'", "1:1: `id` is no text but integer: LIKE is for texts");
    refused("country like 'a\\'", "1:14: the pattern ends with a lone backslash Write `\\\\` for a backslash.");
    refused("country", "1:1: `country` is not true or false but text: it must be compared Write `country = …`, for example.");
    refused("1 = 1", "1:1: a field should stand on one side at least");
    refused("id = country", "1:1: `id` (integer) and `country` (text) cannot be compared");
    refused(
        "contry = 'DE' or actve",
        "1:1: `people` has no field `contry` Write `country`. | 1:18: `people` has no field `actve` Write `active`.",
    );
}

#[test]
fn what_means_the_same_is_written_alike() {
    let written = "country = 'DE' AND (id < 5 OR \"Last Name\" IS NOT NULL)";
    for text in [written, "Country='DE'  and\n((id<5) or (\"last name\" is not null))"] {
        assert_eq!(condition(text).to_string(), written);
    }
    assert_ne!(condition("id = 1").to_string(), condition("id = 2").to_string());
    let both = condition("id = 1").and(condition("country = 'DE' or id = 2"));
    assert_eq!(both.to_string(), "id = 1 AND (country = 'DE' OR id = 2)");
    assert_eq!(both.fields(), [FieldName::from("id"), FieldName::from("country")]);
}

fn operand(fields_only: bool) -> impl Strategy<Value = syntax::Operand> {
    use syntax::{Operand, What};
    let place = Place { line: 1, column: 1 };
    let field = prop_oneof![
        prop::sample::select(vec!["id", "country", "Not", "or", "a b", "q\"q", "é", "1st", "$x", ""])
            .prop_filter_map("a name", |name| (!name.is_empty()).then(|| What::Field(name.to_owned()))),
        "[a-z_][a-z0-9_$]{0,5}".prop_map(What::Field),
    ];
    let value = prop_oneof![
        "-?[0-9]{1,5}(\\.[0-9]{0,3})?(e[+-]?[0-9]{1,2})?".prop_map(What::Number),
        "[a-c'\"\\\\%_ \né]{0,6}".prop_map(What::Text),
        any::<bool>().prop_map(What::Bool),
        Just(What::Null),
    ];
    let what = if fields_only { field.boxed() } else { prop_oneof![field, value].boxed() };
    what.prop_map(move |what| Operand { what, place })
}

fn expression() -> impl Strategy<Value = Expression> {
    let operator = prop::sample::select(vec![
        Operator::Equal,
        Operator::Unequal,
        Operator::Less,
        Operator::LessOrEqual,
        Operator::Greater,
        Operator::GreaterOrEqual,
    ]);
    let leaf = prop_oneof![
        (operand(false), operator, operand(false)).prop_map(|(left, operator, right)| Expression::Compare(left, operator, right)),
        (operand(false), any::<bool>(), prop::collection::vec(operand(false), 1..4))
            .prop_map(|(one, negated, list)| Expression::In(one, negated, list)),
        (operand(false), any::<bool>(), operand(false), operand(false))
            .prop_map(|(one, negated, low, high)| Expression::Between(one, negated, low, high)),
        (operand(false), any::<bool>(), "[a-b'%_\\\\]{0,4}").prop_map(|(one, negated, pattern)| Expression::Like(
            one,
            negated,
            pattern,
            Place { line: 1, column: 1 }
        )),
        (operand(false), any::<bool>()).prop_map(|(one, negated)| Expression::IsNull(one, negated)),
        operand(true).prop_map(Expression::Holds),
    ];
    leaf.prop_recursive(5, 40, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 2..4).prop_map(Expression::And),
            prop::collection::vec(inner.clone(), 2..4).prop_map(Expression::Or),
            inner.prop_map(|one| Expression::Not(Box::new(one))),
        ]
    })
}

/// The same question asked by a machine that tries everything.
fn looks_like(text: &[char], pattern: &[char]) -> bool {
    match (pattern, text) {
        ([], []) => true,
        (['%', rest @ ..], _) => (0..=text.len()).any(|skipped| looks_like(&text[skipped..], rest)),
        (['_', rest @ ..], [_, behind @ ..]) => looks_like(behind, rest),
        (['\\', wanted, rest @ ..], [sign, behind @ ..]) => wanted == sign && looks_like(behind, rest),
        ([wanted, rest @ ..], [sign, behind @ ..]) if *wanted != '\\' => wanted == sign && looks_like(behind, rest),
        _ => false,
    }
}

proptest! {
    #[test]
    fn what_is_written_is_read_again(expression in expression()) {
        let written = expression.to_string();
        prop_assert_eq!(parse(&written).map_err(|mistake| mistake.to_string()), Ok(expression), "{}", written);
    }

    #[test]
    fn no_text_makes_the_reader_fall(text in "[a-z0-9'\"()<>=!,. \n%_éNOTINLKE-]{0,40}") {
        if let Ok(expression) = parse(&text) {
            prop_assert_eq!(parse(&expression.to_string()), Ok(expression));
        }
    }

    #[test]
    fn a_text_looks_like_a_pattern_where_trying_everything_says_so(text in "[ab%]{0,7}", pattern in "([ab]|%|_|\\\\[ab%_]){0,7}") {
        let signs = |text: &str| text.chars().collect::<Vec<char>>();
        let record: Record = [(FieldName::from("country"), Value::text(text.as_str()))].into_iter().collect();
        let asked = condition(&format!("country like '{pattern}'"));
        prop_assert_eq!(asked.admits(&record).unwrap(), looks_like(&signs(&text), &signs(&pattern)));
    }
}
