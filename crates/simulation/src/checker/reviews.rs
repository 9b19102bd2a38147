//! What waits for a person, what was said about it, and whether the world asks for it: an engine that puts everything
//! into review would pass every other check.

use super::Checker;
use crate::database::Author;
use crate::timeline::{Lives, Step};
use crate::world::{AgainstFlow, Decide, DeleteRule, EditRule, Start};
use concord_engine::error::Code;
use concord_engine::ledger::{Entry, Rule};
use concord_engine::review::{Review, Subject};
use concord_engine::runtime::command::Resolution;
use std::collections::BTreeSet;

impl Checker<'_> {
    /// Finds which records wait for a person.
    pub(super) fn excuse(&mut self) {
        let reviews: Vec<&Review> = self.evidence.reviews.iter().collect();
        for review in reviews {
            let mut tags = BTreeSet::new();
            if let Some(link) = self.evidence.links.iter().find(|link| Some(link.id) == review.link) {
                for (member, side) in link.sides.iter().enumerate() {
                    tags.extend(side.key.iter().flat_map(|key| self.tags_of(member, key)));
                }
            }
            match &review.subject {
                Subject::Ambiguous { member, key, other, candidates } => {
                    tags.extend(self.tags_of(*member, key));
                    tags.extend(candidates.iter().flat_map(|key| self.tags_of(*other, key)));
                }
                Subject::Duplicate { member, key, .. } => tags.extend(self.tags_of(*member, key)),
                _ => {}
            }
            self.in_question.extend(tags.iter().cloned());
            if review.code == Code::CreateUnproven.to_string() {
                self.unproven.extend(tags.iter().cloned());
            }
            let answers = self.evidence.answers.iter().filter(|answer| answer.review.id == review.id);
            let mut ignored = false;
            for answer in answers {
                tags.iter().for_each(|tag| *self.answered.entry(tag.clone()).or_default() += 1);
                if matches!(answer.resolution, Resolution::Give(_)) {
                    tags.iter().for_each(|tag| *self.given.entry(tag.clone()).or_default() += 1);
                }
                if matches!(answer.resolution, Resolution::Bind(_)) {
                    self.told_apart.extend(tags.iter().cloned());
                }
                ignored |= answer.resolution == Resolution::Ignore;
            }
            // What an engine was told as it died may not have come to anything.
            ignored &= review.closed.is_some();
            // What a person left as it is waits no more, and may differ.
            if review.closed.is_some() && !ignored {
                continue;
            }
            if let Subject::MassChange { member, .. } = review.subject {
                if ignored {
                    // The others keep their records, also where the one that deleted them is not written to.
                    self.undone.extend(self.tags_deleted_at(member));
                    continue;
                }
                tags.extend(self.tags_deleted_at(member));
            }
            for tag in tags {
                let excuse = self.excused.entry(tag).or_default();
                match &review.subject {
                    Subject::Conflict { group, .. } | Subject::Loop { group } => {
                        excuse.groups.insert(*group);
                    }
                    _ => excuse.whole = true,
                }
            }
        }
    }

    /// The tags of which users deleted records at a member.
    pub(super) fn tags_deleted_at(&self, member: usize) -> Vec<String> {
        let gone = |step: &Step| matches!(step.author, Author::User(_)) && step.after.is_none();
        let deleted = |lives: &Lives| lives.get(member).is_some_and(|steps| steps.iter().any(gone));
        self.lives.iter().filter(|(_, lives)| deleted(lives)).map(|(tag, _)| tag.clone()).collect()
    }

    /// An engine that puts everything into review would pass every other check.
    pub(super) fn reviews_are_called_for(&mut self) {
        let world = self.world();
        let asks = world.further.one_way == Some(AgainstFlow::Review);
        let deletes = world.against_edit == EditRule::Person || asks;
        let (duplicate, ambiguous) = (Code::MatchDuplicate.to_string(), Code::MatchAmbiguous.to_string());
        // So may one that is only marked as deleted.
        let marks = world.on_delete == DeleteRule::Soft;
        let left = !self.deletes_are_followed() || world.further.wipes;
        let poison = world.members.iter().any(|member| member.profile.poison.is_some());
        let triggered = world.members.iter().any(|member| !member.triggers.is_empty());
        let blamed: Vec<(String, String)> = self
            .evidence
            .reviews
            .iter()
            .filter(|review| match &review.subject {
                Subject::Conflict { group, .. } => {
                    let manual = world.decides(*group).any(|decide| *decide == Decide::Person);
                    !(manual || world.start == Start::Person)
                }
                Subject::DeleteAgainstEdit { .. } => !deletes,
                // What is left of a record whose delete was not followed, or is held back, may stand in the way of one made anew.
                Subject::Rejected { .. } if duplicate == review.code && (left || marks || was_settled(review)) => false,
                // So may what is left of the record before it, whose delete has yet to be decided, where a person put together what
                // was made anew: they are asked no more than whether they meant that.
                Subject::Rejected { .. } if duplicate == review.code && self.was_put_together(review) => false,
                // So may several of them, of a record that has been marked.
                Subject::Rejected { .. } if ambiguous == review.code && marks && self.was_marked(review) => false,
                // A record that is only marked as deleted goes on holding its key.
                Subject::Rejected { .. } if marks && review.message.ends_with("a unique value is taken") => false,
                Subject::Rejected { .. } => {
                    !asks
                        && !poison
                        && !world.further.rejects
                        && !world.further.doubles
                        && !world.members.iter().any(|member| member.unique)
                }
                Subject::Loop { .. } => !triggered,
                Subject::Ambiguous { .. } | Subject::Duplicate { .. } => false,
                Subject::Exhausted { .. } => !review.code.ends_with("3022"),
                Subject::MassChange { .. } => !world.further.wipes,
                Subject::Unreadable { .. } | Subject::WentBack { .. } | Subject::Refused { .. } => true,
            })
            .map(|review| (format!("review {}", review.id.0), format!("{} ({:?})", review.message, review.subject)))
            .collect();
        for (record, what) in blamed {
            self.blame("reviews are called for", &record, format!("nothing in this world asks for it: {what}"));
        }
    }

    /// The tags that the records of a review's link have shown.
    fn tags_about(&self, review: &Review) -> BTreeSet<String> {
        let Some(link) = self.evidence.links.iter().find(|link| Some(link.id) == review.link) else { return BTreeSet::new() };
        let keys = link.sides.iter().enumerate().flat_map(|(member, side)| side.key.iter().map(move |key| (member, key)));
        keys.flat_map(|(member, key)| self.tags_of(member, key)).collect()
    }

    /// Whether a person said of the record that a review is about which records belong to it, and its users have deleted one of them.
    fn was_put_together(&self, review: &Review) -> bool {
        self.tags_about(review).iter().any(|tag| self.told_apart.contains(tag) && self.was_deleted(tag))
    }

    /// Whether the record that a review is about has been deleted or marked as deleted anywhere.
    fn was_marked(&self, review: &Review) -> bool {
        let mut tags = self.tags_about(review).into_iter();
        let gone = |step: &Step| step.after.as_ref().is_none_or(|row| crate::users::is_marked_gone(&row.fields));
        tags.any(|tag| self.lives.get(&tag).is_some_and(|life| life.iter().flatten().any(gone)))
    }

    /// What the ledger says of a conflict is what the policy says of it: whoever won by rank stands before whoever lost.
    pub(super) fn policies_are_followed(&mut self) {
        let mut wrong = Vec::new();
        for row in self.evidence.ledger.iter().filter(|row| row.entry == Entry::Lost) {
            for entry in row.fields.iter().filter(|entry| entry.rule == Rule::Priority) {
                let field = self.world().field(&entry.field).and_then(|field| self.world().fields.get(field));
                let decides = field.into_iter().flat_map(|field| self.world().decides(field.group));
                let orders: Vec<&Vec<usize>> =
                    decides.filter_map(|decide| if let Decide::Priority(order) = decide { Some(order) } else { None }).collect();
                let rank = |order: &[usize], member: usize| order.iter().position(|other| *other == member).unwrap_or(usize::MAX);
                if !orders.iter().any(|order| rank(order, entry.from) < rank(order, row.member)) {
                    let (won, lost) = (self.name(entry.from), self.name(row.member));
                    wrong.push(format!("{}: {won} won over {lost} by rank, and the orders are {orders:?}", entry.field));
                }
            }
        }
        for what in wrong {
            self.blame("policy's winner", "all", what);
        }
    }
}

/// Whether what stood in each other's way turned out to be one record, or gone: feeds that are slow to tell leave no other way
/// than to ask, and nobody need answer.
fn was_settled(review: &Review) -> bool {
    let ends = ["it was one record with another one", "the record was deleted"];
    review.closed.as_ref().is_some_and(|(_, how)| ends.contains(&how.as_str()))
}
