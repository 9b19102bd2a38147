//! The day's allowance of calls: what the org says is used by everybody, what we have used ourselves within a day (in earlier
//! runs, too), and whether one more call is ours to make. Counts; makes no call, and keeps nothing itself.

use super::client::Need;
use crate::keeping::Calls;
use concord_engine::clock::Moment;
use concord_engine::connector::Allowance;
use concord_engine::error::{Code, Error, Result};
use std::collections::{HashMap, VecDeque};
use std::time::Duration;
use tokio::time::Instant;

/// Our own calls are counted by the quarter of an hour.
const BUCKET: Duration = Duration::from_secs(900);
/// What is refused is not asked for again before.
const WAIT_MIN: Duration = Duration::from_secs(1);
const HOUR: Duration = Duration::from_secs(3_600);
const DAY: Duration = Duration::from_secs(86_400);
/// By so many calls what is kept is ahead of what was made: a run that is killed has made no more than it says, and a later one
/// counts at most so many too many of it.
const KEPT_AHEAD: u64 = 10;
/// First loads stop here, so that people's edits still get through.
const BACKFILL_PERCENT: u64 = 80;

/// Calls used and allowed.
pub(super) struct Usage {
    share: Option<f64>,
    /// Used by everybody and allowed, as the org last said, and when that was.
    told: Option<(u64, u64)>,
    told_at: Instant,
    /// When we began to count.
    begun: Instant,
    /// Our own calls: since when, in milliseconds from there on (before it: of earlier runs), and how many.
    own: VecDeque<(i64, u64)>,
    /// The calls of this run, and up to how many of them are kept.
    made: u64,
    kept: u64,
    /// When a look behind the events of each object was last admitted.
    looks: HashMap<String, Instant>,
}

impl Usage {
    pub fn new(share: Option<f64>) -> Usage {
        let begun = Instant::now();
        Usage { share, told: None, told_at: begun, begun, own: VecDeque::new(), made: 0, kept: 0, looks: HashMap::new() }
    }

    /// What earlier runs have kept counts as ours, the machine's clock being at this moment.
    pub fn recall(&mut self, calls: &Calls, at: Moment) {
        let now = self.now();
        let earlier = calls.counted.iter().map(|(since, calls)| (now.saturating_sub(millis(at.since(*since))), *calls));
        let mut own: Vec<(i64, u64)> = earlier.chain(self.own.drain(..)).collect();
        own.sort_unstable();
        self.own = own.into();
        self.forget(now);
    }

    /// Whether one more call goes beyond what is kept.
    pub fn is_to_be_kept(&self) -> bool {
        self.made >= self.kept
    }

    /// What is to be kept before one more call is made, the machine's clock being at this moment.
    pub fn reserve(&mut self, at: Moment) -> Calls {
        let now = self.now();
        self.forget(now);
        self.kept = self.made.saturating_add(KEPT_AHEAD);
        let micros = |since: i64| now.saturating_sub(since).saturating_mul(1_000);
        let mut counted: Vec<(Moment, u64)> =
            self.own.iter().map(|(since, calls)| (Moment(at.micros().saturating_sub(micros(*since))), *calls)).collect();
        match self.own.back() {
            Some((since, _)) if now.saturating_sub(*since) < millis(BUCKET) => {
                if let Some((_, calls)) = counted.last_mut() {
                    *calls = calls.saturating_add(KEPT_AHEAD);
                }
            }
            _ => counted.push((at, KEPT_AHEAD)),
        }
        Calls { counted }
    }

    /// Milliseconds since we began to count.
    fn now(&self) -> i64 {
        millis(self.begun.elapsed())
    }

    /// What was a day ago counts no more.
    fn forget(&mut self, now: i64) {
        while self.own.front().is_some_and(|(since, _)| now.saturating_sub(*since) >= millis(DAY)) {
            self.own.pop_front();
        }
    }

    /// What the org said last: used, allowed.
    pub fn told(&self) -> Option<(u64, u64)> {
        self.told
    }

    /// Our own calls of the last 24 hours.
    pub fn own(&self) -> u64 {
        self.own.iter().map(|(_, calls)| *calls).fold(0, u64::saturating_add)
    }

    /// What is allowed, used and to be expected; `None` before the org has said anything.
    pub fn allowance(&self) -> Option<Allowance> {
        let (used, allowed) = self.told?;
        let share = self.allowed(Need::Now).unwrap_or(allowed);
        let now = self.now();
        let of_the_hour = self.own.iter().filter(|(since, _)| now.saturating_sub(*since) < millis(HOUR));
        let recent: u64 = of_the_hour.map(|(_, calls)| *calls).fold(0, u64::saturating_add);
        // What has just begun has not shown yet how it goes on.
        let age = self.own.front().map_or(0, |(since, _)| now.saturating_sub(*since));
        let age = Duration::from_millis(u64::try_from(age).unwrap_or(0)).clamp(BUCKET, HOUR);
        let forecast = recent.saturating_mul(DAY.as_secs()) / age.as_secs().max(1);
        Some(Allowance { used, allowed, own: self.own(), share, forecast })
    }

    /// Whether a call may be made now. What can wait leaves the last fifth of what everybody may use to people's edits, too,
    /// whoever has used the rest.
    pub fn admit(&mut self, need: Need) -> Result<()> {
        self.leaves_our_share(need)?;
        match need {
            Need::Backfill => self.leaves_the_rest(Instant::now()),
            Need::Now => Ok(()),
        }
    }

    /// Whether a look behind an object's events may begin. Nothing else finds events that were lost: where people and other
    /// programs use most of the calls day by day one is admitted now and then all the same, as long as any are left.
    pub fn admit_look(&mut self, object: &str) -> Result<()> {
        let now = Instant::now();
        if let Err(refused) = self.admit(Need::Backfill) {
            let are_left = self.told.is_none_or(|(used, all)| used < all);
            let is_due = self.looks.get(object).is_none_or(|last| now.duration_since(*last) >= BUCKET);
            if !are_left || !is_due || self.admit(Need::Now).is_err() {
                return Err(refused);
            }
        }
        self.looks.insert(object.to_owned(), now);
        Ok(())
    }

    /// Refuses a call where our own share of the day is used up, or the part of it that is for what can wait.
    fn leaves_our_share(&mut self, need: Need) -> Result<()> {
        let now = self.now();
        self.forget(now);
        let (Some(allowed), Some((since, _))) = (self.allowed(need), self.own.front()) else { return Ok(()) };
        if self.own() < allowed {
            return Ok(());
        }
        let age = Duration::from_millis(u64::try_from(now.saturating_sub(*since)).unwrap_or(0));
        let wait = DAY.saturating_sub(age).min(BUCKET);
        let message = format!("our share of the org's daily calls is used up: {} of {allowed}", self.own());
        Err(Error { retry_after: Some(wait), ..Error::new(Code::HostedAllowanceUsed, message) })
    }

    /// Refuses a call while the org's last fifth is being used. Where it has said nothing for a while one call finds out.
    fn leaves_the_rest(&mut self, now: Instant) -> Result<()> {
        let Some((used, all)) = self.told else { return Ok(()) };
        if used.saturating_mul(100) < all.saturating_mul(BACKFILL_PERCENT) {
            return Ok(());
        }
        let since = now.duration_since(self.told_at);
        if since >= BUCKET {
            self.told_at = now;
            return Ok(());
        }
        let message = format!("{used} of the org's {all} daily calls are used: what can wait leaves the rest to people's edits");
        let wait = BUCKET.saturating_sub(since).max(WAIT_MIN);
        Err(Error { retry_after: Some(wait), ..Error::new(Code::HostedAllowanceUsed, message) })
    }

    /// Our share, in calls; `None` where everything may be used.
    fn allowed(&self, need: Need) -> Option<u64> {
        let (_, all) = self.told?;
        let percent = match self.share {
            Some(share) => (0..=100_u64)
                .take_while(|percent| *percent == 0 || share * 100.0 + 1e-9 >= f64::from(u32::try_from(*percent).unwrap_or(100)))
                .last()?,
            None => 100,
        };
        let ours = all.saturating_mul(percent) / 100;
        match (need, self.share) {
            (Need::Backfill, _) => Some(ours.saturating_mul(BACKFILL_PERCENT) / 100),
            (Need::Now, Some(_)) => Some(ours),
            (Need::Now, None) => None,
        }
    }

    /// A call was made, and the org said `api-usage=18/15000`, perhaps with more behind it.
    pub fn made(&mut self, said: Option<&str>) {
        let now = self.now();
        self.made = self.made.saturating_add(1);
        match self.own.back_mut() {
            Some((since, calls)) if now.saturating_sub(*since) < millis(BUCKET) => *calls = calls.saturating_add(1),
            _ => self.own.push_back((now, 1)),
        }
        if let Some(told) = said.and_then(said_of) {
            (self.told, self.told_at) = (Some(told), Instant::now());
        }
    }
}

fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

/// Calls used and allowed, as an answer's `Sforce-Limit-Info` says.
pub(super) fn said_of(header: &str) -> Option<(u64, u64)> {
    let (used, all) = header.split(',').find_map(|part| part.trim().strip_prefix("api-usage="))?.split_once('/')?;
    Some((used.parse().ok()?, all.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_first_load_stops_before_peoples_edits_do() {
        let mut usage = Usage::new(Some(0.5));
        assert!(usage.admit(Need::Backfill).is_ok(), "before anything is known a call may be made");
        for _ in 0..40 {
            usage.made(Some("api-usage=18/100, per-app-api-usage=17/250(appName=x)"));
        }
        assert_eq!((usage.told(), usage.own()), (Some((18, 100)), 40));
        let refused = usage.admit(Need::Backfill).unwrap_err();
        assert_eq!(refused.code, Code::HostedAllowanceUsed);
        assert!(refused.retry_after.is_some_and(|wait| wait <= BUCKET));
        assert!(usage.admit(Need::Now).is_ok());
        for _ in 0..10 {
            usage.made(None);
        }
        assert!(usage.admit(Need::Now).is_err(), "half of a hundred is used");
        let allowance = usage.allowance().unwrap();
        assert_eq!((allowance.used, allowance.allowed, allowance.own, allowance.share), (18, 100, 50, 50));
        assert_eq!(allowance.left(), 0);
        assert_eq!(allowance.forecast, 50 * 96, "as if every quarter of an hour were like the first");
    }
    #[tokio::test(start_paused = true)]
    async fn what_can_wait_leaves_the_last_fifth_to_people_whoever_has_used_the_rest_and_asks_again_after_a_while() {
        let mut usage = Usage::new(None);
        usage.made(Some("api-usage=79999/100000"));
        assert!(usage.admit(Need::Backfill).is_ok());
        usage.made(Some("api-usage=80000/100000"));
        let refused = usage.admit(Need::Backfill).unwrap_err();
        assert_eq!((refused.code, refused.retry_after), (Code::HostedAllowanceUsed, Some(BUCKET)));
        assert!(usage.admit(Need::Now).is_ok(), "our own calls are two");
        tokio::time::advance(BUCKET).await;
        assert!(usage.admit(Need::Backfill).is_ok(), "nobody else has asked meanwhile");
        assert!(usage.admit(Need::Backfill).is_err(), "one call finds out");
        usage.made(Some("api-usage=200/100000"));
        assert!(usage.admit(Need::Backfill).is_ok(), "a day has begun");
    }

    #[tokio::test(start_paused = true)]
    async fn what_earlier_runs_have_used_counts_until_a_day_has_passed_and_nothing_is_kept_twice() {
        let hours = |hours: i64| Moment(hours * 3_600_000_000);
        let mut first = Usage::new(Some(0.5));
        let mut kept = Calls::default();
        for _ in 0..25 {
            if first.is_to_be_kept() {
                kept = first.reserve(hours(100));
            }
            first.made(Some("api-usage=18/100"));
        }
        assert_eq!(kept, Calls { counted: vec![(hours(100), 30)] }, "ahead of what was made, by ten at the most");
        let mut second = Usage::new(Some(0.5));
        second.recall(&kept, hours(110));
        assert_eq!(second.own(), 30);
        for _ in 0..20 {
            second.made(Some("api-usage=18/100"));
        }
        assert!(second.admit(Need::Now).is_err(), "half of a hundred is used");
        assert_eq!(second.reserve(hours(110)).counted, [(hours(100), 30), (hours(110), 30)]);
        tokio::time::advance(HOUR * 14).await;
        assert!(second.admit(Need::Now).is_ok());
        assert_eq!(second.own(), 20);
        // A clock that was ahead says nothing of calls that are still to come.
        let mut third = Usage::new(None);
        third.recall(&Calls { counted: vec![(hours(10), 1), (hours(200), 2)] }, hours(100));
        assert_eq!((third.own(), third.reserve(hours(100)).counted), (2, vec![(hours(100), 12)]));
    }

    #[tokio::test(start_paused = true)]
    async fn while_others_use_most_of_the_calls_each_object_is_looked_behind_once_in_a_while() {
        let mut usage = Usage::new(None);
        usage.made(Some("api-usage=95000/100000"));
        assert!(usage.admit_look("Account").is_ok());
        assert_eq!(usage.admit_look("Account").unwrap_err().code, Code::HostedAllowanceUsed);
        assert!(usage.admit_look("Contact").is_ok(), "no object takes another one's turn");
        for _ in 0..2 {
            tokio::time::advance(BUCKET).await;
            // People's own calls say again and again how much is used: no first load finds out anything.
            usage.made(Some("api-usage=96000/100000"));
            assert!(usage.admit(Need::Backfill).is_err());
            assert!(usage.admit_look("Account").is_ok());
            assert!(usage.admit_look("Account").is_err(), "one is enough");
        }
        tokio::time::advance(BUCKET).await;
        usage.made(Some("api-usage=100000/100000"));
        assert!(usage.admit_look("Account").is_err(), "none are left");
        usage.made(Some("api-usage=200/100000"));
        assert!(usage.admit_look("Account").is_ok());
        assert!(usage.admit_look("Account").is_ok(), "there are enough");
    }

    #[tokio::test(start_paused = true)]
    async fn a_look_is_not_admitted_where_our_own_share_is_used_up() {
        let mut usage = Usage::new(Some(0.1));
        for _ in 0..9 {
            usage.made(Some("api-usage=95/100"));
        }
        assert!(usage.admit(Need::Backfill).is_err());
        assert!(usage.admit_look("Account").is_ok(), "one of ten is left");
        usage.made(Some("api-usage=96/100"));
        tokio::time::advance(BUCKET).await;
        assert!(usage.admit_look("Account").is_err(), "ten of ten are used");
    }

    #[tokio::test(start_paused = true)]
    async fn what_our_own_share_refuses_does_not_take_the_call_that_finds_out() {
        let mut usage = Usage::new(Some(0.1));
        for _ in 0..8 {
            usage.made(Some("api-usage=90/100"));
        }
        tokio::time::advance(BUCKET).await;
        assert!(usage.admit(Need::Backfill).unwrap_err().message.contains("our share"));
        tokio::time::advance(DAY).await;
        assert!(usage.admit(Need::Backfill).is_ok(), "the day is over: one call finds out");
        assert!(usage.admit(Need::Backfill).is_err());
    }
}
