//! Fields that name records of other syncs: what they mean in a decision, and which of them must be known first.

use super::work::Work;
use crate::error::{Code, Error};
use crate::link::{FieldIndex, GroupIndex, MemberIndex};
use crate::references::{Meaning, Reference, Unknown, canonical, names_another};
use crate::value::Value;

impl Work<'_> {
    /// The records of which no link knows, and that the members' news refer to. What has been looked for and is not there is
    /// not among them: nobody waits for it.
    pub(super) fn unknown_records(&self) -> Vec<Unknown> {
        let mut unknown: Vec<Unknown> = Vec::new();
        for (field, reference) in self.rules.references() {
            for member in self.present().into_iter().filter(|&member| self.is_news(member, field)) {
                let Some(value) = self.value(member, field).filter(|_| self.rules.flows_from(member, field)) else { continue };
                if let Ok(Meaning::Unknown(record)) = self.meaning(reference, member, field, value)
                    && !self.references.is_refused(&record.address)
                    && !unknown.contains(&record)
                {
                    unknown.push(record);
                }
            }
        }
        unknown
    }

    /// Whether what a member shows for a field is yet to be decided about: it changed, or nothing was agreed so far.
    fn is_news(&self, member: MemberIndex, field: FieldIndex) -> bool {
        let Some(group) = self.rules.fields.get(field).map(|field| field.group) else { return false };
        let was_held = self.before.groups.get(group).is_some_and(|state| state.held.is_some());
        let old = !was_held && self.is_of_old_mapping(group);
        self.is_untold(member, field) || old
    }

    /// Whether nothing was agreed yet about what a member shows for a field, or it was left at that and is asked about again.
    fn is_untold(&self, member: MemberIndex, field: FieldIndex) -> bool {
        let group = self.rules.fields.get(field).and_then(|field| self.before.groups.get(field.group));
        let undecided = group.is_some_and(|group| match &group.agreed {
            None => group.held.is_none(),
            Some(agreed) => agreed.from == member && self.is_asked_again(agreed),
        });
        self.field_changed(member, field) || undecided
    }

    /// What a member's value means: what it was agreed to, however its record stands by now; where nothing was agreed about it
    /// yet, the record that stands under that key.
    fn meaning(&self, reference: &Reference, member: MemberIndex, field: FieldIndex, value: &Value) -> Result<Meaning, Error> {
        let named_another = self.rules.fields.get(field).is_some_and(|field| self.names_another(member, field.group));
        if self.is_untold(member, field) || self.is_held_for(member, field) || named_another {
            self.references.meaning_of_news(reference, member, value)
        } else {
            self.references.meaning(reference, member, value)
        }
    }

    /// Whether a member's reference was agreed to name a record that was deleted, in whose place another one has come.
    pub(super) fn names_another(&self, member: MemberIndex, group: GroupIndex) -> bool {
        let state = self.before.groups.get(group);
        let is_its_own = state.and_then(|state| state.agreed.as_ref()).is_some_and(|agreed| agreed.from == member);
        let another = |&field: &FieldIndex| names_another(self.rules, self.before, field, self.references);
        is_its_own && self.rules.group_fields(group).iter().any(another)
    }

    /// What a member's reference is in canonical terms; `None` where it says nothing new. A value that has not changed since it
    /// was agreed about means what was agreed, also where the record that it names is no longer known.
    pub(super) fn referred(
        &self,
        reference: &Reference,
        member: MemberIndex,
        field: FieldIndex,
        value: &Value,
    ) -> Result<Option<Value>, Error> {
        let at = |error: Error| error.at(self.rules.fields.get(field).map_or("", |field| field.name.as_str()));
        match self.meaning(reference, member, field, value) {
            Ok(Meaning::Record(link)) => Ok(Some(canonical(link))),
            Ok(Meaning::Nothing) => Ok(Some(Value::Null)),
            Ok(Meaning::Unknown(record)) if self.is_news(member, field) || self.is_held_for(member, field) => {
                let message = format!("it refers to the record {} of {}, which is not there", record.key, reference.name);
                Err(at(Error::new(Code::ReferenceUnknown, message)))
            }
            Ok(Meaning::Unknown(_)) => Ok(None),
            Err(error) => Err(at(error)),
        }
    }

    /// Whether a member's value of a field is what a person is asked about.
    fn is_held_for(&self, member: MemberIndex, field: FieldIndex) -> bool {
        let group = self.rules.fields.get(field).map(|field| field.group);
        let held = group.and_then(|group| self.before.groups.get(group)?.held.as_ref());
        held.is_some_and(|held| held.contenders.iter().any(|(other, ..)| *other == member))
    }

    /// Whether all that a member changed of a group are references that were cleared with the records that they named.
    pub(super) fn follows_a_delete(&self, member: MemberIndex, group: GroupIndex) -> bool {
        let changed = self.rules.group_fields(group).iter().copied().filter(|&field| self.field_changed(member, field));
        let mut changed = changed.peekable();
        changed.peek().is_some()
            && changed.all(|field| {
                let reference = self.rules.fields.get(field).and_then(|field| field.reference.as_ref());
                let cleared = self.value(member, field).is_some_and(Value::is_null);
                reference
                    .zip(self.base(member, field))
                    .is_some_and(|(reference, base)| cleared && self.references.names_a_deleted_record(reference, member, base))
            })
    }

    /// Whether what a member shows for a reference means what a canonical value does.
    pub(super) fn means(&self, member: MemberIndex, field: FieldIndex, shown: &Value, value: &Value) -> bool {
        let Some(reference) = self.rules.fields.get(field).and_then(|field| field.reference.as_ref()) else { return false };
        let is_left = || matches!(self.meaning(reference, member, field, shown), Ok(Meaning::Unknown(_)));
        self.references.means(reference, member, shown, value) && !is_left()
    }
}
