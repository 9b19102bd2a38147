//! Positions, versions and marks: what they hold, how they compare, how they are written. A version is that of an event
//! (exactly ordered among events by the number of its commit) or that of a read (ordered by the record's stamp, which is
//! only as fine as a second, and by what the feed had shown before the read began).

use super::shared::Mode;
use super::sweep::OVERLAP_SECONDS;
use crate::percent::{decoded, encoded};
use concord_engine::change::{Mark, Position, Version};
use concord_engine::error::{Code, Error, Result};
use serde::{Deserialize, Serialize};
use std::cmp::Ordering;
use std::sync::Arc;

/// How many of the last events' records a position remembers, so that a fence can tell that they were shown.
pub(super) const RECENT_MAX: usize = 16;
/// A position whose last event was committed so much later than a change stands behind it.
const SURELY_LATER_SECONDS: i64 = 2;
/// Commits are numbered within one database: where the vendor moves an org to another one they may begin lower. What has a lower
/// number and happened so much later does not stand before.
const RENUMBERED_SECONDS: i64 = 10;
/// By so much the org's clock and ours may differ.
const CLOCKS_APART_SECONDS: i64 = 300;
/// Commits that fall so long behind the last one are certainly numbered anew: the org was away for a while.
const MOVED_MS: i64 = 3_600_000;

/// The org tells for 30 days of what was deleted.
const DELETES_TOLD_MS: i64 = 29 * 86_400_000;

/// A place in the feed of one object.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Place {
    /// The vendor's own place in the topic; empty before the first event or sign of life.
    pub replay: Vec<u8>,
    /// The number of the last commit that was shown.
    pub commit: u64,
    /// When that was, in milliseconds since 1970.
    pub commit_ms: i64,
    /// Events committed before this moment are from before the feed began.
    pub floor_ms: i64,
    /// The records of the last events, with the second of their change. A place is copied with every event.
    pub recent: Vec<(Arc<str>, i64)>,
    /// The process that handed it out, and how many places it had handed out by then: what it shows was taken in by whoever
    /// stands here.
    pub run: u64,
    pub step: u64,
    /// When the feed began, in milliseconds since 1970 as the org's clock showed it.
    pub begun_ms: i64,
    /// Whether the object was polled up to here: `floor_ms` is when the last look began.
    pub polled: bool,
    /// What was published before this moment, in milliseconds since 1970, has come.
    pub quiet_ms: i64,
    /// What was touched before this moment of the org has been looked at behind the events, and what that found is before
    /// here.
    pub looked_ms: i64,
}

/// A place as it was written before it told how far had been looked behind the events.
#[derive(Serialize, Deserialize)]
struct PlaceUnlooked {
    replay: Vec<u8>,
    commit: u64,
    commit_ms: i64,
    floor_ms: i64,
    recent: Vec<(Arc<str>, i64)>,
    run: u64,
    step: u64,
    begun_ms: i64,
    polled: bool,
    quiet_ms: i64,
}

/// A place as it was written before it told when nothing was on its way.
#[derive(Serialize, Deserialize)]
struct PlaceBefore {
    replay: Vec<u8>,
    commit: u64,
    commit_ms: i64,
    floor_ms: i64,
    recent: Vec<(Arc<str>, i64)>,
    run: u64,
    step: u64,
    begun_ms: i64,
    polled: bool,
}

/// A place as it was written before it told who had handed it out.
#[derive(Serialize, Deserialize)]
struct EarlierPlace {
    replay: Vec<u8>,
    commit: u64,
    commit_ms: i64,
    floor_ms: i64,
    recent: Vec<(Arc<str>, i64)>,
}

/// What must have been shown for a fence to be passed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Fence {
    /// The number of the fence within this process.
    pub number: u64,
    /// The feed that it stands in.
    pub feed: String,
    /// The last place that had been handed out, where any had: what came before it must have been taken in.
    pub behind: Option<(u64, u64)>,
    /// Records, with the second of the change that is to be seen.
    pub needs: Vec<(String, i64)>,
}

/// What a position can hold. Positions are stored: what stands here stays as it is, and new kinds go to the end.
#[derive(Serialize, Deserialize)]
enum Written {
    Earlier(EarlierPlace),
    Fence(Fence),
    Before(PlaceBefore),
    Unlooked(PlaceUnlooked),
    At(Place),
}

impl Place {
    /// As people read it.
    pub fn shown(&self) -> String {
        match self.replay.is_empty() {
            true => "at the end of the topic".to_owned(),
            false => format!("replay id {}", self.replay.iter().map(|byte| format!("{byte:02x}")).collect::<String>()),
        }
    }

    pub fn encode(&self) -> Position {
        Position(postcard::to_stdvec(&Written::At(self.clone())).unwrap_or_default())
    }

    pub fn decode(position: &Position) -> Result<Place> {
        match postcard::from_bytes(&position.0) {
            Ok(Written::At(place)) => Ok(place),
            Ok(Written::Earlier(EarlierPlace { replay, commit, commit_ms, floor_ms, recent })) => {
                Ok(Place { replay, commit, commit_ms, floor_ms, recent, ..Place::default() }.looked_at())
            }
            Ok(Written::Before(before)) => {
                let PlaceBefore { replay, commit, commit_ms, floor_ms, recent, run, step, begun_ms, polled } = before;
                // Then the floor rose with every quiet hour.
                let quiet_ms = floor_ms;
                let looked_ms = 0;
                let place =
                    Place { replay, commit, commit_ms, floor_ms, recent, run, step, begun_ms, polled, quiet_ms, looked_ms };
                Ok(place.looked_at())
            }
            Ok(Written::Unlooked(unlooked)) => {
                let PlaceUnlooked { replay, commit, commit_ms, floor_ms, recent, run, step, begun_ms, polled, quiet_ms } =
                    unlooked;
                let looked_ms = 0;
                let place =
                    Place { replay, commit, commit_ms, floor_ms, recent, run, step, begun_ms, polled, quiet_ms, looked_ms };
                Ok(place.looked_at())
            }
            _ => Err(Error::new(Code::FeedGap, "the stored position is none of this connector's")),
        }
    }

    /// A place that does not say how far it was looked behind the events: then each look began at the last event.
    fn looked_at(self) -> Place {
        Place { looked_ms: self.commit_ms.max(self.floor_ms).max(self.begun_ms), ..self }
    }

    /// The place as a feed is read from it that is read so: whichever way it was read before, what was touched since is asked
    /// for.
    pub fn when_read(self, mode: Mode) -> Place {
        match (mode, self.polled) {
            (Mode::Events, true) => {
                let floor_ms = self.floor_ms.saturating_sub(OVERLAP_SECONDS * 1_000);
                Place { floor_ms, begun_ms: floor_ms, polled: false, ..self }
            }
            (Mode::Polling, false) => {
                // An event tells of its own record alone: what others were lost by then is known as far as was looked behind them.
                let told_ms = self.commit_ms.min(self.looked_upto().saturating_mul(1_000));
                let floor_ms = self.floor_ms.max(told_ms).max(self.begun_ms).max(self.deletes_from_ms());
                Place { floor_ms, replay: Vec::new(), polled: true, ..self }
            }
            _ => self,
        }
    }

    /// Everything that was touched before this second needs no look behind the events: it was looked at, or was over when
    /// the feed began.
    pub fn looked_upto(&self) -> i64 {
        self.looked_ms.max(self.begun_ms).max(self.floor_ms).div_euclid(1_000)
    }

    /// Deletes from before this moment need not be asked for: the org does not tell of them any more, and their events have come.
    pub fn deletes_from_ms(&self) -> i64 {
        self.quiet_ms.saturating_sub(DELETES_TOLD_MS)
    }

    /// Whether the org was moved between here and this commit, which has a lower number, and is much younger.
    pub fn is_of_another_numbering(&self, commit: u64, commit_ms: i64) -> bool {
        (1..self.commit).contains(&commit) && commit_ms > self.commit_ms.saturating_add(MOVED_MS)
    }

    /// Whether everything up to that place was told by here.
    pub fn has_reached(&self, goal: &Place) -> bool {
        self.commit >= goal.commit || is_renumbered((goal.commit, goal.commit_ms), (self.commit, self.commit_ms))
    }

    /// An event was shown.
    pub fn pass(&mut self, replay: &[u8], commit: u64, commit_ms: i64, ids: &[String]) {
        self.replay = replay.to_vec();
        self.commit = later((self.commit, self.commit_ms), (commit, commit_ms)).0;
        self.commit_ms = self.commit_ms.max(commit_ms);
        let second = commit_ms.div_euclid(1_000);
        for id in ids.iter().rev().take(RECENT_MAX) {
            self.recent.retain(|(known, _)| **known != **id);
            self.recent.push((Arc::from(id.as_str()), second));
        }
        let surplus = self.recent.len().saturating_sub(RECENT_MAX);
        self.recent.drain(..surplus);
    }

    /// Whether a change of a record in this second was shown before here, as far as the place itself can tell.
    pub fn is_behind(&self, id: &str, second: i64) -> bool {
        let last_second = self.commit_ms.div_euclid(1_000);
        last_second > second.saturating_add(SURELY_LATER_SECONDS)
            || self.recent.iter().any(|(known, shown)| **known == *id && *shown >= second)
    }
}

impl Fence {
    pub fn encode(&self) -> Position {
        Position(postcard::to_stdvec(&Written::Fence(self.clone())).unwrap_or_default())
    }

    pub fn decode(position: &Position) -> Option<Fence> {
        match postcard::from_bytes(&position.0) {
            Ok(Written::Fence(fence)) => Some(fence),
            _ => None,
        }
    }
}

/// Whether the second of two commits (their numbers, and when they were, in milliseconds) has a lower number though it is later.
fn is_renumbered(one: (u64, i64), other: (u64, i64)) -> bool {
    (1..one.0).contains(&other.0) && other.1 > one.1.saturating_add(RENUMBERED_SECONDS * 1_000)
}

/// The later one of two commits that were shown one after the other.
pub(super) fn later(one: (u64, i64), other: (u64, i64)) -> (u64, i64) {
    if other.0 >= one.0 || is_renumbered(one, other) { other } else { one }
}

/// A version of a record.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Seen {
    /// Told by an event.
    Told {
        commit: u64,
        sequence: i64,
        /// The second of the change.
        second: i64,
        /// The write of ours that it is the echo of.
        ours: Option<u64>,
    },
    /// Shown by a read, or after a write of ours.
    Shown {
        /// The second of the record's last change; `None` when it was not there.
        second: Option<i64>,
        /// The commits up to here had been shown by the feed before the read began: it saw them.
        behind: u64,
        /// When the read began and when it was over, in microseconds since 1970.
        began: i64,
        over: i64,
        /// The write of ours that stands before it.
        ours: Option<u64>,
    },
}

impl Seen {
    pub fn encode(&self) -> Version {
        Version(postcard::to_stdvec(self).unwrap_or_default())
    }
}

/// How two versions stand to each other; see the head of this file.
pub(super) fn compare(a: &Version, b: &Version) -> Option<Ordering> {
    if a == b {
        return Some(Ordering::Equal);
    }
    let (a, b): (Seen, Seen) = (postcard::from_bytes(&a.0).ok()?, postcard::from_bytes(&b.0).ok()?);
    match (&a, &b) {
        (Seen::Told { commit, sequence, second, .. }, Seen::Told { commit: other, sequence: after, second: then, .. }) => {
            let order = (commit, sequence).cmp(&(other, after));
            // Of one record both orders are the same, unless the org was moved between the two: then only a read can tell.
            let contradicts = match order {
                Ordering::Less => *second > then.saturating_add(RENUMBERED_SECONDS),
                Ordering::Greater => *then > second.saturating_add(RENUMBERED_SECONDS),
                Ordering::Equal => false,
            };
            (!contradicts).then_some(order)
        }
        (Seen::Told { .. }, Seen::Shown { .. }) => event_to_read(&a, &b),
        (Seen::Shown { .. }, Seen::Told { .. }) => event_to_read(&b, &a).map(Ordering::reverse),
        (Seen::Shown { second, began, over, .. }, Seen::Shown { second: other, began: others_began, over: others_over, .. }) => {
            match (second, other) {
                (Some(one), Some(other)) if one != other => Some(one.cmp(other)),
                _ if over < others_began => Some(Ordering::Less),
                _ if others_over < began => Some(Ordering::Greater),
                _ => None,
            }
        }
    }
}

/// An event against a read. Changes of one record have ascending stamps, for each holds the record's lock while it is
/// stamped; within one second only what the feed had shown before the read can tell.
fn event_to_read(event: &Seen, read: &Seen) -> Option<Ordering> {
    let (Seen::Told { commit, second, ours, .. }, Seen::Shown { second: stamp, behind, over, ours: before, .. }) = (event, read)
    else {
        return None;
    };
    if ours.is_some() && ours == before {
        return Some(Ordering::Less);
    }
    if commit <= behind {
        // What the read did not see is no earlier commit, whatever its number says: that is of another numbering. A stamp is a
        // second's; where that leaves a doubt, the record is read.
        let seen_until = match stamp {
            Some(stamp) => stamp.saturating_add(1),
            None => over.div_euclid(1_000_000).saturating_add(CLOCKS_APART_SECONDS),
        };
        return (*second <= seen_until).then_some(Ordering::Less);
    }
    match stamp {
        Some(stamp) if second > stamp => Some(Ordering::Greater),
        Some(stamp) if second < stamp => Some(Ordering::Less),
        _ => None,
    }
}

/// What stands in front of every mark of ours.
const SIGNATURE: &str = "concord";

/// A mark as the name that a client gives itself: the vendor hands it back in the event's origin.
pub(super) fn client_name(mark: &Mark) -> String {
    format!("{SIGNATURE}:{}:{}:{}:{}", encoded(&mark.store), encoded(&mark.sync), mark.intent, mark.hops)
}

/// The mark behind a client's name. A name that is none marks nothing: the change is then an edit, which loses none.
pub(super) fn mark_of(client: &str) -> Option<Mark> {
    let mut parts = client.split(':');
    let mut next = || parts.next();
    let (signature, store, sync) = (next()?, decoded(next()?)?, decoded(next()?)?);
    let (intent, hops) = (next()?.parse().ok()?, next()?.parse().ok()?);
    (signature == SIGNATURE).then_some(Mark { store, sync, intent, hops })
}

/// A short stand-in for a mark within a version.
pub(super) fn fingerprint(client: &str) -> u64 {
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, client.as_bytes());
    digest.as_ref().iter().take(8).fold(0, |number, byte| (number << 8) | u64::from(*byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(commit: u64, second: i64) -> Version {
        Seen::Told { commit, sequence: 1, second, ours: None }.encode()
    }

    fn shown(second: i64, behind: u64, began: i64) -> Version {
        Seen::Shown { second: Some(second), behind, began, over: began + 5, ours: None }.encode()
    }

    #[test]
    fn a_mark_comes_back_as_it_went() {
        let mark = Mark { store: "a-store".into(), sync: "a sync \"quoted\"; client=x, y:z".into(), intent: 7, hops: 3 };
        let name = client_name(&mark);
        assert!(name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b":%-._~".contains(&byte)), "{name}");
        assert_eq!(mark_of(&name), Some(mark));
        assert_eq!(mark_of("SfdcInternalAPI/"), None);
    }

    #[test]
    fn within_a_second_only_what_the_feed_had_shown_orders_event_and_read() {
        assert_eq!(compare(&told(5, 100), &shown(101, 0, 0)), Some(Ordering::Less));
        assert_eq!(compare(&told(5, 102), &shown(101, 0, 0)), Some(Ordering::Greater));
        assert_eq!(compare(&told(5, 101), &shown(101, 4, 0)), None);
        assert_eq!(compare(&shown(101, 5, 0), &told(5, 101)), Some(Ordering::Greater));
        assert_eq!(compare(&shown(101, 5, 0), &shown(101, 5, 50)), Some(Ordering::Less));
        assert_eq!(compare(&shown(101, 5, 0), &shown(101, 5, 3)), None);
        assert_eq!(compare(&told(5, 101), &told(6, 101)), Some(Ordering::Less));
    }

    #[test]
    fn commits_that_are_numbered_anew_are_not_taken_for_old_ones() {
        assert_eq!(compare(&told(1_000, 100), &told(5, 100 + 3_600)), None);
        assert_eq!(compare(&told(5, 100 + 3_600), &told(1_000, 100)), None);
        assert_eq!(compare(&told(5, 100), &told(1_000, 100 + 3_600)), Some(Ordering::Less));
        assert_eq!(compare(&told(5, 103), &told(6, 100)), Some(Ordering::Less), "stamps are a little off");
        assert_eq!(compare(&told(5, 100 + 3_600), &shown(100, 1_000, 0)), None, "the read did not see it");
        assert_eq!(compare(&told(5, 100), &shown(100 + 3_600, 1_000, 0)), Some(Ordering::Less));
        let absent = Seen::Shown { second: None, behind: 1_000, began: 0, over: 100_000_000, ours: None }.encode();
        assert_eq!(compare(&told(5, 100), &absent), Some(Ordering::Less));
        assert_eq!(compare(&told(5, 100 + 3_600), &absent), None, "it came back behind the read");
    }

    #[test]
    fn a_place_follows_commits_that_are_numbered_anew() {
        let mut place = Place::default();
        place.pass(&[1], 1_000, 1_000_000, &[]);
        place.pass(&[2], 990, 999_000, &[]);
        assert_eq!((place.commit, place.commit_ms), (1_000, 1_000_000), "what comes late is no new beginning");
        let before = place.clone();
        assert!(!place.is_of_another_numbering(5, 1_060_000) && place.is_of_another_numbering(5, 5_000_000));
        assert!(!place.is_of_another_numbering(0, 5_000_000), "an event that names no commit says nothing");
        place.pass(&[3], 5, 1_060_000, &[]);
        assert_eq!((place.commit, place.commit_ms), (5, 1_060_000));
        assert!(place.has_reached(&before) && !before.has_reached(&Place { commit: 1_001, ..before.clone() }));
    }

    #[test]
    fn what_was_not_looked_for_behind_the_events_is_asked_for_when_the_object_is_polled() {
        let place = Place { commit_ms: 9_000_000, looked_ms: 5_000_000, begun_ms: 1_000_000, ..Place::default() };
        assert_eq!(place.clone().when_read(Mode::Polling).floor_ms, 5_000_000, "an event of that time may have been lost");
        let looked = Place { looked_ms: 9_500_000, ..place.clone() };
        assert_eq!(looked.when_read(Mode::Polling).floor_ms, 9_000_000, "what came behind the last event has not been told");
        let unlooked = Place { looked_ms: 0, ..place };
        assert_eq!(unlooked.when_read(Mode::Polling).floor_ms, 1_000_000, "nothing from before the feed began");
    }

    #[test]
    fn the_echo_of_our_own_write_stands_before_what_we_read_behind_it() {
        let echo = Seen::Told { commit: 9, sequence: 1, second: 101, ours: Some(4) }.encode();
        let written = Seen::Shown { second: Some(101), behind: 2, began: 0, over: 1, ours: Some(4) }.encode();
        assert_eq!(compare(&echo, &written), Some(Ordering::Less));
        assert_eq!(compare(&told(9, 101), &written), None, "somebody else's change in that second must be looked at");
    }

    #[test]
    fn a_place_remembers_the_last_records_and_knows_what_is_long_past() {
        let mut place = Place::default();
        for number in 0..40_i64 {
            place.pass(&[1], u64::try_from(number).unwrap(), 10_000 + number, &[format!("id{number}")]);
        }
        assert_eq!(place.recent.len(), RECENT_MAX);
        assert!(place.is_behind("id39", 10) && !place.is_behind("id1", 10) && place.is_behind("id1", 7));
        assert_eq!(Place::decode(&place.encode()).unwrap(), place);
        let earlier = EarlierPlace {
            replay: place.replay.clone(),
            commit: place.commit,
            commit_ms: place.commit_ms,
            floor_ms: place.floor_ms,
            recent: place.recent.clone(),
        };
        let stored = Position(postcard::to_stdvec(&Written::Earlier(earlier)).unwrap());
        let looked = Place { looked_ms: place.commit_ms, ..place.clone() };
        assert_eq!(Place::decode(&stored).unwrap(), looked, "a position of an earlier version is good");
        let Place { replay, commit, commit_ms, floor_ms, recent, run, step, begun_ms, polled, quiet_ms, .. } = place.clone();
        let before = PlaceBefore {
            replay: replay.clone(),
            commit,
            commit_ms,
            floor_ms,
            recent: recent.clone(),
            run,
            step,
            begun_ms,
            polled,
        };
        let stored = Position(postcard::to_stdvec(&Written::Before(before)).unwrap());
        assert_eq!(Place::decode(&stored).unwrap(), looked, "and so is one of the version after that");
        let unlooked = PlaceUnlooked { replay, commit, commit_ms, floor_ms, recent, run, step, begun_ms, polled, quiet_ms };
        // As the version after that wrote it: its kind had this number, and its fields were these, in this order.
        let stored = [vec![3], postcard::to_stdvec(&unlooked).unwrap()].concat();
        assert_eq!(Place::decode(&Position(stored)).unwrap(), looked, "and of the one after that");
    }
}
