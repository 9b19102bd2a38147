//! The target of mirror syncs: their progress in tables of ours, in the transaction of the data. A fence number makes sure
//! that only who took a sync over last can still commit, and only behind what it committed before: its upper half rises
//! with every taking over, its lower half with every commit, so that a server which lost commits in a crash is noticed.

use super::client::{Lease, column};
use super::copy::Copying;
use super::foreign::{self, Apart};
use super::freeze::is_binary_portable;
use super::indexes::Part;
use super::lanes::Lanes;
use super::schema::Table;
use super::steps::{Rest, begin, carefully, concerns_records, in_one_go, is_unmet, need_no_answer, sayable, statements};
use super::widen::{self, Given};
use super::{Shared, errors, indexes};
use async_trait::async_trait;
use concord_engine::change::Version;
use concord_engine::error::{Code, Error, Result};
use concord_engine::mirror::Lane;
use concord_engine::mirror::batch::Step;
use concord_engine::mirror::bulk::{Helper, MirrorSession, Piece, Standing, Taken};
use concord_engine::record::{FieldName, ObjectName};
use concord_engine::schema::ForeignKeys;
use futures_util::stream::BoxStream;
use futures_util::{SinkExt, StreamExt};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use tokio_postgres::types::ToSql;

/// How sessions that mirror are set up: they wait longer than others, for they keep the order of all changes; small batches
/// find their records by the key's index, whatever the server knows of the table yet; statements are planned once.
pub const SESSION_SETTINGS: &[(&str, &str)] = &[
    ("lock_timeout", "30s"),
    ("statement_timeout", "600s"),
    ("idle_in_transaction_session_timeout", "600s"),
    ("plan_cache_mode", "force_generic_plan"),
    ("enable_seqscan", "off"),
    ("enable_hashjoin", "off"),
    ("enable_mergejoin", "off"),
];

/// The schema that holds our tables.
const OUR_SCHEMA: &str = "concord";
/// Serialises the making and dropping of our tables: the letters of our name.
const TABLES_LOCK: i64 = 0x0063_6f6e_636f_7264;
const MAKE: &str = "CREATE SCHEMA IF NOT EXISTS concord; \
    CREATE TABLE IF NOT EXISTS concord.mirrors (sync text PRIMARY KEY, object text NOT NULL, fence int8 NOT NULL, \
        progress bytea, kept timestamptz NOT NULL DEFAULT now()); \
    CREATE TABLE IF NOT EXISTS concord.loaded (sync text, range int8, PRIMARY KEY (sync, range)); \
    CREATE TABLE IF NOT EXISTS concord.lanes (sync text, lane int8, lanes int8 NOT NULL, applied bytea NOT NULL, fence int8 NOT NULL, \
        PRIMARY KEY (sync, lane)); \
    CREATE TABLE IF NOT EXISTS concord.indexes (sync text, name text, on_table text NOT NULL, on_schema text NOT NULL, \
        definition text NOT NULL, constrains bool NOT NULL, unique_fields text[], is_key bool NOT NULL DEFAULT false, table_oid oid, \
        PRIMARY KEY (sync, on_schema, name)); \
    COMMENT ON SCHEMA concord IS 'Progress of syncs, made by Concord: what has been carried into this database.'";
/// Of tables that an earlier version made.
const BRING_UP: &str = "ALTER TABLE concord.indexes ADD COLUMN IF NOT EXISTS unique_fields text[], \
    ADD COLUMN IF NOT EXISTS is_key bool NOT NULL DEFAULT false, ADD COLUMN IF NOT EXISTS table_oid oid";
const TAKE_OVER: &str = "INSERT INTO concord.mirrors AS m (sync, object, fence) VALUES ($1, $2, 1::int8 << 32) \
    ON CONFLICT (sync) DO UPDATE SET fence = ((m.fence >> 32) + 1) << 32, object = excluded.object RETURNING fence, progress";
/// Makes a commit wait for the disk, as everything does whose progress is read or of which the source is told.
pub(super) const WAIT_FOR_DISK: &str = "SELECT CASE WHEN current_setting('synchronous_commit') = 'off' \
    THEN pg_catalog.set_config('synchronous_commit', 'on', true) END";
/// A transaction behind what was committed before: its own commit reaches the disk after all of that. It has to leave something in
/// the log, or the server waits for nothing.
const SETTLE: &str = "SELECT pg_catalog.pg_logical_emit_message(true, 'concord.settled', '')";
/// Divides by zero where somebody else took the sync over, or the server has lost what we committed.
const IS_THERE: &str = "SELECT 1 / count(*) FROM concord.mirrors WHERE sync = $1 AND fence >= $2 AND fence >> 32 = $2 >> 32";
/// Divides by zero, and so ends the transaction, where somebody else took the sync over. The commit does not wait for the disk: the
/// source keeps all of it until that is settled. Where others wait for what is committed (synchronous standbys), it does as they do.
const WRITTEN: &str = "WITH kept AS (UPDATE concord.mirrors SET progress = $3, fence = fence + 1, kept = now() WHERE sync = $1 AND fence = $2 RETURNING 1) \
    SELECT 1 / count(*), CASE WHEN current_setting('synchronous_standby_names') = '' \
    THEN pg_catalog.set_config('synchronous_commit', 'off', true) END FROM kept";
/// The same behind transactions of lanes: divides by zero where the server has lost one of them, too.
const WRITTEN_BEHIND: &str = "WITH kept AS (UPDATE concord.mirrors SET progress = $3, fence = fence + 1, kept = now() WHERE sync = $1 AND fence = $2 \
    AND (SELECT sum(fence)::int8 FROM concord.lanes WHERE sync = $1) = $4 RETURNING 1) \
    SELECT 1 / count(*), CASE WHEN current_setting('synchronous_standby_names') = '' \
    THEN pg_catalog.set_config('synchronous_commit', 'off', true) END FROM kept";
/// The same for progress by itself, which is durable at once.
const KEEP: &str = "WITH kept AS (UPDATE concord.mirrors SET progress = $3, fence = fence + 1, kept = now() WHERE sync = $1 AND fence = $2 RETURNING 1) \
    SELECT 1 / count(*), CASE WHEN current_setting('synchronous_commit') = 'off' \
    THEN pg_catalog.set_config('synchronous_commit', 'on', true) END FROM kept";
const LOADED: &str = "WITH ours AS (SELECT 1 FROM concord.mirrors WHERE sync = $1 AND fence = $2 FOR SHARE), \
    loaded AS (INSERT INTO concord.loaded (sync, range) VALUES ($1, $3) ON CONFLICT DO NOTHING) \
    SELECT 1 / count(*), CASE WHEN current_setting('synchronous_commit') = 'off' \
    THEN pg_catalog.set_config('synchronous_commit', 'on', true) END FROM ours";
pub(super) const BEGIN: &str = "BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE";

/// Why a table cannot be mirrored into, if it cannot.
pub async fn objection(shared: &Shared, object: &ObjectName) -> Result<Option<String>> {
    let table = shared.table_now(object).await?;
    if table.storage.rows_hidden {
        return Ok(Some(format!("row level security hides records of {object} from us")));
    }
    let mut lease = shared.readers.lease().await?;
    // Foreign keys are looked at by themselves.
    let sql = "SELECT EXISTS (SELECT FROM pg_catalog.pg_constraint WHERE conrelid = $1 AND condeferrable AND contype <> 'f') \
            OR EXISTS (SELECT FROM pg_catalog.pg_trigger WHERE tgrelid = $1 AND tgdeferrable AND NOT tgisinternal), \
        to_regclass('concord.mirrors') IS NOT NULL AND to_regclass('concord.loaded') IS NOT NULL \
            AND to_regclass('concord.lanes') IS NOT NULL AND to_regclass('concord.indexes') IS NOT NULL, \
        CASE WHEN to_regnamespace('concord') IS NULL THEN has_database_privilege(current_database(), 'CREATE') \
        ELSE has_schema_privilege('concord', 'CREATE, USAGE') END";
    let row = lease.query_one(sql, &[&table.oid], "looking whether a table can be mirrored into").await?;
    lease.done();
    let (deferred, there, may): (bool, bool, bool) = (column(&row, 0)?, column(&row, 1)?, column(&row, 2)?);
    Ok(if deferred {
        Some(format!("something about {object} is checked at the end of transactions only (DEFERRABLE)"))
    } else if !(there || may && shared.config.allow_ddl) {
        Some(format!("the progress is kept in the schema `{OUR_SCHEMA}` of the target, which we may not make"))
    } else {
        None
    })
}

/// Takes a sync over.
pub async fn take_over(shared: &Arc<Shared>, sync: &str, object: &ObjectName) -> Result<Taken> {
    let doing = "taking a sync over in its target";
    let table = shared.table_now(object).await?;
    let mut lease = shared.mirrors.lease().await?;
    // One at a time: whoever forgets the last sync drops the tables, and whoever takes one over needs them.
    lease.execute(&format!("{BEGIN}; {WAIT_FOR_DISK}; SELECT pg_catalog.pg_advisory_xact_lock({TABLES_LOCK})"), doing).await?;
    let there = "SELECT to_regclass('concord.lanes') IS NOT NULL AND to_regclass('concord.indexes') IS NOT NULL, \
        EXISTS (SELECT FROM pg_catalog.pg_attribute WHERE attrelid = to_regclass('concord.indexes') AND attname = 'table_oid')";
    let there = lease.query_one(there, &[], doing).await?;
    match (column::<bool>(&there, 0)?, column::<bool>(&there, 1)?) {
        (false, _) => make_tables(&mut lease, MAKE, doing).await?,
        (true, false) => make_tables(&mut lease, BRING_UP, doing).await?,
        (true, true) => {}
    }
    let row = lease.query_one(TAKE_OVER, &[&sync, &object.as_str()], doing).await?;
    let (fence, progress): (i64, Option<Vec<u8>>) = (column(&row, 0)?, column(&row, 1)?);
    let (lanes, kept) = Lanes::read(&mut lease, sync, &table, doing).await?;
    let copying = Copying::into(&mut lease, &table, doing).await?;
    lease.execute("COMMIT", doing).await?;
    lease.done();
    let (shared, sync, fence) = (Arc::clone(shared), sync.to_owned(), AtomicI64::new(fence));
    let session = Session { shared, sync, fence, lanes, copying, unmet: Rest::default(), apart: Apart::default(), table };
    Ok(Taken { session: Arc::new(session), progress, lanes: kept })
}

/// Makes our tables, inside a transaction that holds their lock.
async fn make_tables(lease: &mut Lease<'_>, how: &str, doing: &str) -> Result<()> {
    lease.execute(how, doing).await.map_err(|error| match error.code {
        Code::PrivilegeMissing => Error { message: format!("{}; run as an administrator: {how};", error.message), ..error },
        _ => error,
    })
}

/// The syncs whose progress is kept and whose names begin so.
pub async fn kept(shared: &Shared, prefix: &str) -> Result<Vec<String>> {
    let doing = "looking which syncs are kept in their target";
    let mut lease = shared.mirrors.lease().await?;
    let there = lease.query_one("SELECT to_regclass('concord.mirrors') IS NOT NULL", &[], doing).await?;
    let rows = match column::<bool>(&there, 0)? {
        true => lease.query("SELECT sync FROM concord.mirrors WHERE starts_with(sync, $1) ORDER BY 1", &[&prefix], doing).await?,
        false => Vec::new(),
    };
    lease.done();
    rows.iter().map(|row| column(row, 0)).collect()
}

/// Forgets a sync; with the last one, our tables go.
pub async fn forget(shared: &Arc<Shared>, sync: &str) -> Result<()> {
    let doing = "forgetting a sync in its target";
    if is_there(shared, "concord.indexes", doing).await? {
        indexes::build(shared, (sync, None), None, Part::All, doing).await?;
    }
    let mut lease = shared.mirrors.lease().await?;
    lease.execute(&format!("{BEGIN}; SELECT pg_catalog.pg_advisory_xact_lock({TABLES_LOCK})"), doing).await?;
    let there = "SELECT to_regclass('concord.loaded') IS NOT NULL, to_regclass('concord.lanes') IS NOT NULL";
    let there = lease.query_one(there, &[], doing).await?;
    let mut dropped = false;
    if column::<bool>(&there, 0)? {
        // What was begun before there were lanes has none.
        if column::<bool>(&there, 1)? {
            lease.query("DELETE FROM concord.lanes WHERE sync = $1", &[&sync], doing).await?;
        }
        lease.query("DELETE FROM concord.loaded WHERE sync = $1", &[&sync], doing).await?;
        lease.query("DELETE FROM concord.mirrors WHERE sync = $1", &[&sync], doing).await?;
        if !others_are_kept(&mut lease, doing).await? {
            // What somebody has begun to write is there to be seen once the tables are ours alone.
            lease.execute("LOCK TABLE concord.mirrors, concord.loaded IN ACCESS EXCLUSIVE MODE", doing).await?;
            if !others_are_kept(&mut lease, doing).await? {
                lease
                    .execute("DROP TABLE IF EXISTS concord.loaded, concord.mirrors, concord.lanes, concord.indexes", doing)
                    .await?;
                dropped = true;
            }
        }
    }
    lease.execute("COMMIT", doing).await?;
    // Somebody may keep something of their own in it.
    if dropped && let Err(error) = lease.execute("DROP SCHEMA concord", doing).await {
        tracing::debug!(error = error.chain(), "our schema stays");
    }
    lease.done();
    Ok(())
}

async fn is_there(shared: &Shared, table: &str, doing: &str) -> Result<bool> {
    let mut lease = shared.mirrors.lease().await?;
    let row = lease.query_one("SELECT to_regclass($1) IS NOT NULL", &[&table], doing).await?;
    lease.done();
    column(&row, 0)
}

async fn others_are_kept(lease: &mut Lease<'_>, doing: &str) -> Result<bool> {
    column(&lease.query_one("SELECT EXISTS (SELECT FROM concord.mirrors)", &[], doing).await?, 0)
}

/// Who writes for one sync.
struct Session {
    shared: Arc<Shared>,
    sync: String,
    /// As our last commit has left it.
    fence: AtomicI64,
    lanes: Lanes,
    copying: Copying,
    /// While it is not over, changes that met nothing lately are not sent without waiting for what they meet.
    unmet: Rest,
    /// How it stands to foreign keys and to other syncs.
    apart: Apart,
    table: Arc<Table>,
}

impl Session {
    fn doing(&self) -> String {
        format!("mirroring into {}", self.table.schema.object)
    }

    fn fence(&self) -> i64 {
        self.fence.load(Ordering::SeqCst)
    }

    /// A session that writes records.
    async fn writing(&self) -> Result<Lease<'_>> {
        match self.apart.is_on() {
            true => self.shared.apart.lease().await,
            false => self.shared.mirrors.lease().await,
        }
    }

    /// A commit that has raised the fence stands.
    fn raised(&self) {
        self.fence.fetch_add(1, Ordering::SeqCst);
    }

    /// The progress of the whole stands.
    fn wrote(&self) {
        self.raised();
        self.lanes.are_proven();
    }

    /// A refusal of the fence is not one of a record.
    fn fenced(error: Error) -> Error {
        match error.message.contains("SQLSTATE 22012") {
            true => Error::new(
                Code::Busy,
                "another process has taken the sync over, the server has lost commits in a crash, or triggers or foreign keys have changed",
            ),
            false => error,
        }
    }

    /// Carries a lot of steps out inside a transaction. What is refused is told lot by lot, for there may be any number of them.
    async fn carry_out(&self, lease: &mut Lease<'_>, steps: &[Step], helper: &dyn Helper, doing: &str) -> Result<()> {
        let (steps, mut refused) = sayable(&self.table, steps);
        refused.extend(carefully(lease, &self.table, (&steps, &self.copying), helper, doing).await?);
        match refused.is_empty() {
            true => Ok(()),
            false => helper.refused(refused).await,
        }
    }

    async fn mark_loaded(&self, lease: &mut Lease<'_>, range: u32) -> Result<()> {
        let (range, doing) = (i64::from(range), self.doing());
        lease.query(LOADED, &[&self.sync, &self.fence(), &range], &doing).await.map_err(Session::fenced)?;
        lease.execute("COMMIT", &doing).await
    }
}

#[async_trait]
impl MirrorSession for Session {
    async fn leave_foreign_keys(&self, keys: &ForeignKeys) -> Result<()> {
        self.apart.leave(&self.shared, &self.table, keys, &self.doing()).await
    }

    fn standing(&self) -> Standing {
        foreign::standing(&self.sync, self.fence())
    }

    fn stand_behind(&self, others: Vec<Standing>) {
        self.apart.stand_behind(&others);
    }

    async fn require(&self, others: &[Standing]) -> Result<()> {
        foreign::require(&self.shared, others, &self.doing()).await.map_err(Session::fenced)
    }

    async fn loaded(&self) -> Result<BTreeSet<u32>> {
        let mut lease = self.shared.mirrors.lease().await?;
        let rows = lease.query("SELECT range FROM concord.loaded WHERE sync = $1", &[&self.sync], &self.doing()).await?;
        lease.done();
        let ranges = rows.iter().map(|row| column::<i64>(row, 0)).collect::<Result<Vec<i64>>>()?;
        Ok(ranges.into_iter().filter_map(|range| u32::try_from(range).ok()).collect())
    }

    async fn is_empty(&self) -> Result<bool> {
        let mut lease = self.shared.mirrors.lease().await?;
        let sql = format!("SELECT NOT EXISTS (SELECT FROM {})", self.table.name.sql());
        let row = lease.query_one(&sql, &[], &self.doing()).await?;
        lease.done();
        column(&row, 0)
    }

    async fn count(&self) -> Result<u64> {
        let doing = self.doing();
        let mut lease = self.shared.mirrors.lease().await?;
        lease.execute(&format!("{BEGIN}; SET LOCAL statement_timeout = 0"), &doing).await?;
        let row = lease.query_one(&format!("SELECT count(*) FROM {}", self.table.name.sql()), &[], &doing).await?;
        lease.execute("COMMIT", &doing).await?;
        lease.done();
        Ok(u64::try_from(column::<i64>(&row, 0)?).unwrap_or(0))
    }

    async fn keep(&self, progress: &[u8], anew: bool) -> Result<()> {
        let doing = self.doing();
        let mut lease = self.shared.mirrors.lease().await?;
        lease.execute(BEGIN, &doing).await?;
        lease.query(KEEP, &[&self.sync, &self.fence(), &progress], &doing).await.map_err(Session::fenced)?;
        if anew {
            lease.query("DELETE FROM concord.loaded WHERE sync = $1", &[&self.sync], &doing).await?;
            lease.query("DELETE FROM concord.lanes WHERE sync = $1", &[&self.sync], &doing).await?;
        }
        lease.execute("COMMIT", &doing).await?;
        self.raised();
        if anew {
            self.lanes.forget();
        }
        lease.done();
        Ok(())
    }

    async fn write(&self, steps: &[Step], progress: &[u8], helper: &dyn Helper) -> Result<()> {
        let doing = self.doing();
        let (steps, mut refused) = sayable(&self.table, steps);
        let copies = self.copying.may(&steps);
        let planned = statements(&self.table, &steps, copies)?;
        let (fence, lanes) = (self.fence(), self.lanes.to_be_proven());
        let mut keep: Vec<&(dyn ToSql + Sync)> = vec![&self.sync, &fence, &progress];
        keep.extend(lanes.as_ref().map(|lanes| lanes as &(dyn ToSql + Sync)));
        let (keep, written) = (keep.as_slice(), if lanes.is_some() { WRITTEN_BEHIND } else { WRITTEN });
        let (needs_answers, begun) = (!need_no_answer(&planned), self.apart.beginning(begin(&steps)));
        // Where triggers may throw records away, the answers are looked at.
        let decides = self.table.storage.decides;
        if refused.is_empty() && !decides && !helper.has_more() && (!needs_answers || self.unmet.is_over()) {
            let mut lease = self.writing().await?;
            match in_one_go(&mut lease, &begun, &planned, (written, keep), &doing).await {
                Ok(()) => {
                    self.wrote();
                    lease.done();
                    return Ok(());
                }
                // Dropped, the session ends, and with it what was begun in it.
                Err(error) if concerns_records(&error) => {
                    drop(lease);
                    if needs_answers && is_unmet(&error) {
                        self.unmet.begin();
                    } else if copies {
                        tracing::debug!(error = error.chain(), "new records are not copied");
                        self.copying.failed();
                    }
                }
                Err(error) => {
                    self.shared.forget_if_stale(&self.table.schema.object, &error);
                    return Err(error);
                }
            }
        }
        drop(planned);
        let mut lease = self.writing().await?;
        lease.execute(&begun, &doing).await.map_err(Session::fenced)?;
        refused.extend(carefully(&mut lease, &self.table, (&steps, &self.copying), helper, &doing).await?);
        if !refused.is_empty() {
            helper.refused(refused).await?;
        }
        while let Some(steps) = helper.more().await? {
            self.carry_out(&mut lease, &steps, helper, &doing).await?;
        }
        lease.query(written, keep, &doing).await.map_err(Session::fenced)?;
        lease.execute("COMMIT", &doing).await?;
        self.wrote();
        lease.done();
        Ok(())
    }

    fn lanes_max(&self) -> usize {
        self.lanes.most()
    }

    async fn write_lane(&self, lane: Lane, steps: &[Step], applied: &Version, helper: &dyn Helper) -> Result<bool> {
        // What is refused is refused where its person is told.
        if matches!(sayable(&self.table, steps), (_, refused) if !refused.is_empty()) {
            return Ok(false);
        }
        let (lease, whose) = (self.writing().await?, (self.sync.as_str(), self.fence()));
        let careful = (&self.copying, &self.unmet);
        self.lanes.write(lease, (&self.table, &self.apart, whose), lane, (steps, careful), applied, (helper, &self.doing())).await
    }

    async fn set_indexes_aside(&self, unique: &[Vec<FieldName>]) -> Result<()> {
        indexes::set_aside(&self.shared, (&self.sync, self.fence()), &self.table, unique, &self.doing()).await
    }

    async fn build_indexes(&self) -> Result<()> {
        let doing = self.doing();
        indexes::build(&self.shared, (&self.sync, Some(self.fence())), Some(&self.table), Part::All, &doing).await?;
        // What was unique by indexes that were set aside can be looked at now.
        let mut lease = self.shared.mirrors.lease().await?;
        self.lanes.look_again(&mut lease, &self.table, &doing).await?;
        lease.done();
        Ok(())
    }

    async fn build_key(&self) -> Result<()> {
        indexes::build(&self.shared, (&self.sync, Some(self.fence())), Some(&self.table), Part::Key, &self.doing()).await
    }

    async fn settle(&self) -> Result<()> {
        let (fence, doing) = (self.fence(), self.doing());
        let mut lease = self.shared.mirrors.lease().await?;
        lease.execute(&format!("{BEGIN}; {WAIT_FOR_DISK}"), &doing).await?;
        // In the session that reaches the disk: a server that crashed since ends it, one that crashed before has less.
        lease.query(IS_THERE, &[&self.sync, &fence], &doing).await.map_err(Session::fenced)?;
        lease.execute(&format!("{SETTLE}; COMMIT"), &doing).await?;
        lease.done();
        Ok(())
    }

    async fn takes_raw(&self, kind: &str, fields: &[(FieldName, String)]) -> Result<Option<Vec<Option<String>>>> {
        if kind != "postgres" {
            return Ok(None);
        }
        let given = |(name, native): &(FieldName, String)| {
            let column = self.table.column(name.as_str()).filter(|column| is_binary_portable(&column.field))?;
            Some(match widen::given(native, &column.field.native_type)? {
                Given::AsTheyAre => None,
                Given::As(ty) => Some(ty.to_owned()),
            })
        };
        Ok(fields.iter().map(given).collect())
    }

    async fn load_raw(&self, range: u32, fields: &[FieldName], mut rows: BoxStream<'static, Result<Piece>>) -> Result<u64> {
        let doing = self.doing();
        let columns = fields.iter().map(|field| Ok(self.table.require(field)?.sql.clone())).collect::<Result<Vec<String>>>()?;
        let mut lease = self.writing().await?;
        let begun = self.apart.beginning(&format!("{BEGIN}; SET LOCAL statement_timeout = 0"));
        lease.execute(&begun, &doing).await.map_err(Session::fenced)?;
        let sql = format!("COPY {} ({}) FROM STDIN (FORMAT binary)", self.table.name.sql(), columns.join(", "));
        let mut sent: u64 = 0;
        let copied = {
            let sink = lease.client()?.copy_in(&sql).await.map_err(|error| errors::statement(&error, &doing))?;
            futures_util::pin_mut!(sink);
            while let Some(piece) = rows.next().await {
                let Piece { bytes, records } = piece?;
                sent = sent.saturating_add(records);
                sink.send(bytes).await.map_err(|error| errors::statement(&error, &doing))?;
            }
            sink.finish().await.map_err(|error| errors::statement(&error, &doing))?
        };
        if copied != sent {
            // Dropped, the session ends, and with it what was begun in it.
            return Err(Error::new(Code::TargetRejected, format!("a trigger of {} ignored records", self.table.schema.object)));
        }
        self.mark_loaded(&mut lease, range).await?;
        lease.done();
        Ok(copied)
    }

    async fn load(&self, range: u32, mut rows: BoxStream<'_, Result<Vec<Step>>>, helper: &dyn Helper) -> Result<()> {
        let doing = self.doing();
        let mut lease = self.writing().await?;
        lease.execute(&self.apart.beginning(BEGIN), &doing).await.map_err(Session::fenced)?;
        while let Some(steps) = rows.next().await {
            self.carry_out(&mut lease, &steps?, helper, &doing).await?;
        }
        self.mark_loaded(&mut lease, range).await?;
        lease.done();
        Ok(())
    }
}
