//! Values, from an outside user through feed and read into another row and back.

use crate::driver::{Driver, quoted};
use crate::world::*;
use concord_engine::change::Observation;
use concord_engine::connector::{Operation, Outcome, Presence};
use concord_engine::error::Class;
use concord_engine::record::Record;
use concord_engine::value::Value;

/// A table with a column `c1`, `c2`, … for each of the types.
async fn table_of<D: Driver>(columns: impl Iterator<Item = &str>) -> (World<D>, usize) {
    let driver = D::fresh().await;
    let object = driver.table(crate::driver::Shape::Accounts, "things").await;
    let mut names = Vec::new();
    for (number, column) in columns.enumerate() {
        let name = format!("c{number}");
        driver.run(&[&format!("ALTER TABLE things ADD COLUMN {} {column}", quoted(&name))]).await;
        names.push(name);
    }
    let fields: Vec<&str> = names.iter().map(String::as_str).collect();
    let count = fields.len();
    (World::prepared(driver, selection(&object, &fields)).await, count)
}

fn assert_exact(shown: &Record, field: &str, expected: &Value, how: &str) {
    let held = shown.get(field).unwrap_or_else(|| panic!("{field} is not shown by {how}"));
    assert!(held.equivalent(expected), "{field} by {how}: expected {expected:?}, got {held:?}");
    // A number may take another of the engine's forms; nothing else may.
    let is_number = |value: &Value| matches!(value, Value::Int(_) | Value::UInt(_) | Value::Decimal(_) | Value::Float(_));
    let same_kind = std::mem::discriminant(held) == std::mem::discriminant(expected);
    assert!(same_kind || (is_number(held) && is_number(expected)), "{field} by {how}: expected {expected:?}, got {held:?}");
}

pub async fn values_come_back_exactly_through_feed_read_and_write<D: Driver>() {
    let cases = D::fresh().await.type_cases();
    let (world, _) = table_of::<D>(cases.iter().map(|case| case.column)).await;
    let columns: Vec<String> = (0..cases.len()).map(|number| quoted(&format!("c{number}"))).collect();
    let literals: Vec<&str> = cases.iter().map(|case| case.literal.as_str()).collect();
    world.driver.run(&[&format!("INSERT INTO things (id, {}) VALUES (1, {})", columns.join(", "), literals.join(", "))]).await;

    let mut changes = world.capture().await;
    let outside: Observation = observations(&mut *changes, 1).await.remove(0);
    let read = world.read_record(key(1)).await;
    for (number, case) in cases.iter().enumerate() {
        let field = format!("c{number}");
        assert_exact(record(&outside), &field, &case.value, &format!("the feed, {} {}", case.column, case.literal));
        assert_exact(&read, &field, &case.value, &format!("a read, {} {}", case.column, case.literal));
    }

    // What was read can be written elsewhere, is returned as it was written, and guards a further write.
    let mut copy = read.clone();
    copy.set("id".into(), Value::Int(2));
    let outcome = world.apply_one(Operation::Create { image: copy.clone(), absent_by: vec![] }).await;
    let Outcome::Written { image: Some(returned), .. } = outcome else { panic!("{outcome:?}") };
    let echo = observations(&mut *changes, 1).await.remove(0);
    for (number, case) in cases.iter().enumerate() {
        let field = format!("c{number}");
        assert_exact(&returned, &field, &case.value, &format!("our write, {} {}", case.column, case.literal));
        assert_exact(record(&echo), &field, &case.value, &format!("our echo, {} {}", case.column, case.literal));
        let guard: Record = [(field.as_str().into(), case.value.clone())].into_iter().collect();
        let outcome = world.apply_one(Operation::Update { key: key(2), set: guard.clone(), guard }).await;
        assert!(matches!(outcome, Outcome::Written { .. }), "guarded by {} {}: {outcome:?}", case.column, case.literal);
    }
}

pub async fn a_value_that_does_not_fit_is_refused_alone<D: Driver>() {
    let misfits = D::fresh().await.misfits();
    let (world, _) = table_of::<D>(misfits.iter().map(|misfit| misfit.column)).await;
    for (number, misfit) in misfits.iter().enumerate() {
        let field = format!("c{number}");
        let image = |value: Value| -> Record {
            [("id".into(), Value::Int(i64::try_from(number).unwrap())), (field.as_str().into(), value)].into_iter().collect()
        };
        let good = fields([("id", Value::Int(1_000 + i64::try_from(number).unwrap()))]);
        let mut results = world
            .apply(vec![
                Operation::Create { image: image(misfit.value.clone()), absent_by: vec![] },
                Operation::Create { image: good, absent_by: vec![] },
            ])
            .await;
        assert!(matches!(results.remove(1).outcome, Outcome::Written { .. }));
        match results.remove(0).outcome {
            Outcome::Failed(error) => assert_eq!(error.class(), Class::Rejected, "{error}"),
            other => panic!("{:?} in {}: {other:?}", misfit.value, misfit.column),
        }
        let absent = world.read(key(i64::try_from(number).unwrap())).await;
        assert!(matches!(absent, Presence::Absent { .. }), "nothing of a refused record is left");
    }
}
