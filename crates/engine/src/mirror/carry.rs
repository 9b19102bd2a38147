//! What the source shows as what is to be done at the target: keys and fields in the target's terms, mapped, validated and
//! fitted as in every sync. Pure but for its caller, who reads again what is shown in part only.

use super::batch::Step;
use crate::change::{Image, Observation};
use crate::error::{Code, Error, Result};
use crate::filter::Condition;
use crate::map;
use crate::record::{FieldName, Key, Record};
use crate::rules::{MemberField, SyncRules};
use crate::transform::NullPolicy;
use crate::validate::{Reject, validate};
use crate::value::{Fit, Value, fit};
use std::sync::Arc;

/// The source's place among the members.
pub(super) const SOURCE: usize = 0;
/// The target's place among the members.
pub(super) const TARGET: usize = 1;

/// Carries records of one sync over.
#[derive(Clone)]
pub(super) struct Carrier {
    rules: Arc<SyncRules>,
    /// Places of the fields that flow, in the order of the target's names.
    flowing: Vec<usize>,
    /// For each field of the target's key: its place in the source's key, and what it is at the target.
    key: Vec<(usize, usize)>,
    /// Whether the source's records have no key: they are appended, and nothing tells one from another that shows the same.
    is_keyless: bool,
    /// Whether a transformation or a rule looks at other fields than its own.
    looks_around: bool,
    /// Whether every value is carried as it is.
    plain: bool,
    /// Whether no field of the source is carried into two of the target.
    each_once: bool,
}

/// A record as it is to be carried out.
pub(super) enum Carried {
    /// So.
    Step(Step),
    /// Not before all of it has been read.
    Unseen {
        /// Its key at the source.
        key: Key,
        /// Where it took another key: that alone.
        moved: Option<Step>,
    },
    /// It takes no part, or none any more: nothing is sent of it, and what the target has of it stays until it takes part again or
    /// is deleted.
    Dormant {
        /// Its key at the source.
        key: Key,
        /// Where it took another key: that alone, for under its old key nothing would ever find it again.
        moved: Option<Step>,
    },
    /// It waits for a person.
    Refused {
        /// Its key at the source.
        key: Key,
        /// Why.
        error: Error,
        /// Where it took another key: that alone, for under its old key it would stay for ever.
        moved: Option<Step>,
    },
}

impl Carrier {
    /// How a sync is carried, or why it cannot be carried without a memory of its records.
    pub(super) fn new(rules: &Arc<SyncRules>) -> std::result::Result<Carrier, String> {
        let [source, _] = rules.members.as_slice() else { return Err("it has more than two members".to_owned()) };
        let mut flowing: Vec<usize> = (0..rules.fields.len()).filter(|field| flows(rules, *field)).collect();
        flowing.sort_by(|a, b| name_at(rules, *a, TARGET).cmp(&name_at(rules, *b, TARGET)));
        let is_keyless = source.schema.key.is_empty();
        let key = if is_keyless { no_key(rules, &flowing)? } else { key(rules, &flowing)? };
        let ends = |field: &usize| Some((rules.at(SOURCE, *field)?, rules.at(TARGET, *field)?));
        let half = flowing.iter().filter_map(ends).find(|(_, to)| !to.creatable || !to.updatable);
        if let Some((_, to)) = half {
            return Err(format!("the field `{}` of the target cannot be both given and changed", to.name));
        }
        // The log tells of such a column only in versions of the server that few have; what it is made of changes alone.
        let is_key = |field: &usize| key.iter().any(|(_, own)| own == field);
        let made =
            flowing.iter().filter(|field| !is_key(field)).filter_map(ends).find(|(from, _)| !from.creatable && !from.updatable);
        if let Some((from, _)) = made {
            return Err(format!("the field `{}` of the source is made by the source itself", from.name));
        }
        let reads_others = flowing.iter().filter_map(ends).any(|(from, to)| {
            let reads = |way: &Option<crate::transform::Pipeline>| way.as_ref().is_some_and(|way| !way.fields_read().is_empty());
            reads(&from.mapping.to) || reads(&to.mapping.from)
        });
        let plain = rules.validation.is_empty() && flowing.iter().filter_map(ends).all(|(from, to)| is_plain(from, to));
        // What the target has of a record that took no part for a while is not what it had before this change.
        let looks_around = reads_others || !rules.validation.is_empty() || rules.filter.is_some();
        let sources: std::collections::BTreeSet<&FieldName> =
            flowing.iter().filter_map(ends).map(|(from, _)| &from.name).collect();
        let each_once = sources.len() == flowing.len();
        Ok(Carrier { rules: Arc::clone(rules), flowing, key, is_keyless, looks_around, plain, each_once })
    }

    /// Whether every value is carried as it is, so that the records may be handed over in bulk: source's and target's names,
    /// and the source's names of the types.
    pub(super) fn as_it_is(&self) -> Option<Vec<(FieldName, FieldName, String)>> {
        let field = |field: &usize| {
            let (from, to) = (self.rules.at(SOURCE, *field)?, self.rules.at(TARGET, *field)?);
            // Types of one name are not one type: the target's domain may round.
            let alike = from.native_type != to.native_type || from.ty == to.ty;
            alike.then(|| (from.name.clone(), to.name.clone(), from.native_type.clone()))
        };
        self.flowing.iter().map(field).collect::<Option<Vec<_>>>().filter(|_| self.plain)
    }

    /// The source's field whose values a field of the target is given as they are.
    pub(super) fn as_it_is_from(&self, field: &FieldName) -> Option<&FieldName> {
        let mut ends = self.flowing.iter().filter_map(|field| self.ends(*field));
        ends.find(|(from, to)| to.name == *field && is_plain(from, to)).map(|(from, _)| &from.name)
    }

    /// Sets of fields, by the target's names, whose values the source keeps unique and that are the same at the target.
    fn unique_at_source(&self) -> Vec<Vec<FieldName>> {
        let same = |(from, to): &(&MemberField, &MemberField)| from.native_type == to.native_type;
        let ends: Vec<_> = self.flowing.iter().filter_map(|field| self.ends(*field)).filter(same).collect();
        let Some(source) = self.rules.members.get(SOURCE).filter(|_| self.plain) else { return Vec::new() };
        let at_target = |own: &FieldName| ends.iter().find(|(from, _)| from.name == *own).map(|(_, to)| to.name.clone());
        source.schema.unique.iter().filter_map(|set| set.iter().map(at_target).collect()).collect()
    }

    /// Those whose indexes a first load can do without: the key's, too, where nothing is looked for by it (`in_bulk`).
    pub(super) fn set_aside(&self, in_bulk: bool) -> Vec<Vec<FieldName>> {
        let at_target = |own: &FieldName| {
            let mut ends = self.flowing.iter().filter_map(|field| self.ends(*field));
            ends.find(|(from, _)| from.name == *own).map(|(_, to)| to.name.clone())
        };
        let key = self.rules.members.get(SOURCE).filter(|_| in_bulk && !self.is_keyless).map(|source| &source.schema.key);
        let key: Option<Vec<FieldName>> = key.and_then(|key| key.iter().map(at_target).collect());
        self.unique_at_source().into_iter().chain(key).collect()
    }

    /// A print of what is carried to where, and how: another one means that the records are to be carried again.
    pub(super) fn print(&self) -> u64 {
        // What is carried with a key and without one is not carried alike.
        let mut text = if self.is_keyless { "keyless\n".to_owned() } else { String::new() };
        for member in &self.rules.members {
            text.push_str(&format!("{} {}\n", member.system, member.object));
        }
        for (from, to) in self.flowing.iter().filter_map(|field| self.ends(*field)) {
            for part in [from.name.as_str(), &from.mapping.meaning(), to.name.as_str(), &to.mapping.meaning()] {
                text.push_str(part);
                text.push('\n');
            }
        }
        if let Some(filter) = &self.rules.filter {
            text.push_str(&format!("filter {filter}\n"));
        }
        xxhash_rust::xxh3::xxh3_64(text.as_bytes())
    }

    /// A key of the source as the target has it.
    pub(super) fn key(&self, key: &Key) -> Result<Key> {
        let malformed = || Error::new(Code::SchemaDrift, "a key has other fields than when the sync was planned");
        let part = |(place, field): &(usize, usize)| {
            let value = key.0.get(*place).ok_or_else(malformed)?;
            let at = self.rules.at(TARGET, *field).ok_or_else(malformed)?;
            match fit(value, &at.ty) {
                Fit::Exact => Ok(value.clone()),
                Fit::Lossless(value) => Ok(value),
                _ => Err(Error::new(Code::ValueDoesNotFit, format!("the key does not fit {} ({})", at.name, at.native()))),
            }
        };
        if self.rules.members.get(SOURCE).is_none_or(|source| source.schema.key.len() != key.0.len()) {
            return Err(malformed());
        }
        self.key.iter().map(part).collect::<Result<Vec<Value>>>().map(Key)
    }

    /// The key of the source that a key of the target is; `None`: that of no record of the source, whatever there is.
    pub(super) fn back(&self, key: &Key) -> Option<Key> {
        let (own, fits) = self.returned(key)?;
        let is_same = || self.key(&own).is_ok_and(|there| there.encode() == key.encode());
        (fits && is_same()).then_some(own)
    }

    /// The same of a key that was made of one of the source.
    pub(super) fn source_key(&self, key: &Key) -> Option<Key> {
        self.returned(key).map(|(own, _)| own)
    }

    /// A key of the target in the source's types, and whether all of it fits them.
    fn returned(&self, key: &Key) -> Option<(Key, bool)> {
        let width = self.rules.members.get(SOURCE)?.schema.key.len();
        let (mut parts, mut fits) = (vec![Value::Null; width], true);
        for ((place, field), value) in self.key.iter().zip(&key.0) {
            let own = fit(value, &self.rules.at(SOURCE, *field)?.ty).without_loss(value);
            fits &= own.is_some();
            *parts.get_mut(*place)? = own.unwrap_or_else(|| value.clone());
        }
        Some((Key(parts), fits))
    }

    /// What an observation of the source means to the target, and what is let through with a warning.
    pub(super) fn carry(&self, observation: Observation) -> (Carried, Vec<Reject>) {
        let Observation { key, old_key, image, made, .. } = observation;
        let mut warnings = Vec::new();
        if self.is_keyless {
            let appended = match image.record().map_or(Ok(true), |record| self.admits(record)) {
                Ok(false) => return (Carried::Dormant { key, moved: None }, warnings),
                Ok(true) => self.appended(image, &mut warnings),
                Err(error) => Err(error),
            };
            let carried = match appended {
                Ok(record) => Carried::Step(Step::Append { at_source: key, record }),
                Err(error) => Carried::Refused { key, error, moved: None },
            };
            return (carried, warnings);
        }
        let carried = self.try_to((&key, old_key.as_ref()), (image, made), &mut warnings).unwrap_or_else(|error| {
            let moved = |from: &Key| self.moved(from, &self.key(&key).ok()?).ok();
            let moved = old_key.as_ref().and_then(moved);
            Carried::Refused { key, error, moved }
        });
        (carried, warnings)
    }

    /// Whether a record takes part.
    fn admits(&self, record: &Record) -> Result<bool> {
        self.rules.filter.as_ref().map_or(Ok(true), |filter| filter.admits(record))
    }

    /// Whether what is shown takes part, or is refused, which is told when it is carried.
    pub(super) fn takes_part(&self, observation: &Observation) -> bool {
        observation.image.record().is_none_or(|record| self.admits(record).unwrap_or(true))
    }

    /// Which records take part, where not all do.
    pub(super) fn filter(&self) -> Option<&Condition> {
        self.rules.filter.as_ref()
    }

    /// Whether something may be let through with a warning.
    pub(super) fn may_warn(&self) -> bool {
        !self.rules.validation.is_empty()
    }

    fn try_to(
        &self,
        (at_source, old_key): (&Key, Option<&Key>),
        (image, made): (Image, bool),
        warnings: &mut Vec<Reject>,
    ) -> Result<Carried> {
        let key = self.key(at_source)?;
        let (record, whole) = match image {
            Image::Deleted => return Ok(Carried::Step(Step::Remove { key })),
            Image::Full(record) => (record, true),
            Image::Partial(_) if self.looks_around => {
                let moved = old_key.map(|from| self.moved(from, &key)).transpose()?;
                return Ok(Carried::Unseen { key: at_source.clone(), moved });
            }
            Image::Partial(record) => (record, false),
        };
        if !self.admits(&record)? {
            let moved = old_key.map(|from| self.moved(from, &key)).transpose()?;
            return Ok(Carried::Dormant { key: at_source.clone(), moved });
        }
        let mut set = if self.plain { self.plainly(record)? } else { self.mapped(&record, warnings)? };
        Ok(Carried::Step(match old_key {
            Some(from) => {
                self.add_key(&key, &mut set);
                Step::Rekey { from: self.key(from)?, to: key, set, whole }
            }
            None if whole => {
                self.add_key(&key, &mut set);
                Step::Put { key, record: set, made }
            }
            None => {
                for (_, field) in &self.key {
                    name_at(&self.rules, *field, TARGET).map(|name| set.remove(name.as_str()));
                }
                Step::Change { key, set }
            }
        }))
    }

    fn appended(&self, image: Image, warnings: &mut Vec<Reject>) -> Result<Record> {
        match image {
            Image::Full(record) if self.plain => self.plainly(record),
            Image::Full(record) => self.mapped(&record, warnings),
            Image::Partial(_) | Image::Deleted => Err(Error::new(Code::Internal, "a record without a key is not shown in full")),
        }
    }

    /// A record of the source without a key as it is to be shown at the target.
    pub(super) fn as_appended(&self, record: Record) -> Result<Record> {
        self.appended(Image::Full(record), &mut Vec::new())
    }

    /// Whether a part of a record can be carried by itself.
    pub(super) fn takes_parts(&self) -> bool {
        !self.looks_around && !self.is_keyless
    }

    /// Whether the source's records have no key.
    pub(super) fn is_keyless(&self) -> bool {
        self.is_keyless
    }

    /// The fields of the target that every record is given, in the order of their names: those that are not left to the target where
    /// there is no value.
    pub(super) fn always_given(&self) -> impl Iterator<Item = &FieldName> {
        let is_skipped = |policy: &NullPolicy| matches!(policy, NullPolicy::Skip);
        let given = move |(from, to): &(&MemberField, &MemberField)| {
            !is_skipped(&from.mapping.nulls) && !is_skipped(&to.mapping.nulls_from)
        };
        self.flowing.iter().filter_map(|field| self.ends(*field)).filter(given).map(|(_, to)| &to.name)
    }

    /// A record without a key as the source showed it, by what it was told from others by.
    pub(super) fn shown(&self, key: &Key) -> Option<Record> {
        let source = self.rules.members.get(SOURCE)?;
        let mut names: Vec<&FieldName> = source.selection.fields.iter().collect();
        if names.is_empty() {
            names.extend(source.schema.fields.iter().map(|field| &field.name));
        }
        names.sort_unstable();
        // Behind its values stands the place.
        let (_, values) = key.0.split_last().filter(|(_, values)| values.len() == names.len())?;
        Some(names.into_iter().cloned().zip(values.iter().cloned()).collect())
    }

    /// The key at the source of what a step is of.
    pub(super) fn at_source(&self, step: &Step) -> Option<Key> {
        match step {
            Step::Append { at_source, .. } => Some(at_source.clone()),
            _ => self.source_key(step.key()?),
        }
    }

    fn moved(&self, from: &Key, to: &Key) -> Result<Step> {
        let mut set = Record::new();
        self.add_key(to, &mut set);
        Ok(Step::Rekey { from: self.key(from)?, to: to.clone(), set, whole: false })
    }

    fn add_key(&self, key: &Key, set: &mut Record) {
        for ((_, field), value) in self.key.iter().zip(&key.0) {
            if let Some(name) = name_at(&self.rules, *field, TARGET).filter(|name| !set.has(name.as_str())) {
                set.set(name.clone(), value.clone());
            }
        }
    }

    fn plainly(&self, mut record: Record) -> Result<Record> {
        let mut set = Vec::with_capacity(self.flowing.len());
        for (from, to) in self.flowing.iter().filter_map(|field| self.ends(*field)) {
            let Some(shown) = record.get_mut(from.name.as_str()) else { continue };
            let value = match fit(shown, &to.ty) {
                Fit::Exact if self.each_once => std::mem::replace(shown, Value::Null),
                Fit::Exact => shown.clone(),
                _ => match map::wanted(to, shown, Record::new)? {
                    Some(value) => value,
                    None => continue,
                },
            };
            set.push((to.name.clone(), value));
        }
        Ok(set.into_iter().collect())
    }

    fn mapped(&self, record: &Record, warnings: &mut Vec<Reject>) -> Result<Record> {
        let mut canonical = vec![None; self.rules.fields.len()];
        for field in &self.flowing {
            let Some((from, _)) = self.ends(*field) else { continue };
            let Some(value) = record.get(from.name.as_str()) else { continue };
            if let Some(slot) = canonical.get_mut(*field) {
                *slot = from.mapping.to_canonical(value, || record.clone())?;
            }
        }
        let mut canonical = map::canonical_record(&self.rules, &canonical);
        if !self.rules.validation.is_empty() {
            let validation = validate(&self.rules.validation, &canonical);
            if let Some(reject) = validation.rejects.first() {
                return Err(reject.to_error());
            }
            warnings.extend(validation.warnings);
            canonical = validation.record;
        }
        let mut set = Record::new();
        for field in &self.flowing {
            let (Some((_, to)), Some(rules)) = (self.ends(*field), self.rules.fields.get(*field)) else { continue };
            let Some(value) = canonical.get(&rules.name) else { continue };
            if let Some(value) = map::wanted(to, value, || canonical.clone())? {
                set.set(to.name.clone(), value);
            }
        }
        Ok(set)
    }

    fn ends(&self, field: usize) -> Option<(&MemberField, &MemberField)> {
        Some((self.rules.at(SOURCE, field)?, self.rules.at(TARGET, field)?))
    }
}

/// For each field of the target's key, which is the source's: its place there, and what it is at the target.
fn key(rules: &SyncRules, flowing: &[usize]) -> std::result::Result<Vec<(usize, usize)>, String> {
    let [source, target] = rules.members.as_slice() else { return Ok(Vec::new()) };
    if target.schema.key.is_empty() {
        return Err(format!("`{}` has no key to keep the source's records apart by", target.object));
    }
    let mut key = Vec::new();
    for name in &target.schema.key {
        let field = flowing.iter().copied().find(|field| name_at(rules, *field, TARGET).is_some_and(|at| at == name));
        let own = field.and_then(|field| Some((field, rules.at(SOURCE, field)?, rules.at(TARGET, field)?)));
        let Some((field, from, to)) = own else {
            return Err(format!("the key field `{name}` of the target is mapped from nothing: the target gives its own keys"));
        };
        let place = source.schema.key.iter().position(|own| *own == from.name);
        let Some(place) = place.filter(|_| is_plain(from, to)) else {
            return Err(format!("the key field `{name}` of the target is not the source's key as it is"));
        };
        if !to.creatable {
            return Err(format!("the key field `{name}` of the target cannot be given"));
        }
        key.push((place, field));
    }
    match key.len() == source.schema.key.len() {
        true => Ok(key),
        false => Err("the keys of source and target have different fields".to_owned()),
    }
}

/// The same where the source has no key: a key that the target has is its own.
fn no_key(rules: &SyncRules, flowing: &[usize]) -> std::result::Result<Vec<(usize, usize)>, String> {
    let Some(target) = rules.members.get(TARGET) else { return Ok(Vec::new()) };
    let is_given = |name: &&FieldName| flowing.iter().any(|field| name_at(rules, *field, TARGET) == Some(name));
    match target
        .schema
        .key
        .iter()
        .find(|name| is_given(name) || target.schema.field(name.as_str()).is_none_or(|own| !own.has_default))
    {
        None => Ok(Vec::new()),
        Some(name) => {
            Err(format!("the target's key field `{name}` is not made by the target itself, and the source has no key to give"))
        }
    }
}

/// Whether a field's values are carried from the source to the target.
fn flows(rules: &SyncRules, field: usize) -> bool {
    let inward = rules.at(TARGET, field).is_some_and(|at| at.inward && (at.creatable || at.updatable));
    inward && rules.flows_from(SOURCE, field)
}

fn name_at(rules: &SyncRules, field: usize, member: usize) -> Option<&FieldName> {
    rules.at(member, field).map(|at| &at.name)
}

/// Whether nothing happens to a value on the way between two fields.
fn is_plain(from: &MemberField, to: &MemberField) -> bool {
    from.mapping.meaning().is_empty() && to.mapping.meaning().is_empty()
}
