//! Tables of examples: texts as PostgreSQL and MySQL print them, and pairs that mean the same or do not.

use crate::schema::Type;
use crate::value::*;

fn decimal(text: &str) -> Decimal {
    Decimal::parse(text).unwrap()
}

#[test]
fn decimals_keep_their_digits_and_know_their_plain_form() {
    for (written, plain, shortest) in [
        ("1.50", "1.50", "1.5"),
        ("-0.10", "-0.10", "-0.1"),
        ("1.50e1", "15.0", "15"),
        ("1e5", "100000", "100000"),
        ("1.5e-3", "0.0015", "0.0015"),
        ("00.5", "00.5", "0.5"),
        ("+7", "+7", "7"),
        ("-0", "-0", "0"),
        ("NaN", "NaN", "NaN"),
        ("-Infinity", "-Infinity", "-Infinity"),
    ] {
        assert_eq!(decimal(written).as_str(), written);
        assert_eq!(decimal(written).to_plain(), plain);
        assert_eq!(decimal(written).to_shortest(), shortest);
    }
    for bad in ["", "-", ".", "1e", "1.2.3", "0x10", "1 ", "१", "1e999999999", "1e99999999999999999999", "--1", "nano"] {
        assert!(Decimal::parse(bad).is_err(), "{bad}");
    }
}

#[test]
fn decimals_know_their_digits() {
    assert_eq!((decimal("123.450").whole_digits(), decimal("123.450").needed_scale()), (3, 2));
    assert_eq!((decimal("1200").needed_scale(), decimal("1200").significant_digits()), (-2, 2));
    assert_eq!(decimal("123.450").written_scale(), 3);
    assert_eq!(decimal("2.5").rounded(0).as_str(), "3");
    assert_eq!(decimal("-2.5").rounded(0).as_str(), "-3");
    assert_eq!(decimal("99.95").rounded(1).as_str(), "100");
    assert_eq!(decimal("149").rounded(-2).as_str(), "100");
    assert_eq!(decimal("0.4").rounded(0).as_str(), "0");
    assert_eq!(decimal("1.005").rounded(2).as_str(), "1.01");
    assert_eq!(decimal("18446744073709551615").to_u64(), Some(u64::MAX));
    assert_eq!(decimal("1.0").to_i64(), Some(1));
    assert_eq!(decimal("1.5").to_i64(), None);
}

#[test]
fn dates_print_in_both_styles() {
    for (date, iso, postgres) in [
        (Date::new(2024, 2, 29), "2024-02-29", "2024-02-29"),
        (Date::new(0, 12, 31), "0000-12-31", "0001-12-31 BC"),
        (Date::new(-43, 3, 15), "-0043-03-15", "0044-03-15 BC"),
        (Date::new(-4, 2, 29), "-0004-02-29", "0005-02-29 BC"),
        (Date::new(12024, 1, 1), "+12024-01-01", "12024-01-01"),
        (Date::new_or_zero(0, 0, 0), "0000-00-00", "0000-00-00"),
        (Date::new_or_zero(0, 1, 0), "0000-01-00", "0000-01-00"),
        (Date::new_or_zero(2024, 0, 0), "2024-00-00", "2024-00-00"),
        (Some(Date::PositiveInfinity), "infinity", "infinity"),
        (Some(Date::NegativeInfinity), "-infinity", "-infinity"),
    ] {
        let date = date.unwrap();
        assert_eq!((date.to_string().as_str(), date.to_postgres().as_str()), (iso, postgres));
        assert_eq!((Date::parse(iso).unwrap(), Date::parse_postgres(postgres).unwrap()), (date, date));
    }
    for bad in ["2023-02-29", "2024-13-01", "24-01-01", "2024-1-1", "2024-01-01 BC", "0000-01-01 BC", "2024-01-01x"] {
        assert!(Date::parse(bad).is_err(), "{bad}");
    }
    assert!(Date::parse_postgres("0000-01-01 BC").is_err());
    assert_eq!(Date::new(2023, 2, 29), None);
}

#[test]
fn times_read_as_postgresql_and_mysql_print_them() {
    for (text, nanos, offset) in [
        ("04:05:06", 14_706_000_000_000, None),
        ("24:00:00", NANOS_PER_DAY, None),
        ("23:59:59.999999", NANOS_PER_DAY - 1_000, None),
        ("-838:59:59", -3_020_399_000_000_000, None),
        ("-00:00:00.5", -500_000_000, None),
        ("04:05:06+05:30:15", 14_706_000_000_000, Some(19_815)),
        ("04:05:06-03", 14_706_000_000_000, Some(-10_800)),
    ] {
        let time = Time::parse(text).unwrap();
        assert_eq!(time, Time::new(nanos, offset).unwrap());
        assert_eq!(time.to_postgres(), text);
    }
    assert_eq!(Time::parse("04:05:06Z").unwrap().to_postgres(), "04:05:06+00");
    assert_eq!(Time::parse("04:05:06+0530").unwrap().to_string(), "04:05:06+05:30");
    for bad in ["4:05:06", "04:60:00", "04:05:60", "839:00:00", "04:05:06+24", "04:05:06.", "04:05:06.0000000001"] {
        assert!(Time::parse(bad).is_err(), "{bad}");
    }
}

#[test]
fn timestamps_read_as_postgresql_prints_them() {
    for (text, iso) in [
        ("2024-12-31 23:59:59.5", "2024-12-31T23:59:59.5"),
        ("0044-03-15 12:00:00 BC", "-0043-03-15T12:00:00"),
        ("294276-12-31 23:59:59.999999", "+294276-12-31T23:59:59.999999"),
        ("infinity", "infinity"),
        ("-infinity", "-infinity"),
    ] {
        let timestamp = Timestamp::parse_postgres(text).unwrap();
        assert_eq!((timestamp.to_postgres().as_str(), timestamp.to_string().as_str()), (text, iso));
    }
    assert_eq!(Timestamp::parse("2024-12-31T24:00:00").unwrap(), Timestamp::parse("2025-01-01").unwrap());
    assert_eq!(Timestamp::parse("0000-00-00 00:00:00").unwrap().to_postgres(), "0000-00-00 00:00:00");
    assert!(Timestamp::parse("2024-12-31 10:00:00Z").is_err(), "a zone is not dropped silently");
    assert!(Timestamp::parse("2024-12-31 24:00:01").is_err());
}

#[test]
fn points_in_time_need_an_offset_and_keep_the_point() {
    for (text, offset, iso) in [
        ("2024-12-31 23:59:59.5+00", 0, "2024-12-31T23:59:59.5Z"),
        ("2024-07-01 05:30:15+05:30:15", 19_815, "2024-07-01T00:00:00Z"),
        ("0044-03-15 12:00:00-03 BC", -10_800, "-0043-03-15T15:00:00Z"),
    ] {
        let point = TimestampTz::parse_postgres(text).unwrap();
        assert_eq!((point.to_postgres_at(offset).as_str(), point.to_string().as_str()), (text, iso));
    }
    assert!(TimestampTz::parse("2024-12-31T10:00:00").is_err(), "no zone is assumed");
    assert!(TimestampTz::parse("infinityZ").is_err());
    assert!(TimestampTz::parse("0000-00-00T00:00:00Z").is_err());
    assert_eq!(TimestampTz::from_micros(-1), TimestampTz::At { seconds: -1, nanos: 999_999_000 });
    assert_eq!(TimestampTz::from_micros(i64::MIN).to_micros(), Some(i64::MIN));
    assert_eq!(TimestampTz::from_micros(-1).truncated(0), TimestampTz::At { seconds: -1, nanos: 0 });
}

#[test]
fn intervals_print_as_postgresql_prints_them() {
    let second = NANOS_PER_SECOND;
    for (interval, iso, postgres) in [
        (Interval::new(0, 0, 0), "PT0S", "00:00:00"),
        (Interval::new(14, 3, 14_706 * second), "P1Y2M3DT4H5M6S", "1 year 2 mons 3 days 04:05:06"),
        (Interval::new(-14, 3, -14_706 * second), "P-1Y-2M3DT-4H-5M-6S", "-1 years -2 mons +3 days -04:05:06"),
        (Interval::new(0, -1, 5_025 * second), "P-1DT1H23M45S", "-1 days +01:23:45"),
        (Interval::new(0, 0, -second / 2), "PT-0.5S", "-00:00:00.5"),
        (Interval::new(1, 1, 0), "P1M1D", "1 mon 1 day"),
        (Interval::new(0, 0, 360_000 * second), "PT100H", "100:00:00"),
    ] {
        assert_eq!((interval.to_string().as_str(), interval.to_postgres().as_str()), (iso, postgres));
        assert_eq!((Interval::parse(iso).unwrap(), Interval::parse_postgres(postgres).unwrap()), (interval, interval));
    }
    assert_eq!(Interval::parse("P2W").unwrap(), Interval::new(0, 14, 0));
    for bad in ["", "P", "PT", "P1H", "P1.5D", "1 year", "P99999999999Y", "PT99999999999999H"] {
        assert!(Interval::parse(bad).is_err(), "{bad}");
    }
}

#[test]
fn json_is_compared_by_meaning() {
    let same = |a: &str, b: &str| Json::parse(a).unwrap().same_meaning(&Json::parse(b).unwrap());
    assert!(same(r#"{"a":1,"b":[1.0,2e0]}"#, r#" { "b" : [1, 2.00] , "a" : 10e-1 } "#));
    assert!(same(r#"{"a":1,"a":2}"#, r#"{"a":2}"#), "the last of a doubled key counts");
    assert!(same(r#""\u0041\/""#, r#""A/""#));
    assert!(same(r#""\ud83d\ude00""#, r#""😀""#));
    assert!(same("-0.0", "0"));
    assert!(!same("0.1", "0.10000000000000000001"), "digits beyond a double count");
    assert!(!same("12345678901234567890123", "12345678901234567890124"));
    assert!(!same("[1,2]", "[2,1]"));
    assert!(!same(r#"["ab"]"#, r#"["a","b"]"#));
    assert!(!same(r#""1""#, "1"));
    assert!(!same(r#"{"a":null}"#, "{}"));
    assert!(!same(r#""\ud800""#, r#""\ud801""#));
    let deep = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
    assert!(Json::parse(&deep(256)).is_ok());
    assert!(Json::parse(&deep(100_000)).is_err(), "depth is bounded");
    for bad in ["", "{", "01", "1.", "+1", "[1,]", "{\"a\"}", "\"\u{1}\"", "nul", "1 2", "'a'", "\"\\x\"", "NaN"] {
        assert!(Json::parse(bad).is_err(), "{bad}");
    }
}

#[test]
fn what_a_type_cannot_keep_apart_is_equivalent_to_it() {
    let text = |padded, empty| Type::Text { max_chars: None, padded, nul: false, empty };
    let millis = Type::TimestampTz { fraction_digits: 3 };
    let point = |text| Value::TimestampTz(TimestampTz::parse(text).unwrap());
    let labels = Type::Enum { labels: vec!["open".to_owned()] };
    let uuid = Value::Uuid(uuid::Uuid::from_u128(0xABCD));
    let number = Type::Decimal { precision: None, scale: None, special: false };
    for (a, b, ty, expected) in [
        (Value::text("a  "), Value::text("a"), text(true, true), true),
        (Value::text("a  "), Value::text("a"), text(false, true), false),
        (Value::text(""), Value::Null, text(false, false), true),
        (Value::text(""), Value::Null, text(false, true), false),
        (Value::text("  "), Value::Null, text(true, false), true),
        (point("2024-01-01T00:00:00.123456Z"), point("2024-01-01T00:00:00.123Z"), millis.clone(), true),
        (point("2024-01-01T00:00:00.124Z"), point("2024-01-01T00:00:00.123Z"), millis, false),
        (Value::text("open"), Value::Enum("open".to_owned()), labels, true),
        (uuid.clone(), Value::text("00000000-0000-0000-0000-00000000ABCD"), Type::Uuid, true),
        (uuid.clone(), Value::text("00000000-0000-0000-0000-00000000ABCD"), Type::Opaque { native: "x".to_owned() }, false),
        (Value::Int(1), Value::decimal("1.00").unwrap(), number.clone(), true),
        (Value::float(0.5), Value::decimal("0.50").unwrap(), number.clone(), true),
        (Value::float(0.1), Value::decimal("0.1").unwrap(), number.clone(), false),
        (Value::text("1.0"), Value::Int(1), number.clone(), true),
        (Value::text(" 1"), Value::Int(1), number, false),
        (Value::Bool(true), Value::Int(1), Type::Bool, true),
        (Value::float(-0.0), Value::float(0.0), Type::Float { bits: 64 }, true),
        (Value::float(f64::NAN), Value::decimal("NaN").unwrap(), Type::Float { bits: 64 }, true),
    ] {
        assert_eq!(a.equivalent_as(&b, &ty), expected, "{a:?} and {b:?} as {ty:?}");
    }
    assert!(!uuid.equivalent(&Value::text(uuid.to_string())), "without a type a UUID is not its text");
}

#[test]
fn two_types_are_compared_at_the_coarser_precision() {
    let local = |text| Value::Timestamp(Timestamp::parse(text).unwrap());
    let (micros, seconds) = (Type::Timestamp { fraction_digits: 6 }, Type::Timestamp { fraction_digits: 0 });
    let (fine, coarse) = (local("2024-01-01T10:00:00.999999"), local("2024-01-01T10:00:00"));
    assert!(fine.equivalent_between(&micros, &coarse, &seconds));
    assert!(coarse.equivalent_between(&seconds, &fine, &micros));
    assert!(!fine.equivalent_between(&micros, &coarse, &micros));
}

#[test]
fn values_are_shown_to_people_without_noise() {
    assert_eq!(Value::Array(vec![Value::Int(1), Value::Null, Value::text("a")]).to_string(), "[1, null, a]");
    assert_eq!(Value::Bytes(vec![0, 255]).to_string(), "\\x00ff");
    assert_eq!(Value::float(1e300).to_string(), "1e300");
    assert_eq!(Value::float(-0.0).to_string(), "-0");
    assert_eq!(from_hex("00FF"), Some(vec![0, 255]));
    assert_eq!(from_hex("0"), None);
}
