//! Queries by REST: pages, and the cursors that keep what is not yet fetched as it was when the query ran.

use super::{Call, Result, Sub};
use crate::net::http::Answer;
use crate::salesforce::errors::ApiError;
use crate::salesforce::ids::Id;
use crate::salesforce::record::Shared;
use crate::salesforce::soql::rows::{Plan, Row, Versioned};
use crate::salesforce::soql::run::{Found, run};
use crate::salesforce::state::{Data, State};
use serde::Serialize;
use std::collections::VecDeque;
use std::sync::Arc;

/// Rows of a page where nothing else is asked for; also the most.
const PAGE_ROWS: usize = 2_000;
const PAGE_ROWS_MIN: usize = 200;
/// Open cursors of a user; the oldest is closed.
const CURSORS_MAX: usize = 10;
/// A cursor is kept so long.
const CURSOR_MS: i64 = 48 * 3_600_000;

/// Open cursors.
#[derive(Debug, Default)]
pub struct Cursors {
    open: VecDeque<(Id, Cursor)>,
    numbers: u64,
}

#[derive(Clone, Debug)]
struct Cursor {
    user: Id,
    made_ms: i64,
    plan: Arc<Plan>,
    records: Arc<Vec<Shared>>,
    page_rows: usize,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Page<'a> {
    total_size: usize,
    done: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    next_records_url: Option<String>,
    records: Vec<Versioned<'a>>,
}

impl Cursors {
    fn open(&mut self, cursor: Cursor) -> Id {
        self.numbers += 1;
        let id = Id::new("01g", self.numbers);
        let user = cursor.user;
        self.open.push_back((id, cursor));
        while self.open.iter().filter(|(_, cursor)| cursor.user == user).count() > CURSORS_MAX {
            let oldest = self.open.iter().position(|(_, cursor)| cursor.user == user);
            oldest.and_then(|at| self.open.remove(at));
        }
        id
    }

    /// Closes all of them, as time does.
    pub fn close_all(&mut self) {
        self.open.clear();
    }
}

/// Answers a request under /query or /queryAll.
pub fn handle(call: &Call<'_>, state: &mut State, sub: &Sub<'_>) -> Result<Answer> {
    if sub.method != "GET" {
        return Err(ApiError::method());
    }
    let with_deleted = sub.path.first().is_some_and(|name| name.eq_ignore_ascii_case("queryAll"));
    if let Some(locator) = sub.path.get(1) {
        return next_page(call, state, locator, with_deleted);
    }
    let text = sub.parameter("q").ok_or_else(|| ApiError::bad("MALFORMED_QUERY", "A query string has to be specified"))?;
    let now_ms = call.org.clock.now_ms();
    match run(&state.data, now_ms, text, with_deleted)? {
        Found::Count(count) => {
            Ok(Answer::json(200, &Page { total_size: count, done: true, next_records_url: None, records: Vec::new() }))
        }
        Found::Aggregates(rows) => {
            let records = rows.iter().map(|row| Versioned(row, call.version)).collect();
            Ok(Answer::json(200, &Page { total_size: rows.len(), done: true, next_records_url: None, records }))
        }
        Found::Records { plan, records } => {
            let cursor = Cursor { user: call.user, made_ms: now_ms, plan, records: Arc::new(records), page_rows: page_rows(sub) };
            let locator = (cursor.records.len() > cursor.page_rows).then(|| state.cursors.open(cursor.clone()));
            Ok(page(call, &state.data, &cursor, locator, 0, with_deleted))
        }
    }
}

fn page_rows(sub: &Sub<'_>) -> usize {
    let options = sub.headers.get("sforce-query-options").and_then(|value| value.to_str().ok()).unwrap_or("");
    let wanted = options.split(',').filter_map(|option| option.trim().split_once('='));
    let wanted = wanted.filter(|(key, _)| key.eq_ignore_ascii_case("batchSize")).find_map(|(_, value)| value.trim().parse().ok());
    wanted.unwrap_or(PAGE_ROWS).clamp(PAGE_ROWS_MIN, PAGE_ROWS)
}

fn next_page(call: &Call<'_>, state: &State, locator: &str, with_deleted: bool) -> Result<Answer> {
    let gone = || ApiError::bad("INVALID_QUERY_LOCATOR", "invalid query locator");
    let (id, start) = locator.rsplit_once('-').ok_or_else(gone)?;
    let (id, start) = (Id::parse(id).ok_or_else(gone)?, start.parse::<usize>().map_err(|_| gone())?);
    let now_ms = call.org.clock.now_ms();
    let mine = |(own, cursor): &&(Id, Cursor)| *own == id && cursor.user == call.user && now_ms - cursor.made_ms < CURSOR_MS;
    let (_, cursor) = state.cursors.open.iter().find(mine).ok_or_else(gone)?;
    if start > cursor.records.len() {
        return Err(gone());
    }
    Ok(page(call, &state.data, cursor, Some(id), start, with_deleted))
}

fn page(call: &Call<'_>, data: &Data, cursor: &Cursor, locator: Option<Id>, start: usize, with_deleted: bool) -> Answer {
    let now_ms = call.org.clock.now_ms();
    let records = cursor.records.iter().skip(start).take(cursor.page_rows);
    let rows: Vec<Row> = records.map(|record| cursor.plan.row(data, record, now_ms)).collect();
    let end = start + rows.len();
    let done = end >= cursor.records.len();
    let room = if with_deleted { "queryAll" } else { "query" };
    let next = locator.filter(|_| !done).map(|id| call.url(&format!("{room}/{id}-{end}")));
    let records = rows.iter().map(|row| Versioned(row, call.version)).collect();
    Answer::json(200, &Page { total_size: cursor.records.len(), done, next_records_url: next, records })
}
