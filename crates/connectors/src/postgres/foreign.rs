//! Foreign keys: what the catalogue says of them, and sessions that leave those of a table to the source. Such a session writes as the
//! server's own logical replication does (`session_replication_role = replica`): no foreign key is checked, and nothing is done
//! because of one. Before each transaction of it the server itself makes sure that nothing else of anybody's is passed over, and that
//! what others have committed, which it stands behind, is there.

use super::client::{Lease, column};
use super::names::{TableName, quote};
use super::schema::Table;
use super::{Shared, errors};
use concord_engine::error::{Code, Error, Result};
use concord_engine::mirror::bulk::{Bonds, Standing};
use concord_engine::record::{FieldName, ObjectName};
use concord_engine::schema::{ForeignKey, ForeignKeys};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// What sessions that leave foreign keys to the source are set up with, besides. It is no setting of a transaction: the server
/// forgets its plans whenever it changes.
pub const SESSION_SETTING: (&str, &str) = ("session_replication_role", "replica");

/// Those of a table. Only newer servers have some that are not enforced at all.
const OWN: &str = "SELECT n.nspname::text, r.relname::text, \
    ARRAY(SELECT a.attname::text FROM unnest(k.conkey) WITH ORDINALITY AS u(attnum, place) \
      JOIN pg_catalog.pg_attribute a ON a.attrelid = k.conrelid AND a.attnum = u.attnum ORDER BY u.place), \
    ARRAY(SELECT a.attname::text FROM unnest(k.confkey) WITH ORDINALITY AS u(attnum, place) \
      JOIN pg_catalog.pg_attribute a ON a.attrelid = k.confrelid AND a.attnum = u.attnum ORDER BY u.place), \
    k.confmatchtype = 'f', \
    k.convalidated AND coalesce((pg_catalog.to_jsonb(k) ->> 'conenforced')::bool, true) \
      AND NOT coalesce((pg_catalog.to_jsonb(k) ->> 'conperiod')::bool, false) AND NOT EXISTS \
      (SELECT FROM pg_catalog.pg_trigger t WHERE t.tgconstraint = k.oid AND t.tgenabled IN ('D', 'R')) \
    FROM pg_catalog.pg_constraint k JOIN pg_catalog.pg_class r ON r.oid = k.confrelid \
    JOIN pg_catalog.pg_namespace n ON n.oid = r.relnamespace WHERE k.contype = 'f' AND k.conrelid = $1 ORDER BY k.oid";
/// The other tables that have some which name its records.
const OF: &str = "SELECT DISTINCT n.nspname::text, r.relname::text FROM pg_catalog.pg_constraint k \
    JOIN pg_catalog.pg_class r ON r.oid = k.conrelid JOIN pg_catalog.pg_namespace n ON n.oid = r.relnamespace \
    WHERE k.contype = 'f' AND k.confrelid = $1 AND k.conrelid <> $1 ORDER BY 1, 2";
/// What would be passed over, or done only now; and whether the table has partitions or is one, whose foreign keys are many.
const PASSED_OVER: &str = "SELECT (SELECT min(t.tgname::text) FROM pg_catalog.pg_trigger t WHERE t.tgrelid = $1 AND NOT t.tgisinternal \
      AND t.tgenabled IN ('O', 'R')), \
    EXISTS (SELECT FROM pg_catalog.pg_trigger t WHERE t.tgrelid = $1 AND t.tgisinternal AND t.tgenabled IN ('A', 'R')), \
    EXISTS (SELECT FROM pg_catalog.pg_rewrite w WHERE w.ev_class = $1), c.relkind = 'p' OR c.relispartition, \
    current_setting('server_version_num')::int4, current_user::text FROM pg_catalog.pg_class c WHERE c.oid = $1";

/// The foreign keys of a table.
pub async fn keys(lease: &mut Lease<'_>, table: &Table, doing: &str) -> Result<Vec<ForeignKey>> {
    let named = |row: &tokio_postgres::Row| {
        let (fields, named): (Vec<String>, Vec<String>) = (column(row, 2)?, column(row, 3)?);
        let pair = |(field, named): (String, String)| (FieldName::from(field.as_str()), FieldName::from(named.as_str()));
        Ok(ForeignKey {
            object: TableName { schema: column(row, 0)?, table: column(row, 1)? }.object(),
            fields: fields.into_iter().zip(named).map(pair).collect(),
            all_or_none: column(row, 4)?,
            kept: column(row, 5)?,
        })
    };
    lease.query(OWN, &[&table.oid], doing).await?.iter().map(named).collect()
}

async fn all(lease: &mut Lease<'_>, table: &Table, doing: &str) -> Result<ForeignKeys> {
    let own = keys(lease, table, doing).await?;
    let name = |row: &tokio_postgres::Row| Ok(TableName { schema: column(row, 0)?, table: column(row, 1)? }.object());
    let of = lease.query(OF, &[&table.oid], doing).await?.iter().map(name).collect::<Result<Vec<ObjectName>>>()?;
    Ok(ForeignKeys { own, of })
}

/// The foreign keys of an object, as a source keeps them.
pub async fn kept(shared: &Shared, object: &ObjectName) -> Result<Vec<ForeignKey>> {
    let table = shared.table_now(object).await?;
    let mut lease = shared.readers.lease().await?;
    let keys = keys(&mut lease, &table, "looking at foreign keys").await?;
    lease.done();
    Ok(keys)
}

/// The foreign keys of an object, and whether they can be left to the source. Changes nothing.
pub async fn bonds(shared: &Shared, object: &ObjectName) -> Result<Bonds> {
    let doing = "looking at foreign keys";
    let table = shared.table_now(object).await?;
    let mut lease = shared.readers.lease().await?;
    let keys = all(&mut lease, &table, doing).await?;
    let hindrance = match keys.is_empty() {
        true => None,
        false => hindrance(&mut lease, &table, doing).await?,
    };
    lease.done();
    Ok(Bonds { keys, hindrance })
}

/// Why the foreign keys of a table cannot be left to the source, if they cannot.
async fn hindrance(lease: &mut Lease<'_>, table: &Table, doing: &str) -> Result<Option<String>> {
    let object = &table.schema.object;
    let row = lease.query_one(PASSED_OVER, &[&table.oid], doing).await?;
    let (trigger, watches, rules, parts): (Option<String>, bool, bool, bool) =
        (column(&row, 0)?, column(&row, 1)?, column(&row, 2)?, column(&row, 3)?);
    if let Some(trigger) = trigger {
        return Ok(Some(format!(
            "{object} has foreign keys or is named by some, which are left to the source, and the trigger `{trigger}` of it would not be \
             fired as it is then"
        )));
    }
    if watches || rules || parts {
        let what = match (watches, rules) {
            (true, _) => "triggers of them are always fired (ENABLE ALWAYS)",
            (false, true) => "has rules, which would be passed over",
            (false, false) => "has partitions or is one",
        };
        return Ok(Some(format!(
            "{object} has foreign keys or is named by some, which are to be left to the source, and {what}"
        )));
    }
    may_leave(lease, table, (column(&row, 4)?, column(&row, 5)?), doing).await
}

/// Whether our role may: asked by doing it, for what a hosted server grants is in no catalogue.
async fn may_leave(lease: &mut Lease<'_>, table: &Table, (version, role): (i32, String), doing: &str) -> Result<Option<String>> {
    let (name, value) = SESSION_SETTING;
    lease.execute("BEGIN", doing).await?;
    let tried = lease.execute(&format!("SET LOCAL {name} = {value}"), doing).await;
    lease.execute("ROLLBACK", doing).await?;
    let object = &table.schema.object;
    let foreign = format!("{object} has foreign keys or is named by some, and the order of several tables' changes");
    match tried {
        Ok(()) => Ok(None),
        Err(error) if error.code == Code::PrivilegeMissing && version >= 150_000 => Ok(Some(format!(
            "{foreign} can only be kept in sessions that leave those to the source; run: GRANT SET ON PARAMETER {name} TO {};",
            quote(&role)
        ))),
        Err(error) if error.code == Code::PrivilegeMissing => Ok(Some(format!(
            "{foreign} can only be kept in sessions that leave those to the source ({name} = {value}), which before PostgreSQL 15 a \
             superuser alone may open"
        ))),
        Err(error) => Err(error),
    }
}

/// A print of all that is fired for a table, as an expression: another one where a trigger, a foreign key or a rule has come, gone, or
/// been switched.
fn print(table: &Table) -> String {
    let oid = table.oid;
    format!(
        "((SELECT count(*)::text || ' ' || coalesce(sum(t.oid::int8 * pg_catalog.ascii(t.tgenabled::text)), 0)::text \
         FROM pg_catalog.pg_trigger t WHERE t.tgrelid = {oid}) || ' ' || \
         (SELECT count(*)::text FROM pg_catalog.pg_rewrite w WHERE w.ev_class = {oid}))"
    )
}

/// How the sessions of one sync stand to foreign keys and to others.
#[derive(Default)]
pub struct Apart {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// What is asked before anything is written, where foreign keys are left to the source.
    guard: Option<String>,
    /// Syncs, and their fences as of what has to be there.
    behind: Vec<(String, i64)>,
}

impl Apart {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether foreign keys are left to the source.
    pub fn is_on(&self) -> bool {
        self.state().guard.is_some()
    }

    /// Leaves them to the source from now on, if they are these still.
    pub async fn leave(&self, shared: &Shared, table: &Table, known: &ForeignKeys, doing: &str) -> Result<()> {
        let mut lease = shared.readers.lease().await?;
        let print = print(table);
        // What comes behind this look is noticed by it.
        let row = lease.query_one(&format!("SELECT {print}"), &[], doing).await?;
        let now: String = column(&row, 0)?;
        let keys = all(&mut lease, table, doing).await?;
        let object = &table.schema.object;
        let why = match keys == *known {
            true => hindrance(&mut lease, table, doing).await?,
            false => Some(format!(
                "foreign keys of {object}, or those that name it, are others than when Concord started: start it anew"
            )),
        };
        lease.done();
        if let Some(why) = why {
            return Err(Error::new(Code::SchemaDrift, why));
        }
        // Whoever makes a trigger or a foreign key waits for the lock.
        let guard = format!(
            "; LOCK TABLE {} IN ROW EXCLUSIVE MODE; SELECT 1 / CASE WHEN {print} = '{now}' THEN 1 ELSE 0 END",
            table.name.sql()
        );
        self.state().guard = Some(guard);
        Ok(())
    }

    /// Stands behind others from now on.
    pub fn stand_behind(&self, others: &[Standing]) {
        self.state().behind = others.iter().filter_map(read).collect();
    }

    /// What a transaction begins with before it writes anything: it divides by zero, and so ends, where not all is as it has to be.
    pub fn beginning(&self, begin: &str) -> String {
        let state = self.state();
        let behind: String = state.behind.iter().map(|other| format!("; {}", stands(other))).collect();
        format!("{begin}{}{behind}", state.guard.as_deref().unwrap_or_default())
    }
}

/// What a sync has committed.
pub fn standing(sync: &str, fence: i64) -> Standing {
    Standing(postcard::to_stdvec(&(sync, fence)).unwrap_or_default())
}

fn read(standing: &Standing) -> Option<(String, i64)> {
    postcard::from_bytes(&standing.0).ok()
}

/// Divides by zero where a sync has not committed so much, or the server has lost it in a crash.
fn stands((sync, fence): &(String, i64)) -> String {
    let sync = super::names::literal(sync);
    format!(
        "SELECT 1 / count(*) FROM concord.mirrors WHERE sync = {sync} AND fence >= {fence} AND fence >> 32 = {fence}::int8 >> 32"
    )
}

/// Whether what others have committed stands.
pub async fn require(shared: &Shared, others: &[Standing], doing: &str) -> Result<()> {
    let mut lease = shared.mirrors.lease().await?;
    for other in others {
        let other = read(other).ok_or_else(|| errors::unexpected("what another sync has committed cannot be read"))?;
        lease.execute(&stands(&other), doing).await?;
    }
    lease.done();
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_transaction_begins_with_what_has_to_be_so() {
        let apart = Apart::default();
        assert!(!apart.is_on());
        assert_eq!(apart.beginning("BEGIN"), "BEGIN");
        apart.stand_behind(&[standing("it's:1", (3 << 32) + 5), Standing(vec![0xff])]);
        let expected = "BEGIN; SELECT 1 / count(*) FROM concord.mirrors WHERE sync = 'it''s:1' AND fence >= 12884901893 \
            AND fence >> 32 = 12884901893::int8 >> 32";
        assert_eq!(apart.beginning("BEGIN"), expected);
        apart.stand_behind(&[]);
        assert_eq!(apart.beginning("BEGIN"), "BEGIN");
    }
}
