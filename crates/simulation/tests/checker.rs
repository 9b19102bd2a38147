//! The checker finds what it is there to find: each test makes, by hand, what a faulty engine would leave behind.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test may fail where it stands")]

use concord_engine::change::Mark;
use concord_engine::value::Value;
use concord_simulation::checker::Violation;
use concord_simulation::database::Author;
use concord_simulation::script::{Script, play};
use concord_simulation::world::{Seeded, World};

const A: usize = 0;
const B: usize = 1;

fn text(text: &str) -> Value {
    Value::Text(text.to_owned())
}

/// What the checker says after hand-made steps on two members that hold `r1` alike.
fn judged(steps: impl Fn(&Script)) -> Vec<&'static str> {
    let mut world = World::plain(2);
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
    let system = &stage.stage.systems[member];
    let author = Author::Engine(Mark { store: "forged".to_owned(), sync: "people".to_owned(), intent: 1, hops: 0 });
    let field = stage.stage.world.native(member, 1);
    system
        .transact(author.clone(), |database, draft| {
            let key = database.rows().next().unwrap().key.clone();
            let set = [(field, text(name))].into_iter().collect();
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
