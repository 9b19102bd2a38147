//! What the validation rules say of every member's changed record, in canonical terms: repairs, warnings, a reject. Whether
//! another record has a value that must be unique is not known here: it is asked for, once for each value.

use super::work::Work;
use super::{Choice, Need, Ruling, Uniqueness};
use crate::ledger::{Entry, FieldEntry, Rule};
use crate::link::{FieldIndex, MemberIndex};
use crate::map::canonical_record;
use crate::validate::{self, NeedsLookup, OnError};
use crate::value::Value;

/// What validation said of one member's record.
#[derive(Default)]
pub(super) struct Verification {
    repairs: Vec<(FieldIndex, Value)>,
    warnings: Vec<(FieldIndex, String)>,
    /// The sentence of a reject, and the fields that it is about.
    pub reject: Option<(String, Vec<String>)>,
}

impl Verification {
    /// The group's values with the repairs put in.
    pub fn repaired(&self, fields: &[FieldIndex], mut values: Vec<Value>) -> Vec<Value> {
        for (field, value) in fields.iter().zip(values.iter_mut()) {
            if let Some((_, repaired)) = self.repairs.iter().find(|(other, _)| other == field) {
                value.clone_from(repaired);
            }
        }
        values
    }

    /// A value that must be unique and is not.
    fn is_taken(&mut self, field: FieldIndex, lookup: &NeedsLookup) {
        let message = "another record has the value".to_owned();
        match lookup.on_error {
            OnError::SetNull => self.repairs.push((field, Value::Null)),
            OnError::Warn => self.warnings.push((field, message)),
            OnError::RejectRecord | OnError::StandardizeFormat | OnError::UseDefault => {
                let (sentence, fields) = self.reject.get_or_insert_default();
                let more = if sentence.is_empty() { "" } else { "; " };
                *sentence = format!("{sentence}{more}{}: {message}", lookup.field);
                fields.push(lookup.field.to_string());
            }
        }
    }
}

impl Work<'_> {
    /// Validation of every member's changed record. `Err`: values that must be unique have to be looked for first.
    pub(super) fn validate_changes(&self, unique: &Uniqueness) -> Result<Vec<Verification>, Need> {
        let mut asks = Vec::new();
        let verdicts = self.members().map(|member| self.validate_member(member, unique, &mut asks)).collect();
        if asks.is_empty() { Ok(verdicts) } else { Err(Need::Look(asks)) }
    }

    fn validate_member(&self, member: MemberIndex, unique: &Uniqueness, asks: &mut Vec<(FieldIndex, Value)>) -> Verification {
        let mut verification = Verification::default();
        let held_here = self
            .link
            .groups
            .iter()
            .any(|group| group.held.as_ref().is_some_and(|held| held.contenders.iter().any(|(other, ..)| *other == member)));
        let agreed_here = |agreed: &&crate::link::Agreed| agreed.from == member;
        let mut left = self.before.groups.iter().filter_map(|group| group.agreed.as_ref()).filter(agreed_here);
        let asked_again = left.any(|agreed| self.is_asked_again(agreed));
        let remapped = (0..self.rules.groups.len()).any(|group| self.is_of_old_mapping(group));
        let taken = matches!(self.ruling, Some(Ruling::Group(_, Choice::Take(side)) | Ruling::Amend { member: side, .. }) if *side == member);
        if self.rules.validation.is_empty()
            || !(self.any_flowing_change(member) || held_here || asked_again || self.revived || remapped || taken)
        {
            return verification;
        }
        let mut cells = vec![None; self.rules.fields.len()];
        for group in 0..self.rules.groups.len() {
            let Ok(Some(values)) = self.canonical(member, group) else { continue };
            for (&field, value) in self.rules.group_fields(group).iter().zip(values) {
                if let Some(cell) = cells.get_mut(field) {
                    *cell = Some(value);
                }
            }
        }
        if let Some(Ruling::Amend { member: side, given }) = self.ruling
            && *side == member
        {
            self.amend(&mut cells, given);
        }
        let outcome = validate::validate(&self.rules.validation, &canonical_record(self.rules, &cells));
        for repair in &outcome.repairs {
            if let Some(field) = self.rules.field(repair.field.as_str()) {
                verification.repairs.push((field, repair.to.clone()));
            }
        }
        for warning in &outcome.warnings {
            if let Some(field) = self.rules.field(warning.field.as_str()) {
                verification.warnings.push((field, warning.message.clone()));
            }
        }
        if !outcome.rejects.is_empty() {
            let sentences: Vec<String> =
                outcome.rejects.iter().map(|reject| format!("{}: {}", reject.field, reject.message)).collect();
            verification.reject =
                Some((sentences.join("; "), outcome.rejects.iter().map(|reject| reject.field.to_string()).collect()));
        }
        for lookup in &outcome.lookups {
            self.look_up(member, lookup, unique, &mut verification, asks);
        }
        verification
    }

    /// What a person gave in place of what was refused is judged as if the record showed it, beside what was agreed of the rest:
    /// a member that refuses a write does not show that.
    fn amend(&self, cells: &mut [Option<Value>], given: &[(FieldIndex, Value)]) {
        let mut put = |field: FieldIndex, value: &Value| {
            if let Some(cell) = cells.get_mut(field) {
                *cell = Some(value.clone());
            }
        };
        for (group, state) in self.before.groups.iter().enumerate().filter(|(_, state)| state.held.is_none()) {
            let agreed = state.agreed.iter().flat_map(|agreed| &agreed.values);
            self.rules.group_fields(group).iter().zip(agreed).for_each(|(&field, value)| put(field, value));
        }
        given.iter().for_each(|(field, value)| put(*field, value));
    }

    /// A value that this record had been agreed to have is its own already.
    fn look_up(
        &self,
        member: MemberIndex,
        lookup: &NeedsLookup,
        unique: &Uniqueness,
        verification: &mut Verification,
        asks: &mut Vec<(FieldIndex, Value)>,
    ) {
        let (Some(field), Uniqueness::Known(known)) = (self.rules.field(lookup.field.as_str()), unique) else { return };
        if !self.rules.flows_from(member, field) || self.is_agreed(field, &lookup.value) {
            return;
        }
        let value = &lookup.value;
        match known.iter().find(|(of, asked, _)| *of == field && asked.equivalent(value)) {
            Some((_, _, true)) => verification.is_taken(field, lookup),
            Some((_, _, false)) => {}
            None if asks.iter().any(|(of, asked)| *of == field && asked.equivalent(value)) => {}
            None => asks.push((field, value.clone())),
        }
    }

    fn is_agreed(&self, field: FieldIndex, value: &Value) -> bool {
        let Some(rules) = self.rules.fields.get(field) else { return false };
        let Some(state) = self.before.groups.get(rules.group) else { return false };
        let place = self.rules.group_fields(rules.group).iter().position(|other| *other == field);
        let agreed = state.agreed.as_ref().and_then(|agreed| agreed.values.get(place?));
        state.held.is_none() && agreed.is_some_and(|agreed| agreed.equivalent(value))
    }

    /// What is let through although a rule speaks against it is said in the ledger, once for each change.
    pub(super) fn note_warnings(&mut self, verdicts: &[Verification]) {
        for (member, verdict) in verdicts.iter().enumerate() {
            for (field, message) in &verdict.warnings {
                if !self.field_changed(member, *field) {
                    continue;
                }
                let Some(name) = self.rules.fields.get(*field).map(|field| field.name.clone()) else { continue };
                let value = self.value(member, *field).cloned();
                let edited = self.now;
                let entry = FieldEntry { field: name, old: None, new: value, from: member, edited, rule: Rule::OnlyChange };
                self.note(member, Entry::Warned(message.clone()), vec![entry]);
            }
        }
    }
}
