//! Lanes of a mirror sync: batches that are carried out side by side, each in a transaction of its own that keeps how far its
//! lane has got. The transaction that keeps the progress of the whole proves that none of theirs was lost before it.

use super::client::{Lease, column};
use super::copy::Copying;
use super::errors;
use super::foreign::Apart;
use super::schema::Table;
use super::steps::{Rest, concerns_records, in_one_go, is_unmet, need_no_answer, one_after_the_other, statements};
use concord_engine::change::Version;
use concord_engine::error::{Code, Error, Result};
use concord_engine::mirror::batch::Step;
use concord_engine::mirror::bulk::Helper;
use concord_engine::mirror::{Ahead, Lane};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use tokio_postgres::types::ToSql;

/// One that waits for another, or for somebody else, had better be carried out behind it.
const BEGIN: &str = "BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE; SET LOCAL lock_timeout = '100ms'";
/// Divides by zero, and so ends the transaction, where somebody else took the sync over or the server has lost a commit of this
/// lane. The fence of a lane rises with each of its commits.
const WRITTEN: &str = "WITH ours AS (SELECT 1 FROM concord.mirrors WHERE sync = $1 AND fence = $2 FOR SHARE), \
    further AS (UPDATE concord.lanes SET lanes = $4, applied = $5, fence = fence + 1 \
        WHERE sync = $1 AND lane = $3 AND fence = $6 RETURNING 1), \
    first AS (INSERT INTO concord.lanes (sync, lane, lanes, applied, fence) SELECT $1, $3, $4, $5, 1 WHERE $6::int8 = 0 \
        ON CONFLICT DO NOTHING RETURNING 1) \
    SELECT 1 / (SELECT count(*) FROM ours), 1 / ((SELECT count(*) FROM further) + (SELECT count(*) FROM first)), \
    CASE WHEN current_setting('synchronous_standby_names') = '' \
    THEN pg_catalog.set_config('synchronous_commit', 'off', true) END";
const KEPT: &str = "SELECT lane, lanes, applied, fence FROM concord.lanes WHERE sync = $1";
/// What is done to a record may bear on others: triggers may do anything, a record may name another one, and what must be unique can be
/// read from a record only where it is made of columns whose values are equal where their bytes are, and only there. Unique indexes
/// that are set aside come back; of what they are made is not looked at.
const ALONE: &str = "SELECT EXISTS (SELECT FROM pg_catalog.pg_trigger WHERE tgrelid = $1 AND NOT tgisinternal AND tgenabled IN ('O', 'A')) \
    OR EXISTS (SELECT FROM pg_catalog.pg_constraint WHERE conrelid = $1 AND (contype = 'x' OR contype = 'f' AND confrelid = $1)) \
    OR EXISTS (SELECT FROM pg_catalog.pg_rewrite WHERE ev_class = $1) \
    OR EXISTS (SELECT FROM pg_catalog.pg_index WHERE indrelid = $1 AND indisunique AND (indpred IS NOT NULL OR indexprs IS NOT NULL)) \
    OR EXISTS (SELECT FROM pg_catalog.pg_index i JOIN pg_catalog.pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = ANY (i.indkey) \
        WHERE i.indrelid = $1 AND i.indisunique AND a.atttypid NOT IN ('bool'::pg_catalog.regtype, 'int2'::pg_catalog.regtype, \
            'int4'::pg_catalog.regtype, 'int8'::pg_catalog.regtype, 'numeric'::pg_catalog.regtype, 'text'::pg_catalog.regtype, \
            'varchar'::pg_catalog.regtype, 'uuid'::pg_catalog.regtype, 'bytea'::pg_catalog.regtype, 'date'::pg_catalog.regtype, \
            'time'::pg_catalog.regtype, 'timestamp'::pg_catalog.regtype, 'timestamptz'::pg_catalog.regtype)) \
    OR EXISTS (SELECT FROM pg_catalog.pg_index i JOIN pg_catalog.pg_collation l ON l.oid = ANY (i.indcollation) \
        WHERE i.indrelid = $1 AND i.indisunique AND NOT l.collisdeterministic) \
    OR EXISTS (SELECT FROM concord.indexes WHERE on_table = $2 AND (unique_fields IS NOT NULL OR definition LIKE 'CREATE UNIQUE %'))";

/// The lanes of one sync, as our last commits have left them.
pub struct Lanes {
    state: Mutex<State>,
    /// Whether a lane bears on no other.
    are_apart: AtomicBool,
}

#[derive(Default)]
struct State {
    fences: BTreeMap<u32, i64>,
    /// Whether a lane has committed since the progress of the whole was kept.
    ahead: bool,
}

impl Lanes {
    /// What is kept of a sync's lanes, inside a transaction that has taken it over.
    pub async fn read(lease: &mut Lease<'_>, sync: &str, table: &Table, doing: &str) -> Result<(Lanes, Vec<Ahead>)> {
        let mut state = State::default();
        let mut kept = Vec::new();
        for row in lease.query(KEPT, &[&sync], doing).await? {
            let (number, of): (i64, i64) = (column(&row, 0)?, column(&row, 1)?);
            let malformed = |_| errors::unexpected("a lane has no number");
            let (number, of) = (u32::try_from(number).map_err(malformed)?, u32::try_from(of).map_err(malformed)?);
            kept.push(Ahead { lane: Lane { number, of }, applied: Version(column(&row, 2)?) });
            state.fences.insert(number, column(&row, 3)?);
        }
        let lanes = Lanes { state: Mutex::new(state), are_apart: AtomicBool::new(false) };
        lanes.look_again(lease, table, doing).await?;
        Ok((lanes, kept))
    }

    /// Looks whether a lane bears on others.
    pub async fn look_again(&self, lease: &mut Lease<'_>, table: &Table, doing: &str) -> Result<()> {
        let alone: bool = column(&lease.query_one(ALONE, &[&table.oid, &table.name.sql()], doing).await?, 0)?;
        self.are_apart.store(!alone, Ordering::SeqCst);
        Ok(())
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The most that may be carried out side by side.
    pub fn most(&self) -> usize {
        if self.are_apart.load(Ordering::SeqCst) { usize::MAX } else { 1 }
    }

    /// Where lanes have committed since the progress of the whole was kept: what their fences come to.
    pub fn to_be_proven(&self) -> Option<i64> {
        let state = self.state();
        state.ahead.then(|| state.fences.values().sum())
    }

    /// The progress of the whole has been kept behind them.
    pub fn are_proven(&self) {
        self.state().ahead = false;
    }

    /// None has got anywhere.
    pub fn forget(&self) {
        *self.state() = State::default();
    }

    /// Carries a lane's steps out, `whose` being the sync and the fence of the whole; `false`: nothing of it was done.
    pub async fn write(
        &self,
        mut lease: Lease<'_>,
        (table, apart, whose): (&Table, &Apart, (&str, i64)),
        lane: Lane,
        (steps, (copying, unmet)): (&[Step], (&Copying, &Rest)),
        applied: &Version,
        (helper, doing): (&dyn Helper, &str),
    ) -> Result<bool> {
        let fence = self.state().fences.get(&lane.number).copied().unwrap_or(0);
        let (number, of) = (i64::from(lane.number), i64::from(lane.of));
        let keep: [&(dyn ToSql + Sync); 6] = [&whose.0, &whose.1, &number, &of, &applied.0, &fence];
        let begin = apart.beginning(BEGIN);
        let mut copies = copying.may(steps);
        let mut unattended = unmet.is_over();
        let written = loop {
            let planned = statements(table, steps, copies)?;
            let needs_answers = !need_no_answer(&planned);
            let written = match unattended || !needs_answers {
                true => in_one_go(&mut lease, &begin, &planned, (WRITTEN, &keep), doing).await,
                false => one_by_one(&mut lease, (table, &begin), (steps, copies), &keep, helper, doing).await,
            };
            match written {
                Err(error) if unattended && needs_answers && is_unmet(&error) => {
                    unmet.begin();
                    unattended = false;
                    lease.execute("ROLLBACK", doing).await?;
                }
                Err(error) if copies && concerns_records(&error) => {
                    tracing::debug!(lane = lane.number, error = error.chain(), "new records are not copied");
                    copying.failed();
                    copies = false;
                    lease.execute("ROLLBACK", doing).await?;
                }
                written => break written,
            }
        };
        match written {
            Ok(()) => {
                lease.done();
                let mut state = self.state();
                state.fences.insert(lane.number, fence.saturating_add(1));
                state.ahead = true;
                Ok(true)
            }
            Err(error) if concerns_records(&error) || error.code == Code::Busy => {
                tracing::debug!(lane = lane.number, error = error.chain(), "a lane is carried out behind the others");
                lease.execute("ROLLBACK", doing).await?;
                lease.done();
                Ok(false)
            }
            Err(error) => Err(error),
        }
    }
}

async fn one_by_one(
    lease: &mut Lease<'_>,
    (table, begin): (&Table, &str),
    steps: (&[Step], bool),
    keep: &[&(dyn ToSql + Sync)],
    helper: &dyn Helper,
    doing: &str,
) -> std::result::Result<(), Error> {
    lease.execute(begin, doing).await?;
    one_after_the_other(lease, table, steps, helper, doing).await?;
    lease.query(WRITTEN, keep, doing).await?;
    lease.execute("COMMIT", doing).await
}
