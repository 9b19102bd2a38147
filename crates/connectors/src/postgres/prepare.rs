//! Makes what the feed needs, publication first and slot second, and says where the feed begins.
//! Idempotent. A feed that is known is verified, never begun anew on its own: only a known feed with an empty
//! position (its gap was accepted by a person) and a slot that no feed knows of are dropped and made again.

use super::client::{Lease, column};
use super::position::{ServerIdentity, SlotPosition, gap};
use super::publication::{self, Publication};
use super::schema::Table;
use super::session::Session;
use super::stream;
use super::{Shared, slot};
use concord_engine::connector::Feed;
use concord_engine::error::{Class, Code, Error, Result};
use concord_engine::record::ObjectName;
use concord_engine::schema::Selection;
use std::sync::{Arc, PoisonError};
use uuid::Uuid;

/// Makes or verifies the feed of these objects.
pub async fn prepare(shared: &Shared, selections: &[Selection], known: &[Feed]) -> Result<Vec<Feed>> {
    let known = known_feed(shared, known)?;
    if selections.is_empty() {
        return Ok(Vec::new());
    }
    shared.carried.close();
    let resumed = known.filter(|feed| !feed.position.0.is_empty());
    let (mut tables, mut absent) = (Vec::with_capacity(selections.len()), Vec::new());
    for selection in selections {
        // What became of a table that is carried already stops its own syncs, by what the feed tells, and no others.
        let is_carried = resumed.is_some_and(|feed| feed.objects.contains(&selection.object));
        let table = match shared.table_now(&selection.object).await {
            Err(error) if is_carried && error.code == Code::ObjectMissing => {
                absent.push(selection.object.clone());
                continue;
            }
            table => table?,
        };
        match publishable(shared, &table, selection) {
            Err(error) if is_carried && error.class() != Class::Transient => {
                tracing::warn!(object = %selection.object, error = error.chain(), "a table that is followed has changed");
            }
            publishable => publishable?,
        }
        tables.push(table);
    }
    remember(shared, selections);
    let mut lease = shared.readers.lease().await?;
    require_settings(&mut lease).await?;
    let server = identity(shared).await?;
    let there = publication::read(&mut lease, &shared.names.slot).await?;
    let feed = match resumed {
        Some(feed) => resume(shared, &mut lease, &server, feed, there.as_ref(), &tables).await?,
        None => begin(shared, &mut lease, &server, there.as_ref(), &tables).await?,
    };
    lease.done();
    // A table that is not there is carried no longer: once it is there again it joins.
    let objects = selections.iter().map(|selection| selection.object.clone()).filter(|object| !absent.contains(object)).collect();
    shared.carried.lacks(absent);
    Ok(vec![Feed { objects, ..feed }])
}

/// The known feed that is ours. One of another name cannot be resumed by us.
fn known_feed<'a>(shared: &Shared, known: &'a [Feed]) -> Result<Option<&'a Feed>> {
    for feed in known {
        shared.require_feed(&feed.name)?;
    }
    Ok(known.first())
}

/// Refuses a table whose changes the feed could not tell apart. Publishing it would even make the server refuse the
/// application's own updates, which a sync has to be ready for that has the feed for itself and appends what has no key.
fn publishable(shared: &Shared, table: &Table, selection: &Selection) -> Result<()> {
    table.selected(selection)?;
    if !shared.config.one_sync {
        table.key_columns()?;
    }
    let object = &table.schema.object;
    let own = &table.name.sql();
    if table.storage.kind == 'r' && table.storage.inherited {
        let message = format!(
            "{object} has child tables by inheritance, whose rows it shows but whose changes are theirs; sync the children instead"
        );
        return Err(Error::new(Code::Unsupported, message));
    }
    match identity_problem(table) {
        None if table.storage.persistence == 'p' => Ok(()),
        None => Err(Error::new(
            Code::SettingWrong,
            format!("{object} is unlogged, so its changes are not in the log; run: ALTER TABLE {own} SET LOGGED;"),
        )),
        Some(problem) => {
            Err(Error::new(Code::SettingWrong, format!("{object}: {problem}; run: ALTER TABLE {own} REPLICA IDENTITY DEFAULT;")))
        }
    }
}

/// Why the table's changes would not show the key, if they would not.
pub fn identity_problem(table: &Table) -> Option<String> {
    let key: Vec<&str> = table.schema.key.iter().map(|name| name.as_str()).collect();
    match table.storage.replica_identity {
        // Without a key nothing is asked of it.
        _ if key.is_empty() => None,
        'n' => Some("its replica identity is NOTHING, so updates and deletes do not show which record they are of".to_owned()),
        'i' => {
            let index = table.storage.identity_index.as_ref()?;
            let shows = key.iter().all(|name| index.iter().any(|column| column == name));
            (!shows).then(|| format!("its replica identity is an index over ({}), which does not show the key", index.join(", ")))
        }
        _ => None,
    }
}

fn remember(shared: &Shared, selections: &[Selection]) {
    let mut known = shared.selections.lock().unwrap_or_else(PoisonError::into_inner);
    known.clear();
    known.extend(selections.iter().map(|selection| (selection.object.clone(), selection.fields.clone())));
}

async fn require_settings(lease: &mut Lease<'_>) -> Result<()> {
    let sql = "SELECT current_setting('server_version_num')::int4, current_setting('wal_level'), pg_catalog.pg_is_in_recovery()";
    let row = lease.query_one(sql, &[], "asking for the server's settings").await?;
    let (version, wal_level, standby): (i32, String, bool) = (column(&row, 0)?, column(&row, 1)?, column(&row, 2)?);
    if version < 140_000 {
        return Err(Error::new(Code::Unsupported, "the server is older than PostgreSQL 14; upgrade it"));
    }
    if standby {
        return Err(Error::new(Code::SettingWrong, "the server is a standby: connect to the primary"));
    }
    if wal_level != "logical" {
        let remedy = "run: ALTER SYSTEM SET wal_level = logical; and restart the server";
        return Err(Error::new(Code::SettingWrong, format!("wal_level is {wal_level}, but the log must be logical; {remedy}")));
    }
    Ok(())
}

/// Which server this is, as a replication session sees it: the session that the feed will be.
async fn identity(shared: &Shared) -> Result<ServerIdentity> {
    stream::identity(&mut Session::connect(&shared.config, &shared.names.sessions).await?).await
}

/// Verifies a feed that is known, and brings its publication up to date.
async fn resume(
    shared: &Shared,
    lease: &mut Lease<'_>,
    server: &ServerIdentity,
    known: &Feed,
    there: Option<&Publication>,
    tables: &[Arc<Table>],
) -> Result<Feed> {
    let position = SlotPosition::decode(&known.position)?;
    let state = slot::state_in(lease, &shared.names.slot).await?;
    position.verify(server, state.as_ref())?;
    let there = there.ok_or_else(|| gap(format!("the publication {} is gone", shared.names.slot)))?;
    if shared.config.allow_ddl && there.marker != Some(position.marker) {
        return Err(gap(format!("the publication {} was dropped and made anew", shared.names.slot)));
    }
    require_still_published(shared, known, there, tables)?;
    let joined = publication::ensure(shared, lease, Some(there), tables, &known.objects).await?;
    let mut complete_from = known.complete_from.clone();
    complete_from.retain(|(object, _)| tables.iter().any(|table| table.schema.object == *object));
    if !joined.is_empty() {
        let end = SlotPosition { lsn: slot::log_end(lease, "reading where the new tables begin").await?, ..position };
        complete_from.extend(joined.iter().map(|table| (table.schema.object.clone(), end.encode())));
    }
    Ok(Feed { name: known.name.clone(), objects: Vec::new(), position: known.position.clone(), complete_from })
}

/// A table that somebody took out of the publication has changed without us.
fn require_still_published(shared: &Shared, known: &Feed, there: &Publication, tables: &[Arc<Table>]) -> Result<()> {
    let was_published = |object: &ObjectName| shared.name(object).is_ok_and(|name| there.tables.contains(&name));
    let wanted = |object: &&ObjectName| tables.iter().any(|table| shared.name(object).is_ok_and(|name| name == table.name));
    match known.objects.iter().filter(wanted).find(|object| !was_published(object)) {
        Some(object) => Err(gap(format!("{object} was taken out of the publication {}", shared.names.slot))),
        None => Ok(()),
    }
}

/// Begins a feed. A slot that is there is one whose position nobody knows.
async fn begin(
    shared: &Shared,
    lease: &mut Lease<'_>,
    server: &ServerIdentity,
    there: Option<&Publication>,
    tables: &[Arc<Table>],
) -> Result<Feed> {
    slot::drop_if_exists(shared, lease).await?;
    // What the server was told about an earlier slot of the name says nothing about this one.
    shared.acknowledged.send_replace(0);
    let marker = Uuid::new_v4();
    publication::ensure(shared, lease, there, tables, &[]).await?;
    publication::mark(shared, lease, marker).await?;
    let position = slot::create(shared, lease, server, marker).await?;
    Ok(Feed { name: shared.feed_name(), objects: Vec::new(), position: position.encode(), complete_from: Vec::new() })
}
