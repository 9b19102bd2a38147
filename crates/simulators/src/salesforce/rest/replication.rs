//! getUpdated and getDeleted: ids by time, to the minute.

use super::{Call, Result, Sub};
use crate::net::http::Answer;
use crate::salesforce::errors::ApiError;
use crate::salesforce::schema::{Object, place};
use crate::salesforce::state::State;
use crate::salesforce::values::time;
use serde_json::{Value as Json, json};

const MINUTE_MS: i64 = 60_000;
const DAY_MS: i64 = 86_400_000;
const WINDOW_DAYS: i64 = 30;
const IDS_MAX: usize = 600_000;

/// Answers /sobjects/{type}/updated and /deleted.
pub fn handle(call: &Call<'_>, state: &State, sub: &Sub<'_>) -> Result<Answer> {
    let name = sub.path.get(1).map_or("", String::as_str);
    let object = state.data.schema.object(name).ok_or_else(ApiError::not_found)?.clone();
    let now_ms = call.org.clock.now_ms();
    let moment = |name: &str| {
        let text = sub.parameter(name).ok_or_else(|| ApiError::bad("MISSING_ARGUMENT", format!("{name} is required")))?;
        // A plus sign that was not escaped arrives as a blank.
        let parsed = time::parse_datetime(&text.replace(' ', "+"));
        parsed
            .map(|ms| ms - ms.rem_euclid(MINUTE_MS))
            .ok_or_else(|| ApiError::bad("INVALID_FIELD", format!("{name}: invalid date: {text}")))
    };
    let (start, end) = (moment("start")?, moment("end")?);
    let replication = |words: &str| ApiError::bad("INVALID_REPLICATION_DATE", words);
    if end <= start {
        return Err(replication("endDate before startDate"));
    }
    if end - start < MINUTE_MS {
        return Err(replication("startDate has to be at least one minute before endDate"));
    }
    if start < now_ms - WINDOW_DAYS * DAY_MS {
        return Err(replication("startDate before org replication enabled date or more than 30 days ago"));
    }
    let end = end.min(now_ms);
    if sub.path.get(2).is_some_and(|room| room.eq_ignore_ascii_case("updated")) {
        updated(state, &object, start, end)
    } else {
        deleted(state, &object, start, end)
    }
}

fn updated(state: &State, object: &Object, start: i64, end: i64) -> Result<Answer> {
    let mut ids = Vec::new();
    let records = state.data.store.table(&object.name).into_iter().flat_map(|table| table.all());
    for record in records.filter(|record| !record.is_deleted()) {
        let modified = record.get(place::SYSTEM_MODSTAMP).as_datetime().unwrap_or(0);
        if (start..=end).contains(&modified) {
            ids.push(record.id.to_string());
        }
    }
    bounded(ids.len())?;
    Ok(Answer::json(200, &json!({"ids": ids, "latestDateCovered": time::datetime(end)})))
}

fn deleted(state: &State, object: &Object, start: i64, end: i64) -> Result<Answer> {
    let Some(table) = state.data.store.table(&object.name) else {
        return Ok(Answer::json(
            200,
            &json!({"deletedRecords": [], "earliestDateAvailable": time::datetime(start),
            "latestDateCovered": time::datetime(end)}),
        ));
    };
    let earliest = table.known_since_ms;
    if start < earliest - earliest.rem_euclid(MINUTE_MS) {
        let message = format!("startDate before earliest date available: {}", time::datetime(earliest));
        return Err(ApiError::bad("INVALID_REPLICATION_DATE", message));
    }
    let binned = table.all().filter(|record| record.is_deleted()).map(|record| (record.stamp_ms(), record.id));
    let mut found: Vec<(i64, String)> = binned
        .chain(table.purged.iter().copied())
        .filter(|(when, _)| (start..=end).contains(when))
        .map(|(when, id)| (when, id.to_string()))
        .collect();
    bounded(found.len())?;
    found.sort();
    let entries: Vec<Json> = found.into_iter().map(|(when, id)| json!({"id": id, "deletedDate": time::datetime(when)})).collect();
    Ok(Answer::json(
        200,
        &json!({"deletedRecords": entries, "earliestDateAvailable": time::datetime(earliest),
        "latestDateCovered": time::datetime(end)}),
    ))
}

fn bounded(count: usize) -> Result<()> {
    if count > IDS_MAX {
        return Err(ApiError::bad("EXCEEDED_ID_LIMIT", format!("too many ids: {count}, at most {IDS_MAX}")));
    }
    Ok(())
}
