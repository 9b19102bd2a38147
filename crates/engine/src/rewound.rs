//! A member that may have gone back in time: restored from a backup, or promoted without its last changes. Told by a gap
//! in its feed. Before anything is read again or written, every record that is linked is compared with what was last seen
//! of it. A few that show an earlier state are taken as they are now; many of them are for a person to decide: what the
//! restored side shows counts as newly edited, or what was lost is written back to it. Nothing is carried meanwhile.

use crate::connector::Presence;
use crate::error::{Code, Error, Result};
use crate::ledger::{Entry, FieldEntry, LedgerRow, Rule};
use crate::link::{Cells, Life, Link, LinkId, MemberIndex, NO_LONGER_SHOWN, Pending, ReviewId, Shown, Standing};
use crate::reconcile::{Known, Outcome, Uniqueness, decide_knowing};
use crate::record::{Key, SystemName};
use crate::review::{Review, Subject};
use crate::rules::{GuardRules, SyncRules};
use crate::runtime::command::Resolution;
use crate::runtime::core::{Core, Event};
use crate::runtime::desk::{Desk, address};
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// Records in one step.
const STEP: usize = 500;
/// So many records in a row that cannot be read are no bad records: the reads fail as such, and are tried again.
const UNREAD_MAX: u32 = 10;
/// Percentages mean little of a handful: they count from so many records on.
const PERCENT_FROM: u64 = 20;

/// How far the clearing up of one member has got.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Rewound {
    /// What the connector said of the gap.
    evidence: String,
    step: Step,
    #[serde(skip)]
    running: bool,
    /// How often the size of a step is to be halved, after a read that failed as a whole for one of its records.
    #[serde(skip)]
    halvings: u32,
    /// Records in a row that could not be read by themselves.
    #[serde(skip)]
    unread: u32,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
enum Step {
    /// What every record shows is compared with what it last showed.
    Comparing { after: LinkId, records: u64, older: u64, some: Vec<LinkId> },
    /// A person is asked.
    Asking { review: ReviewId },
    /// What it shows counts as newly edited: what was known of its versions is forgotten.
    Forgetting { after: LinkId },
    /// What was lost is written back.
    WritingBack { after: LinkId },
}

impl Step {
    fn after(&self) -> Option<LinkId> {
        match self {
            Step::Comparing { after, .. } | Step::Forgetting { after } | Step::WritingBack { after } => Some(*after),
            Step::Asking { .. } => None,
        }
    }

    fn go_on_behind(&mut self, last: LinkId) {
        match self {
            Step::Comparing { after, .. } | Step::Forgetting { after } | Step::WritingBack { after } => *after = last,
            Step::Asking { .. } => {}
        }
    }
}

/// Whether so many records that show an earlier state are for a person to look at.
fn exceeds(guard: &GuardRules, older: u64, records: u64) -> bool {
    #[allow(clippy::cast_precision_loss, reason = "a percentage of a count is compared, nothing is carried")]
    let share = older as f64 * 100.0 / records.max(1) as f64;
    older > guard.max_deletes || (records >= PERCENT_FROM && share > guard.max_deletes_percent)
}

impl Core {
    pub(crate) async fn restore_rewound(&mut self, sync: usize) -> Result<()> {
        let Some(id) = self.rules(sync).map(|rules| rules.id.0) else { return Ok(()) };
        for (name, bytes) in self.store.settings(&format!("rewound/{id}/")).await? {
            let member = name.rsplit('/').next().and_then(|member| member.parse::<usize>().ok());
            if let (Some(member), Ok(rewound)) = (member, postcard::from_bytes::<Rewound>(&bytes)) {
                let asks = matches!(rewound.step, Step::Asking { .. });
                if let Some(state) = self.syncs.get_mut(sync) {
                    state.rewound.insert(member, rewound);
                    if asks {
                        state.stopped = Some(asked());
                    }
                }
            }
        }
        Ok(())
    }

    /// A gap of this system's feed was accepted, and the connector says that the system shows an earlier state: its members
    /// are compared with what was known. Versions tell nothing here, for those of the old life have been forgotten.
    pub(crate) fn suspect(&mut self, system: &SystemName, evidence: &str) {
        for sync in 0..self.syncs.len() {
            let Some(state) = self.syncs.get(sync).filter(|state| state.begun) else { continue };
            let members = state.rules.members.iter().enumerate();
            let concerned: Vec<MemberIndex> =
                members.filter(|(_, member)| member.system == *system).map(|(member, _)| member).collect();
            for member in concerned {
                let step = Step::Comparing { after: LinkId(0), records: 0, older: 0, some: Vec::new() };
                self.set_rewound(
                    sync,
                    member,
                    Some(Rewound { evidence: evidence.to_owned(), step, running: false, halvings: 0, unread: 0 }),
                );
            }
        }
    }

    fn set_rewound(&mut self, sync: usize, member: MemberIndex, rewound: Option<Rewound>) {
        let Some(state) = self.syncs.get_mut(sync) else { return };
        let bytes = rewound.as_ref().and_then(|rewound| postcard::to_stdvec(rewound).ok());
        self.transaction.settings.push((format!("rewound/{}/{member}", state.rules.id.0), bytes));
        match rewound {
            Some(rewound) => state.rewound.insert(member, rewound),
            None => state.rewound.remove(&member),
        };
    }

    /// Reads the next records of every member that is being cleared up, once its feed carries every later change.
    pub(crate) async fn start_rewound(&mut self) -> Result<()> {
        let now = self.now();
        for sync in 0..self.syncs.len() {
            let Some(state) = self.syncs.get(sync) else { continue };
            if state.paused || state.why_stopped().is_some() {
                continue;
            }
            let next = state.rewound.iter().find(|(_, rewound)| !rewound.running && rewound.step.after().is_some());
            let waits = |member: &MemberIndex| state.members.get(*member).and_then(|member| member.retry_at);
            let Some((&member, after)) = next
                .filter(|(member, _)| waits(member).is_none_or(|at| at <= now))
                .and_then(|(member, rewound)| Some((member, rewound.step.after()?)))
            else {
                continue;
            };
            // A record under way elsewhere could be neither compared nor written back.
            if self.changes_are_complete(sync, member) && !self.flies(sync) {
                self.read_rewound(sync, member, after).await?;
            }
        }
        Ok(())
    }

    /// Whether any write of a sync has not come back, or is in doubt. None is begun while a member is being cleared up.
    fn flies(&self, sync: usize) -> bool {
        self.flights.values().any(|airborne| airborne.sync == sync)
    }

    async fn read_rewound(&mut self, sync: usize, member: MemberIndex, after: LinkId) -> Result<()> {
        let (Some(rules), Some(connector)) = (self.rules(sync), self.connector(sync, member)) else { return Ok(()) };
        let Some(selection) = rules.members.get(member).map(|member| member.selection.clone()) else { return Ok(()) };
        let halvings = self.syncs.get(sync).and_then(|state| state.rewound.get(&member)).map_or(0, |rewound| rewound.halvings);
        let links = self.store.scan_links(rules.id, after, (STEP >> halvings).max(1)).await?;
        let Some(last) = links.last().map(|link| link.id) else { return self.end_rewound(sync, member).await };
        // Records without a key there are only passed over.
        let asked: Vec<(LinkId, Key)> = links
            .iter()
            .filter(|link| !matches!(link.life, Life::Detached { .. }))
            .filter_map(|link| Some((link.id, link.sides.get(member)?.key.clone()?)))
            .collect();
        if let Some(rewound) = self.syncs.get_mut(sync).and_then(|state| state.rewound.get_mut(&member)) {
            rewound.running = true;
            rewound.step.go_on_behind(last);
        }
        let timeout = self.options.read_timeout;
        self.jobs.spawn(async move {
            let keys: Vec<Key> = asked.iter().map(|(_, key)| key.clone()).collect();
            let result = match tokio::time::timeout(timeout, connector.read(&selection, &keys)).await {
                Ok(result) => result,
                Err(_) => Err(Error::new(Code::Unreachable, "a read was not answered in time")),
            };
            Event::Rewound { sync, member, asked, result }
        });
        Ok(())
    }

    pub(crate) async fn on_rewound(
        &mut self,
        sync: usize,
        member: MemberIndex,
        asked: Vec<(LinkId, Key)>,
        result: Result<Vec<Presence>>,
    ) -> Result<()> {
        let Some(rules) = self.rules(sync) else { return Ok(()) };
        let Some(mut rewound) = self.syncs.get(sync).and_then(|state| state.rewound.get(&member)).cloned() else {
            return Ok(());
        };
        rewound.running = false;
        let found = match result {
            Ok(found) => found,
            Err(error) if error.may_be_one_records() && asked.len() <= 1 && rewound.unread < UNREAD_MAX => {
                // It can be neither compared nor written back; whoever reads it next is told, and asks a person.
                tracing::warn!(sync = %rules.name, error = error.chain(), "a record could not be compared with what was known of it");
                rewound.halvings = rewound.halvings.saturating_sub(1);
                rewound.unread += 1;
                self.set_rewound(sync, member, Some(rewound));
                return Ok(());
            }
            Err(error) => {
                match error.may_be_one_records() && rewound.unread < UNREAD_MAX {
                    true => rewound.halvings += 1,
                    false => self.member_failed(sync, member, error),
                }
                // What was not read is asked for again.
                if let Some(first) = asked.first() {
                    rewound.step.go_on_behind(LinkId(first.0.0.saturating_sub(1)));
                }
                self.set_rewound(sync, member, Some(rewound));
                return Ok(());
            }
        };
        (rewound.halvings, rewound.unread) = (rewound.halvings.saturating_sub(1), 0);
        if let Some(state) = self.member(sync, member) {
            (state.retry_at, state.failures, state.down) = (None, 0, None);
        }
        let mut desk = self.desk();
        desk.load(&self.store, asked.iter().map(|(_, key)| address(rules.id, member, key)).collect()).await?;
        desk.load_links(&self.store, asked.iter().map(|(link, _)| *link).collect()).await?;
        for ((id, _), presence) in asked.into_iter().zip(found) {
            let Some(link) = desk.link(id).filter(|link| !link.in_flight()).cloned() else { continue };
            match &mut rewound.step {
                Step::Comparing { records, older, some, .. } => {
                    *records += 1;
                    if is_older(&desk, &rules, member, &link, &presence) {
                        *older += 1;
                        if u64::try_from(some.len()).unwrap_or(u64::MAX) <= rules.guard.max_deletes {
                            some.push(id);
                        }
                    }
                }
                Step::Forgetting { .. } => self.forget_version(&mut desk, link, member),
                Step::WritingBack { .. } => self.write_back(&mut desk, &rules, sync, member, link, &presence)?,
                Step::Asking { .. } => {}
            }
        }
        desk.flush(&mut self.transaction);
        self.set_rewound(sync, member, Some(rewound));
        Ok(())
    }

    /// What a record shows from now on counts as new, whatever was known; what waited is of the state that is gone.
    fn forget_version(&mut self, desk: &mut Desk, mut link: Link, member: MemberIndex) {
        if let Some(side) = link.sides.get_mut(member) {
            side.version = crate::change::Version::default();
            if let Some(key) = &side.key {
                let there = address(link.sync, member, key);
                self.parked.remove(&there);
                desk.set_pending(&there, None);
            }
        }
        desk.save(link);
    }

    /// Has the member owe whatever it had and does not show any more.
    fn write_back(
        &mut self,
        desk: &mut Desk,
        rules: &Arc<SyncRules>,
        sync: usize,
        member: MemberIndex,
        link: Link,
        presence: &Presence,
    ) -> Result<()> {
        // What was seen before and waits is among what was lost: it is decided first.
        let pending = desk.lift_pending(&link);
        let seen: Vec<Option<&Pending>> = pending.iter().map(Option::as_ref).collect();
        let references = self.references(desk, rules, &link, &seen);
        // The edit is nowhere else any more: it is not put off until the system has been asked for others like it.
        let known = Known { unique: &Uniqueness::Waived, references: &references };
        let decided = decide_knowing(rules, &link, &pending, None, known, self.now(), &mut self.reviews.lock());
        match decided {
            Outcome::Decided(decision) if pending.iter().any(Option::is_some) => {
                self.take_decision(desk, sync, &link, &pending, *decision);
            }
            _ => {
                if let Some(seen) = pending.get(member).and_then(Option::as_ref) {
                    self.note_lost_sight(rules, &link, member, seen);
                }
                desk.lay_back(&link, pending)
            }
        }
        let Some(mut link) = desk.link(link.id).cloned() else { return Ok(()) };
        let inward = rules.members.get(member).is_some_and(|member| member.inward);
        let deleted = matches!(link.life, Life::Deleted { .. });
        match presence {
            Presence::Forbidden(_) => return Ok(()),
            Presence::Absent { .. } => {
                let Some(side) = link.sides.get_mut(member).filter(|side| side.standing == Standing::Present) else {
                    return Ok(());
                };
                side.standing = Standing::Gone;
                side.owes.clear();
                side.owes_life = inward && !deleted;
            }
            Presence::Present(observation) => {
                let shown = cells(rules, member, observation);
                give_back(rules, &mut link, member, &shown);
                let Some(side) = link.sides.get_mut(member) else { return Ok(()) };
                side.standing = Standing::Present;
                side.owes_life = inward && deleted;
            }
        }
        self.forget_version(desk, link.clone(), member);
        if let Some(side) = link.sides.get_mut(member) {
            side.version = crate::change::Version::default();
            (side.attempts, side.misses) = (0, 0);
        }
        let now = self.now();
        for other in 0..link.sides.len() {
            if link.sides.get(other).is_some_and(|side| side.is_owing() && !side.queued && side.flight.is_none()) {
                self.owe_later(sync, &mut link, other, now);
            }
        }
        desk.save(link);
        Ok(())
    }

    /// What a member had shown and nobody could decide about is gone with its old state.
    fn note_lost_sight(&mut self, rules: &SyncRules, link: &Link, member: MemberIndex, seen: &Pending) {
        let Shown::Present { cells, times, .. } = &seen.shown else { return };
        let Some(side) = link.sides.get(member) else { return };
        let changed = cells.iter().zip(&side.base).enumerate().filter(|(_, (now, before))| now.is_some() && now != before);
        let fields = changed.map(|(field, (now, before))| FieldEntry {
            field: rules.fields.get(field).map_or_else(String::new, |field| field.name.to_string()),
            old: now.clone(),
            new: before.clone(),
            from: member,
            edited: times.get(field).copied().flatten().map_or(seen.arrived, |time| time.at),
            rule: Rule::Manual,
        });
        let fields: Vec<FieldEntry> = fields.collect();
        if fields.is_empty() {
            return;
        }
        let (at, key) = (self.now(), seen.key.to_string());
        let row = LedgerRow { at, sync: link.sync, link: Some(link.id), member, key, entry: Entry::Lost, fields };
        self.transaction.ledger.push(row);
    }

    /// Every record has been looked at.
    async fn end_rewound(&mut self, sync: usize, member: MemberIndex) -> Result<()> {
        let Some(rules) = self.rules(sync) else { return Ok(()) };
        let Some(rewound) = self.syncs.get(sync).and_then(|state| state.rewound.get(&member)).cloned() else {
            return Ok(());
        };
        match rewound.step {
            Step::Comparing { records, older, .. } if exceeds(&rules.guard, older, records) => {
                self.ask_about_rewound(sync, member, records, older, rewound.evidence);
                return Ok(());
            }
            Step::Comparing { some, .. } => {
                let mut desk = self.desk();
                desk.load_links(&self.store, some.clone()).await?;
                for id in some {
                    if let Some(link) = desk.link(id).cloned() {
                        self.forget_version(&mut desk, link, member);
                    }
                }
                desk.flush(&mut self.transaction);
            }
            Step::Forgetting { .. } | Step::WritingBack { .. } => {}
            Step::Asking { .. } => return Ok(()),
        }
        self.set_rewound(sync, member, None);
        self.commit();
        if self.syncs.get(sync).is_some_and(|state| state.rewound.is_empty()) {
            for member in 0..rules.members.len() {
                if let Some(state) = self.member(sync, member) {
                    state.maybe_owing = true;
                }
            }
            self.catch_up_with_people(sync).await?;
            self.restore_pending(sync).await?;
        }
        Ok(())
    }

    fn ask_about_rewound(&mut self, sync: usize, member: MemberIndex, records: u64, older: u64, evidence: String) {
        let Some(rules) = self.rules(sync) else { return };
        let id = self.new_review();
        let object = rules.members.get(member).map(|member| format!("{} {}", member.system, member.object)).unwrap_or_default();
        let review = Review {
            id,
            sync: rules.id,
            link: None,
            opened: self.now(),
            closed: None,
            code: Code::WentBack.to_string(),
            message: format!(
                "{older} of {records} records of {object} show an earlier state than they did; nothing is carried before you say \
                 which side is right"
            ),
            subject: Subject::WentBack { member, older, records, evidence: evidence.clone() },
        };
        self.open_review(sync, review);
        let step = Step::Asking { review: id };
        self.set_rewound(sync, member, Some(Rewound { evidence, step, running: false, halvings: 0, unread: 0 }));
        if let Some(state) = self.syncs.get_mut(sync) {
            state.stopped = Some(asked());
        }
    }

    /// A person has said which side is right.
    pub(crate) fn resolve_went_back(&mut self, sync: usize, member: MemberIndex, resolution: &Resolution) -> Result<()> {
        let after = LinkId(0);
        let step = match resolution {
            Resolution::Take(taken) if *taken == member => Step::Forgetting { after },
            Resolution::Take(_) => Step::WritingBack { after },
            _ => return Err(Error::new(Code::BadResolution, "take the view of the restored system, or that of the other")),
        };
        let known = self.syncs.get(sync).and_then(|state| state.rewound.get(&member)).cloned();
        let Some(rewound) = known else { return Ok(()) };
        self.set_rewound(sync, member, Some(Rewound { step, running: false, halvings: 0, unread: 0, ..rewound }));
        if let Some(state) = self.syncs.get_mut(sync) {
            let asks = state.rewound.values().any(|rewound| matches!(rewound.step, Step::Asking { .. }));
            if !asks && state.stopped.as_ref().is_some_and(|error| error.code == Code::WentBack) {
                state.stopped = None;
            }
        }
        Ok(())
    }
}

/// Whether a record shows something else than it was last seen to show, what waits to be decided included.
fn is_older(desk: &Desk, rules: &SyncRules, member: MemberIndex, link: &Link, presence: &Presence) -> bool {
    let pending = desk.pending(link).get(member).cloned().flatten();
    let Some(side) = link.sides.get(member) else { return false };
    let was_there = match &pending {
        Some(Pending { shown: Shown::Present { .. }, .. }) => true,
        Some(Pending { shown: Shown::Gone { .. }, .. }) => false,
        None => side.standing == Standing::Present,
    };
    match presence {
        Presence::Forbidden(_) => false,
        Presence::Absent { .. } => was_there,
        Presence::Present(_) if side.standing == Standing::Absent && pending.is_none() => false,
        Presence::Present(observation) => {
            let mut last = side.base.clone();
            if let Some(Pending { shown: Shown::Present { cells, .. }, .. }) = &pending {
                crate::reconcile::overlay(&mut last, cells);
            }
            !was_there || differs(rules, member, &last, &cells(rules, member, observation))
        }
    }
}

fn asked() -> Error {
    Error::new(Code::WentBack, "many records of a side show an earlier state than they did (concord review list)")
}

/// What an observation shows, in the order of the sync's fields.
fn cells(rules: &SyncRules, member: MemberIndex, observation: &crate::change::Observation) -> Cells {
    let record = observation.image.record();
    (0..rules.fields.len()).map(|field| record?.get(rules.at(member, field)?.name.as_str()).cloned()).collect()
}

fn differs(rules: &SyncRules, member: MemberIndex, last: &Cells, shown: &Cells) -> bool {
    last.iter().zip(shown).enumerate().any(|(field, (last, shown))| match (rules.at(member, field), last, shown) {
        (Some(at), Some(last), Some(shown)) => !last.equivalent_as(shown, &at.ty),
        _ => false,
    })
}

/// The member shows `shown`, and owes every group that it does not show as agreed. A value that it had itself brought in
/// is from now on nobody's: it would keep its own form of it otherwise. What is never written there stays an edit of its.
fn give_back(rules: &SyncRules, link: &mut Link, member: MemberIndex, shown: &Cells) {
    let Some(side) = link.sides.get_mut(member) else { return };
    let lost: Vec<usize> = (0..rules.groups.len())
        .filter(|group| {
            rules.group_fields(*group).iter().any(|&field| {
                let (Some(at), Some(Some(last)), Some(Some(now))) =
                    (rules.at(member, field), side.base.get(field), shown.get(field))
                else {
                    return false;
                };
                at.inward && !last.equivalent_as(now, &at.ty)
            })
        })
        .collect();
    for (field, cell) in side.base.iter_mut().enumerate() {
        if rules.at(member, field).is_some_and(|at| at.inward) {
            *cell = shown.get(field).cloned().flatten();
        }
    }
    side.owes.extend(lost.iter().copied());
    side.owes.sort_unstable();
    side.owes.dedup();
    for group in lost {
        let agreed = link.groups.get_mut(group).and_then(|state| state.agreed.as_mut());
        if let Some(agreed) = agreed.filter(|agreed| agreed.from == member) {
            agreed.from = NO_LONGER_SHOWN;
            agreed.rule = Rule::Manual;
        }
    }
}
