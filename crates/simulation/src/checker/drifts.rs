//! Columns that go and come: nobody loses a value because somebody else's column went.

use super::Checker;
use crate::database::{Author, Database, Row};
use crate::describe;
use crate::timeline::{Lives, Step};
use concord_engine::record::FieldName;
use concord_engine::value::Value;

impl Checker<'_> {
    /// Whether a member's column of this field is one that goes or comes.
    pub(super) fn drifts(&self, field: usize) -> bool {
        self.world().further.drifts.as_ref().is_some_and(|drifts| drifts.field == field)
    }

    /// Invariants 3 and 8: the engine empties a field only where somebody has emptied it, and a column made anew is nobody's edit.
    pub(super) fn nothing_is_emptied(&mut self, tag: &str, life: &Lives) {
        let Some(field) = self.world().further.drifts.as_ref().map(|drifts| drifts.field) else { return };
        let names: Vec<FieldName> = (0..self.members()).map(|member| self.world().native(member, field)).collect();
        let steps = || life.iter().zip(&names).flat_map(|(steps, name)| steps.iter().map(move |step| (step, name)));
        // A person may have decided for a member that shows nothing.
        if self.answered.contains_key(tag) || steps().any(|(step, name)| is_left_empty(step, name)) {
            return;
        }
        let emptied = steps().find(|(step, name)| {
            let ours = matches!(step.author, Author::Engine(_)) && step.asked.get(name.as_str()) == Some(&Value::Null);
            ours && held(step.before.as_ref(), name).is_some_and(|value| *value != Value::Null)
        });
        let Some((step, name)) = emptied else { return };
        let value = held(step.before.as_ref(), name).map(describe::value).unwrap_or_default();
        let what = format!("{name} = {value} was emptied in commit {}, and nobody had emptied it anywhere", step.commit);
        self.blame("3 no lost update (columns made anew)", tag, what);
    }

    /// Whether a member's column of a field was dropped behind the commit that wrote a value, and before the one that shows
    /// another.
    pub(super) fn went_with_its_column(&self, member: usize, field: usize, written: u64, gone: u64) -> bool {
        let name = self.world().native(member, field);
        let mut drops = self.evidence.databases.get(member).into_iter().flat_map(Database::drops);
        drops.any(|(column, at)| *column == name && written < *at && *at < gone)
    }
}

/// Whether somebody other than the engine left a field empty that was not so before.
fn is_left_empty(step: &Step, name: &FieldName) -> bool {
    let theirs = !matches!(step.author, Author::Engine(_)) || step.reaction;
    let is_empty = |row: &Row| row.fields.get(name.as_str()) == Some(&Value::Null);
    theirs && step.after.as_ref().is_some_and(is_empty) && !step.before.as_ref().is_some_and(is_empty)
}

fn held<'a>(row: Option<&'a Row>, name: &FieldName) -> Option<&'a Value> {
    row?.fields.get(name.as_str())
}
