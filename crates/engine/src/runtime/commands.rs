//! What a person asks of the running engine, and what follows. Whatever is decided is planned from the current state.

use super::command::{Command, Request, Resolution};
use super::core::{Core, Effect};
use super::desk::address;
use crate::error::{Code, Error, Result};
use crate::link::{Link, MemberIndex, ReviewId, Shown, Standing, SyncId};
use crate::reconcile::{Choice, Ruling};
use crate::record::Key;
use crate::review::{Review, Subject};

impl Core {
    /// Carries a request out and answers when its effects are durable. What is asked wrongly is answered so; only the
    /// store's failure is the engine's.
    pub(crate) async fn handle_command(&mut self, command: Command) -> Result<()> {
        let answer = match command.request {
            Request::Pause(sync) => self.pause(sync, true),
            Request::Resume(sync) => self.resume(sync).await,
            Request::Resolve(review, resolution) => self.resolve(review, &resolution).await,
            Request::Reread(sync) => self.begin_reread(sync),
        };
        if let Err(error) = &answer
            && error.code == Code::StoreFailed
        {
            return answer.map(|_| ());
        }
        self.effects.push(Effect::Answer(command.answer, answer));
        self.commit();
        self.start_jobs().await
    }

    fn known_sync(&self, id: SyncId) -> Result<usize> {
        self.sync_of(id).ok_or_else(|| Error::new(Code::UnknownSync, "no such sync runs here"))
    }

    fn pause(&mut self, id: SyncId, paused: bool) -> Result<String> {
        let sync = self.known_sync(id)?;
        let setting = paused.then(|| b"1".to_vec());
        self.transaction.settings.push((format!("paused/{}", id.0), setting));
        let Some(state) = self.syncs.get_mut(sync) else { return Ok(String::new()) };
        state.paused = paused;
        Ok(format!("{} is {}", state.rules.name, if paused { "paused: its changes go on being recorded" } else { "going on" }))
    }

    async fn resume(&mut self, id: SyncId) -> Result<String> {
        let sync = self.known_sync(id)?;
        if let Some(state) = self.syncs.get_mut(sync) {
            if state.stopped.as_ref().is_some_and(|error| error.code == Code::FeedGap) {
                return Err(Error::new(Code::FeedGap, "changes may have been missed: the records must be read again first"));
            }
            state.stopped = None;
        }
        self.make_up_for_drift(sync, self.syncs.get(sync).is_some_and(|state| state.drifted));
        let answer = self.pause(id, false)?;
        for member in 0..self.syncs.get(sync).map_or(0, |state| state.members.len()) {
            if let Some(state) = self.member(sync, member) {
                state.maybe_owing = true;
                state.retry_at = None;
            }
        }
        self.restore_pending(sync).await?;
        Ok(answer)
    }

    /// Reads everything again. A gap is thereby accepted: the feed begins anew, and the re-read finds what was missed.
    fn begin_reread(&mut self, id: SyncId) -> Result<String> {
        let sync = self.known_sync(id)?;
        let gap = self.syncs.get(sync).and_then(|state| state.stopped.as_ref()).is_some_and(|error| error.code == Code::FeedGap);
        self.reread(sync);
        if gap {
            self.accept_gap(sync);
        }
        let name = self.rules(sync).map(|rules| rules.name.to_string()).unwrap_or_default();
        Ok(format!("{name} reads both sides again"))
    }

    fn accept_gap(&mut self, sync: usize) {
        let now = self.now();
        let Some(rules) = self.rules(sync) else { return };
        for member in &rules.members {
            for ((system, feed), state) in &mut self.feeds {
                if *system == member.system && state.state.contains(&Code::FeedGap.to_string()) {
                    state.position = crate::change::Position::default();
                    // Nothing is read before the feed carries changes again.
                    state.state = "connecting".to_owned();
                    state.retry_at = Some(now);
                    self.transaction.positions.push((system.clone(), feed.clone(), state.position.clone()));
                }
            }
        }
        for state in &mut self.syncs {
            if state.stopped.as_ref().is_some_and(|error| error.code == Code::FeedGap) {
                state.stopped = None;
            }
        }
        // Every sync that shares the feed has missed the same changes.
        for other in 0..self.syncs.len() {
            let shares = self.syncs.get(other).is_some_and(|state| {
                state.rules.members.iter().any(|member| rules.members.iter().any(|mine| mine.system == member.system))
            });
            if other != sync && shares {
                self.reread(other);
            }
        }
    }

    async fn resolve(&mut self, id: ReviewId, resolution: &Resolution) -> Result<String> {
        let review = self
            .store
            .review(id)
            .await?
            .ok_or_else(|| Error::new(Code::UnknownReview, format!("there is no review item {}", id.0)))?;
        if let Some((at, how)) = &review.closed {
            return Err(Error::new(Code::UnknownReview, format!("review item {} was closed at {at}: {how}", id.0)));
        }
        let sync = self.known_sync(review.sync)?;
        match review.subject.clone() {
            Subject::MassChange { member, .. } => self.resolve_mass_change(sync, member, &review, resolution).await?,
            Subject::Ambiguous { member, key, other, candidates } => {
                self.resolve_stranger(sync, member, &key, &review, resolution, Some((other, candidates))).await?;
            }
            Subject::Duplicate { member, key, .. } => {
                self.resolve_stranger(sync, member, &key, &review, resolution, None).await?
            }
            _ => self.resolve_link(sync, &review, resolution).await?,
        }
        self.close_review(sync, id, how(resolution));
        Ok(format!("review item {} is {}", id.0, how(resolution)))
    }

    async fn resolve_link(&mut self, sync: usize, review: &Review, resolution: &Resolution) -> Result<()> {
        let Some(id) = review.link else { return Ok(()) };
        let mut desk = self.desk();
        desk.load_links(&*self.store, vec![id]).await?;
        let Some(link) = desk.link(id).cloned() else { return Ok(()) };
        let rulings = rulings(&link, review, resolution)?;
        let link = self.unblock(link, review.id, resolution);
        desk.save(link.clone());
        if matches!(resolution, Resolution::Retry) {
            for (member, side) in link.sides.iter().enumerate() {
                if side.standing == Standing::Present && !link.in_flight() {
                    self.want_read(sync, member, id);
                }
            }
        }
        for ruling in rulings {
            let reading = self.reading.remove(&id);
            self.decide_link(&mut desk, id, Some(&ruling)).await?;
            if reading {
                self.reading.insert(id);
            }
        }
        desk.touch(id);
        self.decide_touched(&mut desk, false).await?;
        desk.flush(&mut self.transaction);
        Ok(())
    }

    fn unblock(&mut self, mut link: Link, review: ReviewId, resolution: &Resolution) -> Link {
        for side in &mut link.sides {
            if side.blocked != Some(review) {
                continue;
            }
            side.blocked = None;
            side.attempts = 0;
            side.misses = 0;
            if matches!(resolution, Resolution::Ignore) {
                side.owes.clear();
                side.owes_life = false;
            }
        }
        link
    }

    async fn resolve_mass_change(
        &mut self,
        sync: usize,
        member: MemberIndex,
        review: &Review,
        resolution: &Resolution,
    ) -> Result<()> {
        let ruling = match resolution {
            Resolution::Retry => None,
            Resolution::Ignore => Some(Ruling::Life { keep: true }),
            _ => {
                return Err(Error::new(Code::BadResolution, "a mass change is let through with `retry` or undone with `ignore`"));
            }
        };
        self.release_guard(sync, member);
        self.parked.retain(|_, of| *of != review.id);
        let mut after = None;
        loop {
            let rows = self.store.scan_pending(review.sync, after.clone(), 500).await?;
            let Some((last, _)) = rows.last() else { return Ok(()) };
            after = Some(last.clone());
            let mut desk = self.desk();
            desk.load(&*self.store, rows.iter().map(|(address, _)| address.clone()).collect()).await?;
            for (address, pending) in rows {
                let Some(link) = desk.slot(&address).and_then(|slot| slot.link) else { continue };
                let gone = address.member == member && matches!(pending.shown, Shown::Gone { .. });
                self.decide_link(&mut desk, link, ruling.as_ref().filter(|_| gone)).await?;
            }
            desk.flush(&mut self.transaction);
            self.commit();
        }
    }

    async fn resolve_stranger(
        &mut self,
        sync: usize,
        member: MemberIndex,
        key: &Key,
        review: &Review,
        resolution: &Resolution,
        candidates: Option<(MemberIndex, Vec<Key>)>,
    ) -> Result<()> {
        let there = address(review.sync, member, key);
        match resolution {
            Resolution::Retry => {
                self.parked.remove(&there);
                self.want_stranger(sync, there.clone(), key.clone());
                self.unidentified(sync, there);
                Ok(())
            }
            Resolution::Ignore => {
                let mut desk = self.desk();
                desk.load(&*self.store, vec![there.clone()]).await?;
                desk.set_pending(&there, None);
                self.parked.remove(&there);
                desk.flush(&mut self.transaction);
                Ok(())
            }
            Resolution::Create => self.link_stranger(sync, member, key, None).await,
            Resolution::Bind(number) => {
                let chosen = candidates.and_then(|(other, keys)| Some((other, keys.get(*number)?.clone())));
                let chosen = chosen.ok_or_else(|| Error::new(Code::BadResolution, "there is no candidate of this number"))?;
                self.link_stranger(sync, member, key, Some(chosen)).await
            }
            Resolution::Take(_) | Resolution::Give(_) => {
                Err(Error::new(Code::BadResolution, "choose a candidate, or make the record one of its own"))
            }
        }
    }

    /// Makes a link for a stranger as a person said: of its own, or together with a candidate, which is read first.
    async fn link_stranger(
        &mut self,
        sync: usize,
        member: MemberIndex,
        key: &Key,
        with: Option<(MemberIndex, Key)>,
    ) -> Result<()> {
        let Some(rules) = self.rules(sync) else { return Ok(()) };
        let there = address(rules.id, member, key);
        let other = with.as_ref().map(|(other, key)| address(rules.id, *other, key));
        let mut desk = self.desk();
        desk.load(&*self.store, std::iter::once(there.clone()).chain(other.clone()).collect()).await?;
        if desk.slot(&there).is_none_or(|slot| slot.link.is_some() || slot.pending.is_none()) {
            return Err(Error::new(Code::BadResolution, "the record is linked by now, or gone"));
        }
        if other.as_ref().and_then(|other| desk.slot(other)).is_some_and(|slot| slot.link.is_some()) {
            return Err(Error::new(Code::BadResolution, "the candidate belongs to another record by now"));
        }
        let mut link = self.new_link(&rules);
        let id = link.id;
        if let Some(side) = link.sides.get_mut(member) {
            side.key = Some(key.clone());
        }
        desk.set_link(&there, Some(id), &mut self.transaction);
        if let (Some((member, key)), Some(other)) = (with, other) {
            if let Some(side) = link.sides.get_mut(member) {
                side.key = Some(key);
            }
            desk.set_link(&other, Some(id), &mut self.transaction);
            self.want_read(sync, member, id);
        }
        self.parked.remove(&there);
        desk.save(link);
        desk.touch(id);
        self.decide_touched(&mut desk, false).await?;
        desk.flush(&mut self.transaction);
        Ok(())
    }

    /// Review items that were open when the engine stopped hold what they held.
    pub(crate) async fn restore_reviews(&mut self, sync: usize) -> Result<()> {
        let Some(rules) = self.rules(sync) else { return Ok(()) };
        for review in self.store.reviews(Some(rules.id), true, 100_000).await? {
            let stranger = match &review.subject {
                Subject::Ambiguous { member, key, .. } | Subject::Duplicate { member, key, .. } => {
                    Some(address(rules.id, *member, key))
                }
                _ => None,
            };
            if let Some(stranger) = stranger {
                self.parked.insert(stranger, review.id);
            }
            if let Some(state) = self.syncs.get_mut(sync) {
                state.meters.review_opened(review.id);
            }
        }
        Ok(())
    }

    /// Whether no job that could change a record is under way.
    pub(crate) fn jobs_are_quiet(&self) -> bool {
        self.flights.is_empty()
            && self.syncs.iter().all(|state| state.unidentified.is_idle() && state.members.iter().all(|member| !member.reading))
    }
}

fn how(resolution: &Resolution) -> String {
    match resolution {
        Resolution::Take(_) | Resolution::Give(_) => "resolved",
        Resolution::Bind(_) => "bound",
        Resolution::Create => "a record of its own",
        Resolution::Retry => "retried",
        Resolution::Ignore => "ignored",
    }
    .to_owned()
}

/// What a resolution means for the link that a review item is about.
fn rulings(link: &Link, review: &Review, resolution: &Resolution) -> Result<Vec<Ruling>> {
    let held_groups = || {
        link.groups
            .iter()
            .enumerate()
            .filter(|(_, group)| group.held.as_ref().is_some_and(|held| held.review == review.id))
            .map(|(index, _)| index)
    };
    let wrong = |message: &str| Err(Error::new(Code::BadResolution, message));
    match (&review.subject, resolution) {
        (_, Resolution::Bind(_) | Resolution::Create) => wrong("this item is not about a match"),
        (Subject::Conflict { group, .. }, Resolution::Take(member)) => Ok(vec![Ruling::Group(*group, Choice::Take(*member))]),
        (Subject::Conflict { group, fields, .. }, Resolution::Give(values)) => {
            if values.len() != fields.len() {
                return wrong("give one value for each field of the conflict");
            }
            Ok(vec![Ruling::Group(*group, Choice::Give(values.clone()))])
        }
        (Subject::DeleteAgainstEdit { deleted_by, .. }, Resolution::Take(member)) => {
            Ok(vec![Ruling::Life { keep: member != deleted_by }])
        }
        (Subject::DeleteAgainstEdit { .. }, _) => {
            wrong("take the view of the member that deleted the record, or of one that edited it")
        }
        (Subject::Rejected { .. }, Resolution::Take(member)) => {
            Ok(held_groups().map(|group| Ruling::Group(group, Choice::Take(*member))).collect())
        }
        (Subject::Loop { group }, Resolution::Ignore) => Ok(vec![Ruling::Release, Ruling::Group(*group, Choice::Leave)]),
        (Subject::Loop { .. }, _) => Ok(vec![Ruling::Release]),
        (_, Resolution::Ignore) => Ok(held_groups().map(|group| Ruling::Group(group, Choice::Leave)).collect()),
        (_, Resolution::Retry) => Ok(Vec::new()),
        _ => wrong("retry it, or ignore it"),
    }
}
