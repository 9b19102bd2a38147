//! Observations added to one another before they are decided.

use super::script::check;
use super::support::{rules, text};
use super::world::World;
use crate::change::EditTime;
use crate::clock::Moment;
use crate::ledger::Rule;
use crate::link::{Agreed, Held, Link, LinkId, Pending, ReviewId, Shown, SyncId};
use crate::reconcile::{Folded, Need, Outcome, decide, fold, refine_agreed};
use crate::record::Key;
use crate::value::Value;
use std::cmp::Ordering;

fn time(at: i64) -> EditTime {
    EditTime { at: Moment(at), granularity_micros: 1, estimated: false }
}

fn shows(world: &World, cells: [Option<&str>; 2], at: i64) -> Pending {
    let cells = cells.into_iter().map(|cell| cell.map(Value::text)).collect();
    world.event(0, Some(cells), time(at), true)
}

fn folded(world: &World, older: Pending, newer: Pending) -> Pending {
    match fold(&world.rules, Some(older), newer, Some(Ordering::Greater)) {
        Folded::Into(folded) => *folded,
        other => panic!("{other:?}"),
    }
}

fn world() -> World {
    let mut world = World::new(rules(2, &["name", "city"]));
    world.now = 1000;
    world
}

#[test]
fn each_field_keeps_the_time_at_which_it_took_its_present_value() {
    let world = world();
    let older = shows(&world, [Some("Ada"), Some("Rome")], 10);
    let newer = shows(&world, [Some("Ada"), Some("Oslo")], 20);
    let Shown::Present { times, .. } = folded(&world, older, newer).shown else { panic!() };
    assert_eq!(times, [Some(time(10)), Some(time(20))]);
}

#[test]
fn fields_that_are_not_shown_stay_and_an_equivalent_value_keeps_its_time() {
    let mut world = world();
    super::support::at(&mut world.rules, 0, "name").ty =
        crate::schema::Type::Text { max_chars: None, padded: true, nul: false, empty: true };
    assert_ne!(world.rules.at(0, 0).unwrap().ty, text(None));
    let older = shows(&world, [Some("Ada"), Some("Rome")], 10);
    let newer = shows(&world, [Some("Ada  "), None], 20);
    let Shown::Present { times, cells, .. } = folded(&world, older, newer).shown else { panic!() };
    assert_eq!(times, [Some(time(10)), Some(time(10))]);
    assert_eq!(cells, [Some(Value::text("Ada  ")), Some(Value::text("Rome"))]);
}

#[test]
pub fn a_delete_replaces_all_and_a_record_made_after_it_says_so() {
    let world = world();
    let gone = world.event(0, None, time(15), false);
    let after = folded(&world, shows(&world, [Some("Ada"), Some("Rome")], 10), gone);
    assert_eq!(after.shown, Shown::Gone { time: time(15) });
    let Shown::Present { anew, cells, .. } = folded(&world, after, shows(&world, [Some("New"), None], 20)).shown else {
        panic!()
    };
    assert!(anew);
    assert_eq!(cells, [Some(Value::text("New")), None]);
}

#[test]
fn what_is_not_newer_is_dropped_and_what_cannot_be_ordered_says_so() {
    let world = world();
    let one = shows(&world, [Some("Ada"), None], 10);
    for (order, expected) in
        [(Some(Ordering::Less), Folded::Dropped), (Some(Ordering::Equal), Folded::Dropped), (None, Folded::Unordered)]
    {
        assert_eq!(fold(&world.rules, Some(one.clone()), one.clone(), order), expected);
    }
}

#[test]
pub fn a_record_made_anew_shows_nothing_of_its_predecessor() {
    let mut world = world();
    world.edit(0, &[(0, Value::text("Ada")), (1, Value::text("Rome"))], time(1), false);
    world.deliver(0);
    world.decide(None).unwrap();
    let gone = world.event(0, None, time(2), false);
    let anew = folded(&world, gone, shows(&world, [Some("New"), None], 3));
    let outcome = decide(&world.rules, &world.link, &[Some(anew), None], None, Moment(2000), &mut 1);
    assert_eq!(outcome, Outcome::Needs(Need::Read(vec![0])));
}

#[test]
fn a_later_edit_that_was_folded_in_is_as_late_as_it_was() {
    // The first observation of a arrives at 11; its edit of city, made at 100 and folded in, must beat that of b at 50.
    check(
        rules(2, &["name", "city"]),
        "a edits name=Ada city=Rome
        b edits name=Ada city=Rome
        decide
        a edits name=Bob at 11
        b edits city=Bern at 50
        a edits city=Oslo at 100
        decide",
        "name=Ada by a (FirstSeen); city=Rome by a (FirstSeen)
        name=Bob by a (OnlyChange); city=Oslo by a (LastWriteWins); b lost city=Bern; b owes name,city",
    );
}

#[test]
fn an_edit_and_its_revert_within_one_fold_come_to_nothing() {
    check(
        rules(2, &["name"]),
        "a edits name=Ada
        b edits name=Ada
        decide
        a edits name=Bob
        a edits name=Ada
        b edits name=Gus
        decide",
        "name=Ada by a (FirstSeen)
        name=Gus by b (OnlyChange); a owes name",
    );
}

#[test]
fn a_record_that_a_person_bound_is_read_before_anything_is_written_to_it() {
    let world = world();
    let mut link = Link::new(LinkId(1), SyncId(1), 1, 2, 2, 2);
    link.sides[1].key = Some(Key(vec![Value::text("bound and not seen yet")]));
    let pending = vec![Some(shows(&world, [Some("Ada"), Some("Rome")], 10)), None];
    let outcome = decide(&world.rules, &link, &pending, None, Moment(1000), &mut 1);
    assert_eq!(outcome, Outcome::Needs(Need::Read(vec![1])));
}

#[test]
fn a_value_that_contends_goes_on_to_when_its_time_becomes_better_known() {
    let mut world = world();
    let estimated = EditTime { estimated: true, ..time(50) };
    let agreed =
        Agreed { values: vec![Value::text("Ada")], from: 0, time: estimated, decision: 1, hops: 0, rule: Rule::FirstSeen };
    let contenders = vec![(0, estimated, 0), (1, time(60), 0)];
    world.link.sides[0].base = vec![Some(Value::text("Ada")), None];
    world.link.groups[0].agreed = Some(agreed);
    world.link.groups[0].held = Some(Held { review: ReviewId(1), contenders, rejects: false });
    let event = shows(&world, [Some("Ada"), None], 10);
    assert!(refine_agreed(&world.rules, &mut world.link, &event));
    let group = &world.link.groups[0];
    assert_eq!(group.agreed.as_ref().unwrap().time, time(10));
    assert_eq!(group.held.as_ref().unwrap().contenders, [(0, time(10), 0), (1, time(60), 0)]);
}
