//! Creates of which it is not known whether they took effect, and whose records a search would find: they are tried again,
//! and meet their own records. Such a record shows what we said at the time, which is nobody's edit: taken for a stranger's,
//! it would contend with what has been edited elsewhere since (invariant 3).

use crate::link::{Cells, Link, MemberIndex, Pending, Shown, Standing};
use crate::record::Record;
use crate::rules::SyncRules;
use crate::runtime::core::Core;
use std::borrow::Cow;

impl Core {
    /// The link, with what we gave as the base of a record that shows just that.
    pub(crate) fn with_what_was_sent<'a>(&self, rules: &SyncRules, link: &'a Link, pending: &[Option<Pending>]) -> Cow<'a, Link> {
        let mut known = Cow::Borrowed(link);
        if self.sent.is_empty() || crate::mutants::active("sent_forgotten") {
            return known;
        }
        for (member, (side, seen)) in link.sides.iter().zip(pending).enumerate() {
            let Some(Pending { shown: Shown::Present { cells, .. }, .. }) = seen else { continue };
            let is_new = side.standing == Standing::Absent && side.base.iter().all(Option::is_none);
            let Some(image) = self.sent.get((link.sync, member, link.id)).filter(|_| is_new) else { continue };
            if let (Some(base), Some(side)) = (as_given(rules, member, cells, image), known.to_mut().sides.get_mut(member)) {
                side.base = base;
            }
        }
        known
    }

    /// What becomes of the records of a link is known.
    pub(crate) fn forget_what_was_sent(&mut self, link: &Link) {
        if self.sent.is_empty() {
            return;
        }
        for (member, side) in link.sides.iter().enumerate() {
            if side.standing != Standing::Absent || !side.owes_life {
                self.sent.forget((link.sync, member, link.id), &mut self.transaction);
            }
        }
    }
}

/// The fields that a create gave, where a record shows every one of them as it was given.
fn as_given(rules: &SyncRules, member: MemberIndex, cells: &Cells, image: &Record) -> Option<Cells> {
    let mut base = vec![None; rules.fields.len()];
    for (field, (base, shown)) in base.iter_mut().zip(cells).enumerate() {
        let Some(at) = rules.at(member, field) else { continue };
        let Some(given) = image.get(at.name.as_str()) else { continue };
        let shown = shown.as_ref().filter(|shown| given.equivalent_as(shown, &at.ty))?;
        *base = Some(shown.clone());
    }
    Some(base)
}
