//! Indexes that the first load of an empty table does without: dropped when their definitions are kept, in one transaction, and built
//! again behind the load. What is kept is durable before anything is dropped, and gone only with the transaction that has built it.
//! Only indexes whose definition says all that there is to say of them are touched.

use super::client::{Lease, column};
use super::mirror::{BEGIN, WAIT_FOR_DISK};
use super::names::{TableName, quote};
use super::schema::Table;
use super::{Shared, errors};
use concord_engine::error::{Class, Code, Error, Result};
use concord_engine::record::FieldName;
use futures_util::stream::{self, StreamExt};
use std::collections::BTreeSet;
use std::sync::Arc;

/// How many are built side by side.
const BUILDERS_MAX: usize = 4;

/// Indexes that a load can do without, and nothing but their definition would be lost of. `$1` is the table. Names are written in
/// full, whatever the session looks for first.
const SPARE: &str = "SELECT c.relname::text, pg_catalog.pg_get_indexdef(i.indexrelid), k.oid IS NOT NULL, i.indisunique, \
     ARRAY(SELECT a.attname::text FROM unnest(i.indkey) WITH ORDINALITY AS u(attnum, place) \
       JOIN pg_catalog.pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = u.attnum WHERE u.place <= i.indnkeyatts \
       ORDER BY u.place), i.indisprimary \
     FROM pg_catalog.pg_index i JOIN pg_catalog.pg_class c ON c.oid = i.indexrelid JOIN pg_catalog.pg_class t ON t.oid = i.indrelid \
     LEFT JOIN pg_catalog.pg_constraint k ON k.conindid = i.indexrelid AND k.conrelid = i.indrelid \
     WHERE i.indrelid = $1 AND t.relkind = 'r' AND NOT t.relispartition AND pg_catalog.pg_has_role(t.relowner, 'USAGE') \
     AND pg_catalog.has_schema_privilege(t.relnamespace, 'CREATE') AND NOT i.indisexclusion \
     AND i.indisvalid AND i.indisready AND i.indimmediate AND NOT i.indisreplident AND NOT i.indisclustered \
     AND c.reltablespace = 0 AND (k.oid IS NULL OR k.contype IN ('u', 'p') AND NOT k.condeferrable) \
     AND NOT (i.indisunique AND (i.indpred IS NOT NULL OR i.indexprs IS NOT NULL \
       OR pg_catalog.pg_get_indexdef(i.indexrelid) LIKE '%NULLS NOT DISTINCT%' \
       OR EXISTS (SELECT FROM pg_catalog.pg_collation l WHERE l.oid = ANY (i.indcollation) AND NOT l.collisdeterministic))) \
     AND NOT (i.indisprimary AND EXISTS (SELECT FROM pg_catalog.pg_publication_tables p JOIN pg_catalog.pg_namespace n \
       ON n.nspname = p.schemaname WHERE n.oid = t.relnamespace AND p.tablename = t.relname)) \
     AND NOT EXISTS (SELECT FROM pg_catalog.pg_description d WHERE d.objoid IN (i.indexrelid, k.oid)) \
     AND NOT EXISTS (SELECT FROM pg_catalog.pg_depend d WHERE d.refobjid IN (i.indexrelid, k.oid) AND d.deptype = 'n') \
     AND NOT EXISTS (SELECT FROM pg_catalog.pg_depend d WHERE d.objid = i.indexrelid AND d.deptype IN ('e', 'x')) \
     AND NOT EXISTS (SELECT FROM pg_catalog.pg_attribute a WHERE a.attrelid = i.indexrelid AND coalesce(a.attstattarget, -1) > 0) \
     ORDER BY 1";
const NAMES_IN_FULL: &str = "SET LOCAL search_path = pg_catalog";
/// A definition names everything in full; functions in it may look for names as they did when they first built it.
const WHERE_IT_WAS: &str = "SET LOCAL default_tablespace = ''";
/// Building takes as long as it takes, and ends when nobody waits for it any more, where the server can tell.
const UNHURRIED: &str = "SET LOCAL statement_timeout = 0; DO $$ BEGIN \
     PERFORM pg_catalog.set_config('client_connection_check_interval', '1s', true); EXCEPTION WHEN OTHERS THEN NULL; END $$";
const OURS: &str = "SELECT 1 FROM concord.mirrors WHERE sync = $1 AND fence = $2 FOR SHARE";
const KEEP: &str = "INSERT INTO concord.indexes (sync, name, on_table, on_schema, definition, constrains, unique_fields, is_key, table_oid) \
     VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9) ON CONFLICT (sync, on_schema, name) DO UPDATE SET definition = excluded.definition, \
     constrains = excluded.constrains, unique_fields = excluded.unique_fields, is_key = excluded.is_key, table_oid = excluded.table_oid";
/// Those of a sync, and those of a table, whichever sync set them aside: it may have another name by now, or another store.
/// Earlier versions did not keep which is the key's.
const KEPT: &str = "SELECT name, on_table, on_schema, definition, constrains, sync, \
     coalesce((pg_catalog.to_jsonb(i) ->> 'is_key')::pg_catalog.bool, false), \
     (pg_catalog.to_jsonb(i) ->> 'table_oid')::pg_catalog.oid::pg_catalog.regclass::pg_catalog.text FROM concord.indexes AS i \
     WHERE sync = $1 OR on_table = $2 ORDER BY 1";
/// What is unique about a table by indexes that are set aside, and which of them is its key.
const UNIQUE_KEPT: &str = "SELECT ARRAY(SELECT pg_catalog.jsonb_array_elements_text(k.kept -> 'unique_fields')), \
     coalesce((k.kept ->> 'is_key')::pg_catalog.bool, false) FROM (SELECT pg_catalog.to_jsonb(i) AS kept FROM concord.indexes AS i WHERE on_table = $1) AS k \
     WHERE pg_catalog.jsonb_typeof(k.kept -> 'unique_fields') = 'array'";
/// Whoever may not look at them finds none.
const MAY_LOOK: &str = "SELECT EXISTS (SELECT FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
     WHERE n.nspname = 'concord' AND c.relname = 'indexes' AND pg_catalog.has_schema_privilege(n.oid, 'USAGE') \
     AND pg_catalog.has_table_privilege(c.oid, 'SELECT'))";
const BUILT: &str = "DELETE FROM concord.indexes WHERE sync = $1 AND on_schema = $2 AND name = $3";

/// An index that a load can do without.
struct Spare {
    name: String,
    definition: String,
    constrains: bool,
    /// The fields that it keeps unique.
    unique: Option<Vec<String>>,
    /// Whether it is the key's.
    is_key: bool,
}

/// Those of a table. A unique one, the key's too, is among them only where the source keeps the same fields unique.
async fn spare(lease: &mut Lease<'_>, table: &Table, unique: &[Vec<FieldName>], doing: &str) -> Result<Vec<Spare>> {
    let kept: Vec<BTreeSet<&str>> = unique.iter().map(|set| set.iter().map(FieldName::as_str).collect()).collect();
    let mut spare = Vec::new();
    for row in lease.query(SPARE, &[&table.oid], doing).await? {
        let columns: Vec<String> = column(&row, 4)?;
        let set: BTreeSet<&str> = columns.iter().map(String::as_str).collect();
        let is_unique: bool = column(&row, 3)?;
        if !is_unique || kept.contains(&set) {
            spare.push(Spare {
                name: column(&row, 0)?,
                definition: column(&row, 1)?,
                constrains: column(&row, 2)?,
                unique: is_unique.then(|| columns.clone()),
                is_key: column(&row, 5)?,
            });
        }
    }
    Ok(spare)
}

/// The names of those of a table that holds no record.
pub async fn names(shared: &Shared, table: &Table, unique: &[Vec<FieldName>]) -> Result<Vec<String>> {
    let doing = format!("looking at the indexes of {}", table.schema.object);
    let mut lease = shared.readers.lease().await?;
    let row = lease.query_one(&format!("SELECT EXISTS (SELECT FROM {})", table.name.sql()), &[], &doing).await?;
    let names = match column(&row, 0)? {
        true => Vec::new(),
        false => spare(&mut lease, table, unique, &doing).await?.into_iter().map(|index| index.name).collect(),
    };
    lease.done();
    Ok(names)
}

/// Keeps the definitions and drops the indexes, for a sync and its fence.
pub async fn set_aside(
    shared: &Shared,
    (sync, fence): (&str, i64),
    table: &Table,
    unique: &[Vec<FieldName>],
    doing: &str,
) -> Result<()> {
    let mut lease = shared.mirrors.lease().await?;
    lease.execute(&format!("{BEGIN}; {WAIT_FOR_DISK}; {NAMES_IN_FULL}"), doing).await?;
    is_ours(&mut lease, sync, Some(fence), doing).await?;
    let name = table.name.sql();
    // Nobody writes between the look and the drop.
    lease.execute(&format!("LOCK TABLE {name} IN ACCESS EXCLUSIVE MODE"), doing).await?;
    let row = lease.query_one(&format!("SELECT EXISTS (SELECT FROM {name})"), &[], doing).await?;
    if !column::<bool>(&row, 0)? {
        for index in spare(&mut lease, table, unique, doing).await? {
            let Spare { name: own, definition, constrains, unique, is_key } = &index;
            lease
                .query(KEEP, &[&sync, own, &name, &table.name.schema, definition, constrains, unique, is_key, &table.oid], doing)
                .await?;
            let drop = match constrains {
                true => format!("ALTER TABLE {name} DROP CONSTRAINT {}", quote(own)),
                false => format!("DROP INDEX {}.{}", quote(&table.name.schema), quote(own)),
            };
            lease.execute(&drop, doing).await?;
            tracing::info!(sync, index = own, "an index is set aside while the table is loaded");
        }
    }
    lease.execute("COMMIT", doing).await?;
    lease.done();
    Ok(())
}

/// The sets of fields that are unique about a table by indexes that are set aside, and whether each is the key: they are
/// so all the same.
pub async fn unique_set_aside(lease: &mut Lease<'_>, table: &TableName, doing: &str) -> Result<Vec<(Vec<String>, bool)>> {
    if !column::<bool>(&lease.query_one(MAY_LOOK, &[], doing).await?, 0)? {
        return Ok(Vec::new());
    }
    let rows = match lease.query(UNIQUE_KEPT, &[&table.sql()], doing).await {
        // The last sync was let go of in this moment.
        Err(error) if error.code == Code::ObjectMissing => return Ok(Vec::new()),
        rows => rows?,
    };
    rows.iter().map(|row| Ok((column(row, 0)?, column(row, 1)?))).collect()
}

/// What is built of what was set aside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// Everything.
    All,
    /// The key, by which records are found.
    Key,
}

/// An index that is kept, and not there.
struct Kept {
    /// Which sync set it aside.
    by: String,
    name: String,
    on_table: String,
    on_schema: String,
    definition: String,
    constrains: bool,
    /// Whether it is the key's.
    primary: bool,
    /// What its table is called now; the number itself where there is no such table any more.
    table_now: Option<String>,
}

/// Builds what was set aside for a sync, or of its table. Without a fence: whoever has the sync, for it is let go of.
pub async fn build(
    shared: &Arc<Shared>,
    (sync, fence): (&str, Option<i64>),
    table: Option<&Table>,
    part: Part,
    doing: &str,
) -> Result<()> {
    let mut lease = shared.mirrors.lease().await?;
    let on = table.map(|table| table.name.sql());
    let rows = lease.query(KEPT, &[&sync, &on], doing).await?;
    lease.done();
    let read = |row: &tokio_postgres::Row| {
        Ok(Kept {
            by: column(row, 5)?,
            name: column(row, 0)?,
            on_table: column(row, 1)?,
            on_schema: column(row, 2)?,
            definition: column(row, 3)?,
            constrains: column(row, 4)?,
            primary: column(row, 6)?,
            table_now: column(row, 7)?,
        })
    };
    let mut kept = rows.iter().map(read).collect::<Result<Vec<Kept>>>()?;
    kept.retain(|index| part == Part::All || index.primary);
    let building: Vec<_> = kept.iter().map(|index| build_one(shared, (sync, fence), index, false, doing)).collect();
    let built: Vec<Result<()>> = stream::iter(building).buffered(BUILDERS_MAX).collect().await;
    // A constraint locks the table for itself: two side by side would wait for each other's builds.
    for (index, _) in kept.iter().zip(&built).filter(|(index, built)| index.constrains && built.is_ok()) {
        build_one(shared, (sync, fence), index, true, doing).await?;
    }
    built.into_iter().collect()
}

/// Builds an index, or makes a built one the index of its constraint.
async fn build_one(shared: &Shared, whose: (&str, Option<i64>), index: &Kept, constrain: bool, doing: &str) -> Result<()> {
    attempt(shared, whose, index, constrain, doing).await.map_err(|error| match error.class() {
        Class::Transient if error.code != Code::StatementRefused => error,
        _ => {
            let message = format!(
                "the index {} cannot be built again: {}. It is kept in concord.indexes: {}",
                index.name, error.message, index.definition
            );
            Error { code: Code::IndexNotBuilt, message, ..error }
        }
    })
}

async fn attempt(shared: &Shared, (sync, fence): (&str, Option<i64>), index: &Kept, constrain: bool, doing: &str) -> Result<()> {
    let mut lease = shared.mirrors.lease().await?;
    lease.execute(&format!("{BEGIN}; {WAIT_FOR_DISK}; {WHERE_IT_WAS}; {UNHURRIED}"), doing).await?;
    is_ours(&mut lease, sync, fence, doing).await?;
    let is_there = "SELECT to_regclass($1) IS NOT NULL, to_regclass($2) IS NOT NULL, \
        EXISTS (SELECT FROM pg_catalog.pg_constraint WHERE conrelid = to_regclass($1) AND conname = $3)";
    let full = format!("{}.{}", quote(&index.on_schema), quote(&index.name));
    let row = lease.query_one(is_there, &[&index.on_table, &full, &index.name], doing).await?;
    let (table, there, constrained): (bool, bool, bool) = (column(&row, 0)?, column(&row, 1)?, column(&row, 2)?);
    if let Some(now) = index.table_now.as_ref().filter(|now| !table && now.parse::<u32>().is_err()) {
        let message = format!("its table {} is called {now} now", index.on_table);
        return Err(Error::new(Code::ObjectMissing, message));
    }
    // Where the table has gone, or somebody has built it, nothing is left to do.
    if table && !there {
        lease.execute(&index.definition, doing).await?;
        tracing::info!(sync, index = index.name, "an index that was set aside is built");
    }
    if table && constrain && !constrained {
        let (on, name, kind) = (&index.on_table, quote(&index.name), if index.primary { "PRIMARY KEY" } else { "UNIQUE" });
        lease.execute(&format!("ALTER TABLE {on} ADD CONSTRAINT {name} {kind} USING INDEX {name}"), doing).await?;
    }
    if constrain || !index.constrains || !table {
        lease.query(BUILT, &[&index.by, &index.on_schema, &index.name], doing).await?;
    }
    lease.execute("COMMIT", doing).await?;
    lease.done();
    Ok(())
}

async fn is_ours(lease: &mut Lease<'_>, sync: &str, fence: Option<i64>, doing: &str) -> Result<()> {
    let Some(fence) = fence else { return Ok(()) };
    match lease.query(OURS, &[&sync, &fence], doing).await?.as_slice() {
        [] => Err(Error::new(Code::Busy, "another process has taken the sync over")),
        [_] => Ok(()),
        _ => Err(errors::unexpected("a sync is kept twice")),
    }
}
