//! How a verification reads, so that a record which cannot be read stands alone and keeps no other from being compared
//! (invariant 7). Decides nothing about what was read.

use crate::connector::{ChunkCursor, Connector, Presence};
use crate::error::Result;
use crate::record::Key;
use crate::rules::MemberRules;
use crate::schema::Selection;

/// Records by key, one answer per key, in the order asked. What fails as a whole is read in halves; a record that fails by itself
/// is one that may not be seen.
pub(super) async fn read(connector: &dyn Connector, selection: &Selection, keys: &[Key]) -> Result<Vec<Presence>> {
    let mut found = Vec::with_capacity(keys.len());
    let mut left = vec![keys];
    while let Some(some) = left.pop() {
        match connector.read(selection, some).await {
            Ok(presences) => found.extend(presences),
            Err(error) if !error.may_be_one_records() => return Err(error),
            Err(error) if some.len() <= 1 => found.extend(some.iter().map(|_| Presence::Forbidden(error.clone()))),
            Err(_) => {
                let (first, second) = some.split_at(some.len() / 2);
                left.extend([second, first]);
            }
        }
    }
    Ok(found)
}

/// The keys of some records, in the order of the key, and where the next begin. They can be told also where something else of a
/// record cannot be.
pub(super) async fn keys(
    connector: &dyn Connector,
    rules: &MemberRules,
    from: &ChunkCursor,
    limit: usize,
) -> Result<(Vec<Key>, Option<ChunkCursor>)> {
    let chunk = match connector.snapshot(&rules.selection, from, limit).await {
        Err(error) if error.may_be_one_records() => {
            let keys_alone = Selection { fields: rules.schema.key.clone(), ..rules.selection.clone() };
            connector.snapshot(&keys_alone, from, limit).await?
        }
        chunk => chunk?,
    };
    Ok((chunk.records.into_iter().map(|observation| observation.key).collect(), chunk.next))
}
