//! Events that are gone: the pair was stopped for longer than the org keeps its change events.

use super::world::OrgWorld;
use crate::world::Sides;
use serde_json::json;

/// Longer than the 72 hours for which events are kept.
const FOUR_DAYS_MS: i64 = 4 * 86_400_000;

/// Two accounts on both sides, and edits on both while nothing ran, of which the org's events are gone.
fn gap() -> OrgWorld {
    let world = OrgWorld::new();
    let ids = world.create(&[json!({ "Name": "Alder" }), json!({ "Name": "Birch" }), json!({ "Name": "Cedar" })]);
    let running = world.home.run(&world, &["--auto-approve"]);
    running.until_level();
    // The place in the topic is known once something has been told.
    world.update(&ids[2], json!({ "Industry": "Retail" }));
    running.until("the edit arrives", || names(&world).contains("Cedar/Retail"));
    running.until_level();
    running.stop();
    world.update(&ids[0], json!({ "Industry": "Energy" }));
    world.delete(&ids[1]);
    world.create(&[json!({ "Name": "Dogwood" })]);
    world.erp.psql("UPDATE accounts SET annual_revenue = 7 WHERE account_name = 'Alder'");
    world.erp.psql("INSERT INTO accounts (account_name) VALUES ('Elm')");
    world.passes_ms(FOUR_DAYS_MS);
    world.create(&[json!({ "Name": "Fir" })]);
    world
}

/// What both sides hold in the end, but for the ids.
fn names(world: &OrgWorld) -> String {
    world.erp.psql("SELECT account_name || coalesce('/' || industry_type, '') || coalesce('/' || annual_revenue, '') FROM accounts ORDER BY 1")
}

const AFTER: &str = "Alder/Energy/7.00\nCedar/Retail\nDogwood\nElm\nFir";

#[test]
fn events_that_are_gone_stop_the_pair_and_the_offered_repair_finds_what_was_missed_on_both_sides() {
    let world = gap();
    let running = world.home.start(&world, &[], &[]);
    running.until("the gap is told", || {
        running.status().is_some_and(|sync| sync["stage"].as_str().is_some_and(|stage| stage.contains("CON-2008")))
    });
    let refused = world.home.concord(&["resume"]);
    assert!(refused.exit == 3 && refused.err.contains("concord verify --repair"), "{refused:?}");
    // What no event tells of any more is not guessed at: neither the delete nor the new accounts.
    let rows = names(&world);
    assert!(rows.contains("Birch") && !rows.contains("Dogwood") && !rows.contains("Fir"), "{rows}");
    let repaired = world.home.concord(&["verify", "FILE", "--repair"]);
    assert_eq!(repaired.exit, 0, "{repaired:?}");
    running.until_level();
    assert_eq!(names(&world), AFTER);
    assert!(world.is_equal());
    // Events flow again behind the place where they were taken up.
    world.create(&[json!({ "Name": "Gorse" })]);
    running.until("a new account arrives", || names(&world).ends_with("Fir\nGorse"));
    assert_eq!(world.home.json(&["review", "list"]), json!([]));
    running.stop();
}

#[test]
fn a_run_until_level_ends_at_events_that_are_gone_and_a_repair_while_nothing_runs_accepts_it() {
    let world = gap();
    let ended = world.home.concord(&["run", "FILE", "--once"]);
    assert!(ended.exit == 3 && ended.err.contains("CON-2008"), "{ended:?}");
    let repaired = world.home.concord(&["verify", "FILE", "--repair"]);
    assert_eq!(repaired.exit, 0, "{repaired:?}");
    assert_eq!((names(&world).as_str(), world.is_equal()), (AFTER, true));
    assert_eq!(world.home.concord(&["run", "FILE", "--once"]).exit, 0);
}
