//! The publication: exactly the selected tables, no more and no less. Its comment carries the slot's marker, so that
//! a publication dropped and made anew by somebody else is noticed.

use super::client::{Lease, column};
use super::names::{TableName, literal, quote};
use super::{Shared, schema::Table};
use concord_engine::error::{Code, Error, Result};
use concord_engine::record::ObjectName;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;
use uuid::Uuid;

/// How long a table may be written by transactions that began before it joined.
const JOIN_WAIT_MAX: Duration = Duration::from_secs(300);
/// How often is looked.
const POLL_INTERVAL: Duration = Duration::from_millis(20);

/// What the catalogue says of our publication.
pub struct Publication {
    /// Its tables.
    pub tables: Vec<TableName>,
    /// The marker in its comment.
    pub marker: Option<Uuid>,
}

/// Reads it; `None`: there is none.
pub async fn read(lease: &mut Lease<'_>, name: &str) -> Result<Option<Publication>> {
    let doing = "looking at the publication";
    let sql = "SELECT pg_catalog.obj_description(oid, 'pg_publication') FROM pg_catalog.pg_publication WHERE pubname = $1";
    let rows = lease.query(sql, &[&name], doing).await?;
    let Some(row) = rows.first() else {
        return Ok(None);
    };
    let comment: Option<String> = column(row, 0)?;
    let sql = "SELECT n.nspname::text, c.relname::text FROM pg_catalog.pg_publication p \
        JOIN pg_catalog.pg_publication_rel r ON r.prpubid = p.oid JOIN pg_catalog.pg_class c ON c.oid = r.prrelid \
        JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace WHERE p.pubname = $1";
    let rows = lease.query(sql, &[&name], doing).await?;
    let table = |row| Ok(TableName { schema: column(row, 0)?, table: column(row, 1)? });
    let tables = rows.iter().map(table).collect::<Result<Vec<TableName>>>()?;
    let marker = comment.as_deref().and_then(|comment| comment.rsplit(' ').next()).and_then(|word| word.parse().ok());
    Ok(Some(Publication { tables, marker }))
}

/// Makes the publication, or makes its tables these. Gives back the tables that have joined one that was there: those that
/// are not in it, and those that the feed is not `known` to carry, for whoever put them in may not have waited behind that.
pub async fn ensure(
    shared: &Shared,
    lease: &mut Lease<'_>,
    there: Option<&Publication>,
    wanted: &[Arc<Table>],
    known: &[ObjectName],
) -> Result<Vec<Arc<Table>>> {
    let name = quote(&shared.names.slot);
    let Some(there) = there else {
        let tables: Vec<&TableName> = wanted.iter().map(|table| &table.name).collect();
        let sql = creation(shared, lease, &tables).await?;
        change(shared, lease, &sql).await?;
        return Ok(Vec::new());
    };
    let is_in = |table: &&Arc<Table>| there.tables.contains(&table.name);
    let missing: Vec<&TableName> = wanted.iter().filter(|table| !is_in(table)).map(|table| &table.name).collect();
    let is_known = |table: &Arc<Table>| known.iter().any(|object| shared.name(object).is_ok_and(|name| name == table.name));
    let is_new = |table: &&Arc<Table>| !is_in(table) || !is_known(table);
    let joined: Vec<Arc<Table>> = wanted.iter().filter(is_new).cloned().collect();
    let left: Vec<&TableName> = there.tables.iter().filter(|name| !wanted.iter().any(|table| table.name == **name)).collect();
    if !missing.is_empty() {
        let tables = list(missing.into_iter());
        change(shared, lease, &format!("ALTER PUBLICATION {name} ADD TABLE {tables}")).await?;
    }
    if !joined.is_empty() {
        wait_for_earlier_writers(lease, &joined).await?;
    }
    if !left.is_empty() {
        change(shared, lease, &format!("ALTER PUBLICATION {name} DROP TABLE {}", list(left.into_iter()))).await?;
    }
    Ok(joined)
}

/// The statement that makes it. From PostgreSQL 18 on the feed can carry generated columns.
pub async fn creation(shared: &Shared, lease: &mut Lease<'_>, tables: &[&TableName]) -> Result<String> {
    let version: i32 = {
        let sql = "SELECT current_setting('server_version_num')::int4";
        column(&lease.query_one(sql, &[], "asking for the server's version").await?, 0)?
    };
    let generated = if version >= 180_000 { ", publish_generated_columns = stored" } else { "" };
    let (name, tables) = (quote(&shared.names.slot), list(tables.iter().copied()));
    Ok(format!("CREATE PUBLICATION {name} FOR TABLE {tables} WITH (publish_via_partition_root = true{generated})"))
}

/// Writes the marker into the publication's comment.
pub async fn mark(shared: &Shared, lease: &mut Lease<'_>, marker: Uuid) -> Result<()> {
    if !shared.config.allow_ddl {
        return Ok(());
    }
    let comment = literal(&format!("Made by Concord; do not change. Marker {marker}"));
    change(shared, lease, &format!("COMMENT ON PUBLICATION {} IS {comment}", quote(&shared.names.slot))).await
}

/// Takes tables out; with the last one, the publication goes. Gives back whether it is gone.
pub async fn release(shared: &Shared, lease: &mut Lease<'_>, tables: &[TableName]) -> Result<bool> {
    let slot = &shared.names.slot;
    let Some(there) = read(lease, slot).await? else {
        return Ok(true);
    };
    let leaving: Vec<&TableName> = there.tables.iter().filter(|name| tables.contains(name)).collect();
    if leaving.len() == there.tables.len() {
        change(shared, lease, &format!("DROP PUBLICATION IF EXISTS {}", quote(slot))).await?;
        return Ok(true);
    }
    if !leaving.is_empty() {
        let sql = format!("ALTER PUBLICATION {} DROP TABLE {}", quote(slot), list(leaving.into_iter()));
        change(shared, lease, &sql).await?;
    }
    Ok(false)
}

fn list<'a>(names: impl Iterator<Item = &'a TableName>) -> String {
    names.map(TableName::sql).collect::<Vec<_>>().join(", ")
}

/// Runs a statement that changes the publication, if we may; names it where an administrator must.
async fn change(shared: &Shared, lease: &mut Lease<'_>, sql: &str) -> Result<()> {
    let run = |why: &str| Error::new(Code::PrivilegeMissing, format!("{why}; run as the tables' owner: {sql};"));
    if !shared.config.allow_ddl {
        return Err(run("Concord may not change its publication (allow_ddl is off)"));
    }
    lease.execute(sql, "changing the publication").await.map_err(|error| match error.code {
        Code::PrivilegeMissing => run(&error.message),
        _ => error,
    })
}

/// Changes that a transaction made before its table joined are not in the feed, even if it commits later. So a table's
/// changes are complete only behind the end of every transaction that was writing to it at that moment.
async fn wait_for_earlier_writers(lease: &mut Lease<'_>, tables: &[Arc<Table>]) -> Result<()> {
    let doing = "waiting for transactions that were writing to a table when it joined";
    let oids: Vec<u32> = tables.iter().map(|table| table.oid).collect();
    // Partitions are written under their own names.
    let sql = "SELECT DISTINCT virtualtransaction FROM pg_catalog.pg_locks WHERE locktype = 'relation' \
        AND database = (SELECT oid FROM pg_catalog.pg_database WHERE datname = current_database()) \
        AND (relation = ANY($1::oid[]) OR relation IN (SELECT relid FROM unnest($1::oid[]) AS root, pg_catalog.pg_partition_tree(root))) \
        AND mode IN ('RowExclusiveLock', 'ShareRowExclusiveLock', 'ExclusiveLock', 'AccessExclusiveLock') \
        AND pid IS DISTINCT FROM pg_catalog.pg_backend_pid()";
    let writers = lease.query(sql, &[&oids], doing).await?;
    let writers = writers.iter().map(|row| column(row, 0)).collect::<Result<Vec<String>>>()?;
    let deadline = Instant::now() + JOIN_WAIT_MAX;
    // A prepared transaction has no session and no number of that kind: it is over when its locks are.
    let sql = "SELECT count(DISTINCT virtualtransaction) FROM pg_catalog.pg_locks \
        WHERE virtualtransaction = ANY($1) AND (locktype = 'virtualxid' OR pid IS NULL)";
    loop {
        let left: i64 = column(&lease.query_one(sql, &[&writers], doing).await?, 0)?;
        if left == 0 {
            return Ok(());
        }
        if Instant::now() >= deadline {
            let remedy = "end their sessions, or commit or roll back what pg_prepared_xacts lists";
            return Err(Error::new(Code::Busy, format!("{doing}: {left} are still open; {remedy}")));
        }
        tokio::time::sleep(POLL_INTERVAL).await;
    }
}
