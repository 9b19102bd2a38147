//! What a feed told of a record that then had to be read, for it could not be ordered against what was known: the read says
//! what the record shows by now, and this when it was edited. It is forgotten with the process; the time of such an edit then
//! stays an estimate, which is waited upon for a while like any other.

use crate::link::{LinkId, MemberIndex, Pending, Shown};
use crate::reconcile::{Folded, fold, refine_times};
use crate::rules::SyncRules;
use crate::runtime::bounds::READING_MAX;
use std::cmp::Ordering;
use std::collections::BTreeMap;

/// Events of linked records that are being read.
#[derive(Default)]
pub(crate) struct Told(BTreeMap<(LinkId, MemberIndex), Pending>);

impl Told {
    /// Keeps an event until its record has been read. A feed gives them in their order.
    pub fn keep(&mut self, rules: &SyncRules, link: LinkId, event: Pending) {
        let key = (link, event.member);
        if !self.0.contains_key(&key) && self.0.len() >= READING_MAX {
            return;
        }
        if let Folded::Into(folded) = fold(rules, self.0.remove(&key), event, Some(Ordering::Greater)) {
            self.0.insert(key, *folded);
        }
    }

    /// A later event can be ordered: what it shows as well was edited when the feed first said so. What it shows otherwise has
    /// changed since, and may come to be the same again.
    pub fn date(&mut self, rules: &SyncRules, link: LinkId, event: &mut Pending) {
        let member = event.member;
        let Some(told) = self.0.get_mut(&(link, member)) else { return };
        let (Shown::Present { cells, times, .. }, Shown::Present { cells: now, times: then, .. }) =
            (&mut told.shown, &mut event.shown)
        else {
            self.0.remove(&(link, member));
            return;
        };
        for (field, time) in then.iter_mut().enumerate() {
            let (Some(kept), Some(Some(new)), Some(at)) = (cells.get_mut(field), now.get(field), rules.at(member, field)) else {
                continue;
            };
            if !kept.as_ref().is_some_and(|old| old.equivalent_as(new, &at.ty)) {
                *kept = None;
            } else if let (Some(time), Some(Some(first))) = (time.as_mut(), times.get(field)) {
                *time = *first;
            }
        }
    }

    /// The record has been read: what it shows was edited when the feed said so.
    pub fn refine(&mut self, rules: &SyncRules, link: LinkId, read: &mut Pending) {
        let told = self.0.remove(&(link, read.member));
        if let Some(told) = told.filter(|told| matches!(told.shown, Shown::Present { .. })) {
            refine_times(rules, read, &told);
        }
    }
}
