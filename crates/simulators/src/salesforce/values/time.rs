//! Dates and times: the forms in which they come and go. Everything is UTC.

use jiff::civil::Date;
use jiff::{SignedDuration, Timestamp};

const DAY_MS: i64 = 86_400_000;

/// `2026-01-01T12:34:56.000+0000`, as REST gives it.
pub fn datetime(ms: i64) -> String {
    stamp(ms).map_or_else(String::new, |at| format!("{}+0000", at.strftime("%Y-%m-%dT%H:%M:%S%.3f")))
}

/// `2026-01-01T12:34:56.000Z`, as Bulk API and streaming give it.
pub fn datetime_z(ms: i64) -> String {
    stamp(ms).map_or_else(String::new, |at| format!("{}Z", at.strftime("%Y-%m-%dT%H:%M:%S%.3f")))
}

/// `2026-01-01`.
pub fn date(days: i32) -> String {
    stamp(i64::from(days) * DAY_MS).map_or_else(String::new, |at| at.strftime("%Y-%m-%d").to_string())
}

/// `12:34:56.000Z`.
pub fn time_of_day(ms: i64) -> String {
    stamp(ms.rem_euclid(DAY_MS)).map_or_else(String::new, |at| format!("{}Z", at.strftime("%H:%M:%S%.3f")))
}

/// `Thu, 01 Jan 2026 12:34:56 GMT`, as HTTP dates an answer.
pub fn http_date(ms: i64) -> String {
    stamp(ms).map_or_else(String::new, |at| at.strftime("%a, %d %b %Y %H:%M:%S GMT").to_string())
}

/// The day of a moment.
pub fn day_of(ms: i64) -> i32 {
    i32::try_from(ms.div_euclid(DAY_MS)).unwrap_or(i32::MAX)
}

/// The first moment of a day.
pub fn start_of(days: i32) -> i64 {
    i64::from(days) * DAY_MS
}

/// Cut to whole seconds.
pub fn whole_seconds(ms: i64) -> i64 {
    ms - ms.rem_euclid(1_000)
}

/// Reads an ISO 8601 moment with an offset (`Z`, `+00:00`, `+0000`), fraction optional; cut to whole seconds.
pub fn parse_datetime(text: &str) -> Option<i64> {
    let (day, rest) = text.split_once('T')?;
    let days = parse_date(day)?;
    let at = rest.find(['Z', '+', '-'])?;
    let (clock, offset) = rest.split_at_checked(at)?;
    let offset_ms = match offset {
        "Z" => 0,
        _ => {
            let digits: String = offset.chars().filter(char::is_ascii_digit).collect();
            let hours: i64 = digits.get(..2)?.parse().ok()?;
            let minutes: i64 = if digits.len() >= 4 { digits.get(2..4)?.parse().ok()? } else { 0 };
            let ms = (hours * 60 + minutes) * 60_000;
            if offset.starts_with('-') { -ms } else { ms }
        }
    };
    Some(whole_seconds(start_of(days) + parse_clock(clock)? - offset_ms))
}

/// Reads `YYYY-MM-DD`.
pub fn parse_date(text: &str) -> Option<i32> {
    if text.len() != 10 {
        return None;
    }
    let date: Date = text.parse().ok()?;
    let epoch = Date::constant(1970, 1, 1);
    let hours = date.duration_since(epoch).as_hours();
    i32::try_from(hours / 24).ok()
}

/// Reads `HH:MM:SS[.mmm][Z]` as milliseconds of the day.
pub fn parse_time(text: &str) -> Option<i64> {
    parse_clock(text.strip_suffix('Z').unwrap_or(text))
}

fn parse_clock(text: &str) -> Option<i64> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let mut parts = whole.split(':').map(|part| (part.len() == 2).then(|| part.parse::<i64>().ok()).flatten());
    let (hours, minutes) = (parts.next()??, parts.next()??);
    let seconds = parts.next().unwrap_or(Some(0))?;
    if hours > 23 || minutes > 59 || seconds > 59 || parts.next().is_some() {
        return None;
    }
    let padded = format!("{fraction:0<3}");
    let millis: i64 = padded.get(..3)?.parse().ok()?;
    Some(((hours * 60 + minutes) * 60 + seconds) * 1_000 + millis)
}

fn stamp(ms: i64) -> Option<Timestamp> {
    Timestamp::from_duration(SignedDuration::from_millis(ms)).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moment_is_read_in_each_form_and_cut_to_seconds() {
        for text in [
            "2026-01-01T12:34:56Z",
            "2026-01-01T12:34:56.789Z",
            "2026-01-01T12:34:56.000+0000",
            "2026-01-01T13:34:56+01:00",
            "2026-01-01T07:34:56-0500",
        ] {
            let ms = parse_datetime(text).expect(text);
            assert_eq!(datetime(ms), "2026-01-01T12:34:56.000+0000", "{text}");
            assert_eq!(datetime_z(ms), "2026-01-01T12:34:56.000Z");
        }
        assert_eq!(parse_datetime("2026-01-01T12:34:56"), None, "an offset is needed");
        assert_eq!(parse_datetime("2026-13-01T00:00:00Z"), None);
    }

    #[test]
    fn days_before_1970_are_days_too() {
        assert_eq!(date(parse_date("1969-12-31").expect("a date")), "1969-12-31");
        assert_eq!(parse_date("1970-01-02"), Some(1));
        assert_eq!(day_of(-1), -1);
    }

    #[test]
    fn a_time_of_day_keeps_its_milliseconds() {
        assert_eq!(time_of_day(parse_time("01:02:03.045Z").expect("a time")), "01:02:03.045Z");
        assert_eq!(parse_time("25:00:00Z"), None);
    }
}
