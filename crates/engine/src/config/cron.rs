//! Schedules as cron writes them: minute, hour, day of month, month, day of week, in UTC. Says whether one can be
//! understood, and when it next falls due after a moment. Asks no clock.

use crate::clock::Moment;

const MONTHS: [&str; 12] = ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"];
const DAYS: [&str; 7] = ["sun", "mon", "tue", "wed", "thu", "fri", "sat"];

struct Field {
    name: &'static str,
    least: u32,
    most: u32,
    names: &'static [&'static str],
}

const FIELDS: [Field; 5] = [
    Field { name: "minute", least: 0, most: 59, names: &[] },
    Field { name: "hour", least: 0, most: 23, names: &[] },
    Field { name: "day of month", least: 1, most: 31, names: &[] },
    Field { name: "month", least: 1, most: 12, names: &MONTHS },
    Field { name: "day of week", least: 0, most: 7, names: &DAYS },
];

const SHORTHANDS: [&str; 6] = ["@hourly", "@daily", "@weekly", "@monthly", "@yearly", "@annually"];

/// A day in minutes, and a minute in microseconds.
const DAY_MINUTES: i64 = 24 * 60;
const MINUTE_MICROS: i64 = 60_000_000;
/// The longest that a schedule is looked ahead: every leap day falls within.
const DAYS_AHEAD: i64 = 9 * 366;

/// A schedule that was understood: for each of its fields the numbers that it names, as bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Schedule {
    minutes: u64,
    hours: u64,
    days: u64,
    months: u64,
    weekdays: u64,
    /// Whether days of the month and days of the week are both named: either will do.
    either_day: bool,
}

impl Schedule {
    /// Reads a schedule.
    ///
    /// # Errors
    /// What cannot be understood.
    pub fn parse(schedule: &str) -> Result<Schedule, String> {
        check(schedule)?;
        let written = match schedule.trim() {
            "@hourly" => "0 * * * *",
            "@daily" => "0 0 * * *",
            "@weekly" => "0 0 * * 0",
            "@monthly" => "0 0 1 * *",
            "@yearly" | "@annually" => "0 0 1 1 *",
            written => written,
        };
        let mut sets = [0_u64; 5];
        for ((part, field), set) in written.split_whitespace().zip(&FIELDS).zip(&mut sets) {
            for item in part.split(',') {
                *set |= numbers(item, field)?;
            }
        }
        let [minutes, hours, days, months, weekdays] = sets;
        let is_named = |place: usize| written.split_whitespace().nth(place).is_some_and(|part| !part.starts_with('*'));
        // Sunday is 0 and 7.
        let weekdays = (weekdays | (weekdays >> 7)) & 0x7f;
        Ok(Schedule { minutes, hours, days, months, weekdays, either_day: is_named(2) && is_named(4) })
    }

    /// The next moment after `after` at which it is due; `None` where there is none within some years (31 February).
    pub fn next(&self, after: Moment) -> Option<Moment> {
        let first = after.micros().div_euclid(MINUTE_MICROS) + 1;
        let today = first.div_euclid(DAY_MINUTES);
        for day in today..today + DAYS_AHEAD {
            if !self.is_due_on(day) {
                continue;
            }
            let from = if day == today { first.rem_euclid(DAY_MINUTES) } else { 0 };
            let due = (from..DAY_MINUTES).find(|minute| has(self.hours, minute / 60) && has(self.minutes, minute % 60));
            if let Some(minute) = due {
                return Some(Moment((day * DAY_MINUTES + minute) * MINUTE_MICROS));
            }
        }
        None
    }

    /// Whether it is due on a day, counted from 1970-01-01, which was a Thursday.
    fn is_due_on(&self, day: i64) -> bool {
        let Ok(date) = jiff::Timestamp::from_second(day * DAY_MINUTES * 60) else { return false };
        let date = date.to_zoned(jiff::tz::TimeZone::UTC).date();
        let of_month = has(self.days, i64::from(date.day()));
        let of_week = has(self.weekdays, (day + 4).rem_euclid(7));
        has(self.months, i64::from(date.month())) && if self.either_day { of_month || of_week } else { of_month && of_week }
    }
}

fn has(set: u64, number: i64) -> bool {
    u32::try_from(number).is_ok_and(|number| set.checked_shr(number).is_some_and(|set| set & 1 == 1))
}

/// The numbers that an item names, which has been checked.
fn numbers(item: &str, field: &Field) -> Result<u64, String> {
    let (range, step) = match item.split_once('/') {
        Some((range, step)) => (range, step.parse::<usize>().unwrap_or(1).max(1)),
        None => (item, 1),
    };
    let (from, to) = match (range, range.split_once('-')) {
        ("*", _) => (field.least, field.most),
        (_, Some((from, to))) => (number(from, field)?, number(to, field)?),
        (only, None) if item.contains('/') => (number(only, field)?, field.most),
        (only, None) => (number(only, field)?, number(only, field)?),
    };
    Ok((from..=to).step_by(step).fold(0, |set, number| set | (1_u64 << number.min(63))))
}

/// Whether a schedule can be understood; the error says what cannot.
pub(crate) fn check(schedule: &str) -> Result<(), String> {
    let schedule = schedule.trim();
    if schedule.starts_with('@') {
        let known = SHORTHANDS.contains(&schedule);
        return if known { Ok(()) } else { Err(format!("`{schedule}` is none of {}", SHORTHANDS.join(", "))) };
    }
    let parts: Vec<&str> = schedule.split_whitespace().collect();
    if parts.len() != FIELDS.len() {
        return Err(format!("it has {} fields instead of 5 (minute, hour, day of month, month, day of week)", parts.len()));
    }
    parts.iter().zip(&FIELDS).try_for_each(|(part, field)| part.split(',').try_for_each(|item| check_item(item, field)))
}

/// `*`, `5`, `1-5`, `mon-fri`, each with `/step`.
fn check_item(item: &str, field: &Field) -> Result<(), String> {
    let (range, step) = match item.split_once('/') {
        Some((range, step)) => (range, Some(step)),
        None => (item, None),
    };
    if let Some(step) = step {
        let valid = step.parse::<u32>().is_ok_and(|step| (1..=field.most).contains(&step));
        if !valid {
            return Err(format!("`{step}` is no step for the {}", field.name));
        }
    }
    if range == "*" {
        return Ok(());
    }
    match range.split_once('-') {
        None => number(range, field).map(|_| ()),
        Some((from, to)) => {
            if number(from, field)? > number(to, field)? {
                return Err(format!("`{range}` runs backwards"));
            }
            Ok(())
        }
    }
}

fn number(text: &str, field: &Field) -> Result<u32, String> {
    let lower = text.to_lowercase();
    if let Some(place) = field.names.iter().position(|name| *name == lower) {
        return Ok(u32::try_from(place).unwrap_or(u32::MAX).saturating_add(field.least));
    }
    match text.parse::<u32>() {
        Ok(number) if (field.least..=field.most).contains(&number) => Ok(number),
        _ => Err(format!("`{text}` is no {} ({} to {})", field.name, field.least, field.most)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn usual_schedules_are_understood() {
        for schedule in ["0 2 * * *", "*/5 * * * *", "0 8-18/2 * * mon-fri", "0 0 1,15 jan,jul *", "0 0 * * 7", "@daily"] {
            assert_eq!(check(schedule), Ok(()), "{schedule}");
        }
    }

    fn moment(text: &str) -> Moment {
        Moment(text.parse::<jiff::Timestamp>().unwrap().as_microsecond())
    }

    #[test]
    fn the_next_moment_is_the_first_that_the_schedule_names() {
        for (schedule, after, next) in [
            ("0 2 * * *", "2026-11-24T15:04:05Z", "2026-11-25T02:00:00Z"),
            ("0 2 * * *", "2026-11-24T01:59:59.999999Z", "2026-11-24T02:00:00Z"),
            ("0 2 * * *", "2026-11-24T02:00:00Z", "2026-11-25T02:00:00Z"),
            ("*/20 * * * *", "2026-11-24T15:04:05Z", "2026-11-24T15:20:00Z"),
            ("0 8-18/2 * * mon-fri", "2026-11-27T18:30:00Z", "2026-11-30T08:00:00Z"),
            ("0 0 13 * fri", "2026-11-10T00:00:00Z", "2026-11-13T00:00:00Z"),
            ("0 0 * * 7", "2026-11-24T00:00:00Z", "2026-11-29T00:00:00Z"),
            ("0 0 29 feb *", "2026-01-01T00:00:00Z", "2028-02-29T00:00:00Z"),
            ("@monthly", "2026-12-02T00:00:00Z", "2027-01-01T00:00:00Z"),
        ] {
            let schedule = Schedule::parse(schedule).unwrap();
            assert_eq!(schedule.next(moment(after)), Some(moment(next)), "{schedule:?}");
        }
        assert_eq!(Schedule::parse("0 0 31 2 *").unwrap().next(moment("2026-01-01T00:00:00Z")), None);
    }

    #[test]
    fn what_is_wrong_is_named() {
        assert_eq!(check("61 * * * *").unwrap_err(), "`61` is no minute (0 to 59)");
        assert_eq!(check("* * *").unwrap_err(), "it has 3 fields instead of 5 (minute, hour, day of month, month, day of week)");
        assert_eq!(check("* 18-8 * * *").unwrap_err(), "`18-8` runs backwards");
        assert_eq!(check("*/0 * * * *").unwrap_err(), "`0` is no step for the minute");
        assert!(check("@often").is_err());
    }
}
