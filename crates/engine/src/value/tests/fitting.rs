//! Proofs of what fits: laws over generated values and types, and a table of the corners.

use super::generators::*;
use crate::schema::Type;
use crate::value::*;
use proptest::prelude::*;

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn what_fits_is_held_by_the_type_and_means_the_same_unless_a_loss_is_named(value in close_values(), ty in types()) {
        for extent in [Extent::WIDE, Extent::PLAIN, Extent::EVERYTHING] {
            match fit_within(&value, &ty, &extent) {
                Fit::Exact | Fit::Impossible(_) => {}
                Fit::Lossless(other) => {
                    prop_assert!(other.equivalent_as(&value, &ty), "{:?} became {:?} as {:?}", value, other, ty);
                    prop_assert_eq!(fit_within(&other, &ty, &extent), Fit::Exact, "{:?} as {:?}", other, ty);
                }
                Fit::Lossy { value: other, how } => {
                    prop_assert!(!how.is_empty());
                    prop_assert_eq!(fit_within(&other, &ty, &extent), Fit::Exact, "{:?} as {:?}", other, ty);
                }
            }
        }
    }

    #[test]
    fn what_a_type_promises_holds_for_its_values(value in close_values(), from in types(), to in types()) {
        // The value as the source shows it: in its own representation.
        let shown = match fit(&value, &from) {
            Fit::Exact => value,
            Fit::Lossless(shown) | Fit::Lossy { value: shown, .. } => shown,
            Fit::Impossible(_) => return Ok(()),
        };
        let fitted = fit(&shown, &to);
        match type_fit(&from, &to) {
            TypeFit::Always => prop_assert!(matches!(fitted, Fit::Exact | Fit::Lossless(_)), "{:?} from {:?} to {:?}: {:?}", shown, from, to, fitted),
            TypeFit::Sometimes(what) => prop_assert!(!what.is_empty()),
            TypeFit::Never(_) => prop_assert!(shown.is_null() || matches!(fitted, Fit::Impossible(_)), "{:?} from {:?} to {:?}: {:?}", shown, from, to, fitted),
        }
    }

    /// What the target of a sync shows of it is known again, so that nothing is taken for somebody else's.
    #[test]
    fn what_was_carried_without_loss_comes_back(value in close_values(), from in types(), to in types()) {
        let Some(shown) = fit(&value, &from).without_loss(&value) else { return Ok(()) };
        let Some(there) = fit(&shown, &to).without_loss(&shown) else { return Ok(()) };
        // Some types have several spellings of a value, of which a text is one.
        let is_spelt = matches!(from, Type::Text { .. } | Type::Opaque { .. } | Type::Array(_)) && matches!(to, Type::Uuid | Type::Json | Type::Array(_));
        if is_spelt {
            return Ok(());
        }
        let again = fit(&there, &from).without_loss(&there).and_then(|back| fit(&back, &to).without_loss(&back));
        prop_assert!(again.is_some_and(|again| again.equivalent(&there)), "{:?} from {:?} to {:?}: {:?}", shown, from, to, there);
    }

    #[test]
    fn what_a_decimal_type_promises_holds(from in decimal_types(), to in decimal_types(), number in -9999_i32..9999, scale in -3_i32..6) {
        let value = Value::decimal(&format!("{number}e{}", -scale)).unwrap();
        let shown = fit(&value, &from).with_loss(&value);
        if let (Some(shown), TypeFit::Always) = (shown, type_fit(&from, &to)) {
            prop_assert_eq!(fit(&shown, &to), Fit::Exact, "{:?} from {:?} to {:?}", shown, from, to);
        }
    }

    #[test]
    fn a_decimal_fits_if_and_only_if_its_digits_do(number in -9999_i64..9999, digits in 0_u32..5, precision in 1_u32..5, scale in 0_u32..5) {
        let ty = Type::Decimal { precision: Some(precision), scale: i32::try_from(scale).ok(), special: false };
        let value = Value::decimal(&format!("{number}e-{digits}")).unwrap();
        // In units of the field's last place: number × 10^(scale − digits), below 10^precision.
        let scaled = number * 10_i64.pow(scale);
        let unit = 10_i64.pow(digits);
        let expected = scaled % unit == 0 && (scaled / unit).abs() < 10_i64.pow(precision);
        prop_assert_eq!(fit(&value, &ty) == Fit::Exact, expected, "{} into {:?}", value, ty);
    }

    #[test]
    fn every_type_fits_into_itself(ty in types()) {
        prop_assert_eq!(type_fit(&ty, &ty), TypeFit::Always);
    }

    #[test]
    fn a_value_reads_back_from_its_json_form(value in values()) {
        let json = value.to_json();
        let text = serde_json::to_string(&json).unwrap();
        let read = Value::from_json(&serde_json::from_str(&text).unwrap()).unwrap();
        prop_assert!(read.equivalent(&value));
        if let Value::Decimal(_) | Value::Text(_) | Value::Json(_) | Value::TimestampTz(_) = value {
            prop_assert_eq!(read, value);
        }
    }
}

fn decimal_types() -> impl Strategy<Value = Type> {
    (prop::option::of(1_u32..6), prop::option::of(-2_i32..5), any::<bool>())
        .prop_map(|(precision, scale, special)| Type::Decimal { precision, scale, special })
}

fn text(max_chars: Option<u32>, padded: bool, empty: bool) -> Type {
    Type::Text { max_chars, padded, nul: false, empty }
}

fn decimal(precision: u32, scale: i32) -> Type {
    Type::Decimal { precision: Some(precision), scale: Some(scale), special: false }
}

#[test]
fn the_corners_that_bite() {
    let number = |digits| Value::decimal(digits).unwrap();
    let local = |text| Value::Timestamp(Timestamp::parse(text).unwrap());
    let millis = Type::Timestamp { fraction_digits: 3 };
    let int32 = Type::Int { bits: 32, unsigned: false };
    let labels = Type::Enum { labels: vec!["open".to_owned()] };
    for (value, ty, expected) in [
        (number("1.005"), decimal(10, 2), "lossy 1.01: rounded to 2 digits behind the point"),
        (number("1.500"), decimal(10, 2), "exact"),
        (number("999.995"), decimal(5, 2), "impossible: more digits than the field's 5 with 2 of them behind the point"),
        (number("0.012"), decimal(2, 3), "exact"),
        (number("149"), decimal(3, -2), "lossy 100: rounded to -2 digits behind the point"),
        (number("NaN"), decimal(10, 2), "impossible: NaN or an infinity, which the field cannot hold"),
        (number("2.0"), int32.clone(), "lossless 2"),
        (number("2.5"), int32.clone(), "lossy 3: rounded to a whole number"),
        (Value::Int(1 << 40), int32.clone(), "impossible: the number is outside of -2147483648 to 2147483647"),
        (Value::text("12"), int32.clone(), "lossless 12"),
        (Value::text("012"), int32.clone(), "lossy 12: text is read as a whole number, its spelling is lost"),
        (Value::text("twelve"), int32, "impossible: the text is not a number"),
        (Value::Int(7), decimal(10, 2), "lossless 7"),
        (
            Value::float(0.1),
            Type::Decimal { precision: None, scale: None, special: true },
            "lossy 0.1: a binary number is written as its shortest decimal form",
        ),
        (Value::float(0.5), decimal(10, 2), "lossless 0.5"),
        (Value::float(0.1), Type::Float { bits: 32 }, "lossy 0.10000000149011612: rounded to a float of 32 bits"),
        (number("0.1"), Type::Float { bits: 64 }, "lossy 0.1: rounded to the nearest binary number"),
        (Value::text("abcdef"), text(Some(4), false, true), "lossy abcd: 6 characters; cut to the 4 that the field holds"),
        (Value::text("äöüß"), text(Some(4), false, true), "exact"),
        (Value::text("ab      "), text(Some(4), true, true), "lossless ab"),
        (Value::text(""), text(None, false, false), "lossless null"),
        (Value::text(""), text(None, false, true), "exact"),
        (Value::text("a\0b"), text(None, false, true), "impossible: the text has a NUL character"),
        (Value::text("open"), labels.clone(), "lossless open"),
        (Value::text("shut"), labels, "impossible: the label is none of the 1 that the field knows: open"),
        (local("2024-01-01T00:00:00"), Type::Date, "lossy 2024-01-01: the time of day is dropped"),
        (
            local("2024-01-01T00:00:00.123456"),
            millis.clone(),
            "lossy 2024-01-01T00:00:00.123: the second's fraction is cut to 3 digits",
        ),
        (local("0000-00-00T00:00:00"), millis.clone(), "impossible: a zero date, which the system cannot hold"),
        (local("infinity"), millis, "exact"),
        (Value::text("{\"a\": 1}"), Type::Json, "lossless {\"a\": 1}"),
        (Value::text("plain"), Type::Json, "lossy \"plain\": the value becomes a JSON document"),
        (Value::Array(vec![Value::Int(1), Value::Null]), Type::Json, "lossy [1,null]: the value becomes a JSON document"),
        (Value::Array(vec![Value::Int(1)]), text(None, false, true), "lossy [1]: a list is written as JSON"),
        (
            Value::Array(vec![Value::Array(vec![Value::text("5")])]),
            Type::Array(Box::new(Type::Int { bits: 8, unsigned: false })),
            "lossless [[5]]",
        ),
        (Value::Bool(true), Type::Uuid, "impossible: true or false is not a UUID"),
        (Value::Bytes(vec![1, 2]), Type::Bytes { max_bytes: Some(1) }, "impossible: 2 bytes; the field holds 1"),
    ] {
        let shown = match fit(&value, &ty) {
            Fit::Exact => "exact".to_owned(),
            Fit::Lossless(other) => format!("lossless {other}"),
            Fit::Lossy { value, how } => format!("lossy {value}: {how}"),
            Fit::Impossible(reason) => format!("impossible: {reason}"),
        };
        assert_eq!(shown, expected, "{value:?} into {ty:?}");
    }
}

#[test]
fn a_plain_calendar_refuses_what_only_some_systems_hold() {
    let refused = |date: &str| {
        matches!(fit_within(&Value::Date(Date::parse(date).unwrap()), &Type::Date, &Extent::PLAIN), Fit::Impossible(_))
    };
    assert!(refused("infinity") && refused("0000-12-31") && refused("+10000-01-01") && refused("2024-00-00"));
    assert!(!refused("9999-12-31") && !refused("0001-01-01"));
    let midnight = Value::Time(Time::new(NANOS_PER_DAY, None).unwrap());
    let time = Type::Time { fraction_digits: 6, zone: false };
    assert!(matches!(fit_within(&midnight, &time, &Extent::PLAIN), Fit::Impossible(_)));
    assert_eq!(fit(&midnight, &time), Fit::Exact);
    let long = Value::Time(Time::parse("-838:59:59").unwrap());
    assert!(matches!(fit(&long, &time), Fit::Impossible(_)));
    assert_eq!(fit_within(&long, &time, &Extent::EVERYTHING), Fit::Exact);
}

#[test]
fn types_say_what_may_not_fit() {
    let int = |bits| Type::Int { bits, unsigned: false };
    assert_eq!(type_fit(&int(32), &int(64)), TypeFit::Always);
    assert!(matches!(type_fit(&int(64), &int(32)), TypeFit::Sometimes(_)));
    assert_eq!(type_fit(&int(64), &decimal(19, 0)), TypeFit::Always);
    assert!(matches!(type_fit(&int(64), &decimal(18, 0)), TypeFit::Sometimes(_)));
    assert_eq!(type_fit(&decimal(10, 2), &decimal(12, 2)), TypeFit::Always);
    assert!(matches!(type_fit(&decimal(10, 2), &decimal(10, 3)), TypeFit::Sometimes(_)));
    assert_eq!(type_fit(&text(Some(40), false, true), &text(Some(40), false, false)), TypeFit::Always);
    assert!(matches!(type_fit(&text(None, false, true), &text(Some(40), false, true)), TypeFit::Sometimes(_)));
    assert!(matches!(type_fit(&Type::Bool, &Type::Uuid), TypeFit::Never(_)));
    assert!(matches!(type_fit(&Type::Timestamp { fraction_digits: 6 }, &Type::Date), TypeFit::Sometimes(_)));
    assert_eq!(type_fit(&Type::Uuid, &text(Some(36), false, true)), TypeFit::Always);
}
