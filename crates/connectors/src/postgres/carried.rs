//! What the connector knows of the tables that its feed carries, beyond one opening of it: which tables those are, and the
//! schema that was last told of each. The log says nothing of a table that is dropped, or that makes room for another one of
//! its name, and the feed is closed while a server is upgraded: what the catalogue says is compared with this.

use super::client::{Lease, column};
use super::names::TableName;
use concord_engine::error::Result;
use concord_engine::record::ObjectName;
use concord_engine::schema::Schema;
use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// The tables that the feed carries.
#[derive(Default)]
pub(crate) struct Carried {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// How often the feed was opened or prepared: what was asked before tells nothing of what is carried now.
    turn: u64,
    /// The tables of the open feed, by their OIDs.
    tables: Vec<(u32, ObjectName)>,
    /// Objects that the feed would carry and whose tables were not there when it was prepared.
    absent: Vec<ObjectName>,
    /// The schema that was last told of each object.
    told: HashMap<ObjectName, Schema>,
    /// Objects whose tables were found to be gone, which nobody was told of yet.
    gone: Vec<ObjectName>,
    /// Objects whose tables were gone and are there again as they were.
    back: Vec<ObjectName>,
    /// Why the feed does not carry all that happens to its objects, if it does not.
    torn: Option<String>,
}

/// What the catalogue says of a name.
struct Found {
    /// The table that has it.
    oid: Option<u32>,
    /// Whether that one's changes are in the feed.
    published: bool,
}

impl Carried {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The feed is about to be made or verified: what is carried may change.
    pub fn close(&self) {
        let mut state = self.state();
        let (turn, told) = (state.turn + 1, std::mem::take(&mut state.told));
        *state = State { turn, told, ..State::default() };
    }

    /// The tables of these objects are not there: the feed does not carry them.
    pub fn lacks(&self, absent: Vec<ObjectName>) {
        self.state().absent = absent;
    }

    /// The feed carries these tables from now on. Gives back the objects whose tables are not there.
    pub fn open(&self, tables: Vec<(u32, ObjectName)>) -> Vec<ObjectName> {
        let mut state = self.state();
        state.turn += 1;
        state.tables = tables;
        state.absent.clone()
    }

    /// Whether an object looks otherwise than it was last told to. What is met first was told by whoever asked for the schema.
    pub fn is_news(&self, schema: &Schema) -> bool {
        let mut state = self.state();
        let told = state.told.entry(schema.object.clone()).or_insert_with(|| schema.clone());
        !is_same(told, schema)
    }

    /// A schema has been handed out.
    pub fn tell(&self, schema: &Schema) {
        self.state().told.insert(schema.object.clone(), schema.clone());
    }

    /// Objects whose tables were gone and are there again since the last call.
    pub fn take_back(&self) -> Vec<ObjectName> {
        std::mem::take(&mut self.state().back)
    }

    /// Why the feed does not carry all that happens to its objects, if that was found.
    pub fn torn(&self) -> Option<String> {
        self.state().torn.clone()
    }

    /// Objects whose tables were found to be gone since the last call.
    pub fn take_gone(&self) -> Vec<ObjectName> {
        std::mem::take(&mut self.state().gone)
    }

    /// Compares the tables of the open feed with the catalogue. `name` is the name of an object's table.
    pub async fn compare(
        &self,
        lease: &mut Lease<'_>,
        publication: &str,
        name: impl Fn(&ObjectName) -> Result<TableName>,
    ) -> Result<()> {
        let (turn, tables) = {
            let state = self.state();
            (state.turn, state.tables.clone())
        };
        let mut names = Vec::with_capacity(tables.len());
        for (_, object) in &tables {
            names.push(name(object)?.sql());
        }
        let sql = "SELECT pg_catalog.to_regclass(n)::oid, EXISTS (SELECT FROM pg_catalog.pg_publication p \
            JOIN pg_catalog.pg_publication_rel r ON r.prpubid = p.oid \
            WHERE p.pubname = $2 AND r.prrelid = pg_catalog.to_regclass(n)) \
            FROM unnest($1::text[]) WITH ORDINALITY AS asked(n, place) ORDER BY place";
        let rows = lease.query(sql, &[&names, &publication], "looking at the tables of the feed").await?;
        let found: Vec<Found> =
            rows.iter().map(|row| Ok(Found { oid: column(row, 0)?, published: column(row, 1)? })).collect::<Result<_>>()?;
        let mut state = self.state();
        if state.turn != turn {
            return Ok(());
        }
        for ((oid, object), found) in tables.iter().zip(found) {
            match found.oid {
                None => state.gone.push(object.clone()),
                Some(now) if now != *oid => {
                    state.torn = Some(format!("{object} is another table now than the one whose changes were followed"));
                }
                Some(_) if !found.published => {
                    state.torn = Some(format!("{object} was taken out of the publication {publication}"));
                }
                // Whoever was told that it is gone is told again when it next goes.
                Some(_) if state.told.get(object).is_some_and(|told| told.fields.is_empty()) => {
                    state.told.remove(object);
                    state.back.push(object.clone());
                }
                Some(_) => {}
            }
        }
        Ok(())
    }
}

/// Whether two schemas are the same for a mapping: in names, types and key, and in which column it is that has a name.
pub fn is_same(one: &Schema, other: &Schema) -> bool {
    let fields = |schema: &Schema| {
        let mut fields: Vec<_> = schema.fields.iter().map(|field| (field.name.clone(), field.ty.clone(), field.origin)).collect();
        fields.sort_by(|(one, ..), (other, ..)| one.cmp(other));
        fields
    };
    one.key == other.key && fields(one) == fields(other)
}
