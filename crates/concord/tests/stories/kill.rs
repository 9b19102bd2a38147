//! Killed at any instant: nothing is lost, nothing doubled, and it goes on where it was.

use crate::ledger;
use crate::users::{self, Chance};
use crate::world::{Running, World};
#[cfg(feature = "failpoints")]
use concord_engine::failpoint;
use serde_json::json;
use std::time::Duration;

/// How often the process is killed at random moments.
const KILLS: usize = 14;
/// The longest that it runs in between, in milliseconds.
const RUN_MAX_MS: u64 = 900;
/// How long what has piled up may take.
const CATCH_UP_MAX: Duration = Duration::from_secs(180);

/// Users at both sides write all the while; where the kills strike follows from a seed, which is printed.
#[test]
fn a_kill_at_random_moments_under_load_loses_and_doubles_nothing() {
    // Every deletion is meant.
    let world = World::new(&json!({ "guards": { "max_deletes_percent": 100.0 } }));
    let mut chance = Chance::new();
    let (records, behind, carried) = users::at_work(&world, &mut chance, |chance| {
        let (mut behind, mut carried) = (0, 0);
        for _ in 0..KILLS {
            let before = users::carried(&world);
            let running = world.start(&["--auto-approve"], &[]);
            // Some kills strike while it starts.
            if chance.below(3) > 0 {
                running.until("the process answers", || running.status().is_some());
            }
            std::thread::sleep(Duration::from_millis(chance.below(RUN_MAX_MS)));
            running.kill();
            let (there, here) = (users::made(&world), users::carried(&world));
            behind += usize::from(here < there);
            carried += usize::from(here > before);
        }
        (behind, carried)
    });
    // Changes were under way when it was killed, and it had carried some before.
    assert!(behind >= KILLS / 2 && carried >= KILLS / 4, "{behind} kills with changes under way, {carried} behind others");
    let running = world.run(&[]);
    running.until_within(CATCH_UP_MAX, "both sides are equal", || {
        world.is_equal() && running.status().is_some_and(|sync| sync["level"] == true)
    });
    assert_eq!(world.sides().0, records.join("\n"), "what the users wrote");
    let verified = world.concord(&["verify", "FILE", "--json"]);
    assert_eq!(verified.exit, 0, "{verified:?}");
    running.stop();
    ledger::is_consistent(&world, records.len());
}

/// Edits on both sides; every record is one side's own, so that what must come out is known.
#[cfg(feature = "failpoints")]
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
#[cfg(feature = "failpoints")]
fn settle(world: &World, running: Running<'_>, rounds: usize) {
    running.until_level();
    let records = rounds * 39;
    assert_eq!(world.crm.psql("SELECT count(*), count(DISTINCT email) FROM accounts"), format!("{records}|{records}"));
    let last = rounds - 1;
    let told = world.crm.psql(&format!(
        "SELECT count(*) FROM accounts WHERE (email LIKE 'c%-1@x.example' AND phone = 'p{last}') OR (email LIKE 'e%-1@x.example' AND phone = 't{last}')"
    ));
    assert_eq!(told, (rounds * 2).to_string());
    let verified = world.concord(&["verify", "FILE", "--json"]);
    assert_eq!(verified.exit, 0, "{verified:?}");
    running.stop();
    ledger::is_consistent(world, records);
}

/// Points of a first start and a first read: each needs a world of its own, with records in place.
#[cfg(feature = "failpoints")]
const OF_A_LOAD: [&str; 3] = ["chunk_before_durable", "found_before_durable", "prepared_before_durable"];

/// The points are compiled in only with the feature.
#[cfg(feature = "failpoints")]
#[test]
fn a_kill_at_every_named_point_loses_and_doubles_nothing() {
    let shared = World::new(&json!({}));
    let (mut died, mut round) = (Vec::new(), 0);
    for name in failpoint::ALL {
        let armed = [("CONCORD_FAILPOINT", &*format!("{name}:1"))];
        if OF_A_LOAD.contains(name) {
            let own = World::new(&json!({}));
            edit(&own, 0);
            own.start(&["--auto-approve"], &armed).until_killed();
            settle(&own, own.run(&["--auto-approve"]), 1);
        } else {
            let running = shared.start(&["--auto-approve"], &armed);
            edit(&shared, round);
            running.until_killed();
            round += 1;
        }
        died.push(*name);
    }
    assert_eq!(died, failpoint::ALL);
    settle(&shared, shared.run(&[]), round);
}
