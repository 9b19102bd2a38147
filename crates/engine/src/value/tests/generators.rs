//! Values of every kind, weighted towards the corners that bite.

use crate::schema::Type;
use crate::value::*;
use proptest::prelude::*;

pub(crate) fn decimals() -> impl Strategy<Value = Decimal> {
    let literal = prop_oneof![
        "[+-]?[0-9]{1,25}(\\.[0-9]{0,12})?",
        "-?0{0,3}[1-9]0{0,4}(\\.0{0,4})?(e-?[0-9]{1,2})?",
        "-?[0-9]{0,3}\\.[0-9]{1,5}(E[+-]?[0-9]{1,2})?",
        Just("NaN".to_owned()),
        Just("Infinity".to_owned()),
        Just("-inf".to_owned()),
    ];
    literal.prop_filter_map("a decimal", |text| Decimal::parse(&text).ok())
}

pub(crate) fn floats() -> impl Strategy<Value = Float> {
    prop_oneof![
        any::<u64>().prop_map(|bits| Float::from_f64(f64::from_bits(bits))),
        any::<f32>().prop_map(Float::from_f32),
        (-1000_i32..1000).prop_map(|number| Float::from_f64(f64::from(number) / 4.0)),
        prop::sample::select(vec![0.0, -0.0, f64::NAN, f64::INFINITY, f64::MIN_POSITIVE, 5e-324, 0.1, 1e22])
            .prop_map(Float::from_f64),
    ]
}

pub(crate) fn dates() -> impl Strategy<Value = Date> {
    prop_oneof![
        6 => (-3_700_000_000_i64..3_600_000_000).prop_filter_map("a day", Date::from_days_since_epoch),
        6 => (-800_000_i64..100_000).prop_filter_map("a day", Date::from_days_since_epoch),
        1 => Just(Date::PositiveInfinity),
        1 => Just(Date::NegativeInfinity),
        1 => (0_i32..=9999, 0_u8..=12, 0_u8..=31).prop_filter_map("a zero date", |(year, month, day)| Date::new_or_zero(year, month, day)),
    ]
}

pub(crate) fn nanos_of_day() -> impl Strategy<Value = i64> {
    prop_oneof![
        0..NANOS_PER_DAY,
        (0..86_400_i64).prop_map(|seconds| seconds * NANOS_PER_SECOND),
        (0..86_400_000_000_i64).prop_map(|micros| micros * 1000)
    ]
}

pub(crate) fn times() -> impl Strategy<Value = Time> {
    let long = -3_020_399_999_999_999_i64..=3_020_399_999_999_999;
    let offset = prop::option::of(prop_oneof![Just(0), Just(19_815), -50_400..=50_400]);
    (prop_oneof![nanos_of_day(), Just(NANOS_PER_DAY), long], offset)
        .prop_filter_map("a time", |(nanos, offset)| Time::new(nanos, offset))
}

pub(crate) fn timestamps() -> impl Strategy<Value = Timestamp> {
    (dates(), nanos_of_day()).prop_map(|(date, nanos)| {
        let nanos = if date.is_finite() { nanos } else { 0 };
        Timestamp::new(date, nanos).expect("in range")
    })
}

pub(crate) fn timestamp_tzs() -> impl Strategy<Value = TimestampTz> {
    prop_oneof![
        8 => any::<i64>().prop_map(TimestampTz::from_micros),
        4 => (-3_000_000_000_i64..4_000_000_000, 0_u32..1_000_000_000).prop_filter_map("a point", |(s, n)| TimestampTz::new(s, n)),
        1 => Just(TimestampTz::PositiveInfinity),
        1 => Just(TimestampTz::NegativeInfinity),
    ]
}

pub(crate) fn intervals() -> impl Strategy<Value = Interval> {
    let part = || prop_oneof![Just(0), -40_i32..40, any::<i32>()];
    (part(), part(), prop_oneof![Just(0_i64), any::<i64>(), -NANOS_PER_DAY..NANOS_PER_DAY])
        .prop_map(|(months, days, nanos)| Interval::new(months, days, nanos))
}

pub(crate) fn json_texts() -> impl Strategy<Value = String> {
    let leaf = prop_oneof![
        Just("null".to_owned()),
        Just("true".to_owned()),
        "-?(0|[1-9][0-9]{0,20})(\\.[0-9]{1,6})?([eE][+-]?[0-9]{1,3})?",
        any::<String>().prop_map(|text| serde_json::to_string(&text).unwrap()),
        prop::sample::select(vec!["\"\\u0041\"", "\"A\"", "\"\\ud800\"", "\"\\ud83d\\ude00\"", "\"😀\"", "1", "1.0", "10e-1"])
            .prop_map(str::to_owned),
    ];
    leaf.prop_recursive(4, 24, 4, |inner| {
        let key = prop::sample::select(vec!["\"a\"", "\"b\"", "\"\\u0061\"", "\"\""]);
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(|items| format!("[ {} ]", items.join(" ,"))),
            prop::collection::vec((key, inner), 0..4).prop_map(|entries| {
                let entries: Vec<String> = entries.into_iter().map(|(key, value)| format!("{key}: {value}")).collect();
                format!("{{{}}}", entries.join(","))
            }),
        ]
    })
}

pub(crate) fn texts() -> impl Strategy<Value = String> {
    prop_oneof![
        any::<String>(),
        "[ a-cA-C]{0,6}",
        "-?[0-9]{1,4}(\\.[0-9]{1,2})?",
        prop::sample::select(vec!["", " ", "true", "\0", "2024-02-29", "{\"a\":1}", "a@B.com", "+1 650 253 0000", "ß", "ǅ"])
            .prop_map(str::to_owned),
    ]
}

pub(crate) fn scalars() -> impl Strategy<Value = Value> {
    prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::Bool),
        prop_oneof![any::<i64>(), -3_i64..300].prop_map(Value::Int),
        prop_oneof![any::<u64>(), 0_u64..300].prop_map(Value::UInt),
        decimals().prop_map(Value::Decimal),
        floats().prop_map(Value::Float),
        texts().prop_map(Value::Text),
        prop::collection::vec(any::<u8>(), 0..6).prop_map(Value::Bytes),
        dates().prop_map(Value::Date),
        times().prop_map(Value::Time),
        timestamps().prop_map(Value::Timestamp),
        timestamp_tzs().prop_map(Value::TimestampTz),
        intervals().prop_map(Value::Interval),
        any::<u128>().prop_map(|bits| Value::Uuid(uuid::Uuid::from_u128(bits))),
        json_texts().prop_map(|text| Value::json(&text).expect("generated JSON is JSON")),
        texts().prop_map(Value::Enum),
        texts().prop_map(Value::Reference),
    ]
}

pub(crate) fn values() -> impl Strategy<Value = Value> {
    scalars().prop_recursive(2, 8, 3, |inner| prop::collection::vec(inner, 0..3).prop_map(Value::Array))
}

/// Values of a small world, so that equivalent ones meet often.
pub(crate) fn close_values() -> impl Strategy<Value = Value> {
    prop_oneof![
        3 => values(),
        2 => (-2_i64..3).prop_map(Value::Int),
        1 => (0_u64..3).prop_map(Value::UInt),
        3 => prop::sample::select(vec!["0", "-0", "0.0", "1", "1.0", "1.00", "1e0", "10e-1", "2", "NaN", "Infinity", "-1", "0.5", "true"])
            .prop_flat_map(|text| prop_oneof![
                Just(Value::decimal(text).unwrap_or(Value::Bool(true))),
                Just(Value::text(text)),
                Just(Value::json(text).unwrap_or(Value::Null)),
                Just(Float::parse(text).map_or(Value::Null, Value::Float)),
                Just(Value::Enum(text.to_owned())),
            ]),
        1 => prop::sample::select(vec!["", " ", "a", "a ", "A"]).prop_map(Value::text),
    ]
}

pub(crate) fn types() -> impl Strategy<Value = Type> {
    let text = (prop::option::of(0_u32..8), any::<bool>(), any::<bool>(), any::<bool>())
        .prop_map(|(max_chars, padded, nul, empty)| Type::Text { max_chars, padded, nul, empty });
    let decimal = (prop::option::of(1_u32..8), prop::option::of(-3_i32..6), any::<bool>())
        .prop_map(|(precision, scale, special)| Type::Decimal { precision, scale, special });
    let leaf = prop_oneof![
        Just(Type::Bool),
        (prop::sample::select(vec![8_u8, 16, 24, 32, 64]), any::<bool>())
            .prop_map(|(bits, unsigned)| Type::Int { bits, unsigned }),
        decimal,
        prop::sample::select(vec![32_u8, 64]).prop_map(|bits| Type::Float { bits }),
        text,
        prop::option::of(0_u32..5).prop_map(|max_bytes| Type::Bytes { max_bytes }),
        Just(Type::Date),
        (0_u8..=9, any::<bool>()).prop_map(|(fraction_digits, zone)| Type::Time { fraction_digits, zone }),
        (0_u8..=9).prop_map(|fraction_digits| Type::Timestamp { fraction_digits }),
        (0_u8..=9).prop_map(|fraction_digits| Type::TimestampTz { fraction_digits }),
        (0_u8..=9).prop_map(|fraction_digits| Type::Interval { fraction_digits }),
        Just(Type::Uuid),
        Just(Type::Json),
        Just(Type::Enum { labels: vec!["a".to_owned(), "true".to_owned(), "1".to_owned()] }),
        Just(Type::Reference { object: "parent".into() }),
        Just(Type::Opaque { native: "point".to_owned() }),
    ];
    leaf.prop_recursive(2, 4, 1, |inner| inner.prop_map(|element| Type::Array(Box::new(element))))
}
