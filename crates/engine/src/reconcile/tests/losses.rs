//! No lost update: whatever a member was seen to have written is, after the decision that took it in, agreed, held, still
//! to be decided, or in the ledger as lost. Found out from the member's images, not from what the merge says of them.

use super::world::World;
use crate::ledger::{Entry, LedgerRow};
use crate::link::{Cells, Life, Link, Pending, Shown, Standing};
use crate::map::wanted;
use crate::reconcile::Need;
use crate::record::Record;
use crate::rules::SyncRules;
use crate::value::Value;

/// An edit that must not get lost.
#[derive(Debug)]
struct Edit {
    member: usize,
    field: usize,
    value: Value,
}

/// Decides, and checks that nothing got lost by it.
pub fn decide(world: &mut World) -> Result<(), Need> {
    let before = world.link.clone();
    // A partial image that needs a read is read within; only what is known now is followed.
    let edits = edits_of(&world.rules, &before, &world.pending);
    let decision = world.decide(None)?;
    for edit in &edits {
        assert!(
            is_accounted_for(world, &before, edit, &decision.ledger),
            "lost {edit:?}\nbefore {before:?}\nafter {:?}\nledger {:?}",
            world.link,
            decision.ledger
        );
    }
    Ok(())
}

fn edits_of(rules: &SyncRules, before: &Link, pending: &[Option<Pending>]) -> Vec<Edit> {
    let mut edits = Vec::new();
    for (member, side) in before.sides.iter().enumerate() {
        let pending = pending[member].as_ref();
        let gone = matches!(pending, Some(Pending { shown: Shown::Gone { .. }, .. })) || side.standing != Standing::Present;
        if let Some(Pending { shown: Shown::Present { cells, .. }, .. }) = pending {
            edits.extend(changed(rules, member, &side.base, cells));
        } else if !gone {
            edits.extend(waiting(rules, before, member, &side.base));
        }
    }
    edits
}

/// Fields whose edits flow and that show something else than they did.
fn changed(rules: &SyncRules, member: usize, base: &Cells, shown: &Cells) -> Vec<Edit> {
    let is_news = |field: usize| {
        let (Some(at), Some(shown)) = (rules.at(member, field), shown[field].as_ref()) else { return false };
        rules.flows_from(member, field) && !base[field].as_ref().is_some_and(|base| base.equivalent_as(shown, &at.ty))
    };
    let edit = |field: usize| Some(Edit { member, field, value: shown[field].clone()? });
    // A null of a record that was never known says nothing that could be lost.
    (0..shown.len())
        .filter(|&field| is_news(field))
        .filter_map(edit)
        .filter(|edit| base[edit.field].is_some() || edit.value != Value::Null)
        .collect()
}

/// Fields of a member whose edit an earlier decision held.
fn waiting(rules: &SyncRules, before: &Link, member: usize, base: &Cells) -> Vec<Edit> {
    let mut edits = Vec::new();
    for (group, state) in before.groups.iter().enumerate() {
        let Some(held) = &state.held else { continue };
        if !held.contenders.iter().any(|(other, ..)| *other == member) {
            continue;
        }
        for &field in rules.group_fields(group) {
            if let (true, Some(value)) = (rules.flows_from(member, field), base[field].clone()) {
                edits.push(Edit { member, field, value });
            }
        }
    }
    edits
}

fn is_accounted_for(world: &World, before: &Link, edit: &Edit, ledger: &[LedgerRow]) -> bool {
    let rules = &world.rules;
    let group = rules.fields[edit.field].group;
    let state = &world.link.groups[group];
    let place = rules.group_fields(group).iter().position(|field| *field == edit.field).unwrap();
    let at = rules.at(edit.member, edit.field).unwrap();
    let agreed = state.agreed.as_ref().map(|agreed| &agreed.values[place]);
    let shows_agreed = agreed.is_some_and(|agreed| {
        agreed.equivalent(&edit.value)
            || wanted(at, agreed, Record::new).is_ok_and(|want| want.is_some_and(|want| want.equivalent_as(&edit.value, &at.ty)))
    });
    // The cut form that we wrote ourselves, or the value that was agreed before, is nobody's edit.
    let was_agreed = before.groups[group].agreed.as_ref().is_some_and(|agreed| agreed.values[place].equivalent(&edit.value));
    let held = state.held.as_ref().is_some_and(|held| held.contenders.iter().any(|(member, ..)| *member == edit.member));
    let lost = ledger.iter().filter(|row| row.entry == Entry::Lost && row.member == edit.member).any(|row| {
        row.fields.iter().any(|lost| lost.field == rules.fields[edit.field].name && lost.old.as_ref() == Some(&edit.value))
    });
    let untouched = matches!(world.link.life, Life::Detached { .. });
    shows_agreed || was_agreed || held || lost || untouched
}
