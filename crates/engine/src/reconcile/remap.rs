//! What was decided under a mapping that has changed since: the value that was decided last goes through the new mapping,
//! as its member shows it, and is the agreed one. Nobody's edit is made of it: a real one wins over it, and whoever does
//! not show what the new mapping makes of it owes a write.

use super::work::Work;
use crate::link::{Agreed, GroupIndex, Link};
use crate::map::{cell, member_record};
use crate::references::{Meaning, References, canonical};
use crate::rules::SyncRules;

impl Work<'_> {
    /// Whether a group was decided under a mapping that has changed since.
    pub(super) fn is_of_old_mapping(&self, group: GroupIndex) -> bool {
        let agreed = self.before.groups.get(group).and_then(|state| state.agreed.as_ref());
        agreed.is_some_and(|agreed| agreed.rule == crate::ledger::Rule::OldMapping)
    }
}

/// The link with every value that was decided under an old mapping brought through the new one. What the new one cannot
/// carry stays as it was: it is refused where the group is decided.
pub(super) fn remapped(rules: &SyncRules, link: &Link, references: &References) -> Link {
    let mut remapped = link.clone();
    for (group, state) in remapped.groups.iter_mut().enumerate() {
        if let Some(agreed) = state.agreed.as_mut().filter(|agreed| agreed.rule == crate::ledger::Rule::OldMapping) {
            remap(rules, link, references, group, agreed);
        }
    }
    remapped
}

fn remap(rules: &SyncRules, link: &Link, references: &References, group: GroupIndex, agreed: &mut Agreed) {
    let member = agreed.from;
    // What a person gave is in canonical terms already, and belongs to no member.
    let Some(side) = link.sides.get(member) else { return };
    let shown = || member_record(rules, member, &side.base);
    for (&field, value) in rules.group_fields(group).iter().zip(&mut agreed.values) {
        let (Some(at), Some(base)) = (rules.at(member, field), cell(&side.base, field)) else { continue };
        let mapped = match rules.fields.get(field).and_then(|field| field.reference.as_ref()) {
            None => at.mapping.to_canonical(base, shown),
            Some(reference) => match references.meaning(reference, member, base) {
                Ok(Meaning::Record(link)) => Ok(Some(canonical(link))),
                Ok(Meaning::Nothing) => at.mapping.to_canonical(base, shown),
                Ok(Meaning::Unknown(_)) => Ok(None),
                Err(error) => Err(error),
            },
        };
        if rules.flows_from(member, field)
            && let Ok(Some(mapped)) = mapped
        {
            *value = mapped;
        }
    }
}
