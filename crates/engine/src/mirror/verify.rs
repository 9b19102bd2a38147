//! Whether a mirror sync's target shows what its source does: every record of the source read and compared with what it
//! becomes, every record of the target looked for at the source. Reads only. What differs is looked at again before it
//! counts, for a change may be on its way.

use super::batch::Step;
use super::carry::{Carried, Carrier, SOURCE, TARGET};
use super::totals;
use crate::clock::Clock;
use crate::connector::{ChunkCursor, Connector, Presence};
use crate::error::{Code, Error, Result};
use crate::record::{Key, Record};
use crate::review::Subject;
use crate::rules::{MemberRules, SyncRules};
use crate::schema::Selection;
use crate::store::Store;
use crate::verify::{Difference, SyncVerification};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

/// Records looked at in one step.
const CHUNK: usize = 500;
/// Differences listed one by one; more are only counted.
const LISTED_MAX: usize = 1_000;
/// Differences kept for another look; more stand as they are.
const SUSPECTS_MAX: usize = 20_000;
/// How often what differs is looked at again, and the pause between two looks.
const LOOKS_MAX: usize = 25;
const LOOK_PAUSE: Duration = Duration::from_millis(200);
/// The most open review items that are looked at.
const REVIEWS_MAX: usize = 20_000;

/// Compares the two members of one mirror sync. `connectors` stand in the order of the members.
///
/// # Errors
/// What the store and the connectors say.
pub async fn verify(
    rules: &Arc<SyncRules>,
    store: &dyn Store,
    connectors: &[Arc<dyn Connector>],
    clock: &dyn Clock,
) -> Result<SyncVerification> {
    let carrier = Carrier::new(rules).map_err(|why| Error::new(Code::Internal, why))?;
    let ([source, target], [from, to]) = (connectors, rules.members.as_slice()) else {
        return Err(Error::new(Code::Internal, "a verification needs one connector per member"));
    };
    let found = SyncVerification {
        name: rules.name.to_string(),
        through: clock.now().to_string(),
        unlinked: vec![0; 2],
        ..SyncVerification::default()
    };
    let refused: Vec<Key> = store
        .reviews(Some(rules.id), true, REVIEWS_MAX)
        .await?
        .into_iter()
        .filter_map(|review| if let Subject::Refused { key, .. } = review.subject { Some(key) } else { None })
        .collect();
    let ends = [(source.as_ref(), from), (target.as_ref(), to)];
    if carrier.is_keyless() {
        return totals::verify(&carrier, ends, &refused, found).await;
    }
    let in_review = refused.iter().map(Key::encode).collect();
    let mut run = Run { carrier, ends, in_review, found };
    run.records().await?;
    run.strangers().await?;
    Ok(run.found)
}

struct Run<'a> {
    carrier: Carrier,
    /// Source and target, in the order of the members.
    ends: [(&'a dyn Connector, &'a MemberRules); 2],
    in_review: BTreeSet<Vec<u8>>,
    found: SyncVerification,
}

impl<'a> Run<'a> {
    fn end(&self, place: usize) -> Result<(&'a dyn Connector, &'a MemberRules)> {
        self.ends.get(place).copied().ok_or_else(|| Error::new(Code::Internal, "a sync without two members"))
    }

    /// Every record of the source is at the target as it should be.
    async fn records(&mut self) -> Result<()> {
        let (source, from) = self.end(SOURCE)?;
        let mut cursor = ChunkCursor::default();
        let mut suspects: Vec<Key> = Vec::new();
        loop {
            let chunk = source.snapshot(&from.selection, &cursor, CHUNK).await?;
            let (mut keys, mut wanted) = (Vec::new(), Vec::new());
            for observation in chunk.records {
                let key = observation.key.clone();
                match self.carrier.carry(observation).0 {
                    // What the target has of it is of an earlier time, if it has any.
                    Carried::Dormant { .. } => {}
                    carried => {
                        keys.push(key);
                        wanted.push(Some(carried));
                    }
                }
            }
            self.found.links = self.found.links.saturating_add(u64::try_from(keys.len()).unwrap_or(0));
            for (key, difference) in keys.iter().zip(self.compare(&keys, wanted).await?) {
                match difference {
                    None => self.found.equal += 1,
                    Some(_) if self.in_review.contains(&key.encode()) => self.found.in_review += 1,
                    Some(difference) if suspects.len() >= SUSPECTS_MAX => self.differ(difference),
                    Some(_) => suspects.push(key.clone()),
                }
            }
            match chunk.next {
                Some(next) => cursor = next,
                None => break,
            }
        }
        self.look_again(suspects).await
    }

    /// What is left after so many looks differs.
    async fn look_again(&mut self, mut suspects: Vec<Key>) -> Result<()> {
        for look in 1..=LOOKS_MAX {
            if suspects.is_empty() {
                return Ok(());
            }
            tokio::time::sleep(LOOK_PAUSE).await;
            let mut left = Vec::new();
            for keys in suspects.chunks(CHUNK) {
                for (key, difference) in keys.iter().zip(self.look(keys).await?) {
                    match difference {
                        None => self.found.equal += 1,
                        Some(difference) if look == LOOKS_MAX => self.differ(difference),
                        Some(_) => left.push(key.clone()),
                    }
                }
            }
            suspects = left;
        }
        Ok(())
    }

    /// Records by their keys at the source: what of each differs now.
    async fn look(&self, keys: &[Key]) -> Result<Vec<Option<Difference>>> {
        let (source, from) = self.end(SOURCE)?;
        let shown = source.read(&from.selection, keys).await?;
        let wanted = keys.iter().zip(&shown).map(|(key, presence)| match presence {
            Presence::Present(observation) => Some(self.carrier.carry(observation.clone()).0),
            Presence::Absent { .. } => self.carrier.key(key).ok().map(|key| Carried::Step(Step::Remove { key })),
            Presence::Forbidden(error) => Some(Carried::Refused { key: key.clone(), error: error.clone(), moved: None }),
        });
        self.compare(keys, wanted.collect()).await
    }

    /// Compares what records should be at the target with what is there. `None`: nothing, and nothing can be there.
    async fn compare(&self, keys: &[Key], wanted: Vec<Option<Carried>>) -> Result<Vec<Option<Difference>>> {
        let (target, to) = self.end(TARGET)?;
        // Under a key that does not fit there is no record.
        let there: Vec<Option<Key>> = keys.iter().map(|key| self.carrier.key(key).ok()).collect();
        let asked: Vec<Key> = there.iter().flatten().cloned().collect();
        let mut shown = target.read(&to.selection, &asked).await?.into_iter();
        let compared = keys.iter().zip(wanted).zip(there).map(|((key, wanted), there)| {
            let shown = there.and_then(|_| shown.next());
            let record = match &shown {
                Some(Presence::Present(observation)) => observation.image.record(),
                _ => None,
            };
            match (wanted?, record) {
                (Carried::Step(Step::Remove { .. }), None) | (Carried::Dormant { .. }, _) => None,
                (Carried::Step(Step::Put { record: wanted, .. }), Some(shown)) => {
                    let fields = differing(&wanted, shown);
                    (!fields.is_empty()).then(|| self.difference("differs", to, key, fields))
                }
                (Carried::Step(Step::Remove { .. }), Some(_)) => Some(self.difference("unlinked", to, key, Vec::new())),
                _ => Some(self.difference("missing", to, key, Vec::new())),
            }
        });
        Ok(compared.collect())
    }

    fn difference(
        &self,
        kind: &str,
        member: &MemberRules,
        key: &Key,
        fields: Vec<(String, Option<String>, Option<String>)>,
    ) -> Difference {
        let found = Difference::new(kind, member.system.to_string(), key.to_string(), fields);
        match self.end(SOURCE) {
            // What is missing is named where it is.
            Ok((_, from)) if kind == "missing" => {
                Difference { missing_in: Some(found.system), system: from.system.to_string(), ..found }
            }
            _ => found,
        }
    }

    fn differ(&mut self, difference: Difference) {
        self.found.differing += 1;
        if self.found.differences.len() < LISTED_MAX {
            self.found.differences.push(difference);
        }
    }

    /// Every record of the target is at the source.
    async fn strangers(&mut self) -> Result<()> {
        let ((source, from), (target, to)) = (self.end(SOURCE)?, self.end(TARGET)?);
        let keys_of = |member: &MemberRules| Selection { object: member.object.clone(), fields: member.schema.key.clone() };
        let (here, there) = (keys_of(from), keys_of(to));
        let mut cursor = ChunkCursor::default();
        let mut strangers: Vec<Key> = Vec::new();
        let before = self.found.differing;
        loop {
            let chunk = target.snapshot(&there, &cursor, CHUNK).await?;
            let mut keys = Vec::with_capacity(chunk.records.len());
            for observation in &chunk.records {
                match self.carrier.back(&observation.key) {
                    Some(key) => keys.push(key),
                    None => self.differ(self.difference("unlinked", to, &observation.key, Vec::new())),
                }
            }
            let presences = source.read(&here, &keys).await?;
            let absent = keys.into_iter().zip(presences).filter(|(_, presence)| matches!(presence, Presence::Absent { .. }));
            strangers.extend(absent.map(|(key, _)| key));
            for key in beyond(SUSPECTS_MAX, &mut strangers) {
                self.differ(self.difference("unlinked", to, &key, Vec::new()));
            }
            match chunk.next {
                Some(next) => cursor = next,
                None => break,
            }
        }
        self.look_again_for_strangers(strangers).await?;
        // Counted by themselves, as records without a counterpart.
        if let Some(count) = self.found.unlinked.get_mut(TARGET) {
            *count = self.found.differing.saturating_sub(before);
            self.found.differing = before;
        }
        Ok(())
    }

    async fn look_again_for_strangers(&mut self, strangers: Vec<Key>) -> Result<()> {
        // One that comes to be equal was never counted among the source's records.
        let equal = self.found.equal;
        self.look_again(strangers).await?;
        self.found.equal = equal;
        Ok(())
    }
}

/// Takes those away for which there is no room among what is looked at again: they stand as they are.
fn beyond(room: usize, suspects: &mut Vec<Key>) -> Vec<Key> {
    suspects.split_off(room.min(suspects.len()))
}

/// The fields in which a record is not as it should be.
fn differing(wanted: &Record, shown: &Record) -> Vec<(String, Option<String>, Option<String>)> {
    let differs = |(name, wanted): (&crate::record::FieldName, &crate::value::Value)| {
        let shown = shown.get(name.as_str());
        let is_equal = shown.is_some_and(|shown| wanted.equivalent(shown));
        (!is_equal).then(|| (name.to_string(), Some(wanted.to_string()), shown.map(ToString::to_string)))
    };
    wanted.iter().filter_map(differs).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::value::Value;

    #[test]
    fn suspects_for_which_there_is_no_room_are_not_forgotten() {
        let keys = |from: i64, to: i64| (from..to).map(|id| Key(vec![Value::Int(id)])).collect::<Vec<Key>>();
        let mut suspects = keys(0, 5);
        assert_eq!(beyond(5, &mut suspects), keys(0, 0));
        assert_eq!(beyond(3, &mut suspects), keys(3, 5));
        assert_eq!(suspects, keys(0, 3));
    }
}
