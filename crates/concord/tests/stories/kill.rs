//! Killed at any instant: nothing is lost, nothing doubled, and it goes on where it was.

use crate::world::{Running, World};
#[cfg(feature = "failpoints")]
use concord_engine::failpoint;
use serde_json::json;
use std::time::Duration;

/// Edits on both sides; every record is one side's own, so that what must come out is known.
fn edit(world: &World, round: usize) {
    world.crm.psql(&format!(
        "INSERT INTO accounts (name, email, city) SELECT 'c{round}-' || n, 'c{round}-' || n || '@x.example', 'Leeds' FROM generate_series(1, 20) n; \
         UPDATE accounts SET phone = 'p{round}' WHERE email LIKE 'c%-1@x.example'"
    ));
    world.erp.psql(&format!(
        "INSERT INTO customers (company, mail, town) SELECT 'e{round}-' || n, 'e{round}-' || n || '@x.example', 'Graz' FROM generate_series(1, 20) n; \
         UPDATE customers SET tel = 't{round}' WHERE mail LIKE 'e%-1@x.example'; DELETE FROM customers WHERE mail = 'e{round}-2@x.example'"
    ));
}

/// After the last start: both sides equal, every record once, every edit there, and the store agrees.
fn settle(world: &World, running: Running<'_>, rounds: usize) {
    running.until_level();
    assert_eq!(world.crm.psql("SELECT count(*), count(DISTINCT email) FROM accounts"), format!("{0}|{0}", rounds * 39));
    let last = rounds - 1;
    let told = world.crm.psql(&format!(
        "SELECT count(*) FROM accounts WHERE (email LIKE 'c%-1@x.example' AND phone = 'p{last}') OR (email LIKE 'e%-1@x.example' AND phone = 't{last}')"
    ));
    assert_eq!(told, (rounds * 2).to_string());
    let verified = world.concord(&["verify", "FILE", "--json"]);
    assert_eq!(verified.exit, 0, "{verified:?}");
    running.stop();
}

#[test]
fn a_kill_at_random_moments_under_load_loses_and_doubles_nothing() {
    let world = World::new(&json!({}));
    let rounds = 6;
    for round in 0..rounds {
        let running = world.start(&["--auto-approve"], &[]);
        running.until("the process answers", || running.status().is_some());
        edit(&world, round);
        // A moment that differs from round to round, and from run to run with the machine's mood.
        std::thread::sleep(Duration::from_millis(7 * u64::try_from(round * round).unwrap()));
        running.kill();
    }
    settle(&world, world.run(&[]), rounds);
}

/// The points are compiled in only with the feature.
#[cfg(feature = "failpoints")]
#[test]
fn a_kill_at_every_named_point_loses_and_doubles_nothing() {
    let world = World::new(&json!({}));
    let mut died = Vec::new();
    for (round, name) in failpoint::ALL.iter().enumerate() {
        let mut running = world.start(&["--auto-approve"], &[("CONCORD_FAILPOINT", &format!("{name}:1"))]);
        edit(&world, round);
        let patience = std::time::Instant::now() + Duration::from_secs(15);
        let mut has_died = false;
        // Some points are passed only at a start, or only by a first read: such a run goes on and is killed.
        while std::time::Instant::now() < patience
            && !has_died
            && !(running.status().is_some_and(|sync| sync["level"] == true) && world.is_equal())
        {
            has_died = running.has_ended();
            std::thread::sleep(Duration::from_millis(25));
        }
        if has_died {
            died.push(*name);
        }
        running.kill();
    }
    assert!(died.len() * 2 > failpoint::ALL.len(), "only these points were met: {died:?}");
    settle(&world, world.run(&[]), failpoint::ALL.len());
}
