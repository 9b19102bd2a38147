//! The day's allowance of calls: what the org says is used by everybody, what we have used ourselves within a day, and
//! whether one more call is ours to make. Counts; makes no call.

use super::client::Need;
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
/// First loads stop here, so that people's edits still get through.
const BACKFILL_PERCENT: u64 = 80;

/// Calls used and allowed.
pub(super) struct Usage {
    share: Option<f64>,
    /// Used by everybody and allowed, as the org last said, and when that was.
    told: Option<(u64, u64)>,
    told_at: Instant,
    /// Our own calls: since when, and how many.
    own: VecDeque<(Instant, u64)>,
    /// When a look behind the events of each object was last admitted.
    looks: HashMap<String, Instant>,
}

impl Usage {
    pub fn new(share: Option<f64>) -> Usage {
        Usage { share, told: None, told_at: Instant::now(), own: VecDeque::new(), looks: HashMap::new() }
    }

    /// What the org said last: used, allowed.
    pub fn told(&self) -> Option<(u64, u64)> {
        self.told
    }

    /// Our own calls of the last 24 hours, as far as this process has made them.
    pub fn own(&self) -> u64 {
        self.own.iter().map(|(_, calls)| *calls).fold(0, u64::saturating_add)
    }

    /// What is allowed, used and to be expected; `None` before the org has said anything.
    pub fn allowance(&self) -> Option<Allowance> {
        let (used, allowed) = self.told?;
        let share = self.allowed(Need::Now).unwrap_or(allowed);
        let now = Instant::now();
        let recent: u64 = self
            .own
            .iter()
            .filter(|(since, _)| now.duration_since(*since) < HOUR)
            .map(|(_, calls)| *calls)
            .fold(0, u64::saturating_add);
        // A process that has just begun has not shown yet how it goes on.
        let age = self.own.front().map_or(Duration::ZERO, |(since, _)| now.duration_since(*since)).clamp(BUCKET, HOUR);
        let forecast = recent.saturating_mul(DAY.as_secs()) / age.as_secs().max(1);
        Some(Allowance { used, allowed, own: self.own(), share, forecast })
    }

    /// Whether a call may be made now. What can wait leaves the last fifth of what everybody may use to people's edits, too,
    /// whoever has used the rest.
    pub fn admit(&mut self, need: Need) -> Result<()> {
        let now = Instant::now();
        self.leaves_our_share(need, now)?;
        match need {
            Need::Backfill => self.leaves_the_rest(now),
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
    fn leaves_our_share(&mut self, need: Need, now: Instant) -> Result<()> {
        while self.own.front().is_some_and(|(since, _)| now.duration_since(*since) >= DAY) {
            self.own.pop_front();
        }
        let (Some(allowed), Some((since, _))) = (self.allowed(need), self.own.front()) else { return Ok(()) };
        if self.own() < allowed {
            return Ok(());
        }
        let wait = DAY.saturating_sub(now.duration_since(*since)).min(BUCKET);
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
        let now = Instant::now();
        match self.own.back_mut() {
            Some((since, calls)) if now.duration_since(*since) < BUCKET => *calls = calls.saturating_add(1),
            _ => self.own.push_back((now, 1)),
        }
        if let Some(told) = said.and_then(said_of) {
            (self.told, self.told_at) = (Some(told), now);
        }
    }
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
