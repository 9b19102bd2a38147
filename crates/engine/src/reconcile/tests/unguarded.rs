//! Writes that went over what their member showed: what becomes of the debts that came up meanwhile, and what the ledger says of
//! what was written over.

use super::support::{grouped, one_way, rules};
use super::world::{World, key, version};
use crate::change::EditTime;
use crate::clock::Moment;
use crate::connector::Operation;
use crate::ledger::Entry;
use crate::link::{Life, Pending, Shown, Standing};
use crate::reconcile::{Written, cover_pending, settle};
use crate::record::Record;
use crate::rules::{Policy, SyncRules};
use crate::value::Value;

const A: usize = 0;
const B: usize = 1;

fn text(text: &str) -> Value {
    Value::text(text)
}

fn time(at: i64) -> EditTime {
    EditTime { at: Moment(at), granularity_micros: 1, estimated: false }
}

/// Two members that agree, of which `a` has then changed the city: `b` owes it.
fn owing(rules: SyncRules) -> World {
    let mut world = World::new(rules);
    world.now = 10;
    for member in [A, B] {
        world.edit(member, &[(0, text("Ada")), (1, text("Rome"))], time(1), false);
        world.deliver(member);
    }
    world.decide(None).unwrap();
    world.edit(A, &[(1, text("Oslo"))], time(2), false);
    world.deliver(A);
    world.decide(None).unwrap();
    assert_eq!(world.link.sides[B].owes, [world.rules.fields[1].group]);
    world
}

fn sets_the_city() -> Operation {
    let set: Record = [("city".into(), text("Oslo"))].into_iter().collect();
    Operation::Update { key: key(B), set, guard: Record::new() }
}

fn written(operation: &Operation, planned: u64) -> Written<'_> {
    Written { operation, key: key(B), image: None, times: Vec::new(), version: version(100), hops: 0, planned }
}

/// What `b` is seen to show while the write is under way.
fn shown_by_b(world: &World, name: &str, city: &str) -> Pending {
    let cells = vec![Some(text(name)), Some(text(city))];
    let shown = Shown::Present { times: vec![Some(time(3)); 2], cells, full: true, anew: false };
    Pending { shown, version: version(50), ..world.event(B, None, time(3), false) }
}

#[test]
fn an_edit_against_the_flow_that_was_decided_on_under_way_is_still_to_be_put_right() {
    let mut world = owing(one_way(rules(2, &["name", "city"])));
    let planned = world.link.decision;
    world.pending[B] = Some(shown_by_b(&world, "Bob", "Rome"));
    world.decide(None).unwrap();
    assert_eq!(world.link.sides[B].owes, [0, 1], "the name was edited where edits do not flow from");
    let operation = sets_the_city();
    let (after, row, _) = settle(&world.rules, &world.link, B, &written(&operation, planned), Moment(10));
    assert_eq!(after.sides[B].owes, [0], "the write carried the city alone");
    assert_eq!(row.entry, Entry::Updated);
}

#[test]
fn what_was_decided_under_way_about_a_field_that_was_written_is_owed_again() {
    let mut world = owing(rules(2, &["name", "city"]));
    let planned = world.link.decision;
    world.edit(A, &[(1, text("Bern"))], time(4), false);
    world.deliver(A);
    world.decide(None).unwrap();
    let operation = sets_the_city();
    let (after, ..) = settle(&world.rules, &world.link, B, &written(&operation, planned), Moment(10));
    assert_eq!(after.sides[B].owes, [1]);
}

#[test]
fn what_a_write_went_over_unseen_is_in_the_ledger_and_what_it_left_is_still_pending() {
    let world = owing(rules(2, &["name", "city"]));
    let pending = shown_by_b(&world, "Bob", "Bern");
    let operation = sets_the_city();
    let (left, row) = cover_pending(&world.rules, &world.link, pending, &written(&operation, world.link.decision), Moment(10));
    let left = left.unwrap();
    assert_eq!(left.version, version(100), "what is left is no older than the write");
    let Shown::Present { cells, .. } = left.shown else { panic!("the record is there") };
    assert_eq!(cells, [Some(text("Bob")), Some(text("Oslo"))], "the edit of the name stands beside what was written");
    let row = row.unwrap();
    assert_eq!((row.entry, row.member), (Entry::Lost, B));
    let lost: Vec<(&str, Option<&Value>)> = row.fields.iter().map(|field| (field.field.as_str(), field.old.as_ref())).collect();
    assert_eq!(lost, [("city", Some(&text("Bern")))]);
}

#[test]
fn a_delete_that_went_over_an_edit_says_so() {
    let world = owing(rules(2, &["name", "city"]));
    let pending = shown_by_b(&world, "Bob", "Rome");
    let operation = Operation::Delete { key: key(B), guard: Record::new() };
    let (left, row) = cover_pending(&world.rules, &world.link, pending, &written(&operation, world.link.decision), Moment(10));
    assert!(left.is_none(), "there is no record any more");
    assert_eq!(row.unwrap().fields[0].old, Some(text("Bob")));
}

#[test]
fn a_debt_of_which_a_write_carried_a_part_is_still_to_be_paid() {
    let mut world = owing(one_way(grouped(rules(2, &["name", "city"]), Policy::LastWriteWins)));
    let planned = world.link.decision;
    world.pending[B] = Some(shown_by_b(&world, "Bob", "Rome"));
    world.decide(None).unwrap();
    let operation = sets_the_city();
    let (after, ..) = settle(&world.rules, &world.link, B, &written(&operation, planned), Moment(10));
    assert_eq!(after.sides[B].owes, [0], "of the group, the write carried the city alone");
}

#[test]
fn what_a_system_returned_is_newer_than_what_was_pending() {
    let world = owing(rules(2, &["name", "city"]));
    let pending = shown_by_b(&world, "Ada", "Oslo");
    let operation = sets_the_city();
    let image: Record = [("name".into(), text("Eve")), ("city".into(), text("Oslo"))].into_iter().collect();
    let written = Written { image: Some(image), ..written(&operation, world.link.decision) };
    let (left, _) = cover_pending(&world.rules, &world.link, pending, &written, Moment(10));
    let Shown::Present { cells, .. } = left.unwrap().shown else { panic!("the record is there") };
    assert_eq!(cells, [Some(text("Eve")), Some(text("Oslo"))]);
}

#[test]
fn a_delete_that_turned_into_a_question_under_way_says_what_went_with_it() {
    let mut world = owing(rules(2, &["name", "city"]));
    world.link.sides[A].standing = Standing::Gone;
    assert_eq!(world.link.life, Life::Live);
    let operation = Operation::Delete { key: key(B), guard: Record::new() };
    let (_, row, _) = settle(&world.rules, &world.link, B, &written(&operation, 0), Moment(10));
    let told: Vec<_> = row.fields.iter().map(|field| (field.field.as_str(), field.old.clone(), field.from)).collect();
    assert_eq!(told, [("name", Some(text("Ada")), A), ("city", Some(text("Rome")), A)]);
}
