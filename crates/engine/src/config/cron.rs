//! Schedules as cron writes them: minute, hour, day of month, month, day of week. Only says whether one can be
//! understood; when it next falls due is the runtime's business.

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

    #[test]
    fn what_is_wrong_is_named() {
        assert_eq!(check("61 * * * *").unwrap_err(), "`61` is no minute (0 to 59)");
        assert_eq!(check("* * *").unwrap_err(), "it has 3 fields instead of 5 (minute, hour, day of month, month, day of week)");
        assert_eq!(check("* 18-8 * * *").unwrap_err(), "`18-8` runs backwards");
        assert_eq!(check("*/0 * * * *").unwrap_err(), "`0` is no step for the minute");
        assert!(check("@often").is_err());
    }
}
