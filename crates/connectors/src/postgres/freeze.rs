//! Views of a table frozen at a place of the log: a temporary slot's exported snapshot, under which any number of sessions
//! read the same. Its session holds the snapshot for as long as the view lives; the slot goes with the session.

use super::client::{Lease, column};
use super::condition;
use super::names::literal;
use super::read::{placed, record};
use super::schema::{Column, Table, is_own};
use super::session::Session;
use super::version::{RowVersion, Snapshot, parse_lsn};
use super::{Shared, errors, slot, types};
use async_trait::async_trait;
use bytes::BytesMut;
use concord_engine::change::{EditTime, Image, Observation, Position, Version};
use concord_engine::clock::Moment;
use concord_engine::error::{Code, Error, Result};
use concord_engine::filter::Condition;
use concord_engine::mirror::bulk::{Frozen, Piece, Range, RawField};
use concord_engine::record::{Key, ObjectName, Record};
use concord_engine::schema::{Field, Selection, Type};
use concord_engine::value::Value;
use futures_util::StreamExt;
use futures_util::stream::{BoxStream, poll_fn};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_postgres::types::ToSql;
use tokio_util::task::AbortOnDropHandle;

/// Takes every limit of time off a session that holds a view, whatever the server sets for a role: one has to hold it for as long as it
/// is read. Not every version knows all of them.
const WITHOUT_LIMITS: &str = "SELECT pg_catalog.set_config(name, '0', false) FROM pg_catalog.pg_settings \
    WHERE name IN ('idle_in_transaction_session_timeout', 'idle_session_timeout', 'transaction_timeout')";
/// The same for the transaction of a session that reads under it.
const FOR_AS_LONG_AS_IT_TAKES: &str = "SET LOCAL statement_timeout = 0; SET LOCAL idle_in_transaction_session_timeout = 0; \
    SELECT pg_catalog.set_config(name, '0', true) FROM pg_catalog.pg_settings WHERE name = 'transaction_timeout'";
/// How long making the view may wait for the transactions that are open.
const FREEZE_WAIT_MAX: Duration = Duration::from_secs(300);
/// About how many bytes are handed over at once.
const PIECE_BYTES: usize = 64 << 10;
/// How many pieces wait for who takes them.
const PIECES_MAX: usize = 8;
/// How many records are handed over at once.
const RECORDS_AT_ONCE: usize = 1_000;
/// About how many bytes of records are handed over at once, and how many such lots wait for who takes them.
const LOT_BYTES: usize = 1 << 20;
const LOTS_MAX: usize = 2;
/// What stands behind the last record of a binary COPY, and how long the header in front of the first one is.
/// <https://www.postgresql.org/docs/current/sql-copy.html>
const END: [u8; 2] = [0xff, 0xff];
const HEADER_BYTES: usize = 19;
const SIGNATURE: &[u8] = b"PGCOPY\n\xff\r\n\0";
/// About how many records are looked at to find where ranges begin.
const SAMPLE_RECORDS: f64 = 30_000.0;

/// A frozen view.
struct View {
    shared: Arc<Shared>,
    object: ObjectName,
    selection: Selection,
    table: Arc<Table>,
    snapshot: String,
    version: Version,
    position: Position,
    /// Holds the snapshot.
    _session: Session,
}

/// Freezes a view.
pub async fn freeze(shared: &Arc<Shared>, selection: &Selection) -> Result<Arc<dyn Frozen>> {
    let table = shared.table_now(&selection.object).await?;
    table.selected(selection)?;
    let mut session = Session::connect(&shared.config, &shared.names.sessions).await?;
    session.query(WITHOUT_LIMITS).await?;
    let name = format!("{}_{}", shared.names.slot.chars().take(40).collect::<String>(), uuid::Uuid::new_v4().simple());
    let name: String = name.chars().take(63).collect();
    let command = format!("CREATE_REPLICATION_SLOT \"{name}\" TEMPORARY LOGICAL pgoutput EXPORT_SNAPSHOT");
    let late = |_| Error::new(Code::Busy, "freezing a view of the table waits for transactions that stay open");
    let rows = timeout(FREEZE_WAIT_MAX, session.query(&command)).await.map_err(late)??;
    let row = rows.first().ok_or_else(|| errors::unexpected("the temporary slot is not described"))?;
    let text = |place: usize| row.get(place).and_then(Option::as_deref);
    let malformed = || errors::unexpected("the temporary slot's description is malformed");
    let lsn = text(1).and_then(parse_lsn).ok_or_else(malformed)?;
    let snapshot = text(2).ok_or_else(malformed)?.to_owned();
    let mut lease = shared.readers.lease().await?;
    enter(&mut lease, Some(&snapshot)).await?;
    let row = lease.query_one("SELECT pg_catalog.pg_current_snapshot()::text", &[], "looking at a view").await?;
    let seen: String = column(&row, 0)?;
    leave(lease).await?;
    let seen = Snapshot::parse(&seen).ok_or_else(|| errors::unexpected(format!("{seen} is no snapshot")))?;
    Ok(Arc::new(View {
        shared: Arc::clone(shared),
        object: selection.object.clone(),
        selection: selection.clone(),
        table,
        snapshot,
        version: RowVersion::Snapshot(seen).encode(),
        position: slot::place(shared, lsn).encode(),
        _session: session,
    }))
}

/// Begins to read under a snapshot; `None`: of one's own.
async fn enter(lease: &mut Lease<'_>, snapshot: Option<&str>) -> Result<()> {
    let doing = "reading under a frozen view";
    let shared = snapshot.map(|name| format!("SET TRANSACTION SNAPSHOT {}; ", literal(name))).unwrap_or_default();
    let sql = format!("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; {shared}{FOR_AS_LONG_AS_IT_TAKES}");
    lease.execute(&sql, doing).await.map_err(|error| match error.code {
        // Its holder was ended: that is no record's fault, and another view can be made.
        Code::ValueDoesNotFit | Code::StatementRefused if snapshot.is_some() => {
            Error::new(Code::Busy, format!("{doing}: the view is gone, for its session was ended")).because(error)
        }
        _ => error,
    })
}

/// Whether a message of a binary COPY holds a record, as all do but the last one: the server sends each in a message of its own,
/// the first behind the header. <https://www.postgresql.org/docs/current/protocol-flow.html#PROTOCOL-COPY>
fn is_record(message: &[u8]) -> bool {
    !(message == END || (message.len() == HEADER_BYTES + END.len() && message.starts_with(SIGNATURE)))
}

/// Refuses what was read under a view from a table that was rewritten since (`ALTER TABLE` that builds it anew): under the view such a
/// table seems to be empty. While what was read is held on to nothing can rewrite it.
/// <https://www.postgresql.org/docs/current/mvcc-caveats.html>
async fn is_as_it_was(lease: &mut Lease<'_>, table: &Table) -> Result<()> {
    // The one is read under the view, the other one tells of now.
    const REWRITTEN: &str = "SELECT bool_or(c.relfilenode IS DISTINCT FROM pg_catalog.pg_relation_filenode(c.oid)) \
        FROM pg_catalog.pg_class c WHERE c.relkind = 'r' AND (c.oid = $1 \
        OR c.oid IN (SELECT relid FROM pg_catalog.pg_partition_tree($1) WHERE isleaf))";
    let row = lease.query_one(REWRITTEN, &[&table.oid], "looking whether the table was rewritten").await?;
    match column::<Option<bool>>(&row, 0)? {
        Some(true) => {
            Err(Error::new(Code::Busy, format!("{} was rewritten while it was read: it is read again", table.name.sql())))
        }
        _ => Ok(()),
    }
}

async fn leave(mut lease: Lease<'_>) -> Result<()> {
    lease.execute("COMMIT", "leaving a frozen view").await?;
    lease.done();
    Ok(())
}

/// A bound of a range for a statement. Only values whose text holds nothing but digits, letters and dashes bound a range.
fn bound(value: &Value) -> Result<String> {
    match value {
        Value::Int(number) => Ok(format!("({number})")),
        Value::UInt(number) => Ok(number.to_string()),
        Value::Uuid(id) => Ok(format!("'{}'::pg_catalog.uuid", id.hyphenated())),
        _ => Err(Error::new(Code::Internal, "a range is bounded by a value that is neither a number nor a UUID")),
    }
}

impl View {
    fn key_column(&self) -> Result<&Column> {
        self.table.key_columns()?.into_iter().next().ok_or_else(|| Error::new(Code::KeyMissing, "the table has no key"))
    }

    /// A record of the view.
    fn shows(&self, record: Record) -> Result<Observation> {
        observation(&self.table, &self.selection.object, record, String::new(), &self.version)
    }

    fn condition(&self, range: &Range, filter: Option<&Condition>) -> Result<String> {
        let mut conditions = Vec::new();
        if let Some(filter) = filter {
            let asked = condition::sql(&self.table, filter.test());
            conditions.push(asked.ok_or_else(|| Error::new(Code::Internal, "a filter that the server cannot ask"))?);
        }
        for (value, sign) in [(&range.from, ">="), (&range.below, "<")] {
            if let Some(value) = value {
                conditions.push(format!("t.{} {sign} {}", self.key_column()?.sql, bound(value)?));
            }
        }
        Ok(if conditions.is_empty() { String::new() } else { format!(" WHERE {}", conditions.join(" AND ")) })
    }
}

/// A record of a view. When it was last edited is not known.
fn observation(table: &Table, object: &ObjectName, record: Record, place: String, version: &Version) -> Result<Observation> {
    let keyed = (!table.key.is_empty()).then(|| super::read::key_of(table, &record)).transpose()?;
    let image = Image::Full(record);
    Ok(Observation {
        object: object.clone(),
        key: keyed.unwrap_or_else(|| placed(&image, place)),
        old_key: None,
        image,
        made: false,
        version: version.clone(),
        time: EditTime { at: Moment::default(), granularity_micros: 1, estimated: true },
        mark: None,
    })
}

/// What a task of ours sends, as a stream; the task ends with the stream. So many wait for who takes them.
fn piped<T, W, F>(shared: &Arc<Shared>, most: usize, work: W) -> BoxStream<'static, Result<T>>
where
    T: Send + 'static,
    W: FnOnce(Arc<Shared>, mpsc::Sender<Result<T>>) -> F,
    F: Future<Output = Result<()>> + Send + 'static,
{
    let (sender, mut receiver) = mpsc::channel(most);
    let failed = sender.clone();
    let working = work(Arc::clone(shared), sender);
    let task = AbortOnDropHandle::new(shared.tasks.spawn(async move {
        if let Err(error) = working.await {
            // Whoever listened may have gone.
            let _ = failed.send(Err(error)).await;
        }
    }));
    poll_fn(move |context| {
        let _owned = &task;
        receiver.poll_recv(context)
    })
    .boxed()
}

#[async_trait]
impl Frozen for View {
    fn version(&self) -> &Version {
        &self.version
    }

    fn position(&self) -> &Position {
        &self.position
    }

    async fn ranges(&self, count: usize) -> Result<Vec<Range>> {
        let first = self.table.key_columns().ok().and_then(|key| key.into_iter().next());
        // Where a range begins is asked of the server, and whether a record lies in it is seen here: both must order values alike.
        // A domain is taken for what it is made of.
        let (key, base) = match first.filter(|_| count > 1).map(|key| (key, &key.field.ty)) {
            Some((key, Type::Int { .. })) => (key, "int8"),
            Some((key, Type::Uuid)) => (key, "uuid"),
            _ => return Ok(vec![Range::default()]),
        };
        let rows = super::read::count(&self.shared, &self.object).await?;
        #[allow(clippy::cast_precision_loss, reason = "a share of a sample")]
        let percent = (SAMPLE_RECORDS * 100.0 / rows.max(1) as f64).clamp(0.01, 100.0);
        #[allow(clippy::cast_precision_loss, reason = "a share of a sample")]
        let fractions: Vec<f64> = (1..count).map(|part| part as f64 / count as f64).collect();
        let sql = format!(
            "SELECT c.cut::pg_catalog.text FROM (SELECT DISTINCT unnest(percentile_disc($1::float8[]) \
             WITHIN GROUP (ORDER BY t.{}::pg_catalog.{base})) AS cut FROM {} AS t TABLESAMPLE SYSTEM ({percent})) AS c ORDER BY c.cut",
            key.sql,
            self.table.name.sql()
        );
        let mut lease = self.shared.readers.lease().await?;
        let rows = lease.query(&sql, &[&fractions], "looking where ranges begin").await?;
        lease.done();
        let cuts = rows.iter().map(|row| column(row, 0)).collect::<Result<Vec<Option<String>>>>()?;
        let value = |cut: String| match base {
            "uuid" => cut.parse().ok().map(Value::Uuid),
            _ => cut.parse().ok().map(Value::Int),
        };
        let malformed = || errors::unexpected("a range begins with a value that cannot be read");
        let cuts: Vec<Value> = cuts.into_iter().flatten().map(|cut| value(cut).ok_or_else(malformed)).collect::<Result<_>>()?;
        let from = std::iter::once(None).chain(cuts.iter().cloned().map(Some));
        let below = cuts.iter().cloned().map(Some).chain(std::iter::once(None));
        Ok(from.zip(below).map(|(from, below)| Range { from, below }).collect())
    }

    fn can_ask(&self, filter: &Condition) -> bool {
        condition::sql(&self.table, filter.test()).is_some()
    }

    async fn raw(
        &self,
        range: &Range,
        fields: &[RawField],
        filter: Option<&Condition>,
    ) -> Result<BoxStream<'static, Result<Piece>>> {
        let given = |field: &RawField| {
            let column = &self.table.require(&field.name)?.sql;
            Ok(match &field.given_as {
                Some(ty) => format!("t.{column}::{ty}"),
                None => format!("t.{column}"),
            })
        };
        let columns = fields.iter().map(given).collect::<Result<Vec<_>>>()?;
        let sql = format!(
            "COPY (SELECT {} FROM {} AS t{}) TO STDOUT (FORMAT binary)",
            columns.join(", "),
            self.table.name.sql(),
            self.condition(range, filter)?
        );
        let (snapshot, table, doing) = (self.snapshot.clone(), Arc::clone(&self.table), format!("copying {}", self.object));
        Ok(piped(&self.shared, PIECES_MAX, |shared, pieces| async move {
            let mut lease = shared.readers.lease().await?;
            enter(&mut lease, Some(&snapshot)).await?;
            let rows = lease.client()?.copy_out(&sql).await.map_err(|error| errors::statement(&error, &doing))?;
            futures_util::pin_mut!(rows);
            let (mut piece, mut records) = (BytesMut::with_capacity(PIECE_BYTES * 2), 0_u64);
            while let Some(bytes) = rows.next().await {
                let bytes = bytes.map_err(|error| errors::statement(&error, &doing))?;
                records = records.saturating_add(u64::from(is_record(&bytes)));
                piece.extend_from_slice(&bytes);
                if piece.len() >= PIECE_BYTES {
                    let full = std::mem::replace(&mut piece, BytesMut::with_capacity(PIECE_BYTES * 2)).freeze();
                    let full = Piece { bytes: full, records: std::mem::take(&mut records) };
                    if pieces.send(Ok(full)).await.is_err() {
                        return Ok(());
                    }
                }
            }
            is_as_it_was(&mut lease, &table).await?;
            leave(lease).await?;
            // Whoever listened may have gone.
            let _ = pieces.send(Ok(Piece { bytes: piece.freeze(), records })).await;
            Ok(())
        }))
    }

    async fn read(&self, keys: &[Key]) -> Result<Vec<Observation>> {
        let (shown, key) = (self.table.selected(&self.selection)?, self.table.key_columns()?);
        let printed: Vec<String> = shown.iter().map(|column| column.printed("t")).collect();
        let same: Vec<String> =
            key.iter().enumerate().map(|(place, column)| column.equals("t", &format!("x.c{place}"))).collect();
        let sql = format!(
            "SELECT {} FROM {} JOIN {} AS t ON {}",
            printed.join(", "),
            super::read::unnest(key.len(), 1, "x"),
            self.table.name.sql(),
            same.join(" AND ")
        );
        let rows: Vec<&[Value]> = keys.iter().map(|key| key.0.as_slice()).collect();
        let arrays = super::read::columns_of(&key, &rows)?;
        let parameters: Vec<&(dyn ToSql + Sync)> = arrays.iter().map(|array| array as _).collect();
        let mut lease = self.shared.readers.lease().await?;
        enter(&mut lease, Some(&self.snapshot)).await?;
        let rows = lease.query(&sql, &parameters, &format!("reading {}", self.object)).await?;
        is_as_it_was(&mut lease, &self.table).await?;
        leave(lease).await?;
        rows.iter().map(|row| self.shows(record(&shown, row, 0)?)).collect()
    }

    async fn count(&self) -> Result<u64> {
        let mut lease = self.shared.readers.lease().await?;
        enter(&mut lease, Some(&self.snapshot)).await?;
        let sql = format!("SELECT count(*) FROM {}", self.table.name.sql());
        let row = lease.query_one(&sql, &[], &format!("counting {}", self.object)).await?;
        is_as_it_was(&mut lease, &self.table).await?;
        leave(lease).await?;
        Ok(u64::try_from(column::<i64>(&row, 0)?).unwrap_or(0))
    }

    async fn records(&self, range: &Range) -> Result<BoxStream<'static, Result<Vec<Observation>>>> {
        let (table, condition) = (Arc::clone(&self.table), self.condition(range, None)?);
        Ok(records(&self.shared, table, &self.selection, condition, Some(self.snapshot.clone()), self.version.clone()))
    }
}

/// Every record of a table as it is at one moment.
pub async fn whole(shared: &Arc<Shared>, selection: &Selection) -> Result<BoxStream<'static, Result<Vec<Observation>>>> {
    let table = shared.table(&selection.object).await?;
    table.selected(selection)?;
    Ok(records(shared, table, selection, String::new(), None, Version::default()))
}

/// Records of a table, some at a time; `snapshot`: as they are in it.
fn records(
    shared: &Arc<Shared>,
    table: Arc<Table>,
    selection: &Selection,
    condition: String,
    snapshot: Option<String>,
    version: Version,
) -> BoxStream<'static, Result<Vec<Observation>>> {
    let (selection, doing) = (selection.clone(), format!("reading {}", selection.object));
    piped(shared, LOTS_MAX, |shared, lots| async move {
        let shown = table.selected(&selection)?;
        let printed: String = shown.iter().map(|column| format!("{}, ", column.printed("t"))).collect();
        let sql = format!("SELECT {printed}t.tableoid::text || t.ctid::text FROM {} AS t{condition}", table.name.sql());
        let mut lease = shared.readers.lease().await?;
        enter(&mut lease, snapshot.as_deref()).await?;
        let none: [&(dyn ToSql + Sync); 0] = [];
        let rows = lease.client()?.query_raw(&sql, none).await.map_err(|error| errors::statement(&error, &doing))?;
        futures_util::pin_mut!(rows);
        let (mut some, mut bytes) = (Vec::new(), 0_usize);
        while let Some(row) = rows.next().await {
            let row = row.map_err(|error| errors::statement(&error, &doing))?;
            let place = column(&row, shown.len())?;
            bytes = bytes.saturating_add(row.raw_size_bytes());
            some.push(observation(&table, &selection.object, record(&shown, &row, 0)?, place, &version)?);
            if some.len() >= RECORDS_AT_ONCE || bytes >= LOT_BYTES {
                bytes = 0;
                if lots.send(Ok(std::mem::take(&mut some))).await.is_err() {
                    return Ok(());
                }
            }
        }
        is_as_it_was(&mut lease, &table).await?;
        leave(lease).await?;
        // Whoever listened may have gone.
        let _ = lots.send(Ok(some)).await;
        Ok(())
    })
}

/// Whether the binary form of a column's values means the same in every database: nothing in it names types by number. A list names
/// the type of what it holds, and only the server's own types have the same number everywhere; a domain has another one in each database,
/// whatever it is made of.
pub fn is_binary_portable(field: &Field) -> bool {
    match &field.ty {
        Type::Array(element) => {
            is_own(&field.native_type) && !matches!(**element, Type::Enum { .. } | Type::Opaque { .. } | Type::Array(_))
        }
        Type::Opaque { .. } | Type::Reference { .. } => false,
        _ => true,
    }
}

/// Whether a value has a text that a statement can carry.
pub fn can_be_said(table: &Table, fields: &Record) -> Result<()> {
    fields.iter().try_for_each(|(name, value)| types::encodes(&table.require(name)?.field.ty, value))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_message_of_a_copy_holds_a_record_but_the_last() {
        let header = b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0";
        assert_eq!(header.len(), HEADER_BYTES);
        let record = b"\0\x01\0\0\0\x02\xff\xff";
        assert!(
            is_record(&[0, 1, 0, 0, 0, 15, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 0xff, 0xff]),
            "as long as an end behind a header"
        );
        assert!(is_record(record) && is_record(&[&header[..], record].concat()));
        assert!(!is_record(&END) && !is_record(&[&header[..], &END].concat()));
    }
}
