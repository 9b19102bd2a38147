//! Snapshots: chunks of an object in the order of its key, each at a version of its own, taken in like any other
//! observation. Resumable at the granularity of a chunk. A re-read also asks after every linked record, so that one that
//! went away unseen is noticed: absence from a scan alone is never a delete.

use crate::capture::FeedState;
use crate::clock::Moment;
use crate::connector::{Chunk, ChunkCursor, Since};
use crate::error::{Class, Code, Error, Result};
use crate::link::{LinkId, MemberIndex, Side, Standing};
use crate::rules::{InitialStrategy, SyncRules};
use crate::runtime::bounds::CHUNK_MAX;
use crate::runtime::core::{Core, Event};
use crate::runtime::desk::{Layouts, address};
use crate::runtime::status::LoadStatus;
use crate::schema::Selection;
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// How long a sweep waits before it looks again whether its answers are in.
const SWEEP_PAUSE: std::time::Duration = std::time::Duration::from_millis(20);
/// How long a first load waits where its calls are short and the system does not say how long.
const LOAD_PAUSE: std::time::Duration = std::time::Duration::from_secs(30);
/// Links asked after in one step of a sweep.
const SWEEP_BATCH: usize = 500;

/// How far the reading of one member has got.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Load {
    phase: Phase,
    /// Whether linked records are asked after once everything has been read.
    sweep: bool,
    #[serde(skip)]
    running: bool,
    /// When a sweep that waits for its answers looks again.
    #[serde(skip)]
    resume_at: Option<Moment>,
    /// Tells an answer that was asked for before the reading began anew.
    #[serde(skip)]
    epoch: u64,
    /// How often the size of a chunk is to be halved, after one that failed as a whole (invariant 7).
    #[serde(skip)]
    halvings: u32,
    /// Whether only the key of the next record is asked for: the record itself cannot be read, and is passed over.
    #[serde(skip)]
    pass_over: Option<Error>,
    /// What has been read and waits until a first load may write again, with the generation of the read.
    #[serde(skip)]
    waiting: Option<(u64, Chunk)>,
    /// Until when calls of a first load wait, for the member's system has few left, and what it says of that.
    #[serde(skip)]
    held: Option<(Moment, String)>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
enum Phase {
    #[default]
    Done,
    Reading {
        cursor: ChunkCursor,
        records: u64,
    },
    Sweeping {
        after: LinkId,
    },
}

impl Load {
    pub fn is_done(&self) -> bool {
        self.phase == Phase::Done
    }

    /// The clock was put back: a sweep that waits looks again.
    pub fn wait_no_longer_than(&mut self, now: Moment) {
        self.resume_at = self.resume_at.map(|at| at.min(now));
        self.held = None;
    }

    /// In numbers, while records are read. How many there are is not known here.
    pub fn progress(&self) -> Option<LoadStatus> {
        match &self.phase {
            Phase::Reading { records, .. } => {
                Some(LoadStatus { phase: "reading".to_owned(), records: *records, ..LoadStatus::default() })
            }
            Phase::Done | Phase::Sweeping { .. } => None,
        }
    }

    /// For the status.
    pub fn describe(&self, now: Moment) -> String {
        let phase = match &self.phase {
            Phase::Done => "done".to_owned(),
            Phase::Reading { records, .. } => format!("reading: {records} records"),
            Phase::Sweeping { .. } => "asking after linked records".to_owned(),
        };
        match &self.held {
            Some((until, why)) if *until > now => format!("{phase}; what a first load writes and reads waits: {why}"),
            _ => phase,
        }
    }

    /// Until when calls of a first load to the member wait.
    pub fn held_until(&self, now: Moment) -> Option<Moment> {
        self.held.as_ref().map(|(until, _)| *until).filter(|until| *until > now)
    }

    fn begin(sweep: bool) -> Load {
        Load {
            phase: Phase::Reading { cursor: ChunkCursor::default(), records: 0 },
            sweep,
            running: false,
            resume_at: None,
            epoch: 0,
            halvings: 0,
            pass_over: None,
            waiting: None,
            held: None,
        }
    }
}

impl Core {
    pub(crate) async fn restore_loads(&mut self, sync: usize) -> Result<()> {
        let Some(rules) = self.rules(sync) else { return Ok(()) };
        for member in 0..rules.members.len() {
            let stored = self.store.setting(&load_setting(rules.id.0, member)).await?;
            let load = match stored.and_then(|bytes| postcard::from_bytes(&bytes).ok()) {
                Some(load) => load,
                None if is_left_alone(&rules, member) => Load::default(),
                None => Load::begin(false),
            };
            if let Some(state) = self.member(sync, member) {
                state.load = load;
            }
        }
        let read_at = self.store.setting(&read_setting(rules.id.0)).await?;
        if let Some(state) = self.syncs.get_mut(sync) {
            state.read_at = read_at.and_then(|bytes| Some(Moment(i64::from_be_bytes(bytes.try_into().ok()?))));
        }
        Ok(())
    }

    /// Every list of canonical fields that records of the store may stand in.
    pub(crate) async fn restore_layouts(&mut self) -> Result<()> {
        let mut layouts = Layouts::new();
        for sync in &self.syncs {
            let known = crate::plan::layouts(&*self.store, sync.rules.id).await?;
            layouts.insert(sync.rules.id, (sync.rules.layout, known));
        }
        self.layouts = Arc::new(layouts);
        Ok(())
    }

    /// A mapping that has gained a field since everything was last read: nothing is known of it, so everything is read
    /// again, and what the members show for it is decided as in a first run. One that carries a field another way: what was
    /// decided goes through it.
    pub(crate) async fn read_new_fields(&mut self, sync: usize) -> Result<()> {
        let Some((rules, begun)) = self.syncs.get(sync).map(|state| (Arc::clone(&state.rules), state.begun)) else {
            return Ok(());
        };
        let name = format!("layout/{}", rules.id.0);
        let stored = self.store.setting(&name).await?;
        let present = rules.layout.to_be_bytes().to_vec();
        if stored.as_ref() == Some(&present) {
            return Ok(());
        }
        if let Some(stored) = stored.filter(|_| begun) {
            let (gains, remaps) = self.layout_changes(rules.id, &stored);
            if gains {
                self.reread(sync);
            }
            if remaps {
                self.begin_remapping(sync);
            }
        }
        self.transaction.settings.push((name, Some(present)));
        Ok(())
    }

    /// Whether the present layout knows fields that an earlier one does not, and whether it carries any another way.
    fn layout_changes(&self, sync: crate::link::SyncId, number: &[u8]) -> (bool, bool) {
        let Some((present, known)) = self.layouts.get(&sync) else { return (true, false) };
        let at = |number: u32| known.get(usize::try_from(number).ok()?);
        let stored = <[u8; 4]>::try_from(number).ok().map(u32::from_be_bytes);
        match (stored.and_then(at), at(*present)) {
            (Some(then), Some(now)) => (now.gains(then) || now.groups != then.groups, now.remaps(then)),
            // An engine that was given its rules by hand: it keeps one layout.
            _ => (true, false),
        }
    }

    /// A sync that an engine before this one left out (its other system could not be reached, say) has not seen what the
    /// feeds brought meanwhile, for the feeds are shared: it is read again.
    pub(crate) async fn read_what_was_not_recorded(&mut self) -> Result<()> {
        const RECORDED: &str = "recorded";
        let stored = self.store.setting(RECORDED).await?;
        let recorded: Option<Vec<u32>> = stored.and_then(|bytes| postcard::from_bytes(&bytes).ok());
        if let Some(recorded) = &recorded {
            let missed = |state: &crate::runtime::core::SyncState| state.begun && !recorded.contains(&state.rules.id.0);
            let missed: Vec<usize> =
                self.syncs.iter().enumerate().filter(|(_, state)| missed(state)).map(|(sync, _)| sync).collect();
            for sync in missed {
                self.missed_its_feeds(sync);
                self.reread(sync);
            }
        }
        let now: Vec<u32> = self.syncs.iter().filter(|state| state.approved).map(|state| state.rules.id.0).collect();
        if recorded.as_ref() != Some(&now) {
            self.transaction.settings.push((RECORDED.to_owned(), postcard::to_stdvec(&now).ok()));
        }
        Ok(())
    }

    /// Reads everything of a sync again.
    pub(crate) fn reread(&mut self, sync: usize) {
        let members = self.syncs.get(sync).map_or(0, |state| state.members.len());
        for member in 0..members {
            if let Some(state) = self.member(sync, member) {
                let epoch = state.load.epoch.saturating_add(1);
                let before = std::mem::replace(&mut state.load, Load { epoch, ..Load::begin(true) });
                // What it had read and not taken in is read again.
                before.waiting.into_iter().for_each(|(generation, _)| self.orphans.end(generation));
            }
            self.save_load(sync, member);
        }
    }

    fn save_load(&mut self, sync: usize, member: MemberIndex) {
        let Some(id) = self.rules(sync).map(|rules| rules.id.0) else { return };
        let Some(bytes) = self.member(sync, member).and_then(|state| postcard::to_stdvec(&state.load).ok()) else { return };
        self.transaction.settings.push((load_setting(id, member), Some(bytes)));
        let now = self.now();
        let Some(state) = self.syncs.get_mut(sync) else { return };
        let is_over = state.members.iter().all(|member| member.load.is_done());
        if is_over != state.read_at.is_some() {
            state.read_at = is_over.then_some(now);
            let over = state.read_at.map(|at| at.micros().to_be_bytes().to_vec());
            self.transaction.settings.push((read_setting(id), over));
        }
        if is_over {
            state.unidentified.loaded();
            // What everything was read for and did not bring is asked for by whoever waits for it.
            self.look_at_referrers(sync);
        }
    }

    /// When everything had been read, where that is known: what was seen before was read, and what is told of later is news. Where
    /// nothing is read at first, that is when the sync began.
    pub(crate) fn was_read_at(&self, sync: usize) -> Option<Moment> {
        let state = self.syncs.get(sync)?;
        let reads_nothing = (0..state.rules.members.len()).all(|member| is_left_alone(&state.rules, member));
        state.read_at.or(state.begun_at.filter(|_| reads_nothing))
    }

    pub(crate) fn start_chunks(&mut self) {
        for sync in 0..self.syncs.len() {
            let Some(state) = self.syncs.get(sync) else { continue };
            let busy = state.unidentified.len() >= self.options.max_unidentified;
            if !state.active() || !state.begun || busy || self.reads_after_others(sync) {
                continue;
            }
            // What is read would only wait for a member whose calls are short.
            let now = self.now();
            if state.members.iter().any(|member| member.load.held_until(now).is_some()) {
                continue;
            }
            // One member after the other: what the first brings is matched against the others before they are read.
            let next = state.members.iter().position(|member| !member.load.is_done());
            if let Some(member) = next {
                self.start_chunk(sync, member);
            }
        }
    }

    /// How many records are read at once: where larger batches are asked for, or are best for what is written of them, as many as
    /// fill one.
    fn chunk_size(&self, sync: usize, member: MemberIndex) -> usize {
        let Some(rules) = self.rules(sync) else { return self.options.chunk };
        let others = (0..rules.members.len()).filter(|other| *other != member);
        let load = others.filter_map(|other| self.load_batch(sync, other)).max().unwrap_or(0);
        self.options.chunk.max(rules.batch_size.max(load).min(CHUNK_MAX))
    }

    /// A call of a first load was refused, for the system has few left: such calls wait. What people do goes on.
    pub(crate) fn hold_loads(&mut self, sync: usize, member: MemberIndex, error: &Error) {
        let until = self.now().plus(error.retry_after.unwrap_or(LOAD_PAUSE));
        tracing::info!(sync, member, %until, error = error.chain(), "calls are short: what a first load writes and reads waits");
        if let Some(state) = self.member(sync, member) {
            state.load.held = Some((until, error.to_string()));
        }
    }

    fn start_chunk(&mut self, sync: usize, member: MemberIndex) {
        let now = self.now();
        if !self.loads_are_full(sync, member)
            && let Some(state) = self.member(sync, member)
            && let Some((generation, chunk)) = state.load.waiting.take()
        {
            let epoch = state.load.epoch;
            self.jobs.spawn(async move { Event::Chunked { sync, member, epoch, generation, result: Ok(chunk) } });
            return;
        }
        if !self.changes_are_complete(sync, member) {
            return;
        }
        let (Some(connector), Some(selection)) =
            (self.connector(sync, member), self.member_rules(sync, member).map(|rules| rules.selection.clone()))
        else {
            return;
        };
        let limit = self.chunk_size(sync, member);
        let timeout = self.options.read_timeout;
        let Some(state) = self.member(sync, member) else { return };
        let epoch = state.load.epoch;
        if state.load.resume_at.take_if(|at| *at <= now).is_none() && state.load.resume_at.is_some() {
            return;
        }
        if state.load.running || state.retry_at.is_some_and(|at| at > now) {
            return;
        }
        let Phase::Reading { cursor, .. } = state.load.phase.clone() else {
            state.load.running = true;
            // A sweep asks the store, not the system: its next step is an event of its own.
            self.jobs.spawn(async move {
                Event::Chunked { sync, member, epoch, generation: 0, result: Ok(Chunk { records: Vec::new(), next: None }) }
            });
            return;
        };
        state.load.running = true;
        let halvings = state.load.halvings.min(16);
        let pass_over = state.load.pass_over.is_some();
        let limit = if pass_over { 1 } else { (limit >> halvings).max(1) };
        let selection = match pass_over {
            true => Selection {
                fields: self.member_rules(sync, member).map(|it| it.schema.key.clone()).unwrap_or_default(),
                ..selection
            },
            false => selection,
        };
        let since = self.read_since(sync, member);
        let generation = self.orphans.begin();
        self.jobs.spawn(async move {
            let chunk = async {
                match &since {
                    Some(since) => connector.snapshot_since(&selection, &cursor, limit, since).await,
                    None => connector.snapshot(&selection, &cursor, limit).await,
                }
            };
            let result = match tokio::time::timeout(timeout, chunk).await {
                Ok(result) => result,
                Err(_) => Err(Error::new(Code::Unreachable, "a chunk was not read in time")),
            };
            Event::Chunked { sync, member, epoch, generation, result }
        });
    }

    /// From when on records of a member count, where not all of them do. What changed before a sync that begins with the
    /// present began is none of its business in a later reading either.
    fn read_since(&self, sync: usize, member: MemberIndex) -> Option<Since> {
        let state = self.syncs.get(sync)?;
        let field = state.rules.members.get(member)?.edit_time_field.clone()?;
        let at = match state.rules.initial.strategy {
            InitialStrategy::FullLoad | InitialStrategy::MatchOnly => return None,
            InitialStrategy::FromNow => state.begun_at?,
            InitialStrategy::Since(at) => at,
        };
        Some(Since { field, at })
    }

    /// Whether the feed carries every change of the object that a read now may miss.
    pub(crate) fn changes_are_complete(&self, sync: usize, member: MemberIndex) -> bool {
        let Some(rules) = self.member_rules(sync, member) else { return false };
        let mut of_system = self.feeds.iter().filter(|((system, _), _)| *system == rules.system);
        of_system.any(|(_, feed)| feed.is_open() && self.carries(sync, member, feed))
    }

    /// Whether a feed has begun and carries every change of a member's object from now on.
    pub(crate) fn carries(&self, sync: usize, member: MemberIndex, feed: &FeedState) -> bool {
        let (Some(rules), Some(connector)) = (self.member_rules(sync, member), self.connector(sync, member)) else {
            return false;
        };
        feed.objects.contains(&rules.object)
            && !feed.position.0.is_empty()
            && feed
                .complete_from
                .iter()
                .filter(|(object, _)| *object == rules.object)
                .all(|(_, from)| connector.reached(&feed.position, from))
    }

    pub(crate) async fn on_chunked(
        &mut self,
        sync: usize,
        member: MemberIndex,
        epoch: u64,
        generation: u64,
        result: Result<Chunk>,
    ) -> Result<()> {
        crate::failpoint::pass("chunk_before_durable");
        let Some(state) = self.member(sync, member).filter(|state| state.load.epoch == epoch) else {
            self.orphans.end(generation);
            return Ok(());
        };
        let sweeps = matches!(state.load.phase, Phase::Sweeping { .. });
        let result = match result {
            Ok(chunk) if !sweeps && self.had_better_wait(sync, member, &chunk) => {
                self.keep_waiting(sync, member, generation, chunk);
                return Ok(());
            }
            result => result,
        };
        if let Some(state) = self.member(sync, member) {
            state.load.running = false;
        }
        if sweeps {
            return self.sweep(sync, member).await;
        }
        let stale = self.is_stale(sync, member, generation);
        let chunk = match result {
            Ok(chunk) if !stale => chunk,
            Ok(_) => {
                self.orphans.end(generation);
                return Ok(());
            }
            Err(error) => {
                self.orphans.end(generation);
                self.chunk_failed(sync, member, error);
                return Ok(());
            }
        };
        let now = self.now();
        let Some(rules) = self.rules(sync) else { return Ok(()) };
        let passed_over = self.member(sync, member).and_then(|state| {
            state.load.halvings = state.load.halvings.saturating_sub(1);
            state.load.pass_over.take()
        });
        if let Some(error) = passed_over {
            self.orphans.end(generation);
            return self.pass_over(sync, member, chunk, &error).await;
        }
        let count = u64::try_from(chunk.records.len()).unwrap_or(u64::MAX);
        let arrived = chunk
            .records
            .into_iter()
            .map(|observation| crate::capture::incoming(&rules, sync, member, observation, now, &self.store_id, true))
            .collect::<Vec<_>>();
        let read: Vec<_> = match rules.initial.strategy.makes_nothing() {
            true => arrived.iter().map(|one| one.address.clone()).collect(),
            false => Vec::new(),
        };
        let mut desk = self.desk();
        let waiting = self.strangers_waiting();
        self.take_in_all(&mut desk, arrived).await?;
        for address in read.into_iter().filter(|address| desk.slot(address).is_some_and(|slot| slot.link.is_none())) {
            if let Some(state) = self.syncs.get_mut(sync) {
                state.unidentified.was_read(address);
            }
        }
        self.identify_at_once(&mut desk, &waiting).await?;
        self.decide_touched(&mut desk, false).await?;
        desk.flush(&mut self.transaction);
        self.orphans.end(generation);
        self.chunk_is_in(sync, member, count, chunk.next);
        Ok(())
    }

    /// Whether what was read would only go to the list of debts, and come back from there. What has to be searched for is taken in
    /// all the same: the search goes on while others fly, and gathers what the next flights take.
    fn had_better_wait(&self, sync: usize, member: MemberIndex, chunk: &Chunk) -> bool {
        let Some(first) = chunk.records.first() else { return false };
        self.loads_are_full(sync, member) && self.needs_no_search(sync, member, first)
    }

    /// A chunk waits in memory until what is read can be written: nothing is read meanwhile. Its read is not over before that, so
    /// that what goes away in the meantime is remembered.
    fn keep_waiting(&mut self, sync: usize, member: MemberIndex, generation: u64, chunk: Chunk) {
        if let Some(state) = self.member(sync, member) {
            state.load.waiting = Some((generation, chunk));
        }
    }

    /// The reading goes on behind a chunk.
    fn chunk_is_in(&mut self, sync: usize, member: MemberIndex, count: u64, next: Option<ChunkCursor>) {
        if let Some(state) = self.member(sync, member) {
            let read = match &state.load.phase {
                Phase::Reading { records, .. } => records.saturating_add(count),
                _ => count,
            };
            state.load.phase = match next {
                Some(cursor) => Phase::Reading { cursor, records: read },
                None if state.load.sweep => Phase::Sweeping { after: LinkId(0) },
                None => Phase::Done,
            };
            state.retry_at = None;
            state.failures = 0;
            state.down = None;
        }
        self.save_load(sync, member);
    }

    /// A chunk that failed because of one record, perhaps, is read in halves; the record that fails alone is passed over.
    fn chunk_failed(&mut self, sync: usize, member: MemberIndex, error: Error) {
        if error.class() == Class::Throttled {
            self.hold_loads(sync, member, &error);
            return;
        }
        let chunk = self.chunk_size(sync, member);
        let Some(state) = self.member(sync, member) else { return };
        if !error.may_be_one_records() || state.load.pass_over.is_some() || crate::mutants::active("poison_stops_all") {
            self.member_failed(sync, member, error);
        } else if chunk >> state.load.halvings.min(16) > 1 {
            state.load.halvings = state.load.halvings.saturating_add(1);
        } else {
            state.load.pass_over = Some(error);
        }
    }

    /// A record of which only the key could be read waits for a person; the reading goes on behind it.
    async fn pass_over(&mut self, sync: usize, member: MemberIndex, chunk: Chunk, error: &Error) -> Result<()> {
        let Some(id) = self.rules(sync).map(|rules| rules.id) else { return Ok(()) };
        let mut desk = self.desk();
        for observation in chunk.records {
            let there = address(id, member, &observation.key);
            desk.load(&self.store, vec![there.clone()]).await?;
            let link = desk.slot(&there).and_then(|slot| slot.link);
            self.unreadable(&mut desk, sync, member, observation.key, link, error);
        }
        self.decide_touched(&mut desk, false).await?;
        desk.flush(&mut self.transaction);
        self.chunk_is_in(sync, member, 0, chunk.next);
        Ok(())
    }

    /// Asks after the next linked records.
    async fn sweep(&mut self, sync: usize, member: MemberIndex) -> Result<()> {
        let Some(rules) = self.rules(sync) else { return Ok(()) };
        let Some(Phase::Sweeping { after }) = self.member(sync, member).map(|state| state.load.phase.clone()) else {
            return Ok(());
        };
        // The next ones are asked after when the answers for the last ones are in: progress that is durable before its
        // reads were made would skip them after a crash.
        let waiting = self.feeds.values().any(|feed| !feed.absences.is_empty());
        if waiting || self.member(sync, member).is_some_and(|state| state.reading || !state.to_read.is_empty()) {
            let at = self.now().plus(SWEEP_PAUSE);
            if let Some(state) = self.member(sync, member) {
                state.load.resume_at = Some(at);
            }
            return Ok(());
        }
        // The answers up to here are in and durable with this event: a crash begins behind them.
        self.save_load(sync, member);
        let links = self.store.scan_links(rules.id, after, SWEEP_BATCH).await?;
        let last = links.last().map(|link| link.id);
        // Also of a record that was seen, and of which nothing has been decided yet.
        let may_be_there = |side: &Side| match side.standing {
            Standing::Present => true,
            Standing::Absent => side.key.is_some(),
            Standing::Gone | Standing::LeftAlone | Standing::Marked => false,
        };
        for link in &links {
            if link.sides.get(member).is_some_and(may_be_there) {
                self.want_read(sync, member, link.id);
            }
        }
        if let Some(state) = self.member(sync, member) {
            state.load.phase = match last {
                Some(after) => Phase::Sweeping { after },
                None => Phase::Done,
            };
        }
        if last.is_none() {
            self.forget_what_was_not_seen(&rules, member).await?;
        }
        if last.is_none() || crate::mutants::active("sweep_runs_ahead") {
            self.save_load(sync, member);
        }
        Ok(())
    }
}

/// Whether a first run reads nothing of a member: its records are linked when they are first seen to change.
fn is_left_alone(rules: &SyncRules, member: MemberIndex) -> bool {
    let tells_time = rules.members.get(member).is_some_and(|member| member.edit_time_field.is_some());
    match rules.initial.strategy {
        InitialStrategy::FullLoad | InitialStrategy::MatchOnly => false,
        InitialStrategy::FromNow => true,
        InitialStrategy::Since(_) => !tells_time,
    }
}

/// Names the setting that says when everything of a sync had been read.
fn read_setting(sync: u32) -> String {
    format!("read/{sync}")
}

fn load_setting(sync: u32, member: MemberIndex) -> String {
    format!("load/{sync}/{member}")
}
