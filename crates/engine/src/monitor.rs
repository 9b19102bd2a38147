//! What is counted while a sync runs, and the status that is made of it.

use crate::clock::Moment;
use crate::error::{Code, Error, Result};
use crate::runtime::core::{Core, Event};
use crate::runtime::status::{
    AllowanceStatus, FeedStatus, LATENCY_BOUNDS_MS, LatencyHistogram, MemberStatus, Percentiles, Status, SyncStatus,
};
use hdrhistogram::Histogram;
use std::collections::VecDeque;
use std::sync::Arc;

/// The rate is that of the last so many seconds.
const RATE_SECONDS: i64 = 10;
/// The share of writes that failed is that of the last so many seconds.
const ERROR_SECONDS: i64 = 300;

/// Counters of one sync since the start.
pub(crate) struct Meters {
    observed: u64,
    written: u64,
    failed: u64,
    /// Microseconds from commit to applied; three digits, up to an hour.
    latency: Option<Histogram<u64>>,
    /// How many took at most as long as each of [`LATENCY_BOUNDS_MS`], and their sum in microseconds.
    latency_counts: [u64; LATENCY_BOUNDS_MS.len()],
    latency_sum: u64,
    recent: VecDeque<Second>,
}

/// What happened in one second.
struct Second {
    at: i64,
    written: u64,
    failed: u64,
}

impl Meters {
    pub fn new(_started: Moment) -> Meters {
        Meters {
            observed: 0,
            written: 0,
            failed: 0,
            latency: Histogram::new_with_bounds(1, 3_600_000_000, 3).ok(),
            latency_counts: [0; LATENCY_BOUNDS_MS.len()],
            latency_sum: 0,
            recent: VecDeque::new(),
        }
    }

    pub fn observed(&mut self) {
        self.observed = self.observed.saturating_add(1);
    }

    pub fn failed(&mut self, now: Moment) {
        self.failed = self.failed.saturating_add(1);
        self.count(now, 0, 1);
    }

    pub fn written(&mut self, now: Moment, edited: Moment) {
        self.written = self.written.saturating_add(1);
        if edited != Moment::default() {
            self.took(u64::try_from(now.since(edited).as_micros()).unwrap_or(u64::MAX).max(1));
        }
        self.count(now, 1, 0);
    }

    /// Records that a first read has made: nobody waited for one of them.
    pub fn loaded(&mut self, now: Moment, count: u64) {
        self.written = self.written.saturating_add(count);
        self.count(now, count, 0);
    }

    /// What has been counted, as a status shows it.
    pub fn status(&self, now: Moment) -> SyncStatus {
        SyncStatus {
            observed: self.observed,
            written: self.written,
            failed: self.failed,
            rate: self.rate(now),
            error_rate: self.error_rate(now),
            latency_ms: self.percentiles(),
            latency_histogram: self.histogram(),
            ..SyncStatus::default()
        }
    }

    fn took(&mut self, micros: u64) {
        if let Some(latency) = &mut self.latency {
            latency.saturating_record(micros);
        }
        self.latency_sum = self.latency_sum.saturating_add(micros);
        for (count, bound) in self.latency_counts.iter_mut().zip(LATENCY_BOUNDS_MS) {
            if micros <= bound.saturating_mul(1_000) {
                *count = count.saturating_add(1);
            }
        }
    }

    /// Adds to the present second's counts; those that are too old to matter go.
    fn count(&mut self, now: Moment, written: u64, failed: u64) {
        let at = now.micros().div_euclid(1_000_000);
        while self.recent.front().is_some_and(|first| at.saturating_sub(first.at) >= ERROR_SECONDS) {
            self.recent.pop_front();
        }
        match self.recent.back_mut() {
            // A clock that was set back goes on counting in the newest second.
            Some(last) if last.at >= at => {
                last.written = last.written.saturating_add(written);
                last.failed = last.failed.saturating_add(failed);
            }
            _ => self.recent.push_back(Second { at, written, failed }),
        }
    }

    #[allow(clippy::cast_precision_loss, reason = "figures for people")]
    fn rate(&self, now: Moment) -> f64 {
        let (written, _) = self.within(now, RATE_SECONDS);
        written as f64 / RATE_SECONDS as f64
    }

    #[allow(clippy::cast_precision_loss, reason = "figures for people")]
    fn error_rate(&self, now: Moment) -> f64 {
        let (written, failed) = self.within(now, ERROR_SECONDS);
        if failed == 0 { 0.0 } else { failed as f64 / written.saturating_add(failed) as f64 }
    }

    /// Written and failed in the last so many seconds.
    fn within(&self, now: Moment, seconds: i64) -> (u64, u64) {
        let at = now.micros().div_euclid(1_000_000);
        let recent = self.recent.iter().filter(|second| at.saturating_sub(second.at) < seconds);
        recent.fold((0, 0), |(written, failed), second| {
            (written.saturating_add(second.written), failed.saturating_add(second.failed))
        })
    }

    #[allow(clippy::cast_precision_loss, reason = "figures for people")]
    fn histogram(&self) -> LatencyHistogram {
        LatencyHistogram {
            at_most_ms: LATENCY_BOUNDS_MS.into_iter().zip(self.latency_counts).collect(),
            sum_ms: self.latency_sum as f64 / 1_000.0,
        }
    }

    #[allow(clippy::cast_precision_loss, reason = "figures for people")]
    fn percentiles(&self) -> Percentiles {
        let Some(latency) = &self.latency else { return Percentiles::default() };
        let at = |quantile| latency.value_at_quantile(quantile) as f64 / 1_000.0;
        Percentiles { count: latency.len(), p50: at(0.5), p95: at(0.95), p99: at(0.99), max: latency.max() as f64 / 1_000.0 }
    }
}

impl Core {
    pub(crate) async fn make_status(&mut self) -> Result<Status> {
        let mut syncs = Vec::with_capacity(self.syncs.len());
        for sync in 0..self.syncs.len() {
            syncs.push(self.sync_status(sync).await?);
        }
        let feeds = self
            .feeds
            .iter()
            .filter(|((_, name), _)| !name.as_str().is_empty())
            .map(|((system, feed), state)| FeedStatus {
                system: system.to_string(),
                feed: feed.to_string(),
                state: state.state.clone(),
                position: state.health.position.clone(),
                retained_bytes: state.health.retained_bytes,
                retained_bytes_max: state.health.retained_bytes_max,
                warning: state.health.warning.clone(),
                lag_ms: state.lag.map(|lag| u64::try_from(lag.as_millis()).unwrap_or(u64::MAX)),
            })
            .collect();
        let known = self.systems.iter().filter_map(|(system, connector)| Some((system, connector.allowance()?)));
        let allowances =
            known.map(|(system, calls)| AllowanceStatus { system: system.to_string(), calls, left: calls.left() }).collect();
        Ok(Status { syncs, feeds, allowances })
    }

    async fn sync_status(&mut self, sync: usize) -> Result<SyncStatus> {
        let now = self.now();
        let Some(rules) = self.rules(sync) else { return Ok(SyncStatus::default()) };
        let counts = self.store.counts(rules.id).await?;
        let level = self.is_level(sync, &counts);
        let waits_for = if counts.waiting > 0 { self.hindered(&rules) } else { Vec::new() };
        let flying = |member: usize| {
            self.flights
                .values()
                .filter(|airborne| airborne.sync == sync && airborne.flight.member == member)
                .map(|airborne| airborne.flight.intents.len())
                .sum::<usize>()
        };
        let in_flight: Vec<usize> = (0..rules.members.len()).map(flying).collect();
        let of =
            |list: &[(usize, u64)], member: usize| list.iter().find(|(other, _)| *other == member).map_or(0, |(_, count)| *count);
        let unreachable: Vec<Option<Reach>> = rules.members.iter().map(|member| self.feed_trouble(&member.system)).collect();
        let Some(state) = self.syncs.get_mut(sync) else { return Ok(SyncStatus::default()) };
        let members = rules
            .members
            .iter()
            .zip(&mut state.members)
            .zip(in_flight.iter().zip(unreachable))
            .enumerate()
            .map(|(index, ((member, state), (in_flight, trouble)))| {
                state.guard.know(counts.live, now, rules.guard.window);
                let (reach, code) = reach(state.down.as_ref(), trouble);
                MemberStatus {
                    system: member.system.to_string(),
                    object: member.object.to_string(),
                    pending: of(&counts.pending, index),
                    owed: of(&counts.owed, index),
                    in_flight: u64::try_from(*in_flight).unwrap_or(u64::MAX),
                    reach,
                    code,
                    load: state.load.describe(now),
                    progress: state.load.progress(),
                }
            })
            .collect();
        Ok(SyncStatus {
            name: rules.name.to_string(),
            stage: stage(state),
            code: state.why_stopped().map(|error| error.code),
            level,
            links: counts.live,
            waiting: counts.waiting,
            waits_for,
            review: counts.reviews,
            offers: state.offers.told(),
            members,
            ..state.meters.status(now)
        })
    }

    /// The syncs that these rules refer to and that carry nothing now.
    fn hindered(&self, rules: &crate::rules::SyncRules) -> Vec<String> {
        let mut hindered = Vec::new();
        for (_, reference) in rules.references() {
            let why = match self.sync_of(reference.sync).and_then(|other| self.syncs.get(other)) {
                None => "does not run here".to_owned(),
                Some(other) if other.active() && other.begun => continue,
                Some(other) => format!("is {}", stage(other)),
            };
            let why = format!("{}, which {why}", reference.name);
            if !hindered.contains(&why) {
                hindered.push(why);
            }
        }
        hindered
    }

    fn feed_trouble(&self, system: &crate::record::SystemName) -> Option<Reach> {
        self.feeds.iter().filter(|((of, _), _)| of == system).find_map(|(_, state)| {
            let is_lost = state.state.starts_with("unreachable") || state.state.starts_with("stopped");
            is_lost.then(|| (state.state.clone(), state.lost.as_ref().map(|(_, error)| error.code).or(state.waits)))
        })
    }

    /// Whether nothing is left to do for a sync.
    fn is_level(&self, sync: usize, counts: &crate::store::Counts) -> bool {
        let Some(state) = self.syncs.get(sync) else { return false };
        let feeds_idle = state.rules.members.iter().all(|member| {
            let mut of_system = self.feeds.iter().filter(|((system, _), _)| *system == member.system).peekable();
            of_system.peek().is_some() && of_system.all(|(_, feed)| feed.idle && feed.is_open())
        });
        let asked = self.parked.keys().filter(|address| address.sync == state.rules.id).count();
        let strangers = asked.saturating_add(state.unidentified.behind());
        let parked = u64::try_from(strangers).unwrap_or(u64::MAX).saturating_add(state.parked.observations());
        let pending: u64 = counts.pending.iter().map(|(_, count)| count).sum();
        let owed: u64 = counts.owed.iter().map(|(_, count)| count).sum();
        state.active()
            && state.begun
            && feeds_idle
            && state.members.iter().all(|member| member.load.is_done() && !member.reading && member.to_read.is_empty())
            && state.unidentified.is_idle()
            && state.remapping.is_none()
            && state.looks.is_idle()
            && !state.waiting.is_to_be_looked_at()
            && self.woken.is_empty()
            && self.doubtful_flights(sync) == 0
            && self.reading.is_empty()
            && !self.waits.values().any(|of| *of == sync)
            && !state.spill.any
            && pending <= parked
            && owed == 0
    }

    /// For `once`: every sync is level or cannot go on without a person, and every feed that can be read has passed a
    /// fence that was set after the start, so whatever was committed before it has been seen.
    pub(crate) fn once_is_over(&self) -> bool {
        let status = self.publish.borrow();
        let ended = |(sync, status): (usize, &SyncStatus)| status.level || self.needs_a_person(sync);
        status.syncs.iter().enumerate().all(ended)
            && self.feeds.iter().all(|((system, _), feed)| feed.fences_passed > 0 || feed.is_stopped() || !self.is_read(system))
            && self.jobs_are_quiet()
    }

    /// Whether the feeds of a system are read: not before a sync that needs them has been approved.
    fn is_read(&self, system: &crate::record::SystemName) -> bool {
        self.syncs.iter().any(|state| state.approved && state.rules.members.iter().any(|member| member.system == *system))
    }

    /// Whether a sync, or the feed of one of its systems, is stopped until somebody has put something right.
    fn needs_a_person(&self, sync: usize) -> bool {
        self.syncs.get(sync).is_some_and(|state| {
            let stands = |system| self.feeds.iter().any(|((of, _), feed)| of == system && feed.is_stopped());
            state.why_stopped().is_some()
                || state.paused
                || !state.approved
                || state.rules.members.iter().any(|member| stands(&member.system))
        })
    }

    pub(crate) fn ask_health(&mut self) {
        let feeds: Vec<_> = self
            .feeds
            .iter()
            // One that waits for a person has the source keep its log for as long.
            .filter(|((_, name), state)| !name.as_str().is_empty() && (state.is_open() || state.is_stopped()))
            .map(|(key, _)| key.clone())
            .collect();
        for (system, feed) in feeds {
            let Some(connector) = self.systems.get(&system).map(Arc::clone) else { continue };
            let Some(state) = self.feeds.get_mut(&(system.clone(), feed.clone())) else { continue };
            if std::mem::replace(&mut state.asking_health, true) {
                continue;
            }
            self.jobs.spawn(async move {
                let result = connector.health(&feed).await;
                Event::Health { system, feed, result }
            });
        }
    }

    pub(crate) fn on_health(
        &mut self,
        system: &crate::record::SystemName,
        feed: &crate::record::FeedName,
        result: Result<crate::connector::FeedHealth>,
    ) {
        let Some(state) = self.feeds.get_mut(&(system.clone(), feed.clone())) else { return };
        state.asking_health = false;
        match result {
            Ok(health) => {
                if let Some(warning) = health.warning.as_ref().filter(|_| state.health.warning.is_none()) {
                    tracing::warn!(%system, %feed, warning, "feed");
                }
                state.health = health;
            }
            Err(error) => tracing::debug!(%system, %feed, error = error.chain(), "no health"),
        }
    }
}

/// Whether a member can be reached, in words, and the code of why not.
type Reach = (String, Option<Code>);

/// What its own calls show counts before what its feed does.
fn reach(down: Option<&(Moment, Error)>, trouble: Option<Reach>) -> Reach {
    match (down, trouble) {
        (Some((since, error)), _) => (format!("down since {since}: {error}"), Some(error.code)),
        (None, Some(trouble)) => trouble,
        (None, None) => ("up".to_owned(), None),
    }
}

fn stage(state: &crate::runtime::core::SyncState) -> String {
    if let Some(error) = state.why_stopped() {
        return format!("stopped: {error}");
    }
    if !state.approved {
        return "waiting for approval".to_owned();
    }
    if state.paused {
        return "paused".to_owned();
    }
    if !state.begun {
        return "preparing".to_owned();
    }
    if let Some(until) = state.shut_until {
        return format!("waiting until {until}");
    }
    if !state.rewound.is_empty() {
        return "comparing with what was known before a gap".to_owned();
    }
    if state.members.iter().any(|member| !member.load.is_done()) { "loading".to_owned() } else { "live".to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> Moment {
        Moment(seconds * 1_000_000)
    }

    #[test]
    fn a_member_that_cannot_be_reached_has_the_code_of_why() {
        let down = (at(1), Error::new(Code::Unreachable, "no answer"));
        let trouble = ("stopped: gone".to_owned(), Some(Code::FeedGap));
        let code = |down, trouble| reach(down, trouble).1;
        assert_eq!(code(Some(&down), Some(trouble.clone())), Some(Code::Unreachable));
        assert_eq!(code(None, Some(trouble)), Some(Code::FeedGap));
        assert_eq!(reach(None, None), ("up".to_owned(), None));
    }

    #[test]
    fn rates_forget_what_is_old() {
        let mut meters = Meters::new(at(0));
        meters.failed(at(100));
        (0..3).for_each(|_| meters.written(at(100), at(99)));
        assert_eq!((meters.error_rate(at(100)), meters.rate(at(100))), (0.25, 0.3));
        meters.written(at(300), at(299));
        assert_eq!((meters.error_rate(at(300)), meters.rate(at(300))), (0.2, 0.1));
        assert_eq!((meters.error_rate(at(400)), meters.rate(at(400))), (0.0, 0.0));
    }

    #[test]
    fn a_latency_counts_in_every_bucket_that_holds_it() {
        let mut meters = Meters::new(at(0));
        for micros in [900, 4_000, 60_000_000] {
            meters.written(Moment(60_000_000 + micros), Moment(60_000_000));
        }
        // A value without a time of its edit was written, and took nobody knows how long.
        meters.written(at(200), Moment::default());
        let histogram = meters.histogram();
        let within = |bound: u64| histogram.at_most_ms.iter().find(|(at, _)| *at == bound).unwrap().1;
        assert_eq!([within(1), within(2), within(5), within(30_000), within(300_000)], [1, 1, 2, 2, 3]);
        assert_eq!((histogram.sum_ms, meters.percentiles().count, meters.written), (60_004.9, 3, 4));
    }
}
