//! Records as a query or a retrieve shows them, turned into observations. Asks the org in pages of 2,000; decides nothing
//! about what was found.

use super::client::{Call, Client, Need};
use super::ids;
use super::parts::ask;
use super::position::Seen;
use super::schema::{FieldInfo, LAST_MODIFIED_DATE, Object, SYSTEM_MODSTAMP};
use super::types;
use crate::percent::encoded;
use concord_engine::change::{EditTime, Image, Observation};
use concord_engine::clock::{Clock, Moment, SystemClock};
use concord_engine::error::{Code, Error, Result};
use concord_engine::record::{FieldName, ObjectName, Record};
use http::Method;
use serde::Deserialize;
use serde_json::value::RawValue;
use std::collections::HashMap;

/// The most records of one retrieve, and of one page of a query.
pub(super) const PAGE_MAX: usize = 2_000;
/// Seconds are the finest that a record's own stamps tell.
const SECOND_MICROS: u32 = 1_000_000;
/// The most pages that one query is followed for (invariant 10). Every query asks for a bounded number of records; the org
/// may give them in smaller pages than it was asked for, of 200 at the least.
const PAGES_MAX: usize = 500;

/// The most bytes of an address: with the head of the request it may have 16,384.
const ADDRESS_MAX: usize = 8_000;

/// A record's JSON: fields by name, digits kept.
pub(super) type Row = HashMap<String, Box<RawValue>>;

/// A record as it was shown.
#[derive(Clone, Debug)]
pub(super) struct ShownRecord {
    pub id: String,
    pub record: Record,
    /// The second of its last change of any kind.
    pub second: i64,
    /// When it was last edited.
    pub edited: Moment,
    /// In the bin.
    pub deleted: bool,
}

/// What is read of an object: the fields asked for, and those that tell when.
pub(super) struct Columns<'a> {
    pub object: &'a Object,
    pub fields: Vec<&'a FieldInfo>,
}

/// When a read began and what the feed had shown by then: what its versions are made of.
#[derive(Clone, Copy, Debug)]
pub(super) struct Look {
    pub behind: u64,
    pub began: i64,
}

/// A page of a query.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Page {
    pub total_size: u64,
    pub done: bool,
    pub next_records_url: Option<String>,
    pub records: Vec<Row>,
}

impl Look {
    /// Begins now.
    pub fn new(behind: u64) -> Look {
        Look { behind, began: SystemClock.now().micros() }
    }

    /// The version of what was shown, the read being over.
    pub fn version(&self, second: Option<i64>, ours: Option<u64>) -> concord_engine::change::Version {
        let over = SystemClock.now().micros().max(self.began);
        Seen::Shown { second, behind: self.behind, began: self.began, over, ours }.encode()
    }

    /// A record of this id as an observation, or that it is gone.
    pub fn told(&self, object: &Object, id: &str, shown: Option<ShownRecord>) -> Observation {
        match shown {
            Some(shown) => self.observe(object, shown),
            None => Observation {
                object: ObjectName::from(object.name.as_str()),
                key: ids::key(id),
                old_key: None,
                version: self.version(None, None),
                image: Image::Deleted,
                made: false,
                time: EditTime { at: SystemClock.now(), granularity_micros: SECOND_MICROS, estimated: true },
                mark: None,
            },
        }
    }

    /// A record as an observation.
    pub fn observe(&self, object: &Object, shown: ShownRecord) -> Observation {
        Observation {
            object: ObjectName::from(object.name.as_str()),
            key: ids::key(&shown.id),
            old_key: None,
            version: self.version(Some(shown.second), None),
            image: if shown.deleted { Image::Deleted } else { Image::Full(shown.record) },
            made: false,
            time: EditTime { at: shown.edited, granularity_micros: SECOND_MICROS, estimated: true },
            mark: None,
        }
    }
}

impl<'a> Columns<'a> {
    /// These fields; the key is always among them.
    pub fn new(object: &'a Object, fields: Vec<&'a FieldInfo>) -> Columns<'a> {
        Columns { object, fields }
    }

    /// The names to ask for, the stamps included.
    pub fn names(&self) -> Vec<&'a str> {
        let mut names: Vec<&'a str> = self.fields.iter().map(|field| field.name.as_str()).collect();
        for stamp in [SYSTEM_MODSTAMP, LAST_MODIFIED_DATE] {
            if self.object.field(stamp).is_some() && !names.contains(&stamp) {
                names.push(if stamp == SYSTEM_MODSTAMP { SYSTEM_MODSTAMP } else { LAST_MODIFIED_DATE });
            }
        }
        names
    }

    /// Reads a record's JSON.
    pub fn read(&self, row: &Row) -> Result<ShownRecord> {
        let mut record = Vec::with_capacity(self.fields.len());
        let mut id = None;
        for field in &self.fields {
            let json = row.get(&field.name).ok_or_else(|| short(&field.name))?;
            let value = types::decode(field, json)?;
            if field.name == super::schema::ID {
                id = value.as_text().map(ids::full);
            }
            record.push((FieldName::from(field.name.as_str()), value));
        }
        let (second, edited) = stamps(|name| row.get(name).and_then(|json| serde_json::from_str(json.get()).ok()));
        let deleted = row.get("IsDeleted").is_some_and(|flag| flag.get() == "true");
        Ok(ShownRecord {
            id: id.ok_or_else(|| short(super::schema::ID))?,
            record: record.into_iter().collect(),
            second,
            edited,
            deleted,
        })
    }

    /// Reads a record's cells as Bulk API writes them.
    pub fn read_cells(&self, header: &csv::StringRecord, cells: &csv::StringRecord) -> Result<ShownRecord> {
        let cell = |name: &str| header.iter().position(|one| one == name).and_then(|place| cells.get(place));
        let mut record = Vec::with_capacity(self.fields.len());
        for field in &self.fields {
            let text = cell(&field.name).ok_or_else(|| short(&field.name))?;
            record.push((FieldName::from(field.name.as_str()), types::from_cell(field, text)?));
        }
        let id = cell(super::schema::ID).map(ids::full).ok_or_else(|| short(super::schema::ID))?;
        let (second, edited) = stamps(|name| cell(name).map(str::to_owned));
        Ok(ShownRecord { id, record: record.into_iter().collect(), second, edited, deleted: false })
    }
}

/// The second of the last change of any kind, and the moment of the last edit.
fn stamps(text_of: impl Fn(&str) -> Option<String>) -> (i64, Moment) {
    let micros =
        |name: &str| text_of(name).and_then(|text| types::moment(&text)).and_then(concord_engine::value::TimestampTz::to_micros);
    let changed = micros(SYSTEM_MODSTAMP).or_else(|| micros(LAST_MODIFIED_DATE)).unwrap_or(0);
    (changed.div_euclid(1_000_000), Moment(micros(LAST_MODIFIED_DATE).unwrap_or(changed)))
}

fn short(field: &str) -> Error {
    Error::new(Code::ProtocolViolation, format!("a record came without its field {field}"))
}

/// The first page of a query; `all` shows records in the bin as well.
pub(super) async fn page(client: &Client, doing: &str, soql: &str, all: bool, need: Need) -> Result<Page> {
    let room = if all { "queryAll" } else { "query" };
    let mut call = Call::get(client.settings.path(&format!("{room}?q={}", encoded(soql)))).needed(need);
    if call.path.len() > ADDRESS_MAX {
        let pages = ask(client, doing, room, &[soql.to_owned()], need).await?;
        return pages.into_iter().next().ok_or_else(|| Error::new(Code::ProtocolViolation, format!("{doing}: no answer came")));
    }
    call.headers.push(("sforce-query-options", format!("batchSize={PAGE_MAX}")));
    client.json(doing, call).await
}

/// The first pages of up to five queries, by one call.
pub(super) async fn first_pages(client: &Client, doing: &str, queries: &[String], need: Need) -> Result<Vec<Page>> {
    match queries {
        [one] => Ok(vec![page(client, doing, one, false, need).await?]),
        several => ask(client, doing, "query", several, need).await,
    }
}

/// Every record that a query finds; the query bounds how many that can be. A query that was begun is read to its end.
pub(super) async fn rows(client: &Client, doing: &str, soql: &str, all: bool, need: Need) -> Result<Vec<Row>> {
    let page = page(client, doing, soql, all, need).await?;
    rest(client, doing, page).await
}

/// Every record of a query of which this is the first page.
pub(super) async fn rest(client: &Client, doing: &str, mut page: Page) -> Result<Vec<Row>> {
    let mut rows = std::mem::take(&mut page.records);
    for _ in 0..PAGES_MAX {
        let Some(next) = page.next_records_url.take().filter(|_| !page.done) else { return Ok(rows) };
        page = client.json(doing, Call::get(next)).await?;
        rows.append(&mut page.records);
    }
    Err(Error::new(Code::ProtocolViolation, format!("{doing}: the answer goes on for more than {PAGES_MAX} pages")))
}

/// Records by their ids, in the order asked; `None` for one that is not there.
pub(super) async fn retrieve(client: &Client, columns: &Columns<'_>, wanted: &[String]) -> Result<Vec<Option<ShownRecord>>> {
    let object = &columns.object.name;
    let doing = format!("reading {object}");
    let mut found = Vec::with_capacity(wanted.len());
    for part in wanted.chunks(PAGE_MAX) {
        let body = serde_json::json!({"ids": part, "fields": columns.names()}).to_string();
        let call = Call::with_body(Method::POST, client.settings.path(&format!("composite/sobjects/{object}")), body);
        let rows: Vec<Option<Row>> = client.json(&doing, call).await?;
        if rows.len() != part.len() {
            return Err(Error::new(
                Code::ProtocolViolation,
                format!("{doing}: {} records were asked for, {} came", part.len(), rows.len()),
            ));
        }
        for row in rows {
            found.push(row.map(|row| columns.read(&row)).transpose()?.filter(|shown| !shown.deleted));
        }
    }
    Ok(found)
}
