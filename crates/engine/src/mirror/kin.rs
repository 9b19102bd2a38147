//! Mirrored syncs whose records name records of each other's. Each keeps a feed and a pace of its own; one whose records name those of
//! others carries out what the source committed at some place only once those have carried out all that the source committed up to
//! there, so that no record can be seen before the one that it names. They stay behind along foreign keys that lead in no circle, so
//! that none waits for itself.
//!
//! It goes one way: the others do not wait in turn. A record that the source has deleted may so be gone for a moment before those that
//! named it have changed or gone.

use super::bulk::{MirrorSession, Standing};
use super::carry::{SOURCE, TARGET};
use super::run::{Mirror, Work};
use super::view::{Shown, Stage};
use crate::change::{Position, Version};
use crate::connector::Presence;
use crate::error::{Code, Error, Result};
use crate::record::{Key, SyncName};
use crate::rules::Kin;
use crate::schema::Selection;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout};

/// The longest wait while something is held open at one of the systems: a view, or a transaction.
const HELD_WAIT_MAX: Duration = Duration::from_secs(30);
/// How often is looked how those do that are waited for, besides when they say that they have got further.
const LOOK_INTERVAL: Duration = Duration::from_millis(100);
/// After so long the source is given something to tell, should it have kept to itself that there is nothing.
const NUDGE_AFTER: Duration = Duration::from_millis(500);
/// What is refused for so long waits for a person.
const REFUSED_AFTER: Duration = Duration::from_secs(5);
/// A shorter wait is not shown.
const SHOWN_AFTER: Duration = Duration::from_secs(1);

/// How far one has got.
#[derive(Clone)]
struct Mark {
    /// All that the source committed up to here is carried out.
    position: Position,
    /// By this.
    standing: Standing,
    /// Whether records are not there, for they were refused and wait for a person.
    refused: bool,
}

/// One that is waited for.
#[derive(Clone)]
pub(super) struct Ahead {
    told: watch::Receiver<Option<Mark>>,
    shown: Shown,
    is_over: Arc<AtomicBool>,
}

/// What a sync has to do with others.
pub(super) struct Relatives {
    told: watch::Sender<Option<Mark>>,
    /// Whether it runs no more.
    is_over: Arc<AtomicBool>,
    /// Those that it stays behind; `None`: one that does not run here.
    behind: Vec<(SyncName, Option<Ahead>)>,
    /// Those that stay behind it: whether they run no more.
    ahead_of: Vec<Arc<AtomicBool>>,
    /// What it writes with now.
    session: Mutex<Option<Arc<dyn MirrorSession>>>,
    /// Whether the source was found to keep no longer what it kept.
    lapsed: AtomicBool,
    /// Whether what is waited for does not come by itself.
    in_vain: AtomicBool,
}

impl Default for Relatives {
    fn default() -> Relatives {
        Relatives {
            told: watch::Sender::new(None),
            is_over: Arc::default(),
            behind: Vec::new(),
            ahead_of: Vec::new(),
            session: Mutex::default(),
            lapsed: AtomicBool::new(false),
            in_vain: AtomicBool::new(false),
        }
    }
}

impl Relatives {
    /// As one that others may wait for.
    pub fn ahead(&self, shown: &Shown) -> Ahead {
        Ahead { told: self.told.subscribe(), shown: shown.clone(), is_over: Arc::clone(&self.is_over) }
    }

    /// Finds those that it is bound to among those that run here.
    pub fn relate(&mut self, kin: &Kin, all: &BTreeMap<SyncName, Ahead>) {
        self.behind = kin.behind.iter().map(|name| (name.clone(), all.get(name).cloned())).collect();
        let found = kin.ahead_of.iter().filter_map(|name| all.get(name));
        self.ahead_of = found.map(|other| Arc::clone(&other.is_over)).collect();
    }

    /// Runs no more.
    pub fn end(&self) {
        self.is_over.store(true, Ordering::SeqCst);
    }

    /// Whether others that run stay behind it.
    pub fn is_waited_for(&self) -> bool {
        self.ahead_of.iter().any(|over| !over.load(Ordering::SeqCst))
    }

    /// Whether it waited for what does not come by itself.
    pub fn waited_in_vain(&self) -> bool {
        self.in_vain.load(Ordering::SeqCst)
    }

    /// A life has ended, or begins: what was told may not be there any more.
    pub fn forget(&self) {
        self.told.send_replace(None);
    }

    fn session(&self) -> Option<Arc<dyn MirrorSession>> {
        self.session.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Mirror {
    /// Takes a session that has just been taken over: where there are foreign keys, they are left to the source, which has to keep the
    /// same ones still.
    pub(super) async fn join(&self, session: &Arc<dyn MirrorSession>) -> Result<()> {
        *self.relatives.session.lock().unwrap_or_else(PoisonError::into_inner) = Some(Arc::clone(session));
        if self.rules.kin.is_alone() {
            return Ok(());
        }
        session.leave_foreign_keys(&self.rules.kin.at_target).await.map_err(self.of(TARGET))?;
        let is_kept = self.is_kept_by_source().await?;
        self.relatives.lapsed.store(!is_kept, Ordering::SeqCst);
        self.require_kept()
    }

    /// Looks whether the source still keeps what is left to it.
    pub(super) async fn look_at_foreign_keys(&self) {
        if self.rules.kin.at_source.is_empty() {
            return;
        }
        match self.is_kept_by_source().await {
            Ok(is_kept) => self.relatives.lapsed.store(!is_kept, Ordering::SeqCst),
            Err(error) => {
                tracing::debug!(sync = self.rules.name.as_str(), error = error.chain(), "foreign keys are not looked at")
            }
        }
    }

    async fn is_kept_by_source(&self) -> Result<bool> {
        let wanted = &self.rules.kin.at_source;
        let Some(source) = self.source.bulk_source().filter(|_| !wanted.is_empty()) else { return Ok(wanted.is_empty()) };
        let now = source.keeps(&self.member(SOURCE)?.object).await.map_err(self.of(SOURCE))?;
        Ok(wanted.iter().all(|key| now.contains(key)))
    }

    fn require_kept(&self) -> Result<()> {
        if !self.relatives.lapsed.load(Ordering::SeqCst) {
            return Ok(());
        }
        let message = format!(
            "{} does not keep the foreign keys any more that the target has: make them again, or start Concord anew, which looks how the \
             sync can run without them",
            self.source_object()
        );
        let system = self.member(SOURCE).map(|source| source.system.to_string()).unwrap_or_default();
        Err(Error::new(Code::SchemaDrift, message).at(system))
    }

    /// Whether records of the target's object name others of it.
    pub(super) fn names_its_own(&self) -> bool {
        self.rules.members.get(TARGET).is_some_and(|target| self.rules.kin.names_its_own(&target.object))
    }

    /// Tells those behind how far this one has got.
    pub(super) fn tell(&self, work: &Work) {
        if self.relatives.ahead_of.is_empty() {
            return;
        }
        let (position, standing) = (work.progress.position.clone(), work.session.standing());
        self.relatives.told.send_replace(Some(Mark { position, standing, refused: self.desk.has_refused() }));
    }

    /// Waits until what a change up to this version may name is there.
    pub(super) async fn may_be_seen(&self, last: Option<&Version>) -> Result<()> {
        self.require_kept()?;
        let (false, Some(last)) = (self.relatives.behind.is_empty(), last) else { return Ok(()) };
        let place = self.source.place_behind(last);
        let place = place.ok_or_else(|| Error::new(Code::Internal, "a change whose place in its feed is not known"))?;
        self.stay_behind(Some(&place), None).await.map(drop)
    }

    /// Waits until what the source holds now may be seen: for what was read there, and not told by the feed.
    pub(super) async fn reads_may_be_seen(&self) -> Result<()> {
        let (false, Some(feed)) = (self.relatives.behind.is_empty(), self.source.own_feed()) else { return Ok(()) };
        let now = self.source.fence(&feed).await.map_err(self.of(SOURCE))?;
        let standings = self.stay_behind(Some(&now), Some(HELD_WAIT_MAX)).await?;
        // A transaction may have begun before those had committed.
        match self.relatives.session() {
            Some(session) => session.require(&standings).await.map_err(self.of(TARGET)),
            None => Ok(()),
        }
    }

    /// The same before anything is held open there, however long it takes.
    pub(super) async fn may_be_read(&self) -> Result<()> {
        let (false, Some(feed)) = (self.relatives.behind.is_empty(), self.source.own_feed()) else { return Ok(()) };
        let now = self.source.fence(&feed).await.map_err(self.of(SOURCE))?;
        self.stay_behind(Some(&now), None).await.map(drop)
    }

    /// Waits until those are loaded that are named.
    pub(super) async fn may_be_loaded(&self) -> Result<()> {
        self.stay_behind(None, None).await.map(drop)
    }

    /// Waits until what a view holds may be seen.
    pub(super) async fn view_may_be_seen(&self, at: &Position) -> Result<()> {
        self.stay_behind(Some(at), Some(HELD_WAIT_MAX)).await.map(drop)
    }

    /// Waits until all that this one stays behind have got to a place, or anywhere; what is written from then on stands behind them.
    async fn stay_behind(&self, place: Option<&Position>, longest: Option<Duration>) -> Result<Vec<Standing>> {
        let mut standings = Vec::with_capacity(self.relatives.behind.len());
        for one in &self.relatives.behind {
            standings.push(self.wait_for(one, place, longest).await?);
        }
        if let Some(session) = self.relatives.session() {
            session.stand_behind(standings.clone());
        }
        Ok(standings)
    }

    async fn wait_for(
        &self,
        (name, ahead): &(SyncName, Option<Ahead>),
        place: Option<&Position>,
        longest: Option<Duration>,
    ) -> Result<Standing> {
        let begun = Instant::now();
        let mut nudge = begun + NUDGE_AFTER;
        let mut told = ahead.as_ref().map(|ahead| ahead.told.clone());
        let mut refused_since: Option<Instant> = None;
        loop {
            self.require_kept()?;
            let mark = told.as_mut().and_then(|told| told.borrow_and_update().clone());
            let is_there = |mark: &Mark| place.is_none_or(|place| self.source.reached(&mark.position, place));
            let mark = mark.filter(is_there);
            let refused = mark.as_ref().is_some_and(|mark| mark.refused);
            if let Some(mark) = mark.filter(|mark| !mark.refused) {
                self.shown.lock().waits_for = None;
                return Ok(mark.standing);
            }
            let why = match ahead {
                None => "does not run".to_owned(),
                Some(_) if refused => "has records that wait for a person".to_owned(),
                Some(ahead) => ahead.describe(),
            };
            // Some of what is refused finds its place in the next quiet moment.
            refused_since = refused.then(|| refused_since.unwrap_or_else(Instant::now));
            let stays_refused = refused_since.is_some_and(|since| since.elapsed() >= REFUSED_AFTER);
            let is_over = ahead.as_ref().is_none_or(|ahead| ahead.is_over.load(Ordering::SeqCst));
            let is_in_vain = self.options.once && (stays_refused || is_over);
            self.relatives.in_vain.store(is_in_vain, Ordering::SeqCst);
            if is_in_vain || longest.is_some_and(|longest| begun.elapsed() >= longest) {
                return Err(Error::new(Code::ReferenceWaits, format!("its records name records of `{name}`, which {why}")));
            }
            if begun.elapsed() >= SHOWN_AFTER {
                self.shown.lock().waits_for = Some(format!("`{name}`, which {why}"));
            }
            if place.is_some() && Instant::now() >= nudge && ahead.as_ref().is_some_and(Ahead::is_live) {
                self.nudge().await;
                nudge = Instant::now() + NUDGE_AFTER;
            }
            match &mut told {
                // Where it is gone, that is seen at the next look.
                Some(told) => {
                    if let Ok(Err(_)) = timeout(LOOK_INTERVAL, told.changed()).await {
                        sleep(LOOK_INTERVAL).await;
                    }
                }
                None => sleep(LOOK_INTERVAL).await,
            }
        }
    }

    /// Gives every feed of the source something to pass.
    async fn nudge(&self) {
        let Some(feed) = self.source.own_feed() else { return };
        if let Err(error) = self.source.fence(&feed).await {
            tracing::debug!(sync = self.rules.name.as_str(), error = error.chain(), "the source is not given anything to tell");
        }
    }

    /// Whether a record, by its key at the source, is one that others may name and that the target does not have.
    pub(super) async fn is_missed(&self, key: &Key) -> Result<bool> {
        if self.rules.kin.at_target.of.is_empty() && !self.names_its_own() {
            return Ok(false);
        }
        let target = self.member(TARGET)?;
        let selection = Selection { object: target.object.clone(), fields: target.schema.key.clone() };
        let key = self.carrier.key(key)?;
        let found = self.target.read(&selection, std::slice::from_ref(&key)).await.map_err(self.of(TARGET))?;
        Ok(!matches!(found.first(), Some(Presence::Present(_))))
    }
}

impl Ahead {
    fn is_live(&self) -> bool {
        matches!(self.shown.lock().stage, Stage::Live)
    }

    /// What it does instead of getting further.
    fn describe(&self) -> String {
        match self.is_live() {
            true => "has not come so far yet".to_owned(),
            false => format!("is {}", self.shown.lock().describe_stage()),
        }
    }
}
