//! The life of one mirror sync: begun, lost, begun again, paused, stopped, asked. Whatever happens, what counts is the
//! progress in the target; this file holds nothing that it could not read there again. Dropping the future is a kill.

use super::batch::Step;
use super::bulk::{Helper, MirrorSession, MirrorTarget, Taken};
use super::carry::{Carried, Carrier, SOURCE, TARGET};
use super::choose::{begun_setting, has_begun, name_of};
use super::kin::Relatives;
use super::lanes::Ahead;
use super::people::{Desk, Verdict};
use super::portions::Portions;
use super::progress::Progress;
use super::view::{Shown, Stage, may_pass};
use crate::capture::drift;
use crate::change::Version;
use crate::clock::{Clock, Moment};
use crate::connector::{Connector, Feed, Presence};
use crate::error::{Class, Code, Error, Result};
use crate::failpoint;
use crate::link::SyncId;
use crate::offer::Known;
use crate::record::{FeedName, Key};
use crate::review::Subject;
use crate::rules::{MemberRules, SyncRules};
use crate::runtime::command::{Command, Request, Resolution};
use crate::runtime::status::{FeedStatus, SyncStatus};
use crate::runtime::{Options, ReviewNumbers};
use crate::schema::Schema;
use crate::store::Store;
use async_trait::async_trait;
use std::cmp::Ordering;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

/// The name of the feed that a sync has for itself.
pub fn feed_of(sync: SyncId) -> String {
    format!("m{}", sync.0)
}

/// What one mirror sync works with.
pub(super) struct Mirror {
    pub rules: Arc<SyncRules>,
    pub carrier: Carrier,
    /// The source, with a feed of this sync's own.
    pub source: Arc<dyn Connector>,
    pub target: Arc<dyn Connector>,
    pub store: Arc<dyn Store>,
    pub clock: Arc<dyn Clock>,
    pub options: Options,
    pub desk: Desk,
    pub shown: Shown,
    /// How much is read again at once.
    pub portions: Portions,
    /// The sync's name in the target.
    pub name: String,
    /// What it has to do with other syncs.
    pub relatives: Relatives,
}

/// A sync that has been taken over, and how far it is.
pub(super) struct Work {
    pub session: Arc<dyn MirrorSession>,
    pub feed: Feed,
    pub progress: Progress,
    /// Lanes that are ahead of the progress.
    pub ahead: Vec<Ahead>,
    pub verdict: Option<Verdict>,
    /// The shape that the feed tells in, where it does not suit the rules and nothing was told in it yet.
    pub unfit: Option<Schema>,
}

/// Whether the sync goes on.
enum Next {
    GoOn,
    Wait,
    After(Duration),
}

impl Mirror {
    /// Puts one together. `source` is the system itself; what is mirrored has a feed of its own there.
    pub async fn new(
        rules: Arc<SyncRules>,
        (source, target): (Arc<dyn Connector>, Arc<dyn Connector>),
        store: Arc<dyn Store>,
        clock: Arc<dyn Clock>,
        options: Options,
        numbers: ReviewNumbers,
    ) -> Result<Mirror> {
        let carrier = Carrier::new(&rules).map_err(|why| Error::new(Code::Internal, why))?;
        let own = source.for_one_sync(&feed_of(rules.id));
        let source = own.ok_or_else(|| Error::new(Code::Unsupported, "the source has no feed for one sync"))?;
        let name = name_of(&*store, rules.id).await?;
        let desk = Desk::new(Arc::clone(&rules), Arc::clone(&store), Arc::clone(&clock), numbers);
        let shown = Shown::new(clock.now());
        // The source keeps its log for a sync that has begun, whether it is paused, stopped, or its target is away.
        if has_begun(&*store, rules.id).await? {
            shown.lock().feed = source.own_feed();
        }
        let (portions, relatives) = (Portions::default(), Relatives::default());
        Ok(Mirror { rules, carrier, source, target, store, clock, options, desk, shown, portions, name, relatives })
    }

    /// How it does.
    pub async fn status(&self) -> Result<(SyncStatus, Option<FeedStatus>)> {
        let review = self.store.counts(self.rules.id).await?.reviews;
        Ok(self.shown.status(&self.rules, review, self.clock.now()))
    }

    /// Whether it waits for a person, so that nothing more happens by itself.
    pub fn needs_a_person(&self) -> bool {
        matches!(self.shown.lock().stage, Stage::Unapproved | Stage::Paused | Stage::Stopped(_))
    }

    /// Runs until the token is cancelled, until the target is level (`once`), or until the store fails.
    pub async fn run(&self, approved: bool, shutdown: CancellationToken, mut requests: mpsc::Receiver<Command>) -> Result<()> {
        let is_begun = self.store.setting(&format!("begun/{}", self.rules.id.0)).await?.is_some();
        let is_paused = self.store.setting(&self.paused_setting()).await?.is_some();
        self.desk.restore().await?;
        let mut next = Next::GoOn;
        if !approved && !is_begun {
            next = Next::Wait;
        } else if is_paused {
            self.shown.stage(Stage::Paused);
            next = Next::Wait;
        }
        let mut losses: u32 = 0;
        // Also while the target is away, or nothing is written: that is when the source's log grows.
        let watching = self.watch();
        tokio::pin!(watching);
        loop {
            if self.options.once && self.needs_a_person() && matches!(next, Next::Wait) {
                return Ok(());
            }
            let wait = match next {
                Next::GoOn => Some(Duration::ZERO),
                Next::Wait => None,
                Next::After(delay) => Some(delay),
            };
            let begun = tokio::time::Instant::now();
            let living = async {
                match wait {
                    Some(delay) => tokio::time::sleep(delay).await,
                    None => std::future::pending().await,
                }
                self.live().await
            };
            let ended = tokio::select! {
                biased;
                () = shutdown.cancelled() => return Ok(()),
                command = requests.recv() => match command {
                    Some(command) => {
                        next = self.handle(command, next).await?;
                        continue;
                    }
                    None => return Ok(()),
                },
                never = &mut watching => never,
                ended = living => ended,
            };
            self.relatives.forget();
            if begun.elapsed() > self.options.reconnect_max {
                losses = 0;
            }
            next = match ended {
                Ok(()) => return Ok(()),
                // Somebody waits for the end.
                Err(error) if self.relatives.waited_in_vain() => {
                    self.shown.stage(Stage::Stopped(error));
                    return Ok(());
                }
                Err(error) => self.ended(error, &mut losses)?,
            };
        }
    }

    /// What follows an error.
    fn ended(&self, error: Error, losses: &mut u32) -> Result<Next> {
        if matches!(error.code, Code::StoreFailed | Code::StoreFull) {
            return Err(error);
        }
        let sync = self.rules.name.as_str();
        if may_pass(&error) || error.class() == Class::Rejected {
            *losses = losses.saturating_add(1);
            let place = self.member_of(&error);
            let since = match &self.shown.lock().stage {
                Stage::Down(since, ..) => *since,
                _ => self.clock.now(),
            };
            tracing::debug!(sync, error = error.chain(), "the sync is begun again");
            if *losses > 1 {
                if !matches!(self.shown.lock().stage, Stage::Down(..)) {
                    let remedy = error.code.remedy();
                    tracing::warn!(
                        sync,
                        error = error.chain(),
                        remedy,
                        "the sync cannot go on now, and is begun again until it can"
                    );
                }
                self.shown.stage(Stage::Down(since, place, error));
            }
            let factor = 2_u32.saturating_pow(losses.saturating_sub(1).min(16));
            return Ok(Next::After(self.options.reconnect_min.saturating_mul(factor).min(self.options.reconnect_max)));
        }
        tracing::warn!(sync, error = error.chain(), "the sync stops");
        self.shown.stage(Stage::Stopped(error));
        Ok(Next::Wait)
    }

    fn member_of(&self, error: &Error) -> usize {
        let target = self.rules.members.get(TARGET).map(|member| member.system.as_str());
        if error.at.as_deref() == target { TARGET } else { SOURCE }
    }

    fn paused_setting(&self) -> String {
        format!("paused/{}", self.rules.id.0)
    }

    pub(super) fn member(&self, place: usize) -> Result<&MemberRules> {
        self.rules.members.get(place).ok_or_else(|| Error::new(Code::Internal, "a sync without two members"))
    }

    /// An error of one of the two systems, with its name.
    pub(super) fn of(&self, place: usize) -> impl Fn(Error) -> Error + Copy + '_ {
        move |error| match self.rules.members.get(place) {
            Some(member) if error.at.is_none() => error.at(member.system.to_string()),
            _ => error,
        }
    }

    fn mirror_target(&self) -> Result<&dyn MirrorTarget> {
        self.target.mirror_target().ok_or_else(|| Error::new(Code::Unsupported, "the target keeps no progress beside its data"))
    }

    /// One life: from taking the sync over until something breaks. Ends well only when `once` was asked for.
    async fn live(&self) -> Result<()> {
        let mut work = self.begin().await?;
        match self.carrier.is_keyless() {
            true => self.load_whole(&mut work).await?,
            false => self.load(&mut work).await?,
        }
        self.look_for_strangers(&mut work).await?;
        self.stream(&mut work, None).await
    }

    /// Takes the sync over, and verifies that its feed can be gone on with.
    pub(super) async fn begin(&self) -> Result<Work> {
        if matches!(self.shown.lock().stage, Stage::Unapproved | Stage::Paused | Stage::Stopped(_)) {
            self.shown.stage(Stage::Preparing);
        }
        self.relatives.forget();
        let (source, target) = (self.member(SOURCE)?, self.member(TARGET)?);
        let taken = self.mirror_target()?.take_over(&self.name, &target.object).await.map_err(self.of(TARGET))?;
        let Taken { session, progress, lanes } = taken;
        self.join(&session).await?;
        let anew = self.desk.is_to_begin_anew().await?;
        let was_begun = self.store.setting(&begun_setting(self.rules.id)).await?.is_some();
        // What is kept for a sync that has not begun is of an earlier life of it, which was let go.
        let leftover = progress.is_some() && !was_begun;
        let kept = progress.filter(|_| was_begun && !anew).map(|bytes| Progress::decode(&bytes)).transpose()?;
        if kept.is_none() && was_begun && !anew {
            let message =
                "the target knows nothing of this sync any more: it is another database, or was restored from before it";
            return Err(Error::new(Code::FeedGap, message).at(target.system.to_string()));
        }
        // What was never begun has put nothing there.
        let replaces = anew && was_begun;
        if self.carrier.is_keyless() && kept.is_none() && !replaces {
            // Before anything is made in the source.
            self.require_empty(&*session).await?;
        }
        let known = self.known(kept.as_ref(), anew);
        let schema = self.source.schema(&source.object).await.map_err(self.of(SOURCE))?;
        if let Some(what) = drift(&self.rules, SOURCE, &schema) {
            return Err(Error::new(Code::SchemaDrift, what).at(source.system.to_string()));
        }
        let fields = Known::load(&*self.store, &self.rules).await?;
        self.shown.lock().offers.begin(fields);
        self.offer(&schema);
        let selections = std::slice::from_ref(&source.selection);
        let feeds = self.source.prepare(selections, &known).await.map_err(self.of(SOURCE))?;
        let feed = feeds.into_iter().next().ok_or_else(|| Error::new(Code::Internal, "the source prepared no feed"))?;
        self.shown.lock().feed = Some(feed.name.clone());
        failpoint::pass("mirror_prepared");
        let is_kept = kept.is_some();
        let mut progress = match kept {
            Some(progress) => progress,
            None => self.begin_progress(&session, &feed, (anew || leftover, replaces)).await?,
        };
        if progress.mapping != self.carrier.print() {
            // What is there was carried in another way: all of it is carried again.
            progress.complete = false;
            progress.ranges.clear();
            progress.again = true;
        }
        // What everything is carried again over is not told by lanes.
        let lanes = lanes.into_iter().filter(|_| is_kept && !progress.again);
        let ahead = lanes.filter(|lane| self.is_behind(progress.applied.as_ref(), &lane.applied)).collect();
        {
            let mut view = self.shown.lock();
            view.loaded = progress.complete;
            view.records = progress.records;
        }
        let verdict = self.desk.verdict().await?;
        if verdict.as_ref().is_some_and(|verdict| !self.source.reached(&progress.position, &verdict.upto)) {
            // A person has looked at what was counted: those to come are counted by themselves.
            progress.deletes.clear();
        }
        Ok(Work { session, feed, progress, ahead, verdict, unfit: None })
    }

    /// Whether the progress has not passed what a lane has carried out.
    pub(super) fn is_behind(&self, progress: Option<&Version>, lane: &Version) -> bool {
        progress.is_none_or(|applied| self.source.compare(lane, applied) == Some(Ordering::Greater))
    }

    /// The feed as it is known. One that is begun anew on a person's word has an empty position.
    fn known(&self, kept: Option<&Progress>, anew: bool) -> Vec<Feed> {
        let objects = self.rules.members.get(SOURCE).map(|member| member.object.clone()).into_iter().collect();
        let name = self.source.own_feed().unwrap_or_else(|| FeedName::from(""));
        let feed = |position| vec![Feed { name, objects, position, complete_from: Vec::new() }];
        match kept {
            Some(progress) => feed(progress.position.clone()),
            None if anew => feed(crate::change::Position::default()),
            None => Vec::new(),
        }
    }

    async fn begin_progress(
        &self,
        session: &Arc<dyn MirrorSession>,
        feed: &Feed,
        (again, replaces): (bool, bool),
    ) -> Result<Progress> {
        let into_empty = session.is_empty().await.map_err(self.of(TARGET))?;
        let progress = Progress {
            position: feed.position.clone(),
            into_empty,
            mapping: self.carrier.print(),
            // What there is of records without a key is replaced, and no stranger is looked for by one.
            sweep: again && !into_empty && !self.carrier.is_keyless(),
            again: replaces && self.carrier.is_keyless(),
            ..Progress::default()
        };
        session.keep(&progress.encode(), true).await.map_err(self.of(TARGET))?;
        failpoint::pass("mirror_begun_in_target");
        let now = self.clock.now().micros().to_be_bytes().to_vec();
        let id = self.rules.id;
        self.desk.begin(vec![(begun_setting(id), Some(b"1".to_vec())), (format!("begun/{}", id.0), Some(now))]).await?;
        self.desk.begin_anew(false).await?;
        Ok(progress)
    }

    /// Looks now and then how the feed does. Never ends.
    async fn watch(&self) -> Result<()> {
        loop {
            tokio::time::sleep(self.options.health_interval).await;
            self.look_at_foreign_keys().await;
            let feed = self.shown.lock().feed.clone();
            let Some(feed) = feed else { continue };
            match self.source.health(&feed).await {
                Ok(health) => {
                    let mut view = self.shown.lock();
                    if let Some(warning) = health.warning.as_ref().filter(|_| view.health.warning.is_none()) {
                        tracing::warn!(sync = self.rules.name.as_str(), %feed, warning, "feed");
                    }
                    view.health = health;
                }
                Err(error) => tracing::debug!(%feed, error = error.chain(), "no health"),
            }
        }
    }

    /// Carries a request out. The life that was led is over; another begins where the progress is.
    async fn handle(&self, command: Command, next: Next) -> Result<Next> {
        let (answer, next) = match command.request {
            Request::Pause(_) => {
                self.desk.keep(vec![(self.paused_setting(), Some(b"1".to_vec()))]).await?;
                self.shown.stage(Stage::Paused);
                (Ok(format!("{} is paused: its changes wait in the source's log", self.rules.name)), Next::Wait)
            }
            Request::Resume(_) => self.resume(next).await?,
            Request::Reread(_) => {
                self.desk.begin_anew(true).await?;
                self.shown.lock().level = false;
                let goes_on = if matches!(self.shown.lock().stage, Stage::Paused) { Next::Wait } else { Next::GoOn };
                (Ok(format!("{} reads its source again", self.rules.name)), goes_on)
            }
            Request::Resolve(review, resolution) => match self.resolve(review, &resolution).await {
                Ok(said) => {
                    let stopped = matches!(&self.shown.lock().stage, Stage::Stopped(error) if error.code == Code::MassDelete);
                    (Ok(said), if stopped { Next::GoOn } else { next })
                }
                Err(error) if error.code == Code::StoreFailed => return Err(error),
                Err(error) => (Err(error), next),
            },
        };
        // Who asked may have gone.
        let _ = command.answer.send(answer);
        Ok(next)
    }

    async fn resume(&self, next: Next) -> Result<(Result<String>, Next)> {
        let stage = self.shown.lock().stage.clone();
        if let Stage::Stopped(error) = &stage {
            let refused = match error.code {
                code if code.is_gap() => Some("changes may have been missed: the records must be read again first"),
                Code::MassDelete => Some("many records are to be deleted: decide the review item first"),
                _ => None,
            };
            if let Some(why) = refused {
                return Ok((Err(Error::new(error.code, why)), Next::Wait));
            }
        }
        self.desk.keep(vec![(self.paused_setting(), None)]).await?;
        let goes_on = if matches!(stage, Stage::Unapproved) { next } else { Next::GoOn };
        Ok((Ok(format!("{} is going on", self.rules.name)), goes_on))
    }

    async fn resolve(&self, id: crate::link::ReviewId, resolution: &Resolution) -> Result<String> {
        let review = self.desk.review(id).await?;
        match (&review.subject, resolution) {
            (Subject::MassChange { member: TARGET, deletes }, Resolution::Retry) => self.remove_strangers(id, *deletes).await,
            (Subject::MassChange { member: TARGET, .. }, Resolution::Ignore) => {
                self.desk.close(id, "left as they are").await?;
                Ok(format!("review item {} is closed: the records stay", id.0))
            }
            (Subject::MassChange { .. }, Resolution::Retry | Resolution::Ignore) => {
                self.decide(id, *resolution == Resolution::Retry).await
            }
            (Subject::Refused { .. }, Resolution::Retry) if self.carrier.is_keyless() => Err(Error::new(
                Code::BadResolution,
                "nothing tells whether a record without a key is there already: put right what refuses it and have everything read \
                 again (`concord verify --repair`), or ignore it",
            )),
            (Subject::Refused { key, .. }, Resolution::Retry) => {
                self.carry_again(key).await?;
                Ok(format!("review item {}: {key} has been carried over", id.0))
            }
            (Subject::Refused { key, .. }, Resolution::Ignore) if self.is_missed(key).await? => Err(Error::new(
                Code::BadResolution,
                "the target does not have it, and records of other syncs may name it: put right what refuses it and retry, or correct it \
                 at the source",
            )),
            (Subject::Refused { key, .. }, Resolution::Ignore) => {
                self.desk.carried(std::iter::once(key), "left as it is until it next changes").await?;
                Ok(format!("review item {} is closed: the record stays as it is until it next changes", id.0))
            }
            _ => Err(Error::new(Code::BadResolution, "retry, or ignore")),
        }
    }

    /// Takes the sync over for what a person asked, without being seen to begin it.
    pub(super) async fn begin_to_ask(&self) -> Result<Work> {
        let stage = self.shown.lock().stage.clone();
        let begun = self.begin().await;
        self.shown.stage(stage);
        begun
    }

    /// Reads one record again and carries it over as it is now.
    async fn carry_again(&self, key: &Key) -> Result<()> {
        let work = self.begin_to_ask().await?;
        let steps = self.read_whole(std::slice::from_ref(key), true).await?;
        let anyway = Refusing(self);
        work.session.write(&steps, &work.progress.encode(), &anyway).await.map_err(self.of(TARGET))?;
        work.session.settle().await.map_err(self.of(TARGET))?;
        self.desk.carried(std::iter::once(key), "carried over").await?;
        // What it had, another may have waited for.
        self.place_if_that_can_be(&work).await
    }

    /// Carries those again that others stood in the way of, behind something that is done: what fails here fails nothing of it, and
    /// leaves them waiting as they were.
    pub(super) async fn place_if_that_can_be(&self, work: &Work) -> Result<()> {
        match self.place_those_in_the_way(work, None).await {
            Err(error) if matches!(error.code, Code::StoreFailed | Code::StoreFull) => Err(error),
            Err(error) => {
                tracing::warn!(
                    sync = self.rules.name.as_str(),
                    error = error.chain(),
                    "records that others stood in the way of wait on"
                );
                Ok(())
            }
            Ok(()) => Ok(()),
        }
    }

    /// Whole records by their keys at the source, as steps, all at once. `gone`: one that is not there any more is removed; else it
    /// is left out. One that is refused goes to the desk, or, where only it was asked for, is the error.
    pub(super) async fn read_whole(&self, keys: &[Key], gone: bool) -> Result<Vec<Step>> {
        let selection = &self.member(SOURCE)?.selection;
        let presences = self.source.read(selection, keys).await.map_err(self.of(SOURCE))?;
        self.reads_may_be_seen().await?;
        self.whole_steps(keys, presences, gone).await
    }

    /// The same of what was read of them.
    pub(super) async fn whole_steps(&self, keys: &[Key], presences: Vec<Presence>, gone: bool) -> Result<Vec<Step>> {
        let mut steps = Vec::with_capacity(presences.len());
        let mut refused = Vec::new();
        for (key, presence) in keys.iter().zip(presences) {
            match presence {
                Presence::Present(observation) => match self.carrier.carry(observation).0 {
                    Carried::Step(step) => steps.push(step),
                    Carried::Dormant { .. } => {}
                    Carried::Refused { error, .. } if gone => return Err(error),
                    Carried::Refused { key, error, .. } => refused.push((key, error)),
                    Carried::Unseen { .. } => return Err(Error::new(Code::Internal, "a read showed a part of a record")),
                },
                Presence::Absent { .. } if gone => steps.push(Step::Remove { key: self.carrier.key(key)? }),
                Presence::Absent { .. } => {}
                Presence::Forbidden(error) => return Err(error),
            }
        }
        if !refused.is_empty() {
            self.desk.refuse(refused).await?;
        }
        Ok(steps)
    }

    /// The keys at the source of steps.
    pub(super) fn source_keys<'a>(&self, steps: impl IntoIterator<Item = &'a Step>) -> Vec<Key> {
        steps.into_iter().filter_map(|step| self.carrier.at_source(step)).collect()
    }

    pub(super) fn now(&self) -> Moment {
        self.clock.now()
    }
}

#[async_trait]
impl Helper for Mirror {
    async fn whole(&self, keys: &[Key]) -> Result<(Vec<Step>, usize)> {
        let own: Vec<Key> = keys.iter().map_while(|key| self.carrier.source_key(key)).collect();
        match own.is_empty() {
            // No record of the source has such a key.
            true => Ok((Vec::new(), keys.len().min(1))),
            false => self.read_portion(&own).await,
        }
    }

    async fn refused(&self, refused: Vec<(Step, Error)>) -> Result<()> {
        for (step, error) in &refused {
            let key = self.carrier.at_source(step).as_ref().map(Key::to_string).unwrap_or_default();
            tracing::warn!(sync = self.rules.name.as_str(), key, error = error.chain(), "the target refuses a record");
            self.shown.lock().meters.failed(self.clock.now());
        }
        let keyed = refused.into_iter().filter_map(|(step, error)| Some((self.carrier.at_source(&step)?, error)));
        self.desk.refuse(keyed.collect()).await
    }
}

/// Where one record is carried again because a person asked: what refuses it is the answer.
struct Refusing<'a>(&'a Mirror);

#[async_trait]
impl Helper for Refusing<'_> {
    async fn whole(&self, keys: &[Key]) -> Result<(Vec<Step>, usize)> {
        self.0.whole(keys).await
    }

    async fn refused(&self, refused: Vec<(Step, Error)>) -> Result<()> {
        refused.into_iter().next().map_or(Ok(()), |(_, error)| Err(error))
    }
}
