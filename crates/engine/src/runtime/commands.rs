//! What a person asks of the running engine, and what follows. Whatever is decided is planned from the current state.

use super::bounds::PARKED_STRANGERS_MAX;
use super::command::{Command, Request, Resolution};
use super::core::{Core, Effect};
use super::desk::{Desk, address};
use super::referring::is_about_references;
use super::rulings::{how, rulings};
use crate::error::{Code, Error, Result};
use crate::identify::Join;
use crate::link::{LinkId, MemberIndex, ReviewId, SyncId};
use crate::reconcile::held_by;
use crate::record::Key;
use crate::review::{Review, Subject};
use crate::store::Address;

impl Core {
    /// Carries a request out and answers when its effects are durable. What is asked wrongly is answered so; only the
    /// store's failure is the engine's.
    pub(crate) async fn handle_command(&mut self, command: Command) -> Result<()> {
        let answer = match command.request {
            Request::Pause(sync) => self.pause(sync, true),
            Request::Resume(sync) => self.resume(sync).await,
            Request::Resolve(review, resolution) => self.resolve(review, &resolution).await,
            Request::Reread(sync) => self.begin_reread(sync).await,
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
        if let Some(state) = self.syncs.get(sync) {
            match state.stopped.as_ref().map(|error| error.code) {
                Some(code) if code.is_gap() => {
                    return Err(Error::new(code, "changes may have been missed: the records must be read again first"));
                }
                Some(Code::WentBack) => {
                    return Err(Error::new(Code::WentBack, "a side went back in time: decide the review item first"));
                }
                _ => {}
            }
        }
        self.go_on_behind_drift(sync).await?;
        self.stand_still_no_longer(sync);
        let answer = self.pause(id, false)?;
        for member in 0..self.syncs.get(sync).map_or(0, |state| state.members.len()) {
            if let Some(state) = self.member(sync, member) {
                state.maybe_owing = true;
                state.retry_at = None;
            }
        }
        self.catch_up_with_people(sync).await?;
        self.restore_pending(sync).await?;
        Ok(answer)
    }

    /// Reads everything again. A gap is thereby accepted, also one that a feed which is not open yet will be found to
    /// have: the feed begins anew, and the re-read finds what was missed.
    async fn begin_reread(&mut self, id: SyncId) -> Result<String> {
        let sync = self.known_sync(id)?;
        let Some(rules) = self.rules(sync) else { return Ok(String::new()) };
        let mut has_gap = false;
        for ((system, _), feed) in &mut self.feeds {
            if !feed.is_open() && rules.members.iter().any(|member| member.system == *system) {
                feed.gap_accepted = true;
                has_gap |= feed.has_gap();
            }
        }
        if has_gap {
            self.go_on_behind_gap(sync).await?
        } else {
            self.reread(sync)
        }
        Ok(format!("{} reads both sides again", rules.name))
    }

    /// Accepts the gaps of a sync, and lets whatever can go on do so.
    pub(crate) async fn go_on_behind_gap(&mut self, sync: usize) -> Result<()> {
        for other in self.accept_gap(sync).await? {
            // Its schemas drifted before: the gap was one more reason to stop, and not the only one.
            if let Err(error) = self.go_on_behind_drift(other).await {
                if error.code == Code::StoreFailed {
                    return Err(error);
                }
                if let Some(state) = self.syncs.get_mut(other) {
                    state.stopped = Some(error);
                }
                continue;
            }
            self.catch_up_with_people(other).await?;
            // What was recorded while it stood still, of which reading again may tell nothing: a record that is gone.
            if !crate::mutants::active("gap_leaves_pending") {
                self.restore_pending(other).await?;
            }
        }
        Ok(())
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
            Subject::WentBack { member, .. } => self.resolve_went_back(sync, member, resolution)?,
            Subject::MassChange { member, .. } => {
                self.resolve_mass_change(sync, member, resolution).await?;
                let active = self.syncs.get(sync).is_some_and(super::core::SyncState::active);
                let kept = format!("what you decided about review item {} is kept; it takes effect when the sync goes on", id.0);
                return Ok(if active { closed(id, resolution) } else { kept });
            }
            Subject::Ambiguous { member, key, other, candidates } => {
                self.resolve_stranger(sync, member, &key, &review, resolution, Some((other, candidates))).await?;
            }
            Subject::Duplicate { member, key, .. } => {
                self.resolve_stranger(sync, member, &key, &review, resolution, None).await?
            }
            Subject::Unreadable { member, key } if review.link.is_none() => {
                self.resolve_stranger(sync, member, &key, &review, resolution, None).await?;
            }
            _ => return self.resolve_link(sync, &review, resolution).await,
        }
        self.close_review(sync, id, how(resolution));
        Ok(closed(id, resolution))
    }

    /// What was decided about a link is noted, and followed at once where the link is free.
    async fn resolve_link(&mut self, sync: usize, review: &Review, resolution: &Resolution) -> Result<String> {
        let Some(id) = review.link else {
            self.close_review(sync, review.id, how(resolution));
            return Ok(closed(review.id, resolution));
        };
        let mut desk = self.desk();
        desk.load_links(&self.store, vec![id]).await?;
        let Some(link) = desk.link(id) else {
            self.close_review(sync, review.id, "the record is no longer known".to_owned());
            return Ok(format!("the record of review item {} is no longer known", review.id.0));
        };
        let Some(rules) = self.rules(sync) else { return Ok(String::new()) };
        let decided = rulings(&rules, link, review, resolution)?;
        if let Some(why) = self.amendment_refused(&desk, sync, id, &decided) {
            return Err(Error::new(Code::BadResolution, why));
        }
        self.note_ruling(id, review.id, resolution)?;
        desk.touch(id);
        self.decide_touched(&mut desk, false).await?;
        desk.flush(&mut self.transaction);
        let is_held = desk.link(id).is_some_and(|link| held_by(link).contains(&review.id));
        if matches!(resolution, Resolution::Take(_)) && is_held && is_about_references(&review.code) {
            let message = "nobody knows the record that it refers to: make that one, correct the reference, or ignore the item";
            return Err(Error::new(Code::BadResolution, message));
        }
        Ok(match self.is_noted(id, review.id) {
            false => closed(review.id, resolution),
            true => {
                format!("what you decided about review item {} is kept; it takes effect when its record is free", review.id.0)
            }
        })
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
                desk.load(&self.store, vec![there.clone()]).await?;
                let pending = desk.slot(&there).filter(|slot| slot.link.is_none()).and_then(|slot| slot.pending.clone());
                if let Some(pending) = pending {
                    // Told again, it is still ignored; a later change of it is asked about anew.
                    self.bury_stranger(&mut desk, sync, &there, pending.key, &pending.version);
                }
                self.parked.remove(&there);
                desk.flush(&mut self.transaction);
                self.will_not_come([there]);
                Ok(())
            }
            Resolution::Create => self.link_stranger(sync, member, key, None).await,
            Resolution::Bind(number) => {
                let chosen = candidates.and_then(|(other, keys)| Some((other, keys.get(*number)?.clone())));
                let chosen = chosen.ok_or_else(|| Error::new(Code::BadResolution, "there is no candidate of this number"))?;
                self.link_stranger(sync, member, key, Some(chosen)).await
            }
            Resolution::Take(_) | Resolution::Give(_) | Resolution::Repair(_) => {
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
        desk.load(&self.store, std::iter::once(there.clone()).chain(other.clone()).collect()).await?;
        if desk.slot(&there).is_none_or(|slot| slot.link.is_some() || slot.pending.is_none()) {
            return Err(Error::new(Code::BadResolution, "the record is linked by now, or gone"));
        }
        if let Some(id) = other.as_ref().and_then(|other| desk.slot(other)).and_then(|slot| slot.link) {
            if self.may_join(&desk, id, member) != Join::Yes {
                return Err(Error::new(Code::BadResolution, "the candidate belongs to another record by now"));
            }
            self.join(&mut desk, sync, id, member, key, &there);
            self.decide_touched(&mut desk, false).await?;
            desk.flush(&mut self.transaction);
            return Ok(());
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
            // What was asked about the candidate is answered by this.
            if let Some(review) = self.parked.remove(&other) {
                self.close_review(sync, review, "bound with another record".to_owned());
            }
            self.want_read(sync, member, id);
        }
        self.parked.remove(&there);
        desk.save(link);
        desk.touch(id);
        self.decide_touched(&mut desk, false).await?;
        desk.flush(&mut self.transaction);
        Ok(())
    }

    /// A stranger becomes the record that a link was to get at its member.
    fn join(&mut self, desk: &mut Desk, sync: usize, id: LinkId, member: MemberIndex, key: &Key, there: &Address) {
        let Some(mut link) = desk.link(id).cloned() else { return };
        if let Some(side) = link.sides.get_mut(member) {
            side.key = Some(key.clone());
            if let Some(review) = side.blocked.take() {
                self.close_review(sync, review, "the record was found".to_owned());
            }
        }
        desk.set_link(there, Some(id), &mut self.transaction);
        self.parked.remove(there);
        desk.save(link);
        desk.touch(id);
    }

    /// Review items that were open when the engine stopped hold what they held.
    pub(crate) async fn restore_reviews(&mut self, sync: usize) -> Result<()> {
        let Some(rules) = self.rules(sync) else { return Ok(()) };
        for review in self.store.reviews(Some(rules.id), true, PARKED_STRANGERS_MAX).await? {
            let stranger = match &review.subject {
                Subject::Ambiguous { member, key, .. } | Subject::Duplicate { member, key, .. } => {
                    Some(address(rules.id, *member, key))
                }
                Subject::Unreadable { member, key } if review.link.is_none() => Some(address(rules.id, *member, key)),
                _ => None,
            };
            if let Some(there) = &stranger
                && self.store.lookup(vec![there.clone()]).await?.first().is_none_or(|known| known.pending.is_none())
            {
                // Nothing of it waits in the store: it was let go of, for it is read again.
                if !matches!(review.subject, Subject::Unreadable { .. }) {
                    self.close_review(sync, review.id, "the record is read again".to_owned());
                }
                continue;
            }
            if let (Some(stranger), Subject::Duplicate { linked, .. }) = (&stranger, &review.subject) {
                self.is_double_of(sync, stranger.clone(), *linked);
            }
            if let Some(stranger) = stranger {
                self.parked.insert(stranger, review.id);
            }
        }
        Ok(())
    }

    /// Whether no job that could change a record is under way.
    pub(crate) fn jobs_are_quiet(&self) -> bool {
        self.flights.is_empty()
            && self.syncs.iter().all(|state| {
                state.unidentified.is_idle() && state.looks.is_idle() && state.members.iter().all(|member| !member.reading)
            })
    }
}

fn closed(review: ReviewId, resolution: &Resolution) -> String {
    format!("review item {} is {}", review.0, how(resolution))
}
