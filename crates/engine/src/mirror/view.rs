//! What a mirror sync shows of itself while it runs: counted here, asked for by the status.

use super::carry::{SOURCE, TARGET};
use crate::change::EditTime;
use crate::clock::Moment;
use crate::connector::FeedHealth;
use crate::error::{Class, Code, Error};
use crate::monitor::Meters;
use crate::offer::Offers;
use crate::record::FeedName;
use crate::rules::SyncRules;
use crate::runtime::status::{FeedStatus, LoadStatus, MemberStatus, SyncStatus};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// How a sync stands.
#[derive(Clone, Debug, Default)]
pub(super) enum Stage {
    /// Nobody has approved its first run.
    #[default]
    Unapproved,
    /// Slot, publication and progress are being made or looked at.
    Preparing,
    /// The records are read for the first time.
    Loading,
    /// Changes are carried as they come.
    Live,
    /// A person said so.
    Paused,
    /// Until a person has put something right.
    Stopped(Error),
    /// A system cannot be reached: since when, which member, why.
    Down(Moment, usize, Error),
}

/// How a first read does.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Load {
    pub begun: Option<Moment>,
    pub records: u64,
    pub bytes: u64,
    /// About how many there are.
    pub of: u64,
    /// When it began, how many were loaded already.
    pub before: u64,
    /// Since when indexes are built behind it.
    pub indexes: Option<Moment>,
}

impl Load {
    /// So much has been passed on.
    pub fn pass(&mut self, records: u64, bytes: u64) {
        self.records = self.records.saturating_add(records);
        self.bytes = self.bytes.saturating_add(bytes);
    }

    /// So much was passed on in vain.
    pub fn take_back(&mut self, records: u64, bytes: u64) {
        self.records = self.records.saturating_sub(records);
        self.bytes = self.bytes.saturating_sub(bytes);
    }
}

/// What is shown.
pub(super) struct View {
    pub stage: Stage,
    pub level: bool,
    pub meters: Meters,
    pub load: Load,
    pub loaded: bool,
    pub records: u64,
    pub offers: Offers,
    pub feed: Option<FeedName>,
    pub health: FeedHealth,
    pub lag_ms: Option<u64>,
    /// Which sync is waited for, and why for long.
    pub waits_for: Option<String>,
}

/// The view, shared between the sync and whoever asks.
#[derive(Clone)]
pub(super) struct Shown(Arc<Mutex<View>>);

impl Shown {
    pub fn new(started: Moment) -> Shown {
        Shown(Arc::new(Mutex::new(View {
            stage: Stage::default(),
            level: false,
            meters: Meters::new(started),
            load: Load::default(),
            loaded: false,
            records: 0,
            offers: Offers::default(),
            feed: None,
            health: FeedHealth::default(),
            lag_ms: None,
            waits_for: None,
        })))
    }

    pub fn lock(&self) -> MutexGuard<'_, View> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn stage(&self, stage: Stage) {
        let mut view = self.lock();
        view.level &= matches!(stage, Stage::Live);
        view.waits_for = None;
        view.stage = stage;
    }

    /// Counts changes that were carried out: how long each took.
    pub fn written(&self, now: Moment, times: &[EditTime]) {
        let mut view = self.lock();
        for time in times {
            view.meters.written(now, time.at);
        }
        let lag = times.last().map(|time| now.since(time.at));
        view.lag_ms = lag.map(|lag| u64::try_from(lag.as_millis()).unwrap_or(u64::MAX)).or(view.lag_ms);
    }

    /// As the status shows it.
    pub fn status(&self, rules: &SyncRules, review: u64, now: Moment) -> (SyncStatus, Option<FeedStatus>) {
        let view = self.lock();
        let member = |place: usize| {
            let rules = rules.members.get(place);
            let down = match &view.stage {
                Stage::Down(since, down, error) if *down == place => Some((since, error)),
                _ => None,
            };
            MemberStatus {
                system: rules.map(|rules| rules.system.to_string()).unwrap_or_default(),
                object: rules.map(|rules| rules.object.to_string()).unwrap_or_default(),
                reach: down.map_or("up".to_owned(), |(since, error)| format!("down since {since}: {error}")),
                code: down.map(|(_, error)| error.code),
                load: if place == SOURCE { view.describe_load(now) } else { String::new() },
                progress: if place == SOURCE { view.progress(now) } else { None },
                ..MemberStatus::default()
            }
        };
        let sync = SyncStatus {
            name: rules.name.to_string(),
            mode: "mirror".to_owned(),
            stage: view.describe_stage(),
            code: view.why_stopped(),
            level: view.level,
            links: view.records,
            waits_for: view.waits_for.iter().cloned().collect(),
            review,
            offers: view.offers.told(),
            members: vec![member(SOURCE), member(TARGET)],
            ..view.meters.status(now)
        };
        let feed = view.feed.as_ref().map(|feed| FeedStatus {
            system: rules.members.get(SOURCE).map(|member| member.system.to_string()).unwrap_or_default(),
            feed: feed.to_string(),
            state: match &view.stage {
                Stage::Live if view.level => "idle".to_owned(),
                Stage::Live | Stage::Loading => "reading".to_owned(),
                Stage::Stopped(error) => format!("stopped: {error}"),
                Stage::Down(since, SOURCE, error) => format!("unreachable since {since}: {error}"),
                _ => "connecting".to_owned(),
            },
            position: view.health.position.clone(),
            retained_bytes: view.health.retained_bytes,
            retained_bytes_max: view.health.retained_bytes_max,
            warning: view.health.warning.clone(),
            lag_ms: if view.level { Some(0) } else { view.lag_ms },
        });
        (sync, feed)
    }
}

impl View {
    fn why_stopped(&self) -> Option<Code> {
        match &self.stage {
            Stage::Stopped(error) => Some(error.code),
            _ => None,
        }
    }

    /// In words.
    pub fn describe_stage(&self) -> String {
        match &self.stage {
            Stage::Unapproved => "waiting for approval".to_owned(),
            Stage::Preparing => "preparing".to_owned(),
            Stage::Paused => "paused".to_owned(),
            Stage::Stopped(error) => format!("stopped: {error}"),
            Stage::Loading => "loading".to_owned(),
            Stage::Live => "live".to_owned(),
            Stage::Down(..) if self.loaded => "live".to_owned(),
            Stage::Down(..) => "loading".to_owned(),
        }
    }

    /// How far the first read has got, how fast it goes and when it will be over.
    fn describe_load(&self, now: Moment) -> String {
        match self.progress(now) {
            _ if self.loaded => "done".to_owned(),
            None => "none".to_owned(),
            Some(progress) => progress.describe(),
        }
    }

    /// The same in numbers, while it is under way.
    fn progress(&self, now: Moment) -> Option<LoadStatus> {
        if self.loaded {
            return None;
        }
        let Load { begun, records, bytes, of, before, indexes } = self.load;
        let since = |begun: Moment| u64::try_from(now.since(begun).as_millis()).unwrap_or(u64::MAX);
        let done = before.saturating_add(records);
        if let Some(indexes) = indexes {
            let (phase, seconds) = ("building indexes".to_owned(), since(indexes) / 1_000);
            return Some(LoadStatus { phase, seconds, records: done, of: Some(of), bytes, ..LoadStatus::default() });
        }
        let millis = since(begun?).max(1);
        let a_second = |amount: u64| amount.saturating_mul(1_000) / millis;
        let rate = a_second(records);
        Some(LoadStatus {
            phase: "reading".to_owned(),
            records: done,
            of: Some(of),
            bytes,
            seconds: millis / 1_000,
            records_per_second: rate,
            bytes_per_second: a_second(bytes),
            seconds_left: of.saturating_sub(done).checked_div(rate),
        })
    }
}

/// What is to be done about an error.
pub(super) fn may_pass(error: &Error) -> bool {
    matches!(error.class(), Class::Transient | Class::Throttled | Class::Stale | Class::UnknownOutcome)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_load_tells_how_fast_it_goes_and_when_it_will_be_over() {
        let shown = Shown::new(Moment(0));
        let mut view = shown.lock();
        assert_eq!(view.describe_load(Moment(0)), "none");
        let load =
            Load { begun: Some(Moment(0)), records: 50_000, bytes: 25_000_000, of: 200_000, before: 50_000, indexes: None };
        view.load = load;
        let expected = "reading: 100000 of about 200000 records, 25.0 MB, 10000 a second, 5.0 MB/s, about 10 s left";
        assert_eq!(view.describe_load(Moment(5_000_000)), expected);
        let progress = view.progress(Moment(5_000_000)).unwrap();
        assert_eq!((progress.records, progress.of, progress.bytes), (100_000, Some(200_000), 25_000_000));
        assert_eq!(
            (progress.records_per_second, progress.bytes_per_second, progress.seconds_left),
            (10_000, 5_000_000, Some(10))
        );
        view.load = Load { indexes: Some(Moment(5_000_000)), ..load };
        assert_eq!(view.describe_load(Moment(12_000_000)), "building indexes for 7 s");
        view.loaded = true;
        assert_eq!((view.describe_load(Moment(5_000_000)).as_str(), view.progress(Moment(5_000_000))), ("done", None));
    }
}
