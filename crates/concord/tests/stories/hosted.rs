//! The headline pair with the real binary: accounts of an org and rows of a real PostgreSQL, by the configuration of
//! `examples/salesforce-accounts.json`. Killed at any instant, nothing is lost and nothing doubled.

mod connect;
mod gap;
pub mod world;

use crate::postgres::Database;
use crate::users::{self, Chance};
use crate::world::{Running, Sides};
#[cfg(feature = "failpoints")]
use concord_engine::failpoint;
use serde_json::{Value as Json, json};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use world::OrgWorld;

/// How many records each side makes in a round of edits; one of them is deleted again.
#[cfg(feature = "failpoints")]
const MADE: usize = 10;

/// Edits on both sides; every record is one side's own, so that what must come out is known.
#[cfg(feature = "failpoints")]
fn edit(world: &OrgWorld, round: usize) {
    world.erp.psql(&format!(
        "INSERT INTO accounts (account_name, annual_revenue) SELECT 'row {round}-' || n, n FROM generate_series(1, {MADE}) n; \
         UPDATE accounts SET annual_revenue = {round} WHERE account_name LIKE 'row %-1'; \
         DELETE FROM accounts WHERE account_name = 'row {round}-2'"
    ));
    let made: Vec<_> = (1..=MADE).map(|n| json!({ "Name": format!("account {round}-{n}"), "AnnualRevenue": n })).collect();
    let made = world.create(&made);
    for account in world.accounts().iter().filter(|one| {
        let name = one["Name"].as_str().unwrap();
        name.starts_with("account ") && name.ends_with("-1")
    }) {
        world.update(account["Id"].as_str().unwrap(), json!({ "AnnualRevenue": round }));
    }
    world.delete(&made[1]);
}

/// What so many rounds of edits come to: names, and what each is worth.
#[cfg(feature = "failpoints")]
fn after(rounds: usize) -> BTreeMap<String, usize> {
    (0..rounds)
        .flat_map(|round| (1..=MADE).filter(|n| *n != 2).map(move |n| (round, n)))
        .flat_map(|(round, n)| {
            let revenue = if n == 1 { rounds - 1 } else { n };
            [(format!("row {round}-{n}"), revenue), (format!("account {round}-{n}"), revenue)]
        })
        .collect()
}

/// How long what has piled up may take.
const CATCH_UP_MAX: Duration = Duration::from_secs(180);

/// After the last start: both sides equal, every record once, every edit there, and the store agrees.
fn settle(world: &OrgWorld, running: Running<'_>, expected: &BTreeMap<String, usize>) {
    running.until_within(CATCH_UP_MAX, "both sides are equal", || {
        world.is_equal() && running.status().is_some_and(|sync| sync["level"] == true)
    });
    let accounts = world.accounts();
    assert_eq!(accounts.len(), expected.len(), "every record once");
    let shown: BTreeMap<String, usize> = accounts
        .iter()
        .map(|one| {
            (one["Name"].as_str().unwrap().to_owned(), format!("{}", one["AnnualRevenue"].as_f64().unwrap()).parse().unwrap())
        })
        .collect();
    assert_eq!(shown, *expected);
    // A double that was made and taken away again would lie in the bin.
    let made = world.all_accounts().iter().map(|one| one["Name"].as_str().unwrap().to_owned()).collect::<Vec<_>>();
    let names: std::collections::BTreeSet<&String> = made.iter().collect();
    assert_eq!(names.len(), made.len(), "an account was made twice: {made:?}");
    let verified = world.home.concord(&["verify", "FILE", "--json"]);
    assert_eq!(verified.exit, 0, "{verified:?}");
    assert_eq!(world.home.json(&["review", "list"]), Json::Array(vec![]), "nothing waits for a person");
    running.stop();
}

/// Between two edits of one person.
const PACE: Duration = Duration::from_millis(25);

/// Some of the names that a person has made.
fn some(held: &BTreeMap<String, usize>, chance: &mut Chance) -> Option<String> {
    let count = u64::try_from(held.len()).unwrap().max(1);
    held.keys().nth(usize::try_from(chance.below(count)).unwrap()).cloned()
}

/// The people of the database, who make rows and change and remove their own until told to stop: what must be there then.
fn rows_at_work(database: &Database, mut chance: Chance, stop: &AtomicBool) -> BTreeMap<String, usize> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let mut held = BTreeMap::new();
    runtime.block_on(async {
        let session = database.session().await;
        let mut turn = 0;
        while !stop.load(Ordering::SeqCst) {
            turn += 1;
            let sql = match (chance.below(20), some(&held, &mut chance)) {
                (0..10, _) | (_, None) => {
                    held.insert(format!("row {turn}"), turn);
                    format!("INSERT INTO accounts (account_name, annual_revenue) VALUES ('row {turn}', {turn})")
                }
                (10..18, Some(name)) => {
                    let sql = format!("UPDATE accounts SET annual_revenue = {turn} WHERE account_name = '{name}'");
                    held.insert(name, turn);
                    sql
                }
                (_, Some(name)) => {
                    held.remove(&name);
                    format!("DELETE FROM accounts WHERE account_name = '{name}'")
                }
            };
            assert_eq!(session.execute(&sql, &[]).await.unwrap(), 1, "{sql}");
            tokio::time::sleep(PACE).await;
        }
    });
    held
}

/// The same of the org's people and its accounts.
fn accounts_at_work(world: &OrgWorld, mut chance: Chance, stop: &AtomicBool) -> BTreeMap<String, usize> {
    let (mut held, mut ids) = (BTreeMap::new(), BTreeMap::new());
    let mut turn = 0;
    while !stop.load(Ordering::SeqCst) {
        turn += 1;
        match (chance.below(20), some(&held, &mut chance)) {
            (0..10, _) | (_, None) => {
                let name = format!("account {turn}");
                let made = world.create(&[json!({ "Name": name, "AnnualRevenue": turn })]);
                ids.insert(name.clone(), made[0].clone());
                held.insert(name, turn);
            }
            (10..18, Some(name)) => {
                world.update(&ids[&name], json!({ "AnnualRevenue": turn }));
                held.insert(name, turn);
            }
            (_, Some(name)) => {
                world.delete(&ids[&name]);
                held.remove(&name);
            }
        }
        std::thread::sleep(PACE);
    }
    held
}

/// How often the process is killed at random moments.
const KILLS: usize = 6;
/// The longest that it runs in between, in milliseconds.
const RUN_MAX_MS: u64 = 1_500;

/// People at both sides write all the while; where the kills strike follows from a seed, which is printed.
#[test]
fn a_kill_at_random_moments_under_load_loses_and_doubles_nothing_between_an_org_and_a_server() {
    // Every deletion is meant.
    let meant = "\"on_delete\": \"propagate\", \"guards\": { \"max_deletes_percent\": 100.0 },";
    let world = OrgWorld::with(&[("\"on_delete\": \"propagate\",", meant)]);
    let mut chance = Chance::new();
    let (of_rows, of_accounts) = (chance.fork(), chance.fork());
    let carried = || world.erp.psql("SELECT count(*) FROM accounts WHERE account_name LIKE 'account %'");
    let story = || {
        let mut carrying = 0;
        for kill in 0..KILLS {
            // Answers are lost now and then, besides: what a kill leaves open can be anything.
            if kill % 2 == 1 {
                world.fault(json!({ "on": { "method": "POST", "path": "/composite" }, "do": "answer_lost" }));
            }
            let before = carried();
            let running = world.home.start(&world, &["--auto-approve"], &[]);
            // Some kills strike while it starts.
            if chance.below(3) > 0 {
                running.until("the process answers", || running.status().is_some());
            }
            std::thread::sleep(Duration::from_millis(chance.below(RUN_MAX_MS)));
            running.kill();
            carrying += usize::from(carried() != before);
        }
        carrying
    };
    let (mut expected, (accounts, carrying)) = users::beside(
        |stop| rows_at_work(&world.erp, of_rows, stop),
        || users::beside(|stop| accounts_at_work(&world, of_accounts, stop), story),
    );
    expected.extend(accounts);
    assert!(carrying > 0, "no kill struck a process that had carried anything");
    settle(&world, world.home.run(&world, &[]), &expected);
}

/// Points that are passed while a first load is under way, each met in a world of its own.
#[cfg(feature = "failpoints")]
const OF_A_LOAD: &[&str] = &["prepared_before_durable", "chunk_before_durable", "found_before_durable"];

/// Runs until it dies at a point, which it must.
#[cfg(feature = "failpoints")]
fn dies_at(world: &OrgWorld, name: &str, meanwhile: impl FnOnce()) {
    let mut running = world.home.start(world, &["--auto-approve"], &[("CONCORD_FAILPOINT", &format!("{name}:1"))]);
    meanwhile();
    let patience = std::time::Instant::now() + Duration::from_secs(60);
    while !running.has_ended() {
        assert!(std::time::Instant::now() < patience, "{name} was not met");
        std::thread::sleep(Duration::from_millis(25));
    }
}

/// The points are compiled in only with the feature.
#[cfg(feature = "failpoints")]
#[test]
fn a_kill_at_every_named_point_loses_and_doubles_nothing_between_an_org_and_a_server() {
    let world = OrgWorld::new();
    let points: Vec<&&str> = failpoint::ALL.iter().filter(|name| !OF_A_LOAD.contains(name)).collect();
    for (round, name) in points.iter().enumerate() {
        dies_at(&world, name, || edit(&world, round));
    }
    settle(&world, world.home.run(&world, &[]), &after(points.len()));
}

#[cfg(feature = "failpoints")]
#[test]
fn a_kill_at_every_named_point_of_a_first_load_loses_and_doubles_nothing_between_an_org_and_a_server() {
    for name in OF_A_LOAD {
        assert!(failpoint::ALL.contains(name), "{name}");
        let world = OrgWorld::new();
        // Both sides hold records before anything has run.
        edit(&world, 0);
        dies_at(&world, name, || {});
        settle(&world, world.home.run(&world, &["--auto-approve"]), &after(1));
    }
}

/// How many accounts a large org has.
const MANY: usize = 50_000;

#[test]
fn fifty_thousand_accounts_are_loaded_into_an_empty_table_by_a_few_calls() {
    let world = OrgWorld::new();
    for from in (0..MANY).step_by(5_000) {
        let some: Vec<_> = (from..from + 5_000).map(|n| json!({ "Name": format!("account {n}"), "AnnualRevenue": n })).collect();
        world.create(&some);
    }
    let running = world.home.start(&world, &["--auto-approve"], &[]);
    world.is_loaded(&running, MANY);
    let (calls, jobs) = (world.calls(""), world.calls("/jobs/query"));
    assert!(jobs > 0, "read by a job");
    // The job is made, asked about now and then, and its result read in pages. Nothing is written to the org.
    assert!(calls <= 80, "{calls} calls for {MANY} accounts that were read: {:?}", world.paths());
    assert_eq!(world.calls("/composite") + world.calls("/jobs/ingest"), 0, "{:?}", world.paths());
    running.stop();
}

#[test]
fn fifty_thousand_rows_are_loaded_into_an_empty_org_by_a_few_calls_and_get_their_ids() {
    let world = OrgWorld::new();
    // Each account that is made comes back as an event: more than an org has in a day.
    world.delivers(10 * u64::try_from(MANY).unwrap());
    world.erp.psql(&format!(
        "INSERT INTO accounts (account_name, annual_revenue) SELECT 'row ' || n, n FROM generate_series(0, {MANY} - 1) n"
    ));
    let running = world.home.start(&world, &["--auto-approve"], &[]);
    world.is_loaded(&running, MANY);
    let (calls, jobs) = (world.calls(""), world.calls("/jobs/ingest"));
    assert!(jobs > 0, "{calls} calls, none of them of a job: {:?}", world.paths());
    assert!(calls <= 300, "{calls} calls for {MANY} accounts that were made: {:?}", world.paths());
    assert_eq!(world.all_accounts().len(), MANY, "no account was made twice, and none taken away again");
    running.stop();
}
