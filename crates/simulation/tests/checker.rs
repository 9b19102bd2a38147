//! The checker finds what it is there to find: each test makes, by hand, what a faulty engine would leave behind.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test may fail where it stands")]

use concord_engine::change::Mark;
use concord_engine::schema::Field;
use concord_engine::value::Value;
use concord_simulation::checker::Violation;
use concord_simulation::database::{Alteration, Author};
use concord_simulation::drift::{Drift, Drifts};
use concord_simulation::script::{Script, play};
use concord_simulation::world::{Seeded, World};

const A: usize = 0;
const B: usize = 1;

fn text(text: &str) -> Value {
    Value::Text(text.to_owned())
}

/// What the checker says after hand-made steps on two members that hold `r1` alike.
fn judged(steps: impl Fn(&Script)) -> Vec<&'static str> {
    judged_in(World::plain(2), steps)
}

fn judged_in(mut world: World, steps: impl Fn(&Script)) -> Vec<&'static str> {
    world.contents.push(Seeded { tag: "r1".to_owned(), at: vec![Some(String::new()); 2] });
    let found: Vec<Violation> = play(world, async |stage| {
        steps(stage);
        stage.stage.judge().await
    });
    let mut invariants: Vec<&'static str> = found.iter().map(|violation| violation.invariant).collect();
    invariants.dedup();
    invariants
}

/// Writes as a faulty engine would.
fn forge(stage: &Script, member: usize, name: &str) {
    forge_value(stage, member, text(name));
}

fn forge_value(stage: &Script, member: usize, value: Value) {
    let system = &stage.stage.systems[member];
    let author = Author::Engine(Mark { store: "forged".to_owned(), sync: "people".to_owned(), intent: 1, hops: 0 });
    let field = stage.stage.world.native(member, 1);
    system
        .transact(author.clone(), |database, draft| {
            let key = database.rows().next().unwrap().key.clone();
            let set = [(field, value)].into_iter().collect();
            database.update(draft, &author, &key, &set).map(|_| ())
        })
        .unwrap();
}

#[test]
fn nothing_done_is_nothing_wrong() {
    assert!(judged(|_| {}).is_empty());
}

#[test]
fn an_edit_carried_over_is_nothing_wrong() {
    assert!(
        judged(|stage| {
            stage.edit(A, "r1", &[("name", text("new"))]);
            forge(stage, B, "new");
        })
        .is_empty()
    );
}

#[test]
fn an_edit_that_never_arrives_is_found() {
    let found = judged(|stage| {
        stage.edit(A, "r1", &[("name", text("new"))]);
    });
    assert_eq!(found, ["2 convergence", "policy's winner"]);
}

#[test]
fn an_edit_overwritten_unseen_is_found() {
    let found = judged(|stage| {
        stage.edit(B, "r1", &[("name", text("unseen"))]);
        stage.edit(A, "r1", &[("name", text("new"))]);
        forge(stage, B, "new");
    });
    assert_eq!(found, ["3 no lost update"]);
}

#[test]
fn a_doubled_record_is_found() {
    let found = judged(|stage| {
        stage.insert(B, "r1", &[("name", text("ir1")), ("amount", Value::Int(-1))]);
    });
    assert!(found.contains(&"4 one record, once"), "{found:?}");
}

#[test]
fn a_record_that_is_missing_somewhere_is_found() {
    let found = judged(|stage| {
        stage.insert(A, "lonely", &[]);
    });
    assert_eq!(found, ["2 convergence (existence)"]);
}

#[test]
fn a_delete_that_was_forgotten_is_found() {
    let found = judged(|stage| {
        stage.delete(A, "r1");
    });
    assert_eq!(found, ["2 convergence (existence)"]);
}

#[test]
fn a_write_that_changes_nothing_is_found() {
    let found = judged(|stage| forge(stage, B, "ir1"));
    assert_eq!(found, ["5 quiescence"]);
}

/// What the checker says where the column of the name was dropped at A and made anew.
fn judged_behind_a_column_made_anew(steps: impl Fn(&Script)) -> Vec<&'static str> {
    let mut world = World::plain(2);
    world.further.drifts = Some(Drifts { member: A, field: 1, kinds: vec![Drift::Anew] });
    judged_in(world, |stage| {
        let system = &stage.stage.systems[A];
        let name = stage.stage.world.native(A, 1);
        let column = system.look(|database| database.schema.field(name.as_str()).cloned()).unwrap();
        system.alter(Alteration::Drop(name));
        system.alter(Alteration::Add(Field { origin: Some(99), ..column }));
        steps(stage);
    })
}

#[test]
fn a_value_emptied_because_of_a_column_made_anew_is_found() {
    let emptied = |stage: &Script| forge_value(stage, B, Value::Null);
    assert!(judged_behind_a_column_made_anew(emptied).contains(&"3 no lost update (columns made anew)"));
}

#[test]
fn a_column_made_anew_that_was_filled_from_the_other_side_is_nothing_wrong() {
    assert!(judged_behind_a_column_made_anew(|stage| forge(stage, A, "ir1")).is_empty());
}

#[test]
fn a_value_that_its_own_user_emptied_may_be_emptied_elsewhere() {
    let by_a_user = |stage: &Script| {
        forge(stage, A, "ir1");
        stage.edit(A, "r1", &[("name", Value::Null)]);
        forge_value(stage, B, Value::Null);
    };
    assert!(!judged_behind_a_column_made_anew(by_a_user).contains(&"3 no lost update (columns made anew)"));
}
