//! Numbers for layouts: links keep their values in the order of the canonical fields and their decisions in the order of
//! the field groups, and a mapping may gain and lose both. A layout keeps its number for the life of the store.

use crate::error::{Code, Error, Result};
use crate::link::SyncId;
use crate::rules::SyncRules;
use crate::store::{Store, Transaction};
use serde::{Deserialize, Serialize};

/// The canonical fields and the field groups of a sync, by name and in their order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Layout {
    /// The fields.
    pub fields: Vec<String>,
    /// The fields of each group.
    pub groups: Vec<Vec<String>>,
}

impl Layout {
    /// The layout of a sync.
    pub fn of(rules: &SyncRules) -> Layout {
        let name = |field: &usize| rules.fields.get(*field).map(|field| field.name.clone());
        Layout {
            fields: rules.fields.iter().map(|field| field.name.clone()).collect(),
            groups: rules.groups.iter().map(|group| group.fields.iter().filter_map(name).collect()).collect(),
        }
    }
}

/// The setting that holds a sync's layouts, in the order of their numbers.
fn setting(sync: SyncId) -> String {
    format!("layouts/{}", sync.0)
}

/// The number of the sync's present layout, given out at first sight and durable when it returns.
///
/// # Errors
/// What the store says.
pub async fn layout_of(store: &dyn Store, rules: &SyncRules) -> Result<u32> {
    let name = setting(rules.id);
    let present = Layout::of(rules);
    let mut known: Vec<Layout> = match store.setting(&name).await? {
        Some(bytes) => serde_json::from_slice(&bytes)
            .map_err(|error| Error::new(Code::StoreFailed, format!("the setting {name} cannot be read")).because(error))?,
        None => Vec::new(),
    };
    if let Some(number) = known.iter().position(|layout| *layout == present) {
        return Ok(u32::try_from(number).unwrap_or(u32::MAX));
    }
    let number = u32::try_from(known.len()).unwrap_or(u32::MAX);
    known.push(present);
    let bytes =
        serde_json::to_vec(&known).map_err(|error| Error::new(Code::Internal, "a layout cannot be written").because(error))?;
    let transaction = Transaction { settings: vec![(name, Some(bytes))], ..Transaction::default() };
    let stopped = |error| Error::new(Code::StoreFailed, "the store has stopped").because(error);
    store.submit(transaction).await.map_err(stopped)??;
    Ok(number)
}
