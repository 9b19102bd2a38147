//! Changes as steps to be carried out at the target, and how many of them become few statements. Pure.
//! The law of this file: carrying out the segments of some steps, one segment after the other and the steps of a segment in
//! any order, comes to what carrying out the steps one by one does.

use crate::record::{Key, Record};
use std::borrow::Cow;
use std::collections::{BTreeSet, HashMap};

/// One change as it is to be carried out, in the target's terms. Fields that no mapping names are left alone.
#[derive(Clone, Debug, PartialEq)]
pub enum Step {
    /// The record shows this in every mapped field; it is made if it is not there.
    Put {
        /// Its key.
        key: Key,
        /// Every mapped field, those of the key included.
        record: Record,
        /// Whether it has only just been made, so that it is hardly there yet: says how to carry it out best, never what comes of it.
        made: bool,
    },
    /// One more record, of which nothing tells whether it is there: one that has no key. It is never left out and never doubled.
    Append {
        /// Its key at the source, by which it is told from others that show the same.
        at_source: Key,
        /// Every mapped field.
        record: Record,
    },
    /// Some fields of a record that is there.
    Change {
        /// Its key.
        key: Key,
        /// The fields.
        set: Record,
    },
    /// A record takes another key; it is made if it is not there and every field is known.
    Rekey {
        /// The key before.
        from: Key,
        /// The key now.
        to: Key,
        /// Fields of the record now, those of the key included.
        set: Record,
        /// Whether these are all of them.
        whole: bool,
    },
    /// The record is gone.
    Remove {
        /// Its key.
        key: Key,
    },
    /// Every record is gone.
    Empty,
}

/// Where among some steps each record is spoken of last: for a target that looks again at steps which were refused.
pub struct Last {
    of: HashMap<Vec<u8>, usize>,
    emptied: Option<usize>,
}

impl Last {
    /// Of these steps.
    pub fn of(steps: &[Step]) -> Last {
        let mut last = Last { of: HashMap::new(), emptied: None };
        for (place, step) in steps.iter().enumerate() {
            for key in keys(step) {
                last.of.insert(key.encode(), place);
            }
            if matches!(step, Step::Empty) {
                last.emptied = Some(place);
            }
        }
        last
    }

    /// Whether no later step speaks of the record of this one.
    pub fn is_last(&self, steps: &[Step], place: usize) -> bool {
        let spoken_of = |key: &Key| self.of.get(&key.encode()).is_some_and(|last| *last > place);
        steps.get(place).is_some_and(|step| !keys(step).any(spoken_of)) && self.emptied.is_none_or(|emptied| emptied < place)
    }

    /// Whether a later step says all that there is to say of the record, and was carried out.
    pub fn replaced(&self, steps: &[Step], place: usize, failed: &BTreeSet<usize>) -> bool {
        let Some(key) = steps.get(place).and_then(Step::key) else { return false };
        let Some(last) = self.of.get(&key.encode()).filter(|last| **last > place && !failed.contains(last)) else { return false };
        steps.get(*last).is_some_and(|step| step.is_whole() && step.key() == Some(key))
    }
}

/// The keys that a step speaks of.
fn keys(step: &Step) -> impl Iterator<Item = &Key> {
    let from = if let Step::Rekey { from, .. } = step { Some(from) } else { None };
    step.key().into_iter().chain(from)
}

impl Step {
    /// About how many bytes it holds, its keys left out.
    pub fn about_bytes(&self) -> u64 {
        match self {
            Step::Put { record, .. } | Step::Append { record, .. } => record.about_bytes(),
            Step::Change { set, .. } | Step::Rekey { set, .. } => set.about_bytes(),
            Step::Remove { .. } | Step::Empty => 0,
        }
    }

    /// Whether it says all that there is to say of its record.
    pub fn is_whole(&self) -> bool {
        match self {
            Step::Put { .. } | Step::Append { .. } | Step::Remove { .. } | Step::Empty => true,
            Step::Rekey { whole, .. } => *whole,
            Step::Change { .. } => false,
        }
    }

    /// The record that it is of; `None`: all of them, or one that has no key.
    pub fn key(&self) -> Option<&Key> {
        match self {
            Step::Put { key, .. } | Step::Change { key, .. } | Step::Rekey { to: key, .. } | Step::Remove { key } => Some(key),
            Step::Empty | Step::Append { .. } => None,
        }
    }
}

/// Steps of which no two are of one record: none speaks of a key that another one speaks of. A [`Step::Empty`] stands alone.
pub type Segment<'a> = Vec<Cow<'a, Step>>;

/// Groups steps into segments. What a later step of a record replaces is left out.
pub fn segments(steps: &[Step]) -> Vec<Segment<'_>> {
    let mut all: Vec<Segment<'_>> = Vec::new();
    let mut present = Open::default();
    for step in steps {
        let key = match step {
            Step::Put { key, .. } | Step::Change { key, .. } | Step::Remove { key } => key.encode(),
            Step::Append { .. } => {
                present.steps.push(Cow::Borrowed(step));
                continue;
            }
            Step::Rekey { from, to, .. } => {
                let keys = [from.encode(), to.encode()];
                if keys.iter().any(|key| present.places.contains_key(key)) {
                    present.close(&mut all);
                }
                present.add(keys, step);
                continue;
            }
            Step::Empty => {
                present.close(&mut all);
                all.push(vec![Cow::Borrowed(step)]);
                continue;
            }
        };
        if !present.fold(&key, step) {
            present.close(&mut all);
            present.add([key], step);
        }
    }
    present.close(&mut all);
    all
}

/// The segment being filled.
#[derive(Default)]
struct Open<'a> {
    steps: Vec<Cow<'a, Step>>,
    places: HashMap<Vec<u8>, usize>,
}

impl<'a> Open<'a> {
    fn add<const N: usize>(&mut self, keys: [Vec<u8>; N], step: &'a Step) {
        let place = self.steps.len();
        self.places.extend(keys.into_iter().map(|key| (key, place)));
        self.steps.push(Cow::Borrowed(step));
    }

    fn close(&mut self, all: &mut Vec<Segment<'a>>) {
        self.places.clear();
        if !self.steps.is_empty() {
            all.push(std::mem::take(&mut self.steps));
        }
    }

    /// Takes a step in; `false`: it must come behind this segment.
    fn fold(&mut self, key: &[u8], step: &'a Step) -> bool {
        let Some(place) = self.places.get(key).copied() else {
            self.add([key.to_vec()], step);
            return true;
        };
        let Some(present) = self.steps.get_mut(place) else { return false };
        match (present.as_ref(), step) {
            // It speaks of two keys: what comes behind it is of one of them.
            (Step::Rekey { .. }, _) => false,
            // Made anew after a removal: fields that no mapping names begin anew too.
            (Step::Remove { .. }, Step::Put { .. } | Step::Change { .. }) => false,
            (Step::Put { .. } | Step::Change { .. }, Step::Change { set, .. }) => {
                if let Step::Put { record, .. } | Step::Change { set: record, .. } = present.to_mut() {
                    record.overlay(set);
                }
                true
            }
            // What was made and is shown in full again has still only just been made.
            (Step::Put { made: true, .. }, Step::Put { key, record, made: false }) => {
                *present = Cow::Owned(Step::Put { key: key.clone(), record: record.clone(), made: true });
                true
            }
            // Nothing is known of the record but that it is to be there: whether the change meets it decides nothing.
            (_, Step::Put { .. } | Step::Remove { .. }) => {
                *present = Cow::Borrowed(step);
                true
            }
            (Step::Remove { .. } | Step::Append { .. } | Step::Empty, _)
            | (_, Step::Rekey { .. } | Step::Append { .. } | Step::Empty) => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::FieldName;
    use crate::value::Value;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    /// A target in memory: mapped fields `a` and `b`, and `own`, which no mapping names; and how many records without a key show what.
    #[derive(Clone, Debug, Default, PartialEq)]
    struct Model(BTreeMap<i64, BTreeMap<String, i64>>, BTreeMap<i64, usize>);

    fn number(value: &Value) -> i64 {
        match value {
            Value::Int(number) => *number,
            _ => panic!("{value:?}"),
        }
    }

    fn of(key: &Key) -> i64 {
        number(&key.0[0])
    }

    impl Model {
        fn overlay(&mut self, key: i64, set: &Record) {
            let row = self.0.entry(key).or_insert_with(|| BTreeMap::from([("own".to_owned(), 0)]));
            row.extend(set.iter().map(|(name, value)| (name.to_string(), number(value))));
        }

        fn carry_out(&mut self, step: &Step) {
            match step {
                Step::Put { key, record, .. } => self.overlay(of(key), record),
                Step::Change { key, set } if self.0.contains_key(&of(key)) => self.overlay(of(key), set),
                Step::Change { .. } => {}
                Step::Rekey { from, to, set, whole } => match self.0.remove(&of(from)) {
                    Some(row) => {
                        self.0.insert(of(to), row);
                        self.overlay(of(to), set);
                    }
                    None if *whole => self.overlay(of(to), set),
                    None => {}
                },
                Step::Remove { key } => {
                    self.0.remove(&of(key));
                }
                Step::Append { record, .. } => {
                    let shown = record.get("a").map(number).unwrap();
                    *self.1.entry(shown).or_default() += 1;
                }
                Step::Empty => *self = Model::default(),
            }
        }
    }

    fn key(number: i64) -> Key {
        Key(vec![Value::Int(number)])
    }

    fn fields(names: &[(&str, i64)]) -> Record {
        names.iter().map(|(name, value)| (FieldName::from(*name), Value::Int(*value))).collect()
    }

    fn put(number: i64, shown: &[(&str, i64)], made: bool) -> Step {
        Step::Put { key: key(number), record: fields(shown), made }
    }

    fn step() -> impl Strategy<Value = Step> {
        let keys = 0i64..9;
        prop_oneof![
            4 => (keys.clone(), 0i64..9, 0i64..9, any::<bool>()).prop_map(|(k, a, b, made)| put(k, &[("a", a), ("b", b)], made)),
            4 => (keys.clone(), 0i64..9).prop_map(|(k, b)| Step::Change { key: key(k), set: fields(&[("b", b)]) }),
            2 => (keys.clone(), 0i64..9).prop_map(|(k, a)| Step::Change { key: key(k), set: fields(&[("a", a)]) }),
            3 => keys.clone().prop_map(|k| Step::Remove { key: key(k) }),
            4 => (keys.clone(), keys, 0i64..9, any::<bool>()).prop_map(|(from, to, b, whole)| Step::Rekey {
                from: key(from), to: key(to), set: fields(&[("b", b)]), whole,
            }),
            3 => (0i64..4).prop_map(|a| Step::Append { at_source: Key::default(), record: fields(&[("a", a)]) }),
            1 => Just(Step::Empty),
        ]
    }

    proptest! {
        #[test]
        fn any_grouping_comes_to_what_one_by_one_does(
            steps in proptest::collection::vec(step(), 0..40),
            cuts in proptest::collection::vec(0usize..40, 0..4),
            backwards in any::<bool>(),
            there in proptest::collection::btree_set(0i64..9, 0..5),
        ) {
            let shown = |own| BTreeMap::from([("own".to_owned(), own + 7), ("a".to_owned(), 1), ("b".to_owned(), 1)]);
            let start = Model(there.into_iter().map(|key| (key, shown(key))).collect(), BTreeMap::new());
            let mut expected = start.clone();
            steps.iter().for_each(|step| expected.carry_out(step));
            // Cut anywhere, as batches are by what happens to have arrived.
            let mut cuts: Vec<usize> = cuts.into_iter().filter(|cut| *cut < steps.len()).chain([0, steps.len()]).collect();
            cuts.sort_unstable();
            let mut grouped = start;
            for pair in cuts.windows(2) {
                for mut segment in segments(&steps[pair[0]..pair[1]]) {
                    if backwards {
                        segment.reverse();
                    }
                    segment.iter().for_each(|step| grouped.carry_out(step));
                }
            }
            prop_assert_eq!(grouped, expected);
        }
    }

    fn rekey(from: i64, to: i64) -> Step {
        Step::Rekey { from: key(from), to: key(to), set: fields(&[("b", 1)]), whole: true }
    }

    #[test]
    fn records_that_take_keys_which_nobody_else_has_are_carried_together() {
        let apart: Vec<Step> = (0..1_000).map(|n| rekey(n, n + 100_000)).collect();
        assert_eq!(segments(&apart).len(), 1);
        // One moves on, and one takes the key that another has left.
        let chained =
            [rekey(1, 2), rekey(3, 4), rekey(2, 5), rekey(6, 3), put(7, &[("a", 1)], false), put(5, &[("a", 1)], false)];
        let sizes: Vec<usize> = segments(&chained).iter().map(Vec::len).collect();
        assert_eq!(sizes, [2, 3, 1]);
    }

    #[test]
    fn a_thousand_changes_of_one_record_are_one_step() {
        let steps: Vec<Step> = (0..1_000).map(|n| put(1, &[("a", n), ("b", n)], false)).collect();
        assert_eq!(segments(&steps), vec![vec![Cow::Borrowed(&steps[999])]]);
    }

    #[test]
    fn a_record_that_is_made_and_changed_has_still_only_just_been_made() {
        let shown = [("a", 2), ("b", 2)];
        let again = [put(1, &[("a", 1), ("b", 1)], true), put(1, &shown, false)];
        assert_eq!(segments(&again), vec![vec![Cow::Owned::<Step>(put(1, &shown, true))]]);
        let part = [put(1, &[("a", 2), ("b", 1)], true), Step::Change { key: key(1), set: fields(&[("b", 2)]) }];
        assert_eq!(segments(&part), vec![vec![Cow::Owned::<Step>(put(1, &shown, true))]]);
    }

    #[test]
    fn a_record_made_anew_comes_behind_its_removal() {
        let steps = [Step::Remove { key: key(1) }, put(1, &[("a", 1), ("b", 1)], false)];
        assert_eq!(segments(&steps), vec![vec![Cow::Borrowed(&steps[0])], vec![Cow::Borrowed(&steps[1])]]);
    }
}
