//! What holds for all values: print and parse are inverse, equivalence is an equivalence relation, and canonical
//! bytes are equal exactly for equivalent values.

use super::generators::*;
use crate::record::Key;
use crate::schema::Type;
use crate::value::*;
use proptest::prelude::*;

proptest! {
    #![proptest_config(ProptestConfig::with_cases(600))]

    #[test]
    fn a_decimal_reads_back_what_it_prints(decimal in decimals()) {
        prop_assert_eq!(&Decimal::parse(decimal.as_str()).unwrap(), &decimal);
        for text in [decimal.to_plain(), decimal.to_shortest()] {
            prop_assert!(!text.contains('e') || !decimal.is_finite());
            prop_assert!(Decimal::parse(&text).unwrap().compare(&decimal).is_eq());
        }
    }

    #[test]
    fn decimals_are_ordered_as_an_independent_library_orders_them(a in decimals(), b in decimals()) {
        use std::str::FromStr;
        let other = |decimal: &Decimal| bigdecimal::BigDecimal::from_str(decimal.as_str()).ok();
        if let (Some(big_a), Some(big_b)) = (other(&a), other(&b)) {
            prop_assert_eq!(a.compare(&b), big_a.cmp(&big_b));
        }
        prop_assert_eq!(a.compare(&b), b.compare(&a).reverse());
    }

    #[test]
    fn rounding_agrees_with_an_independent_library(decimal in decimals(), scale in -5_i64..10) {
        use std::str::FromStr;
        if let Ok(big) = bigdecimal::BigDecimal::from_str(decimal.as_str()) {
            let expected = big.with_scale_round(scale, bigdecimal::RoundingMode::HalfUp);
            let rounded = decimal.rounded(scale);
            prop_assert_eq!(bigdecimal::BigDecimal::from_str(rounded.as_str()).unwrap(), expected, "{} to {}", decimal, scale);
        }
    }

    #[test]
    fn a_float_reads_back_from_its_shortest_text(float in floats()) {
        prop_assert!(Float::parse(&float.to_string()).unwrap().same_number(float));
        if !float.to_f64().is_nan() {
            prop_assert_eq!(Float::parse(&float.to_string()).unwrap(), float);
        }
    }

    #[test]
    fn a_float_equals_the_decimal_of_its_exact_value_only(float in floats()) {
        let exact = Decimal::of_number(&float.number());
        prop_assert!(Value::Float(float).equivalent(&Value::Decimal(exact.clone())));
        prop_assert!(Float::parse(exact.as_str()).unwrap().same_number(float));
    }

    #[test]
    fn dates_and_times_read_back_what_they_print(date in dates(), time in times()) {
        prop_assert_eq!(Date::parse(&date.to_string()).unwrap(), date);
        prop_assert_eq!(Date::parse_postgres(&date.to_postgres()).unwrap(), date);
        prop_assert_eq!(Time::parse(&time.to_string()).unwrap(), time);
        prop_assert_eq!(Time::parse(&time.to_postgres()).unwrap(), time);
    }

    #[test]
    fn timestamps_read_back_what_they_print(local in timestamps(), point in timestamp_tzs(), offset in -50_000_i32..50_000) {
        prop_assert_eq!(Timestamp::parse(&local.to_string()).unwrap(), local);
        prop_assert_eq!(Timestamp::parse_postgres(&local.to_postgres()).unwrap(), local);
        prop_assert_eq!(TimestampTz::parse(&point.to_string()).unwrap(), point);
        prop_assert_eq!(TimestampTz::parse_postgres(&point.to_postgres_at(offset)).unwrap(), point);
        prop_assert_eq!(TimestampTz::parse(&point.to_iso_at(offset)).unwrap(), point);
    }

    #[test]
    fn days_count_as_an_independent_calendar_counts(days in -3_000_000_i32..2_900_000) {
        let expected = jiff::civil::date(1970, 1, 1).checked_add(jiff::Span::new().days(days)).unwrap_or(jiff::civil::Date::MIN);
        if expected != jiff::civil::Date::MIN {
            let date = Date::from_days_since_epoch(i64::from(days)).unwrap();
            let (year, month, day) = (i32::from(expected.year()), expected.month().unsigned_abs(), expected.day().unsigned_abs());
            prop_assert_eq!(date, Date::new(year, month, day).unwrap());
            prop_assert_eq!(date.days_since_epoch(), Some(i64::from(days)));
        }
    }

    #[test]
    fn intervals_read_back_what_they_print(interval in intervals()) {
        prop_assert_eq!(Interval::parse(&interval.to_string()).unwrap(), interval);
        prop_assert_eq!(Interval::parse_postgres(&interval.to_postgres()).unwrap(), interval);
    }

    #[test]
    fn no_text_makes_a_parser_panic(text in prop_oneof![any::<String>(), "[-+0-9PT:. eENYMDHSZBCadnfityo]{0,24}", "[\\[\\]{}\",:0-9eE.\\\\u ]{0,24}"]) {
        let _ = (Decimal::parse(&text), Float::parse(&text), Date::parse_postgres(&text), Time::parse(&text));
        let _ = (Timestamp::parse(&text), Timestamp::parse_postgres(&text), TimestampTz::parse_postgres(&text));
        let _ = (Interval::parse(&text), Interval::parse_postgres(&text), Json::parse(&text), from_hex(&text));
        prop_assert_eq!(Json::parse(&text).is_ok(), serde_json::from_str::<serde::de::IgnoredAny>(&text).is_ok());
    }

    #[test]
    fn json_keeps_its_text_and_its_meaning_survives_reformatting(text in json_texts()) {
        let json = Json::parse(&text).unwrap();
        prop_assert_eq!(json.as_str(), text.as_str());
        let spaced = text.replace(": ", "  :\n\t");
        if let (false, Ok(spaced)) = (text.contains('\\'), Json::parse(&spaced)) {
            prop_assert!(json.same_meaning(&spaced) || text.contains('"'));
        }
    }

    #[test]
    fn canonical_bytes_are_equal_exactly_for_equivalent_values(a in close_values(), b in close_values()) {
        prop_assert!(a.equivalent(&a));
        prop_assert_eq!(a.equivalent(&b), b.equivalent(&a));
        prop_assert_eq!(a.equivalent(&b), a.canonical_bytes() == b.canonical_bytes(), "{:?} and {:?}", a, b);
    }

    #[test]
    fn keys_of_different_values_never_share_their_encoding(a in prop::collection::vec(close_values(), 0..4), b in prop::collection::vec(close_values(), 0..4)) {
        let same = a.len() == b.len() && a.iter().zip(&b).all(|(a, b)| a.equivalent(b));
        prop_assert_eq!(Key(a).encode() == Key(b).encode(), same);
    }

    #[test]
    fn the_equivalence_of_a_type_is_an_equivalence_relation(a in close_values(), b in close_values(), c in close_values(), ty in types()) {
        prop_assert!(a.equivalent_as(&a, &ty));
        prop_assert_eq!(a.equivalent_as(&b, &ty), b.equivalent_as(&a, &ty));
        if a.equivalent_as(&b, &ty) && b.equivalent_as(&c, &ty) {
            prop_assert!(a.equivalent_as(&c, &ty), "{:?}, {:?}, {:?} as {:?}", a, b, c, ty);
        }
    }

    #[test]
    fn the_normal_form_of_a_type_is_reached_in_one_step(value in values(), ty in types()) {
        let normal = value.normal_as(&ty).into_owned();
        prop_assert_eq!(normal.normal_as(&ty).into_owned(), normal.clone());
    }

    #[test]
    fn a_value_survives_the_store(value in values()) {
        let bytes = postcard::to_stdvec(&value).unwrap();
        prop_assert_eq!(postcard::from_bytes::<Value>(&bytes).unwrap(), value);
    }
}

/// A small world in which everything that can be taken for something else is.
fn small_world() -> Vec<Value> {
    let texts = ["1", "1.0", "1.00", "true", "", " ", "a", "a ", "2024-02-29", "[1]", "00000000-0000-0000-0000-000000000001"];
    let mut world = vec![
        Value::Null,
        Value::Bool(true),
        Value::Int(1),
        Value::UInt(1),
        Value::Float(Float::from_f64(1.0)),
        Value::float(-0.0),
        Value::Int(0),
        Value::Date(Date::new(2024, 2, 29).unwrap()),
        Value::Uuid(uuid::Uuid::from_u128(1)),
        Value::Array(vec![Value::Int(1)]),
    ];
    for text in texts {
        world.extend([Value::text(text), Value::Enum(text.to_owned()), Value::Reference(text.to_owned())]);
        world.extend(Value::decimal(text).ok().into_iter().chain(Value::json(text)));
    }
    world
}

#[test]
fn in_a_small_world_the_equivalence_of_every_type_is_transitive() {
    let text = |padded, empty| Type::Text { max_chars: None, padded, nul: false, empty };
    let list = Type::Array(Box::new(Type::Bool));
    let decimal = Type::Decimal { precision: None, scale: None, special: true };
    let (int, float) = (Type::Int { bits: 64, unsigned: false }, Type::Float { bits: 64 });
    let labels = Type::Enum { labels: vec!["a".to_owned()] };
    let reference = Type::Reference { object: "parent".into() };
    let world = small_world();
    let types = [
        text(true, true),
        text(true, false),
        text(false, false),
        text(false, true),
        list,
        decimal,
        int,
        float,
        labels,
        reference,
    ];
    for ty in types.iter().chain(&[Type::Bool, Type::Date, Type::Uuid, Type::Json]) {
        for a in &world {
            let class: Vec<&Value> = world.iter().filter(|b| a.equivalent_as(b, ty)).collect();
            for b in &class {
                let other: Vec<&Value> = world.iter().filter(|c| b.equivalent_as(c, ty)).collect();
                assert_eq!(class, other, "{a:?} and {b:?} as {ty:?}");
            }
        }
    }
}

#[test]
fn lists_that_would_run_together_have_bytes_of_their_own() {
    let list = |elements: &[&str]| Value::Array(elements.iter().map(|text| Value::text(*text)).collect()).canonical_bytes();
    assert_ne!(list(&["a", "b"]), list(&["a\u{3}b"]));
    assert_ne!(list(&[""]), list(&[]));
    let key = |columns: &[&str]| Key(columns.iter().map(|text| Value::text(*text)).collect()).encode();
    assert_ne!(key(&["a", "bc"]), key(&["ab", "c"]));
    assert_ne!(key(&["a", ""]), key(&["a"]));
}
