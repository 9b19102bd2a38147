//! What people decided about links, kept until it has been carried out. A link that is being written or read, or whose
//! sync does not run, cannot follow a decision now: the decision is durable before the person is answered, and is followed
//! before anything else is decided about the link, also after a crash. Never guesses: what no longer fits is forgotten,
//! and its review item, if it is still open, asks again.

use super::bounds::STEP;
use super::command::Resolution;
use super::core::Core;
use super::desk::Desk;
use crate::error::{Code, Error, Result};
use crate::guard::Verdict;
use crate::ledger::{Entry, FieldEntry, LedgerRow, Rule};
use crate::link::{FieldIndex, Life, Link, LinkId, MemberIndex, Pending, ReviewId, Shown, Side, Standing};
use crate::reconcile::{Choice, Known, Ruling, Uniqueness, refusal};
use crate::review::{Review, Subject};
use crate::rules::SyncRules;
use crate::value::Value;
use std::collections::BTreeMap;

/// Settings of this prefix hold one decision each.
const PREFIX: &str = "ruling/";

/// Decisions that wait for their links, per link in the order in which the items were opened. At most one per open review
/// item, and while a mass change is undone one per link that is busy at that moment.
pub(crate) type Noted = BTreeMap<LinkId, BTreeMap<ReviewId, Resolution>>;

fn setting(link: LinkId, review: ReviewId) -> String {
    format!("{PREFIX}{}/{}", link.0, review.0)
}

impl Core {
    /// Keeps a decision about a link until the link can follow it. A later decision about the same item replaces it.
    pub(crate) fn note_ruling(&mut self, link: LinkId, review: ReviewId, resolution: &Resolution) -> Result<()> {
        let bytes = postcard::to_stdvec(resolution)
            .map_err(|error| Error::new(Code::Internal, "a decision cannot be kept").because(error))?;
        self.transaction.settings.push((setting(link, review), Some(bytes)));
        self.rulings.entry(link).or_default().insert(review, resolution.clone());
        Ok(())
    }

    /// Whether a decision waits for its link.
    pub(crate) fn is_noted(&self, link: LinkId, review: ReviewId) -> bool {
        self.rulings.get(&link).is_some_and(|noted| noted.contains_key(&review))
    }

    fn forget_ruling(&mut self, link: LinkId, review: ReviewId) {
        self.transaction.settings.push((setting(link, review), None));
        if let Some(noted) = self.rulings.get_mut(&link) {
            noted.remove(&review);
            if noted.is_empty() {
                self.rulings.remove(&link);
            }
        }
    }

    /// Decisions that an earlier run did not come to follow.
    pub(crate) async fn restore_rulings(&mut self) -> Result<()> {
        if crate::mutants::active("ruling_forgotten") {
            return Ok(());
        }
        for (name, bytes) in self.store.settings(PREFIX).await? {
            let numbers = name.strip_prefix(PREFIX).and_then(|rest| rest.split_once('/'));
            let numbers = numbers.and_then(|(link, review)| Some((link.parse().ok()?, review.parse().ok()?)));
            match (numbers, postcard::from_bytes(&bytes)) {
                (Some((link, review)), Ok(resolution)) => {
                    self.rulings.entry(LinkId(link)).or_default().insert(ReviewId(review), resolution);
                }
                _ => return Err(Error::new(Code::StoreDamaged, format!("the kept decision {name} cannot be read"))),
            }
        }
        Ok(())
    }

    /// A sync goes on, or begins: what people said while it did not run is carried out.
    pub(crate) async fn catch_up_with_people(&mut self, sync: usize) -> Result<()> {
        let members = self.syncs.get(sync).map_or(0, |state| state.members.len());
        for member in 0..members {
            self.carry_out_verdict(sync, member).await?;
        }
        let noted: Vec<LinkId> = self.rulings.keys().copied().collect();
        for links in noted.chunks(STEP) {
            self.look_again(links.to_vec()).await?;
        }
        Ok(())
    }

    /// Follows what people said about a link that is free. Each decision is forgotten, and its item closed, in the
    /// transaction that carries it out.
    pub(super) async fn follow_noted(&mut self, desk: &mut Desk, sync: usize, id: LinkId) -> Result<()> {
        let Some(noted) = self.rulings.get(&id).cloned() else { return Ok(()) };
        for (review, resolution) in noted {
            let Some(review) = self.store.review(review).await? else {
                self.forget_ruling(id, review);
                continue;
            };
            let Some(link) = desk.link(id).cloned() else { return Ok(()) };
            let about_many = matches!(review.subject, Subject::MassChange { .. });
            let Some(rules) = self.rules(sync) else { return Ok(()) };
            let rulings = match rulings(&rules, &link, &review, &resolution) {
                Ok(rulings) if review.closed.is_none() || about_many => rulings,
                // The item was closed by what happened to the record, or means something else by now.
                _ => {
                    self.forget_ruling(id, review.id);
                    continue;
                }
            };
            if let Some(why) = self.amendment_refused(desk, sync, id, &rulings) {
                tracing::warn!(review = review.id.0, why, "what a person gave in place of what was refused cannot be taken");
                self.forget_ruling(id, review.id);
                continue;
            }
            let mut followed = true;
            for ruling in &rulings {
                followed = followed && self.decide_by(desk, sync, id, Some(ruling), &Uniqueness::Waived)?;
            }
            if !followed {
                continue;
            }
            self.forget_ruling(id, review.id);
            if !about_many {
                self.end_item(desk, sync, id, &review, &resolution);
            }
        }
        Ok(())
    }

    /// Why values that a person gave cannot be taken as the record stands now.
    pub(super) fn amendment_refused(&self, desk: &Desk, sync: usize, id: LinkId, rulings: &[Ruling]) -> Option<String> {
        let amend = rulings.iter().find(|ruling| matches!(ruling, Ruling::Amend { .. }))?;
        let (link, rules) = (desk.link(id)?, self.rules(sync)?);
        let pending: Vec<Option<Pending>> = desk.pending(link).into_iter().map(Option::<&Pending>::cloned).collect();
        let seen: Vec<Option<&Pending>> = pending.iter().map(Option::as_ref).collect();
        let references = self.references(desk, &rules, link, &seen);
        let known = Known { unique: &Uniqueness::Waived, references: &references };
        refusal(&rules, link, &pending, amend, known, self.now())
    }

    /// A decision has been followed: what it kept from being written is tried again, and its item is closed unless
    /// something still waits for it.
    fn end_item(&mut self, desk: &mut Desk, sync: usize, id: LinkId, review: &Review, resolution: &Resolution) {
        let Some(link) = desk.link(id).cloned() else { return };
        let link = self.unblock(sync, link, review.id, resolution);
        if matches!(resolution, Resolution::Retry) {
            for (member, side) in link.sides.iter().enumerate() {
                if side.standing == Standing::Present {
                    self.want_read(sync, member, id);
                }
            }
        }
        if !crate::reconcile::held_by(&link).contains(&review.id) {
            self.close_review(sync, review.id, how(resolution));
        }
        desk.save(link);
    }

    fn unblock(&mut self, sync: usize, mut link: Link, review: ReviewId, resolution: &Resolution) -> Link {
        let now = self.now();
        let mut given_up = false;
        for member in 0..link.sides.len() {
            let Some(side) = link.sides.get_mut(member).filter(|side| side.blocked == Some(review)) else { continue };
            side.blocked = None;
            self.unreadable_links.remove(&(link.id, member));
            self.unproven.forget((link.sync, member, link.id), &mut self.transaction);
            side.attempts = 0;
            side.misses = 0;
            if matches!(resolution, Resolution::Ignore) {
                given_up |= std::mem::take(&mut side.owes_life);
                for group in std::mem::take(&mut side.owes) {
                    // The members are left to differ until the group next changes.
                    if let Some(agreed) = link.groups.get_mut(group).and_then(|state| state.agreed.as_mut()) {
                        agreed.rule = Rule::LeftAsItIs;
                    }
                }
            } else if side.is_owing() {
                // On the list of debts, for nothing else would remember it after a crash.
                self.owe_later(sync, &mut link, member, now);
            }
        }
        let is_there = |side: &Side| matches!(side.standing, Standing::Present | Standing::Marked);
        let is_kept = |side: &Side| is_there(side) || side.owes_life || side.flight.is_some();
        if given_up && link.life == Life::Live && !link.sides.iter().any(is_kept) {
            self.note_given_up(&link);
        }
        self.look_at_those_behind(sync, link.id);
        link
    }

    /// No member has the record, and it is not to be made any more: its values are in the ledger alone (invariant 3).
    pub(crate) fn note_given_up(&mut self, link: &Link) {
        if crate::mutants::active("given_up_unsaid") {
            return;
        }
        let Some(rules) = self.sync_of(link.sync).and_then(|sync| self.rules(sync)) else { return };
        let mut rows: BTreeMap<MemberIndex, Vec<FieldEntry>> = BTreeMap::new();
        for field in rules.fields.iter() {
            let agreed = link.groups.get(field.group).and_then(|group| group.agreed.as_ref());
            let place = rules
                .group_fields(field.group)
                .iter()
                .position(|&other| rules.fields.get(other).is_some_and(|it| it.name == field.name));
            let (Some(agreed), Some(place)) = (agreed, place) else { continue };
            let Some(value) = agreed.values.get(place).filter(|value| !value.is_null()) else { continue };
            rows.entry(agreed.from).or_default().push(FieldEntry {
                field: field.name.clone(),
                old: Some(value.clone()),
                new: None,
                from: agreed.from,
                edited: agreed.time.at,
                rule: Rule::Manual,
            });
        }
        for (member, fields) in rows {
            let key = link.sides.get(member).and_then(|side| side.key.as_ref()).map(ToString::to_string).unwrap_or_default();
            let (at, entry) = (self.now(), Entry::Lost);
            self.transaction.ledger.push(LedgerRow { at, sync: link.sync, link: Some(link.id), member, key, entry, fields });
        }
    }

    /// Keeps what a person said about a mass change, and carries it out if the sync runs.
    pub(super) async fn resolve_mass_change(&mut self, sync: usize, member: MemberIndex, resolution: &Resolution) -> Result<()> {
        let verdict = match resolution {
            Resolution::Retry => Verdict::LetThrough,
            Resolution::Ignore => Verdict::Undo,
            _ => {
                return Err(Error::new(Code::BadResolution, "a mass change is let through with `retry` or undone with `ignore`"));
            }
        };
        self.keep_verdict(sync, member, verdict);
        self.carry_out_verdict(sync, member).await
    }

    /// Decides about every delete that waited for the guard. The guard stays as it is until the last of them has been
    /// decided, or, where its link is busy, has been noted: a crash on the way loses nothing of what was said.
    async fn carry_out_verdict(&mut self, sync: usize, member: MemberIndex) -> Result<()> {
        let Some(state) = self.syncs.get(sync).filter(|state| state.active()) else { return Ok(()) };
        let Some(guard) = state.members.get(member).map(|member| &member.guard) else { return Ok(()) };
        let (Some(review), Some(verdict)) = (guard.tripped, guard.verdict) else { return Ok(()) };
        let id = state.rules.id;
        // What follows reads the store, which must know of what this event has decided so far.
        self.commit();
        let mut after = None;
        loop {
            let rows = self.store.scan_pending(id, after.clone(), STEP).await?;
            let Some((last, _)) = rows.last() else { break };
            after = Some(last.clone());
            let mut desk = self.desk();
            desk.load(&self.store, rows.iter().map(|(address, _)| address.clone()).collect()).await?;
            for (address, pending) in rows {
                let Some(link) = desk.slot(&address).and_then(|slot| slot.link) else { continue };
                let gone = address.member == member && matches!(pending.shown, Shown::Gone { .. });
                if gone && verdict == Verdict::Undo && self.is_busy(&desk, link) {
                    self.note_ruling(link, review, &Resolution::Ignore)?;
                } else {
                    self.decide_link(&mut desk, link).await?;
                }
            }
            desk.flush(&mut self.transaction);
            self.commit();
        }
        self.release_guard(sync, member);
        let said = if verdict == Verdict::Undo { Resolution::Ignore } else { Resolution::Retry };
        self.close_review(sync, review, how(&said));
        Ok(())
    }

    /// Whether a link is being written or read.
    pub(crate) fn is_busy(&self, desk: &Desk, id: LinkId) -> bool {
        self.reading.contains(&id) || desk.link(id).is_some_and(Link::in_flight)
    }
}

/// How an item was closed, in a word.
pub(super) fn how(resolution: &Resolution) -> String {
    match resolution {
        Resolution::Take(_) | Resolution::Give(_) => "resolved",
        Resolution::Bind(_) => "bound",
        Resolution::Create => "a record of its own",
        Resolution::Retry => "retried",
        Resolution::Ignore => "ignored",
        Resolution::Repair(_) => "repaired",
    }
    .to_owned()
}

/// What a resolution means for the link that a review item is about, as the link stands now.
pub(super) fn rulings(rules: &SyncRules, link: &Link, review: &Review, resolution: &Resolution) -> Result<Vec<Ruling>> {
    let held_groups = || {
        link.groups
            .iter()
            .enumerate()
            .filter(|(_, group)| group.held.as_ref().is_some_and(|held| held.review == review.id))
            .map(|(index, _)| index)
    };
    let all = |choice: Choice| Ok(held_groups().map(|group| Ruling::Group(group, choice.clone())).collect());
    let wrong = |message: &str| Err(Error::new(Code::BadResolution, message));
    match (&review.subject, resolution) {
        (_, Resolution::Bind(_) | Resolution::Create) => wrong("this item is not about a match"),
        (Subject::Conflict { .. }, Resolution::Take(member)) => all(Choice::Take(*member)),
        (Subject::Conflict { fields, .. }, Resolution::Give(values)) => {
            if values.len() != fields.len() {
                return wrong("give one value for each field of the conflict");
            }
            all(Choice::Give(values.clone()))
        }
        (Subject::DeleteAgainstEdit { deleted_by, .. }, Resolution::Take(member)) => {
            Ok(vec![Ruling::Life { keep: member != deleted_by }])
        }
        (Subject::DeleteAgainstEdit { .. }, _) => {
            wrong("take the view of the member that deleted the record, or of one that edited it")
        }
        (Subject::MassChange { .. }, Resolution::Ignore) => Ok(vec![Ruling::Life { keep: true }]),
        (Subject::Rejected { .. }, Resolution::Take(member)) => all(Choice::Take(*member)),
        (Subject::Rejected { member, .. }, Resolution::Repair(given)) => {
            if link.life != Life::Live || link.held.is_some() {
                return wrong("the record is gone, or waits for another decision: values cannot be given");
            }
            if review.code == Code::EditAgainstFlow.to_string() {
                return wrong("that edit was made where edits do not flow from: take a side, retry it, or ignore it");
            }
            Ok(vec![Ruling::Amend { member: *member, given: given_fields(rules, link, given)? }])
        }
        (Subject::Loop { group }, Resolution::Ignore) => Ok(vec![Ruling::Release, Ruling::Group(*group, Choice::Leave)]),
        (Subject::Loop { .. }, _) => Ok(vec![Ruling::Release]),
        (_, Resolution::Ignore) => all(Choice::Leave),
        (_, Resolution::Retry) => Ok(Vec::new()),
        _ => wrong("retry it, or ignore it"),
    }
}

/// What a person gives in place of what was refused, in the canonical types of the fields. It is written to the members that take
/// the field; the others go on showing what they do until it is corrected there.
fn given_fields(rules: &SyncRules, link: &Link, given: &[(String, Option<String>)]) -> Result<Vec<(FieldIndex, Value)>> {
    let wrong = |message: String| Err(Error::new(Code::BadResolution, message));
    let mut fields = Vec::with_capacity(given.len());
    for (name, text) in given {
        let Some(index) = rules.field(name) else {
            let all: Vec<FieldIndex> = (0..rules.fields.len()).collect();
            return wrong(format!("`{name}` is not one of its fields: {}", names(rules, &all)));
        };
        let Some(field) = rules.fields.get(index).filter(|field| field.reference.is_none()) else {
            return wrong(format!("`{name}` refers to another record: correct it where it stands, then retry the item"));
        };
        let mut members = rules.members.iter().enumerate();
        if let Some((_, owner)) = members.find(|(member, _)| is_own_key(rules, *member, index)) {
            return wrong(format!("`{name}` is the key that {} gives its records: it cannot be another one", owner.system));
        }
        let untaken: Vec<String> = (0..field.members.len()).filter_map(|member| untaken(rules, link, member, index)).collect();
        if untaken.len() == field.members.iter().flatten().count() {
            let why = untaken.join("; ");
            return wrong(format!(
                "no member takes `{name}` ({why}): correct it where it stands, and the record is looked at again"
            ));
        }
        // Canonical terms are those of the member that shows them as they are.
        let members = || field.members.iter().flatten();
        let ty = members().find(|at| at.mapping.to.is_none()).or_else(|| members().next()).map(|at| &at.ty);
        let value = match text {
            None => Some(Value::Null),
            Some(text) => ty.and_then(|ty| Value::parse_as(text, ty)),
        };
        let Some(value) = value else {
            return wrong(format!("the value for `{name}` is not of the field's type"));
        };
        // Said twice, the last word counts.
        fields.retain(|(other, _)| *other != index);
        fields.push((index, value));
    }
    if fields.is_empty() { wrong("give at least one value".to_owned()) } else { Ok(fields) }
}

/// Why a member does not take a value for a field that it has; `None`: it does, or has no such field.
fn untaken(rules: &SyncRules, link: &Link, member: MemberIndex, field: FieldIndex) -> Option<String> {
    let at = rules.at(member, field)?;
    let is_there = link.sides.get(member).is_some_and(|side| side.standing == Standing::Present);
    let why = match at {
        at if !at.inward => "is not written in this field, which flows from there",
        at if is_there && !at.updatable => "lets nobody change this field",
        at if !is_there && !at.creatable => "lets nobody set this field",
        _ => return None,
    };
    Some(format!("{} {why}", rules.members.get(member)?.system))
}

/// Whether a field is the key of a member's records, and given by its system.
fn is_own_key(rules: &SyncRules, member: MemberIndex, field: FieldIndex) -> bool {
    let key = rules.members.get(member).map(|member| &member.schema.key);
    let at = rules.at(member, field).filter(|at| !at.updatable && !at.creatable);
    at.is_some_and(|at| key.is_some_and(|key| key.contains(&at.name)))
}

fn names(rules: &SyncRules, fields: &[FieldIndex]) -> String {
    let names = fields.iter().filter_map(|field| rules.fields.get(*field)).map(|field| field.name.as_str());
    names.collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::link::SyncId;
    use crate::reconcile::tests::support::{at, one_way, rules};

    fn link(rules: &SyncRules) -> Link {
        let mut link = Link::new(LinkId(1), SyncId(1), 1, rules.members.len(), rules.fields.len(), rules.groups.len());
        link.sides.iter_mut().for_each(|side| side.standing = Standing::Present);
        link
    }

    fn given(rules: &SyncRules, link: &Link, name: &str) -> std::result::Result<Vec<(FieldIndex, Value)>, String> {
        given_fields(rules, link, &[(name.to_owned(), Some("x".to_owned()))]).map_err(|error| error.message)
    }

    #[test]
    fn a_value_is_given_to_the_members_that_take_the_field_and_refused_where_none_does() {
        let both = rules(2, &["name", "city"]);
        assert_eq!(given(&both, &link(&both), "city"), Ok(vec![(1, Value::text("x"))]));
        // The one end of a sync that flows one way takes it, and the other need not.
        let mut one = one_way(both);
        assert_eq!(given(&one, &link(&one), "city"), Ok(vec![(1, Value::text("x"))]));
        at(&mut one, 1, "city").updatable = false;
        let why = given(&one, &link(&one), "city").unwrap_err();
        assert!(why.contains("a is not written in this field, which flows from there; b lets nobody change this field"), "{why}");
        // Where the record is yet to be made, it is made with it.
        let mut to_be_made = link(&one);
        to_be_made.sides[1].standing = Standing::Absent;
        assert!(given(&one, &to_be_made, "city").is_ok());
        at(&mut one, 1, "city").creatable = false;
        let why = given(&one, &to_be_made, "city").unwrap_err();
        assert!(why.contains("b lets nobody set this field"), "{why}");
    }

    #[test]
    fn a_key_that_a_system_gives_itself_is_nobodys_to_give() {
        let mut rules = one_way(rules(2, &["id", "name"]));
        // The other side takes it, and would then name a record that is not there.
        assert!(given(&rules, &link(&rules), "id").is_ok());
        at(&mut rules, 0, "id").updatable = false;
        at(&mut rules, 0, "id").creatable = false;
        let why = given(&rules, &link(&rules), "id");
        assert!(why.is_err_and(|why| why.contains("the key that a gives its records")));
    }
}
