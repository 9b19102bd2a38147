//! Learning of changes: making the capture, and reading the change table behind a position. A feed never moves the
//! position in the file; it only looks, and it writes nothing but the row that tells of a changed schema.

use super::client::{Client, session_number};
use super::config::SqliteSettings;
use super::errors::classify;
use super::position::{Place, version};
use super::schema::Table;
use super::shape;
use super::storage::{self, Captured, Layout};
use super::types::Cell;
use async_trait::async_trait;
use concord_engine::change::{EditTime, Image, Mark, Observation, Position};
use concord_engine::clock::Moment;
use concord_engine::connector::{Batch, Changes, Event, Feed, Limits};
use concord_engine::error::{Class, Code, Error, Result};
use concord_engine::record::{FieldName, Key, ObjectName};
use concord_engine::schema::Selection;
use concord_engine::value::Value;
use rusqlite::{Connection, Row};
use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::time::Instant;

/// The one feed of a file.
pub(super) const FEED: &str = "changes";
/// Change rows that one acknowledgement leaves behind rather than begin a transaction for so few.
const PRUNE_AT_LEAST: i64 = 500;
/// Change rows removed in one transaction: the user's writers wait for no more than that.
const PRUNE_AT_ONCE: i64 = 5_000;
/// The sleep between two looks while changes are coming.
const BUSY_INTERVAL: Duration = Duration::from_millis(2);
/// Looks without a change behind which a feed counts as idle.
const IDLE_BEHIND: u32 = 250;
/// No call waits longer, whatever its limits say.
const WAIT_MAX: Duration = Duration::from_secs(3_600);
/// Place of the first value among the columns of a change row.
const VALUES_FROM: usize = 5;

/// Runs `work` in a transaction that holds the write lock from the start.
pub(super) fn writing<T>(connection: &Connection, work: impl FnOnce(&Connection) -> Result<T>) -> Result<T> {
    connection.execute_batch("BEGIN IMMEDIATE").map_err(|error| classify(error, "beginning to write"))?;
    let done = work(connection)
        .and_then(|value| connection.execute_batch("COMMIT").map(|()| value).map_err(|error| classify(error, "committing")));
    if done.is_err() && !connection.is_autocommit() {
        connection.execute_batch("ROLLBACK").map_err(|error| classify(error, "rolling back"))?;
    }
    done
}

/// Makes or completes the capture; see [`Connector::prepare`](concord_engine::connector::Connector::prepare).
pub(super) fn prepare(connection: &Connection, selections: &[Selection], known: &[Feed]) -> Result<Vec<Feed>> {
    writing(connection, |connection| {
        let known = known.iter().find(|feed| feed.name.as_str() == FEED);
        let resumed = match known.filter(|feed| !feed.position.0.is_empty()) {
            Some(feed) => Some((feed, Place::decode(&feed.position)?)),
            None => None,
        };
        if let Some((_, place)) = resumed {
            storage::prove_resumable(connection, place)?;
        }
        let database = match storage::database(connection)? {
            Some(database) if known.is_none() || resumed.is_some() => database,
            None if selections.is_empty() => return Ok(Vec::new()),
            _ => {
                storage::drop_all(connection)?;
                storage::create(connection)?
            }
        };
        let before = storage::captured(connection)?;
        for object in before.iter().filter(|object| !selections.iter().any(|selection| selection.object.as_str() == object.name))
        {
            storage::forget(connection, object)?;
        }
        let mut joined = Vec::new();
        for selection in selections {
            let was_there = resumed.is_some_and(|(feed, _)| feed.objects.contains(&selection.object));
            let object = before.iter().find(|object| object.name == selection.object.as_str());
            if was_there && Table::load(connection, selection.object.as_str())?.is_none() {
                // Its own syncs are told so when the feed is opened; the other tables go on.
                continue;
            }
            if was_there && !object.map(|object| storage::is_unbroken(connection, object)).transpose()?.unwrap_or(false) {
                return Err(broken(selection.object.as_str()));
            }
            match include(connection, selection, object) {
                Err(error) if was_there && error.class() == Class::Stop => {
                    tracing::warn!(object = %selection.object, error = error.chain(), "a table that is followed has changed");
                }
                included => included?,
            }
            if resumed.is_some() && !was_there {
                joined.push(selection.object.clone());
            }
        }
        let here = storage::last_place(connection, database)?;
        Ok(vec![Feed {
            name: FEED.into(),
            objects: selections.iter().map(|selection| selection.object.clone()).collect(),
            position: resumed.map_or_else(|| here.encode(), |(feed, _)| feed.position.clone()),
            complete_from: joined.into_iter().map(|object| (object, here.encode())).collect(),
        }])
    })
}

fn include(connection: &Connection, selection: &Selection, before: Option<&Captured>) -> Result<()> {
    let table = shape::table(connection, &selection.object)?;
    let mut fields: Vec<String> = selection.fields.iter().map(|field| field.as_str().to_owned()).collect();
    fields.sort_unstable();
    fields.dedup();
    if let Some(missing) = fields.iter().find(|field| table.place(field).is_none()) {
        return Err(Error::new(Code::FieldMissing, format!("the table {} has no column {missing}", selection.object)));
    }
    storage::install(connection, &table, &fields, before)
}

fn broken(object: &str) -> Error {
    Error::new(Code::FeedGap, format!("the triggers of the table {object} were removed, or the table was dropped and made anew"))
}

/// Removes the capture of these objects, and with the last of them the capture itself.
pub(super) fn release(connection: &Connection, objects: &[ObjectName]) -> Result<()> {
    if storage::database(connection)?.is_none() && storage::own_triggers(connection)?.is_empty() {
        return Ok(());
    }
    writing(connection, |connection| {
        let captured = storage::captured(connection)?;
        let (released, kept): (Vec<_>, Vec<_>) =
            captured.iter().partition(|object| objects.iter().any(|name| name.as_str() == object.name));
        for object in released {
            storage::forget(connection, object)?;
        }
        if kept.is_empty() { storage::drop_all(connection) } else { Ok(()) }
    })
}

/// Removes change rows before the position; the row that it names stays, for the position is proven by it.
pub(super) fn acknowledge(connection: &Connection, upto: Place) -> Result<()> {
    if storage::database(connection)? != Some(upto.database) {
        return Err(Error::new(Code::FeedGap, "the change table is not the one that the position was read from"));
    }
    loop {
        let first: i64 = connection
            .prepare_cached("SELECT coalesce(min(seq), 0) FROM _concord_changes")
            .and_then(|mut statement| statement.query_row([], |row| row.get(0)))
            .map_err(|error| classify(error, "reading the first change"))?;
        if upto.seq.saturating_sub(first) < PRUNE_AT_LEAST {
            return Ok(());
        }
        let end = upto.seq.min(first.saturating_add(PRUNE_AT_ONCE));
        let pruned = connection
            .prepare_cached("DELETE FROM _concord_changes WHERE seq < ?1")
            .and_then(|mut statement| statement.execute([end]))
            .map_err(|error| classify(error, "removing acknowledged changes"));
        match pruned {
            // Nothing to remove: somebody else emptied the table, which the feed finds out.
            Ok(0) => return Ok(()),
            Ok(_) => {}
            // Only house-keeping: the next acknowledgement does it.
            Err(error) if error.class() == Class::Transient => return Ok(()),
            Err(error) => return Err(error),
        }
    }
}

/// An open feed of one file.
pub(super) struct SqliteChanges {
    client: Client,
    idle_interval: Duration,
    decoder: Arc<Mutex<Decoder>>,
    place: Place,
    seen: Option<Look>,
    quiet_looks: u32,
}

/// What a look at the file saw last: nothing has changed while it stays equal.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Look {
    session: u64,
    data_version: i64,
}

/// What one look brought: events, how far the feed has got, and what it saw when nothing is left to read.
struct Step {
    events: Vec<Event>,
    place: Place,
    seen: Option<Look>,
}

/// Opens the feed behind `from`.
pub(super) async fn open(settings: Arc<SqliteSettings>, feed: &Feed, from: &Position) -> Result<SqliteChanges> {
    let place = Place::decode(from)?;
    let idle_interval = settings.poll_interval;
    let client = Client::start(settings, "feed")?;
    let decoder = Arc::new(Mutex::new(Decoder::new(feed.objects.iter().cloned().collect())));
    let theirs = Arc::clone(&decoder);
    client
        .run(move |connection| {
            storage::prove_resumable(connection, place)?;
            theirs.lock().unwrap_or_else(PoisonError::into_inner).follow_schema(connection).map(|_| ())
        })
        .await?;
    Ok(SqliteChanges { client, idle_interval, decoder, place, seen: None, quiet_looks: 0 })
}

#[async_trait]
impl Changes for SqliteChanges {
    async fn next(&mut self, limits: Limits) -> Result<Batch> {
        let begun = Instant::now();
        let deadline = begun.checked_add(limits.max_wait.min(WAIT_MAX)).unwrap_or(begun);
        loop {
            let (decoder, place, seen) = (Arc::clone(&self.decoder), self.place, self.seen);
            let step = self
                .client
                .run(move |connection| {
                    decoder.lock().unwrap_or_else(PoisonError::into_inner).look(connection, place, seen, limits)
                })
                .await?;
            let has_moved = step.place != place;
            self.place = step.place;
            self.seen = step.seen;
            if !step.events.is_empty() {
                self.quiet_looks = 0;
                return Ok(Batch { events: step.events, position: Some(self.place.encode()) });
            }
            let now = Instant::now();
            if now >= deadline {
                return Ok(Batch { events: Vec::new(), position: Some(self.place.encode()) });
            }
            self.quiet_looks = self.quiet_looks.saturating_add(1);
            let nap = if self.quiet_looks < IDLE_BEHIND { BUSY_INTERVAL.min(self.idle_interval) } else { self.idle_interval };
            // Rows of other objects were passed over: more may stand right behind them.
            if !has_moved {
                tokio::time::sleep_until(deadline.min(now + nap)).await;
            }
        }
    }
}

/// Reads change rows by their layouts.
struct Decoder {
    objects: HashSet<ObjectName>,
    layouts: HashMap<i64, Arc<Layout>>,
    /// The fields selected now, per object: an image that lacks one of them is partial.
    selected: HashMap<String, Vec<String>>,
    session: u64,
    schema_version: i64,
}

impl Decoder {
    fn new(objects: HashSet<ObjectName>) -> Decoder {
        Decoder { objects, layouts: HashMap::new(), selected: HashMap::new(), session: 0, schema_version: -1 }
    }

    /// What is new behind `place`. Cheap while nobody has written.
    fn look(&mut self, connection: &Connection, place: Place, seen: Option<Look>, limits: Limits) -> Result<Step> {
        let look = Look { session: session_number(), data_version: pragma(connection, "PRAGMA data_version")? };
        if seen == Some(look) {
            return Ok(Step { events: Vec::new(), place, seen });
        }
        // Whoever wrote may have emptied the change table, or put another state of the file in its place.
        storage::prove_resumable(connection, place)?;
        let followed = if look.session == self.session && pragma(connection, "PRAGMA schema_version")? == self.schema_version {
            true
        } else {
            self.follow_schema(connection)?
        };
        let (events, reached, more) = self.read(connection, place, limits)?;
        Ok(Step { events, place: reached, seen: (followed && !more).then_some(look) })
    }

    /// Brings triggers and layouts in line with tables that were altered. `false`: the file is locked, to be tried again.
    fn follow_schema(&mut self, connection: &Connection) -> Result<bool> {
        let at = pragma(connection, "PRAGMA schema_version")?;
        let captured: Vec<Captured> =
            storage::captured(connection)?.into_iter().filter(|object| self.objects.contains(object.name.as_str())).collect();
        self.selected = captured.iter().map(|object| (object.name.clone(), object.fields.clone())).collect();
        for object in &captured {
            let table = Table::load(connection, &object.name)?;
            if table.is_some() && !storage::is_unbroken(connection, object)? {
                return Err(broken(&object.name));
            }
            let known = storage::layout(connection, object.layout)?.map(|layout| layout.schema);
            let now = table.as_ref().map_or_else(|| Layout::gone(&object.name).schema, Table::schema);
            if known.as_ref() == Some(&now) {
                continue;
            }
            let adapted = writing(connection, |connection| match &table {
                Some(table) => storage::install(connection, table, &object.fields, Some(object)),
                None => storage::mark_gone(connection, object),
            });
            match adapted {
                Ok(()) => {}
                Err(error) if error.class() == Class::Transient => return Ok(false),
                Err(error) => return Err(error),
            }
        }
        self.session = session_number();
        // Taken before the changes of our own: the next look sees those as news and finds nothing to do.
        self.schema_version = at;
        Ok(true)
    }

    fn read(&mut self, connection: &Connection, from: Place, limits: Limits) -> Result<(Vec<Event>, Place, bool)> {
        let failed = |error| classify(error, "reading the change table");
        let mut statement =
            connection.prepare_cached("SELECT * FROM _concord_changes WHERE seq > ?1 ORDER BY seq LIMIT ?2").map_err(failed)?;
        let most = limits.max_events.max(1);
        let limit = i64::try_from(most).unwrap_or(i64::MAX);
        let mut rows = statement.query([from.seq, limit]).map_err(failed)?;
        let (mut events, mut place, mut bytes, mut count) = (Vec::new(), from, 0_usize, 0_usize);
        while let Some(row) = rows.next().map_err(failed)? {
            let change = ChangeRow::read(row).map_err(failed)?;
            let size = change.cells.iter().map(Cell::size).fold(64_usize, usize::saturating_add);
            if !events.is_empty() && bytes.saturating_add(size) > limits.max_bytes {
                return Ok((events, place, true));
            }
            bytes = bytes.saturating_add(size);
            place = Place { database: from.database, seq: change.seq, stamp: change.at };
            count = count.saturating_add(1);
            events.extend(self.decode(connection, change)?);
        }
        Ok((events, place, count >= most))
    }

    fn decode(&mut self, connection: &Connection, change: ChangeRow) -> Result<Option<Event>> {
        if change.operation == "B" {
            return Ok(None);
        }
        let layout = self.layout(connection, change.layout)?;
        if !self.objects.contains(&layout.schema.object) {
            return Ok(None);
        }
        if change.operation == "S" {
            return Ok(Some(Event::SchemaChanged(layout.schema.clone())));
        }
        let selected = self.selected.get(layout.schema.object.as_str()).map_or(&[][..], Vec::as_slice);
        Ok(observe(&layout, selected, change).map(Event::Observed))
    }

    fn layout(&mut self, connection: &Connection, id: i64) -> Result<Arc<Layout>> {
        if let Some(layout) = self.layouts.get(&id) {
            return Ok(Arc::clone(layout));
        }
        let layout = storage::layout(connection, id)?
            .map(Arc::new)
            .ok_or_else(|| Error::new(Code::FeedGap, "the capture's own tables were changed by somebody"))?;
        self.layouts.insert(id, Arc::clone(&layout));
        Ok(layout)
    }
}

fn pragma(connection: &Connection, text: &str) -> Result<i64> {
    connection
        .prepare_cached(text)
        .and_then(|mut statement| statement.query_row([], |row| row.get(0)))
        .map_err(|error| classify(error, "looking at the file"))
}

/// One row of the change table.
struct ChangeRow {
    seq: i64,
    layout: i64,
    operation: String,
    at: i64,
    mark: Option<String>,
    cells: Vec<Cell>,
}

impl ChangeRow {
    fn read(row: &Row<'_>) -> rusqlite::Result<ChangeRow> {
        let count = row.as_ref().column_count();
        let cells = (VALUES_FROM..count).map(|at| row.get_ref(at).map(Cell::of)).collect::<rusqlite::Result<_>>()?;
        Ok(ChangeRow { seq: row.get(0)?, layout: row.get(1)?, operation: row.get(2)?, at: row.get(3)?, mark: row.get(4)?, cells })
    }
}

/// What a change row shows; `None` for a row whose key holds a null, which is no record.
fn observe(layout: &Layout, selected: &[String], change: ChangeRow) -> Option<Observation> {
    let key_cells: Vec<Cell> = layout.key.iter().filter_map(|place| change.cells.get(*place).cloned()).collect();
    let width = layout.columns.len();
    let old_cells: Vec<Cell> = change.cells.iter().skip(width).take(layout.key.len()).cloned().collect();
    let (key, mut old_key) = (key_of(layout, &key_cells), None);
    let (key, image) = match (key, change.operation.as_str()) {
        (key, "D") => (key?, Image::Deleted),
        (key, operation) => {
            let before = (operation == "U" && old_cells != key_cells).then(|| key_of(layout, &old_cells)).flatten();
            match (key, before) {
                (Some(key), before) => {
                    old_key = before;
                    (key, image_of(layout, selected, &change.cells))
                }
                // The key became null: the record is gone.
                (None, Some(before)) => (before, Image::Deleted),
                (None, None) => return None,
            }
        }
    };
    Some(Observation {
        object: layout.schema.object.clone(),
        key,
        old_key,
        image,
        made: false,
        version: version(change.seq),
        time: EditTime {
            at: Moment(change.at.saturating_mul(1000)),
            granularity_micros: super::TIME_GRANULARITY_MICROS,
            estimated: false,
        },
        mark: change.mark.as_deref().and_then(read_mark),
    })
}

fn key_of(layout: &Layout, cells: &[Cell]) -> Option<Key> {
    let columns = layout.key.iter().filter_map(|place| layout.columns.get(*place));
    let key: Vec<Value> = columns.zip(cells).map(|(column, cell)| column.ty().decode_key(cell)).collect();
    (key.len() == layout.key.len() && !key.iter().any(|part| matches!(part, Value::Null))).then_some(Key(key))
}

fn image_of(layout: &Layout, selected: &[String], cells: &[Cell]) -> Image {
    let value = |place: usize, column: &storage::LayoutColumn, cell: &Cell| {
        if layout.key.contains(&place) { column.ty().decode_key(cell) } else { column.ty().decode(cell) }
    };
    let record = layout
        .columns
        .iter()
        .zip(cells)
        .enumerate()
        .map(|(place, (column, cell))| (FieldName::from(column.name.as_str()), value(place, column, cell)))
        .collect();
    let is_full = selected.iter().all(|field| layout.columns.iter().any(|column| column.name == *field));
    if is_full { Image::Full(record) } else { Image::Partial(record) }
}

/// A mark as text.
pub(super) fn write_mark(mark: &Mark) -> Result<String> {
    serde_json::to_string(&(&mark.store, &mark.sync, mark.intent, mark.hops))
        .map_err(|error| Error::new(Code::Internal, "a mark could not be written").because(error))
}

/// A mark from its text. One that cannot be read marks nothing: the change is then taken for an edit, which loses none.
fn read_mark(text: &str) -> Option<Mark> {
    let (store, sync, intent, hops) = serde_json::from_str(text).ok()?;
    Some(Mark { store, sync, intent, hops })
}
