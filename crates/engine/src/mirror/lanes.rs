//! Many changes that have piled up, carried out in lanes side by side: the changes of a record are in one lane, in their order, and
//! each lane keeps in its own transaction how far it has got. What cannot be taken apart so is carried out together, as are few
//! changes, so that what was changed together is seen together where nothing has piled up.

use super::batch::Step;
use super::bulk::{Helper, MirrorSession};
use super::carry::TARGET;
use super::progress::Progress;
use super::run::Mirror;
use crate::change::{Observation, Version};
use crate::error::Result;
use crate::failpoint;
use crate::record::{FieldName, Key, Record};
use crate::value::Value;
use futures_util::future::join_all;
use std::cmp::Ordering;
use std::collections::HashMap;
use xxhash_rust::xxh3::xxh3_64;

/// Fewer changes than these have not piled up.
const STEPS_FROM: usize = 2_000;
/// A lane of fewer is not worth a transaction of its own.
const LANE_STEPS_MIN: usize = 500;
/// The most lanes, whatever `parallelism` says.
const LANES_MAX: usize = 8;
/// For so many batches everything is carried out together after lanes have stood in each other's way.
const REST_BATCHES: u32 = 16;

/// One of so many lanes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lane {
    /// Which, from 0.
    pub number: u32,
    /// Of how many.
    pub of: u32,
}

impl Lane {
    /// Whether a record, by its key at the target, is in this lane. The same for ever: what a lane has carried out is told by it.
    pub fn holds(self, key: &Key) -> bool {
        number_of(key, self.of) == self.number
    }
}

fn number_of(key: &Key, of: u32) -> u32 {
    u32::try_from(xxh3_64(&key.encode()).checked_rem(u64::from(of)).unwrap_or(0)).unwrap_or(0)
}

/// A lane that got further than the progress of the whole before everything ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ahead {
    /// Which lane.
    pub lane: Lane,
    /// With this event and before it, nothing of the lane's records is carried out again.
    pub applied: Version,
}

/// How a life uses lanes.
#[derive(Default)]
pub(super) struct Lanes {
    rest: u32,
}

impl Lanes {
    /// How many lanes so many steps are worth.
    fn count(&mut self, steps: usize, most: usize) -> u32 {
        if steps < STEPS_FROM {
            return 1;
        }
        if let Some(rest) = self.rest.checked_sub(1) {
            self.rest = rest;
            return 1;
        }
        u32::try_from(most.min(LANES_MAX).min(steps / LANE_STEPS_MIN)).unwrap_or(1)
    }
}

/// Steps by lane; or all of them, where they have to be carried out together.
type Split = std::result::Result<Vec<Vec<Step>>, Vec<Step>>;

/// Splits steps so that those of one record are in one lane, and those that show the same value of what is unique.
fn split(steps: Vec<Step>, of: u32, unique: &[Vec<FieldName>]) -> Split {
    let Some(numbers) = numbers(&steps, of, unique) else { return Err(steps) };
    let mut lanes: Vec<Vec<Step>> = (0..of).map(|_| Vec::new()).collect();
    for (step, number) in steps.into_iter().zip(numbers) {
        if let Some(lane) = usize::try_from(number).ok().and_then(|number| lanes.get_mut(number)) {
            lane.push(step);
        }
    }
    Ok(lanes)
}

/// The lane of each step; `None`: they are not to be taken apart.
fn numbers(steps: &[Step], of: u32, unique: &[Vec<FieldName>]) -> Option<Vec<u32>> {
    let mut holders: HashMap<u64, u32> = HashMap::new();
    let mut numbers = Vec::with_capacity(steps.len());
    for step in steps {
        let (key, shown) = match step {
            Step::Put { key, record, .. } => (key, Some(record)),
            Step::Change { key, set } => (key, Some(set)),
            Step::Remove { key } => (key, None),
            Step::Append { .. } | Step::Rekey { .. } | Step::Empty => return None,
        };
        let number = number_of(key, of);
        for (place, fields) in unique.iter().enumerate() {
            let Some(shown) = shown.filter(|shown| fields.iter().any(|field| shown.has(field.as_str()))) else { continue };
            // A part of what is unique does not tell whose way it stands in.
            if let Some(taken) = taken(shown, place, fields)?
                && *holders.entry(taken).or_insert(number) != number
            {
                return None;
            }
        }
        numbers.push(number);
    }
    Some(numbers)
}

/// A print of the values that are to be unique together; none where one is null, for nulls stand in nobody's way.
fn taken(shown: &Record, place: usize, fields: &[FieldName]) -> Option<Option<u64>> {
    let values = fields.iter().map(|field| shown.get(field.as_str())).collect::<Option<Vec<&Value>>>()?;
    if values.contains(&&Value::Null) {
        return Some(None);
    }
    let mut bytes = Key(values.into_iter().cloned().collect()).encode();
    bytes.extend(place.to_be_bytes());
    Some(Some(xxh3_64(&bytes)))
}

impl Mirror {
    /// Carries steps out, many of them in lanes, and keeps the progress, which is of `applied`.
    pub(super) async fn write(
        &self,
        session: &dyn MirrorSession,
        steps: Vec<Step>,
        progress: &Progress,
        lanes: Option<&mut Lanes>,
        helper: &dyn Helper,
    ) -> Result<()> {
        let most = self.rules.parallelism.min(session.lanes_max());
        let together = match (&progress.applied, lanes) {
            (Some(applied), Some(lanes)) => match lanes.count(steps.len(), most) {
                1 => steps,
                of => match split(steps, of, &self.member(TARGET)?.schema.unique) {
                    Ok(split) => self.write_in_lanes(session, split, (of, applied), lanes).await?,
                    Err(steps) => steps,
                },
            },
            _ => steps,
        };
        session.write(&together, &progress.encode(), helper).await
    }

    /// Gives back what is still to be carried out: the steps of lanes that stood in each other's way or met a refusal.
    async fn write_in_lanes(
        &self,
        session: &dyn MirrorSession,
        split: Vec<Vec<Step>>,
        (of, applied): (u32, &Version),
        lanes: &mut Lanes,
    ) -> Result<Vec<Step>> {
        let writing = (0..).zip(&split).map(|(number, steps)| session.write_lane(Lane { number, of }, steps, applied, self));
        let written = join_all(writing).await.into_iter().collect::<Result<Vec<bool>>>()?;
        failpoint::pass("mirror_lanes_written");
        let left: Vec<Step> =
            split.into_iter().zip(&written).filter(|(_, written)| !**written).flat_map(|(lane, _)| lane).collect();
        if !left.is_empty() {
            lanes.rest = REST_BATCHES;
        }
        Ok(left)
    }

    /// Whether a lane that is ahead of the progress has carried an event out.
    pub(super) fn is_ahead(&self, ahead: &[Ahead], observation: &Observation) -> bool {
        if ahead.is_empty() || observation.old_key.is_some() {
            return false;
        }
        let Ok(key) = self.carrier.key(&observation.key) else { return false };
        let is_past = |applied: &Version| self.source.compare(&observation.version, applied).is_some_and(Ordering::is_le);
        ahead.iter().any(|ahead| ahead.lane.holds(&key) && is_past(&ahead.applied))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    fn key(number: i64) -> Key {
        Key(vec![Value::Int(number)])
    }

    fn put(number: i64, code: Value) -> Step {
        let record = [(FieldName::from("id"), Value::Int(number)), (FieldName::from("code"), code)].into_iter().collect();
        Step::Put { key: key(number), record, made: false }
    }

    fn code() -> Vec<Vec<FieldName>> {
        vec![vec!["code".into()]]
    }

    #[test]
    fn the_changes_of_a_record_are_in_one_lane_in_their_order() {
        let steps: Vec<Step> = (0..3_000).map(|n| put(n % 100, Value::Int(n))).collect();
        let lanes = split(steps.clone(), 4, &[]).unwrap();
        assert_eq!(lanes.iter().map(Vec::len).sum::<usize>(), 3_000);
        assert!(lanes.iter().all(|lane| lane.len() > 300), "about the same in each");
        for number in 0..100 {
            let of = |steps: &[Step]| steps.iter().filter(|step| step.key() == Some(&key(number))).cloned().collect::<Vec<_>>();
            let holding: Vec<Vec<Step>> = lanes.iter().map(|lane| of(lane)).filter(|own| !own.is_empty()).collect();
            assert_eq!(holding, vec![of(&steps)]);
        }
    }

    /// What is kept in a target by one version is read by the next.
    #[test]
    fn a_records_lane_is_the_same_for_ever() {
        let numbers: Vec<u32> = (0..8).map(|n| number_of(&key(n), 4)).collect();
        assert_eq!(numbers, EXPECTED);
        let lane = Lane { number: 3, of: 4 };
        let held: BTreeSet<i64> = (0..8).filter(|n| lane.holds(&key(*n))).collect();
        assert_eq!(held, (0..8).zip(EXPECTED).filter(|(_, lane)| *lane == 3).map(|(n, _)| n).collect());
    }

    const EXPECTED: [u32; 8] = [0, 1, 0, 1, 1, 1, 0, 3];

    #[test]
    fn steps_that_show_the_same_unique_value_in_two_lanes_stay_together() {
        let (one, other) = (0..).zip(1..).find(|(a, b)| number_of(&key(*a), 2) != number_of(&key(*b), 2)).unwrap();
        let same = vec![put(one, Value::Int(7)), put(other, Value::Int(7))];
        assert_eq!(split(same.clone(), 2, &code()), Err(same));
        // Apart where it is not unique, where it is null, and where the values differ.
        assert!(split(vec![put(one, Value::Int(7)), put(other, Value::Int(7))], 2, &[]).is_ok());
        assert!(split(vec![put(one, Value::Null), put(other, Value::Null)], 2, &code()).is_ok());
        assert!(split(vec![put(one, Value::Int(7)), put(other, Value::Int(8))], 2, &code()).is_ok());
        let set: Vec<Vec<FieldName>> = vec![vec!["code".into(), "more".into()]];
        assert!(split(vec![put(one, Value::Int(7)), put(other, Value::Int(8))], 2, &set).is_err(), "a part of what is unique");
    }

    #[test]
    fn a_record_that_takes_another_key_or_an_emptied_table_keeps_everything_together() {
        let rekey = Step::Rekey { from: key(1), to: key(2), set: Record::new(), whole: false };
        for step in [rekey, Step::Empty] {
            assert!(split(vec![put(1, Value::Null), step], 2, &[]).is_err());
        }
    }

    /// Nothing tells one from another that shows the same: what a lane had carried out before a crash could not be told.
    #[test]
    fn records_without_a_key_keep_everything_together() {
        let append = |number| {
            let record = [(FieldName::from("line"), Value::Int(number))].into_iter().collect();
            Step::Append { at_source: key(number), record }
        };
        let many: Vec<Step> = (0..3_000).map(append).collect();
        assert_eq!(split(many.clone(), 4, &[]), Err(many));
        assert!(split(vec![put(1, Value::Null), append(2)], 2, &[]).is_err());
    }

    #[test]
    fn few_changes_stay_together_and_so_do_those_behind_a_collision() {
        let mut lanes = Lanes::default();
        assert_eq!(
            [lanes.count(1_999, 4), lanes.count(2_000, 4), lanes.count(2_000, 1), lanes.count(100_000, 100)],
            [1, 4, 1, 8]
        );
        lanes.rest = 2;
        assert_eq!([lanes.count(2_000, 4), lanes.count(2_000, 4), lanes.count(2_000, 4)], [1, 1, 4]);
    }
}
