//! The loop breaker: what returns through our own writes, and what a person does, which is no loop.

use super::script::{check, check_in};
use super::support::rules;
use super::world::World;
use crate::value::Value;

const SAME: &str = "
    a edits name=Ada
    b edits name=Ada
    decide
";

#[test]
fn a_person_who_toggles_a_field_five_times_is_no_loop() {
    let toggle = "a edits name=Bob
        decide
        write
        a edits name=Ada
        decide
        write
    ";
    let told = "name=Bob by a (OnlyChange); b owes name
        b update name=Bob
        name=Ada by a (OnlyChange); b owes name
        b update name=Ada
    ";
    check(rules(2, &["name"]), &format!("{SAME}{}", toggle.repeat(5)), &format!("name=Ada by a (FirstSeen)\n{}", told.repeat(5)));
}

#[test]
fn a_value_that_keeps_coming_back_through_our_writes_is_held() {
    let mut world = World::new(rules(2, &["name"]));
    // Two systems, each of which insists on its own spelling.
    world.triggers[0] = Some(|cells| cells[0] = Some(Value::text("lower")));
    world.triggers[1] = Some(|cells| cells[0] = Some(Value::text("UPPER")));
    check_in(
        world,
        &format!(
            "{SAME}
        a edits name=lower
        decide
        write
        decide
        write
        decide
        write
        decide
        write
        decide
        write
        decide
        a edits name=More
        decide
        rule release"
        ),
        "name=Ada by a (FirstSeen)
        name=lower by a (OnlyChange); b owes name
        b update name=lower
        name=UPPER by b (OnlyChange); a owes name
        a update name=UPPER
        name=lower by a (OnlyChange); b owes name
        b update name=lower
        name=UPPER by b (OnlyChange); a owes name
        a update name=UPPER
        name=lower by a (OnlyChange); b owes name; held CON-3011 for a person
        no write
        a person must speak
        a person must speak
        name=More by a (OnlyChange); b owes name; closed 1: decided",
    );
}

#[test]
fn people_who_put_a_value_back_and_forth_between_two_members_are_asked_in_the_end() {
    let toggle = "a edits name=Bob
        decide
        write
        b edits name=Ada
        decide
        write
    ";
    check(
        rules(2, &["name"]),
        &format!("{SAME}{}", toggle.repeat(5)),
        "name=Ada by a (FirstSeen)
        name=Bob by a (OnlyChange); b owes name
        b update name=Bob
        name=Ada by b (OnlyChange); a owes name
        a update name=Ada
        name=Bob by a (OnlyChange); b owes name
        b update name=Bob
        name=Ada by b (OnlyChange); a owes name
        a update name=Ada
        name=Bob by a (OnlyChange); b owes name
        b update name=Bob
        name=Ada by b (OnlyChange); a owes name
        a update name=Ada
        name=Bob by a (OnlyChange); b owes name
        b update name=Bob
        name=Ada by b (OnlyChange); a owes name
        a update name=Ada
        name=Bob by a (OnlyChange); b owes name
        b update name=Bob
        name=Ada by b (OnlyChange); a owes name; held CON-3011 for a person
        no write",
    );
}

#[test]
fn without_the_breaker_nothing_is_held() {
    let mut rules = rules(2, &["name"]);
    rules.loops.enabled = false;
    let mut world = World::new(rules);
    world.triggers[0] = Some(|cells| cells[0] = Some(Value::text("lower")));
    world.triggers[1] = Some(|cells| cells[0] = Some(Value::text("UPPER")));
    world.edit(0, &[(0, Value::text("Ada"))], time(), false);
    for _ in 0..20 {
        world.deliver(0);
        world.now += 1;
        world.decide(None).unwrap();
        world.pay();
    }
    assert_eq!(world.link.held, None);
    assert!(world.writes.len() > 15, "{:?}", world.writes);
}

fn time() -> crate::change::EditTime {
    crate::change::EditTime { at: crate::clock::Moment(0), granularity_micros: 1, estimated: false }
}
