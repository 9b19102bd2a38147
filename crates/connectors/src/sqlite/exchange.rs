//! Records that stand in each other's way: one takes a unique value that another is about to let go of, or two exchange
//! theirs. Told one by one, none of them can be carried; here they find their places, in the transaction that is open.
//! What cannot be placed stays as it is, and refused: no record is lost or doubled.

use super::asking::Asking;
use super::steps::{Met, Trouble, Writer};
use super::types::Cell;
use concord_engine::error::{Code, Error, Result};
use concord_engine::mirror::batch::{Last, Step};
use concord_engine::record::{Key, Record};
use std::collections::{BTreeSet, HashMap};

/// How often it is looked whether one that was refused can be carried now. What is left are chains told backwards and rings.
const PASSES_MAX: usize = 3;
/// How often it is tried which of those that stand in each other's way can be placed.
const TRIES_MAX: usize = 50;

/// A record to be placed: which step it comes from, its key, and all that it shows.
struct Waiting {
    place: usize,
    key: Key,
    record: Record,
}

impl Waiting {
    fn of(place: usize, step: Step) -> Option<Waiting> {
        match step {
            Step::Put { key, record, .. } => Some(Waiting { place, key, record }),
            Step::Rekey { to, set, whole: true, .. } => Some(Waiting { place, key: to, record: set }),
            _ => None,
        }
    }
}

/// Places what was refused because a value of it was there already, where that is possible now; `refused` are places among
/// the steps. One of which the steps say more later on is left alone.
pub(super) fn place(writer: &mut Writer<'_>, steps: &[Step], refused: &mut Vec<(usize, Error)>, asking: &Asking) -> Result<()> {
    if refused.is_empty() {
        return Ok(());
    }
    let last = Last::of(steps);
    let failed: BTreeSet<usize> = refused.iter().map(|(place, _)| *place).collect();
    // What a later step says in full is said.
    refused.retain(|(place, _)| !last.replaced(steps, *place, &failed));
    let mut waiting = Vec::new();
    let mut partial: HashMap<Vec<u8>, usize> = HashMap::new();
    let mut unseen = Vec::new();
    for (place, _) in refused.iter().filter(|(place, error)| error.code == Code::AlreadyThere && last.is_last(steps, *place)) {
        let Some(step) = steps.get(*place) else { continue };
        match (Waiting::of(*place, step.clone()), step.key()) {
            (Some(one), _) => waiting.push(one),
            (None, Some(key)) => {
                partial.insert(key.encode(), *place);
                unseen.push(key.clone());
            }
            (None, None) => {}
        }
    }
    while !unseen.is_empty() {
        let (whole, looked_for) = asking.whole(unseen.clone())?;
        for step in whole {
            let place = step.key().and_then(|key| partial.get(&key.encode()).copied());
            waiting.extend(place.and_then(|place| Waiting::of(place, step)));
        }
        unseen.drain(..looked_for.clamp(1, unseen.len()));
    }
    let mut placed = BTreeSet::new();
    for _ in 0..PASSES_MAX {
        let before = placed.len();
        let mut left = Vec::with_capacity(waiting.len());
        for one in waiting {
            match tried(writer.put(&one.record))? {
                Some(_) => drop(placed.insert(one.place)),
                None => left.push(one),
            }
        }
        waiting = left;
        if placed.len() == before {
            break;
        }
    }
    placed.extend(together(writer, waiting)?);
    refused.retain(|(place, _)| !placed.contains(place));
    Ok(())
}

/// What was done; none where it is the record's own fault that it was not.
fn tried<T>(done: std::result::Result<T, Trouble>) -> Result<Option<T>> {
    match done {
        Ok(done) => Ok(Some(done)),
        Err(Trouble::Own(_)) => Ok(None),
        Err(Trouble::Whole(error)) => Err(error),
    }
}

/// Takes all of them away and puts as many as can be in their places; gives back which.
fn together(writer: &mut Writer<'_>, mut group: Vec<Waiting>) -> Result<Vec<usize>> {
    for attempt in 0..TRIES_MAX {
        if group.len() < 2 {
            break;
        }
        writer.command("SAVEPOINT together")?;
        // Chains are told in either direction: each is short in one of them.
        let tried = exchange(writer, &group, attempt % 2 == 1)?;
        if !tried.stands {
            writer.command("ROLLBACK TO together")?;
        }
        writer.command("RELEASE together")?;
        let fits = |(_, placed): &(Waiting, bool)| *placed;
        group = group.into_iter().zip(tried.placed).filter(fits).map(|(one, _)| one).collect();
        if tried.stands {
            return Ok(group.into_iter().map(|one| one.place).collect());
        }
    }
    Ok(Vec::new())
}

/// What became of an exchange.
struct Tried {
    placed: Vec<bool>,
    /// Whether those that found no place are what they were.
    stands: bool,
}

/// One that finds no place is put back as it was before the next is tried, so that a value of its is not given away.
fn exchange(writer: &mut Writer<'_>, group: &[Waiting], backwards: bool) -> Result<Tried> {
    let mut stored: Vec<Option<Option<Vec<Cell>>>> = Vec::with_capacity(group.len());
    for one in group {
        stored.push(tried(writer.take_away(&one.key))?);
    }
    let mut placed = vec![false; group.len()];
    let mut stands = true;
    let count = group.len();
    for at in (0..count).map(|at| if backwards { count.saturating_sub(at).saturating_sub(1) } else { at }) {
        let (Some(one), Some(stored), Some(placed)) = (group.get(at), stored.get(at), placed.get_mut(at)) else { continue };
        let done = match stored {
            // A trigger does not let it go.
            None => continue,
            Some(None) => writer.put(&one.record),
            Some(Some(cells)) => writer.put_back(cells.clone(), &one.record).map(|()| Met::Yes),
        };
        *placed = tried(done)?.is_some();
        if let (false, Some(Some(cells))) = (*placed, stored) {
            stands &= tried(writer.put_back(cells.clone(), &Record::new()))?.is_some();
        }
    }
    Ok(Tried { placed, stands })
}
