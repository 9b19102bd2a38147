//! The log, seen from behind: what is kept, what comes late, what is merged.

use super::{Body, Channel};
use crate::clock::Clock;
use crate::faults::{Action, Fault, Where};
use crate::salesforce::ids::Id;
use crate::salesforce::org::{Options, Org};
use crate::salesforce::person::Person;
use crate::salesforce::state::State;
use serde_json::{Map, Value as Json, json};

const HOUR_MS: i64 = 3_600_000;

fn org() -> Org {
    let clock = Clock::new();
    clock.freeze();
    Org::new(Options::default(), clock).expect("an org")
}

fn fields(value: Json) -> Map<String, Json> {
    value.as_object().cloned().expect("an object")
}

fn account(org: &Org, name: &str) -> Id {
    Person { org }.create("Account", &fields(json!({"Name": name}))).expect("made")
}

/// The records of every event after a replay id.
fn told(org: &Org, after: u64) -> Vec<String> {
    let state = org.state();
    state.events.after(&Channel::All, after, 100).iter().flat_map(|event| event.record_ids.clone()).collect()
}

#[test]
fn events_are_kept_for_three_days() {
    let org = org();
    let first = account(&org, "A");
    let before = org.state().events.earliest();
    org.clock.advance(71 * HOUR_MS);
    let second = account(&org, "B");
    assert_eq!(told(&org, before), [first.to_string(), second.to_string()]);
    org.clock.advance(2 * HOUR_MS);
    org.state().events.forget(org.clock.now_ms());
    assert_eq!(told(&org, before), [second.to_string()]);
    assert!(!org.state().events.knows(before), "reading cannot go on from a place behind which something is gone");
    let earliest = org.state().events.earliest();
    assert!(org.state().events.knows(earliest));
}

#[test]
fn a_late_event_comes_behind_later_ones() {
    let org = org();
    let start = org.state().events.latest();
    org.faults.add(Fault::once(Where::default(), Action::Late { ms: 5_000 }));
    let late = account(&org, "late");
    let prompt = account(&org, "prompt");
    assert_eq!(told(&org, start), [prompt.to_string()]);
    org.clock.advance(5_000);
    let State { events, chance, .. } = &mut *org.state();
    assert_eq!(events.release_late(org.clock.now_ms(), chance), None);
    let all: Vec<String> = events.after(&Channel::All, start, 100).iter().flat_map(|event| event.record_ids.clone()).collect();
    assert_eq!(all, [prompt.to_string(), late.to_string()]);
}

#[test]
fn two_edits_within_a_second_are_two_events_with_one_stamp() {
    let org = org();
    let id = account(&org, "A");
    let start = org.state().events.latest();
    for phone in ["1", "2"] {
        Person { org: &org }.update("Account", id, &fields(json!({"Phone": phone}))).expect("changed");
    }
    let state = org.state();
    let events = state.events.after(&Channel::All, start, 100);
    assert_eq!(events.len(), 2);
    assert!(events.iter().all(|event| event.changed.len() == 2), "the phone and the stamp");
    assert!(events[0].replay_id < events[1].replay_id && events[0].commit_number < events[1].commit_number);
}

#[test]
fn a_large_text_is_told_by_what_differs() {
    let org = org();
    let lines = |last: &str| format!("{}\n{last}\nend", "a line of a long text\n".repeat(60).trim_end());
    let person = Person { org: &org };
    let id = person.create("Account", &fields(json!({"Name": "A", "Description": lines("old")}))).expect("made");
    let start = org.state().events.latest();
    for given in
        [json!({"Description": lines("new"), "Phone": "1"}), json!({"Description": "short"}), json!({"Description": null})]
    {
        person.update("Account", id, &fields(given)).expect("changed");
    }
    let state = org.state();
    let events = state.events.after(&Channel::All, start, 100);
    let differing: Vec<usize> = events.iter().map(|event| event.differing.len()).collect();
    assert_eq!(differing, [1, 0, 0], "only where both are large");
    let at = events[0].differing[0];
    assert!(events[0].changed.contains(&at) && events[2].nulled == [at]);
    let told = events[0].body.iter().find_map(|body| match body {
        Body::Plain(place, value) if (*place, None) == at => Some(value.csv()),
        _ => None,
    });
    assert_eq!(told.as_deref(), Some("--- \n+++ \n@@ -61,1 +61,1 @@\n-old\n+new"));
}

#[test]
fn a_channel_has_the_objects_that_it_is_for() {
    let org = org();
    org.state().events.channels.insert("/data/Sales__chn".to_string(), vec!["Account".to_string(), "Lead".to_string()]);
    let state = org.state();
    let channel = |topic| state.events.channel(&state.data.schema, topic);
    assert_eq!(channel("/data/ChangeEvents"), Some(Channel::All));
    assert_eq!(channel("/data/ContactChangeEvent"), Some(Channel::Of(vec!["Contact".to_string()])));
    assert_eq!(channel("/data/Sales__chn"), Some(Channel::Of(vec!["Account".to_string(), "Lead".to_string()])));
    assert_eq!(channel("/data/UserChangeEvent"), None, "not switched on");
    assert_eq!(channel("/data/NopeChangeEvent"), None);
    assert_eq!(channel("/event/Other__e"), None);
}
