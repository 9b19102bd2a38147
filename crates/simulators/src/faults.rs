//! What goes wrong on purpose: rules that a test sets, each with what it waits for, when, how often, and what happens.
//! Owns the rules and their counting; the place where a fault takes effect is where the thing itself happens.

use crate::chance::Chance;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

/// Faults that are set.
#[derive(Debug)]
pub struct Faults {
    inner: Mutex<Inner>,
}

#[derive(Debug)]
struct Inner {
    rules: Vec<Armed>,
    numbers: u64,
    chance: Chance,
}

#[derive(Debug)]
struct Armed {
    number: u64,
    rule: Fault,
    seen: u32,
    done: u32,
}

/// A fault as it is written down.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fault {
    #[serde(default)]
    pub on: Where,
    /// How many matching things pass before the first that fails.
    #[serde(default)]
    pub after: u32,
    /// How many fail; none: all from then on.
    #[serde(default = "once")]
    pub times: Option<u32>,
    /// Each matching thing fails with this chance; none: certainly.
    #[serde(default)]
    pub percent: Option<u8>,
    #[serde(rename = "do")]
    pub action: Action,
}

#[allow(clippy::unnecessary_wraps, reason = "the default of an optional field")]
fn once() -> Option<u32> {
    Some(1)
}

/// What a fault waits for. Everything given must fit.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Where {
    pub method: Option<String>,
    /// A part of the path; of the topic for streams.
    pub path: Option<String>,
    /// A part of the body.
    pub body: Option<String>,
    /// The object of a record or of an event.
    pub object: Option<String>,
    /// The record.
    pub id: Option<String>,
    /// The kind of an event: `CREATE`, `UPDATE`, …
    pub change: Option<String>,
}

/// What happens.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    /// The session is ended: 401 INVALID_SESSION_ID now and until a new token is fetched.
    SessionExpired,
    /// 403 REQUEST_LIMIT_EXCEEDED.
    RequestLimit,
    /// 503 SERVER_UNAVAILABLE.
    Unavailable,
    /// Any answer.
    Answer {
        status: u16,
        body: String,
        #[serde(default)]
        headers: BTreeMap<String, String>,
    },
    /// The connection is cut before anything happens.
    Cut,
    /// Everything happens, and the connection is cut instead of the answer.
    AnswerLost,
    /// Everything happens, and the connection is cut after so many bytes of the answer's body.
    Truncated { bytes: usize },
    /// Everything happens so many milliseconds of the machine's time later.
    Slow { ms: u64 },
    /// Everything happens, and the answer comes so many milliseconds of the machine's time later.
    AnswerLate { ms: u64 },
    /// The record is locked: UNABLE_TO_LOCK_ROW.
    LockRow,
    /// The record is refused.
    RecordError { code: String, message: String },
    /// The job breaks when it has done so many records: it has failed, and what it did stays.
    JobBreaks { after: usize },
    /// The job rests for so many milliseconds of the machine's time when it has done so many records.
    JobRests { after: usize, ms: u64 },
    /// The event comes twice.
    Duplicate,
    /// The event comes so many milliseconds late, behind others.
    Late { ms: i64 },
    /// A gap event comes in its place.
    Gap,
    /// An overflow event comes in its place.
    Overflow,
    /// An event of all records of the object comes in its place: a field has got another type.
    Wildcard,
    /// The stream ends with this gRPC status, now or when it is opened.
    StreamEnd { status: i32, error_code: String, message: String },
    /// The stream's connection is cut, now or when it is opened.
    StreamCut,
    /// The stream stays open and says nothing from now on: no event and no sign of life.
    StreamSilent,
}

/// Something that a fault could befall.
#[derive(Clone, Debug)]
pub enum Happening<'a> {
    Request {
        method: &'a str,
        path: &'a str,
        body: &'a str,
    },
    Record {
        object: &'a str,
        id: Option<&'a str>,
    },
    /// A job of Bulk API begins its work: `jobs/ingest` or `jobs/query`.
    Job {
        object: &'a str,
        room: &'a str,
    },
    Event {
        object: &'a str,
        change: &'a str,
    },
    Stream {
        topic: &'a str,
    },
}

impl Faults {
    /// No faults; chance repeats itself for the same seed.
    pub fn new(seed: u64) -> Self {
        Self { inner: Mutex::new(Inner { rules: Vec::new(), numbers: 0, chance: Chance::new(seed) }) }
    }

    /// Sets a fault; its number takes it away again.
    pub fn add(&self, rule: Fault) -> u64 {
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        inner.numbers += 1;
        let number = inner.numbers;
        inner.rules.push(Armed { number, rule, seen: 0, done: 0 });
        number
    }

    /// Takes a fault away.
    pub fn remove(&self, number: u64) {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner).rules.retain(|armed| armed.number != number);
    }

    /// Takes all faults away.
    pub fn clear(&self) {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner).rules.clear();
    }

    /// How often each fault took effect, by its number.
    pub fn counts(&self) -> Vec<(u64, u32)> {
        let inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        inner.rules.iter().map(|armed| (armed.number, armed.done)).collect()
    }

    /// What shall befall this, if anything. Counts.
    pub fn befalls(&self, happening: &Happening<'_>) -> Option<Action> {
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        let Inner { rules, chance, .. } = &mut *inner;
        for armed in rules {
            if !armed.rule.fits(happening) {
                continue;
            }
            armed.seen += 1;
            let due = armed.seen > armed.rule.after && armed.rule.times.is_none_or(|times| armed.done < times);
            if due && armed.rule.percent.is_none_or(|percent| chance.percent(percent)) {
                armed.done += 1;
                return Some(armed.rule.action.clone());
            }
        }
        None
    }
}

impl Fault {
    /// A fault that happens once, to the first thing that it fits.
    pub fn once(on: Where, action: Action) -> Self {
        Self { on, after: 0, times: Some(1), percent: None, action }
    }

    fn fits(&self, happening: &Happening<'_>) -> bool {
        let same = |wanted: &Option<String>, own: &str| wanted.as_deref().is_none_or(|wanted| wanted.eq_ignore_ascii_case(own));
        let part = |wanted: &Option<String>, own: &str| wanted.as_deref().is_none_or(|wanted| own.contains(wanted));
        use Action::{
            Answer, AnswerLate, AnswerLost, Cut, Duplicate, Gap, JobBreaks, JobRests, Late, LockRow, Overflow, RecordError,
            RequestLimit, SessionExpired, Slow, StreamCut, StreamEnd, StreamSilent, Truncated, Unavailable, Wildcard,
        };
        match (happening, &self.action) {
            (
                Happening::Request { method, path, body },
                SessionExpired
                | RequestLimit
                | Unavailable
                | Answer { .. }
                | Cut
                | AnswerLost
                | AnswerLate { .. }
                | Truncated { .. }
                | Slow { .. },
            ) => same(&self.on.method, method) && part(&self.on.path, path) && part(&self.on.body, body),
            (Happening::Record { object, id }, LockRow | RecordError { .. }) => {
                same(&self.on.object, object) && self.on.id.as_deref().is_none_or(|wanted| *id == Some(wanted))
            }
            (Happening::Job { object, room }, JobBreaks { .. } | JobRests { .. }) => {
                same(&self.on.object, object) && part(&self.on.path, room)
            }
            (Happening::Event { object, change }, Duplicate | Late { .. } | Gap | Overflow | Wildcard) => {
                same(&self.on.object, object) && same(&self.on.change, change)
            }
            (Happening::Stream { topic }, StreamEnd { .. } | StreamCut | StreamSilent) => part(&self.on.path, topic),
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(path: &str) -> Happening<'_> {
        Happening::Request { method: "GET", path, body: "" }
    }

    #[test]
    fn a_fault_waits_for_its_turn_and_happens_as_often_as_it_should() {
        let faults = Faults::new(1);
        let rule: Fault =
            serde_json::from_str(r#"{"on": {"path": "/query"}, "after": 1, "times": 2, "do": "unavailable"}"#).expect("a fault");
        faults.add(rule);
        let hit = |path| faults.befalls(&request(path)).is_some();
        let hits = [hit("/query"), hit("/other"), hit("/query"), hit("/query"), hit("/query")];
        assert_eq!(hits, [false, false, true, true, false]);
    }

    #[test]
    fn chance_repeats_itself_for_the_same_seed() {
        let run = |seed| {
            let faults = Faults::new(seed);
            let on = Where::default();
            faults.add(Fault { percent: Some(30), times: None, ..Fault::once(on, Action::Unavailable) });
            (0..64).map(|_| faults.befalls(&request("/")).is_some()).collect::<Vec<_>>()
        };
        assert_eq!(run(5), run(5));
        assert!(run(5).contains(&true) && run(5).contains(&false));
    }

    #[test]
    fn a_fault_of_records_does_not_befall_requests() {
        let faults = Faults::new(1);
        faults.add(Fault::once(Where::default(), Action::LockRow));
        assert_eq!(faults.befalls(&request("/")), None);
        assert!(faults.befalls(&Happening::Record { object: "Account", id: None }).is_some());
    }
}
