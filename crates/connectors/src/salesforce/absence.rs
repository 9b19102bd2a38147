//! Records by their ids, and what became of those that are not shown: the org answers in the same way for a record that was deleted
//! and for one that our user may not see. Says "gone" only where the org itself tells of the delete, never because nothing was found.

use super::client::{Client, Need};
use super::records::{Columns, PAGE_MAX, ShownRecord, retrieve, rows};
use super::schema::{ID, Object};
use super::soql::{quoted, select};
use super::sweep::listed_as_deleted;
use concord_engine::error::{Class, Code, Error, Result};
use std::collections::{BTreeSet, HashMap, HashSet};

/// The most ids of one query: it may have 100,000 characters.
const IDS_MAX: usize = PAGE_MAX / 2;
const DAY_SECONDS: i64 = 86_400;
/// How far back it is asked what was deleted for good: the org tells for 30 days at most, and for less where it has lost some of it.
const DELETES_ASKED_DAYS: [i64; 2] = [29, 14];

/// What is known of a record.
#[derive(Clone, Debug)]
pub(super) enum Sight {
    Shown(Box<ShownRecord>),
    /// Deleted, whether it is still in the bin or not.
    Gone,
    /// Not shown, and nothing says that it was deleted.
    Unseen,
}

/// Why a record that is not shown is not taken for deleted.
pub(super) fn unseen(client: &Client, object: &Object) -> Error {
    let message = format!("{}: the record is not shown to our user, and the org does not say that it was deleted", object.name);
    Error::new(Code::HostedRecordDenied, message).at(client.settings.system.clone())
}

/// Records by their ids, in the order asked. Those that are shown cost no further call.
pub(super) async fn look(client: &Client, columns: &Columns<'_>, wanted: &[String]) -> Result<Vec<Sight>> {
    let found = retrieve(client, columns, wanted).await?;
    let missing: BTreeSet<&String> = wanted.iter().zip(&found).filter(|(_, shown)| shown.is_none()).map(|(id, _)| id).collect();
    let missing: Vec<&String> = missing.into_iter().collect();
    let known = look_into(client, columns, &missing).await?;
    let sight = |(id, shown): (&String, Option<ShownRecord>)| match shown {
        Some(shown) => Sight::Shown(Box::new(shown)),
        None => known.get(id).cloned().unwrap_or(Sight::Unseen),
    };
    Ok(wanted.iter().zip(found).map(sight).collect())
}

/// What the org tells of records that a retrieve does not show: first the bin is asked, then the list of what was deleted for good.
async fn look_into(client: &Client, columns: &Columns<'_>, missing: &[&String]) -> Result<HashMap<String, Sight>> {
    let mut known = HashMap::with_capacity(missing.len());
    for part in missing.chunks(IDS_MAX) {
        for shown in with_the_bin(client, columns, part).await? {
            let id = shown.id.clone();
            // One that is there after all was taken out of the bin, or shared with us, in this moment.
            let sight = if shown.deleted { Sight::Gone } else { Sight::Shown(Box::new(shown)) };
            known.insert(id, sight);
        }
    }
    let untold: HashSet<&str> = missing.iter().map(|id| id.as_str()).filter(|id| !known.contains_key(*id)).collect();
    if untold.is_empty() {
        return Ok(known);
    }
    let deleted = deleted_for_good(client, columns.object).await?;
    known.extend(deleted.into_iter().filter(|id| untold.contains(id.as_str())).map(|id| (id, Sight::Gone)));
    Ok(known)
}

/// These records, those in the bin included.
async fn with_the_bin(client: &Client, columns: &Columns<'_>, ids: &[&String]) -> Result<Vec<ShownRecord>> {
    let object = columns.object;
    let mut names = columns.names();
    if object.field("IsDeleted").is_some() && !names.contains(&"IsDeleted") {
        names.push("IsDeleted");
    }
    let list = ids.iter().map(|id| quoted(id)).collect::<Vec<_>>().join(",");
    let soql = select(&names, &object.name, &format!("WHERE {ID} IN ({list})"));
    let found = rows(client, &format!("looking for what is not shown of {}", object.name), &soql, true, Need::Now).await?;
    found.iter().map(|row| columns.read(row)).collect()
}

/// What the org lists as deleted, as far back as it does. Nothing where it keeps no such list: then nothing is proven.
async fn deleted_for_good(client: &Client, object: &Object) -> Result<Vec<String>> {
    for days in DELETES_ASKED_DAYS {
        let since = client.org_seconds().saturating_sub(days.saturating_mul(DAY_SECONDS));
        match listed_as_deleted(client, object, since).await {
            Ok((gone, _)) => return Ok(gone.into_iter().map(|(_, id)| id).collect()),
            // What passes is waited out by whoever asks.
            Err(error) if matches!(error.class(), Class::Transient | Class::Throttled) => return Err(error),
            Err(error) => {
                tracing::debug!(object = object.name, days, error = error.chain(), "what was deleted is not known so far back");
            }
        }
    }
    Ok(Vec::new())
}
