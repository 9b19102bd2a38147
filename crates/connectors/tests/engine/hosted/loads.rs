//! First loads that are broken off, or that find the day's calls used: nothing is lost and nothing doubled, and what people do
//! meanwhile does not wait for them.

use super::stage::Stage;
use concord_simulators::salesforce::Limit;
use serde_json::{Value as Json, json};
use std::collections::BTreeSet;
use std::time::Duration;

/// An org of which more than a hundred records are read and written by jobs, and a table with so many rows.
async fn with_rows(count: usize) -> Stage {
    let stage = Stage::new(json!({})).await.with_options(json!({"bulk_above": 100}));
    stage.row(&format!("INSERT INTO accounts (account_name) SELECT 'row ' || n FROM generate_series(1, {count}) n")).await;
    stage
}

async fn with_accounts(count: usize) -> Stage {
    let stage = Stage::new(json!({})).await.with_options(json!({"bulk_above": 100}));
    let records: Vec<_> = (0..count).map(|n| json!({"Name": format!("account {n}")}).as_object().unwrap().clone()).collect();
    stage.org.simulator.person().create_all("Account", &records).unwrap();
    stage
}

/// Each record is on both sides, once, and none was made twice and taken away again.
async fn is_loaded_once(stage: Stage, count: usize) {
    stage.is_loaded("SELECT count(DISTINCT sf_id) FROM accounts", &count.to_string()).await;
    assert_eq!(stage.value("SELECT count(*) FROM accounts").await, count.to_string());
    let names: BTreeSet<String> = stage.all_accounts().iter().map(|one| one["Name"].as_str().unwrap().to_owned()).collect();
    assert_eq!((names.len(), stage.all_accounts().len()), (count, count));
    assert!(stage.reviews().await.is_empty(), "{:#?}", stage.reviews().await);
    stage.stop().await;
}

fn struck(stage: &Stage) -> u32 {
    stage.org.simulator.org.faults.counts().into_iter().map(|(_, times)| times).sum()
}

fn rests(room: &str, after: usize, ms: u64) -> Json {
    json!({"on": {"path": room}, "do": {"job_rests": {"after": after, "ms": ms}}})
}

#[tokio::test]
async fn a_job_that_breaks_in_the_middle_makes_each_record_once() {
    let stage = with_rows(1_000).await;
    stage.org.fault(json!({"on": {"path": "jobs/ingest"}, "do": {"job_breaks": {"after": 150}}}));
    let stage = stage.start().await;
    stage.wait("the job breaks", || struck(&stage) == 1).await;
    is_loaded_once(stage, 1_000).await;
}

#[tokio::test]
async fn a_kill_in_the_middle_of_a_job_that_writes_makes_each_record_once() {
    let stage = with_rows(600).await;
    stage.org.fault(rests("jobs/ingest", 150, 2_000));
    let stage = stage.begin().await;
    stage.wait("the job is in the middle", || struck(&stage) == 1 && stage.accounts().len() == 150).await;
    let stage = stage.crash().await;
    assert_eq!(stage.accounts().len(), 150, "it was killed in the middle");
    is_loaded_once(stage.start().await, 600).await;
}

#[tokio::test]
async fn a_kill_while_a_job_that_reads_works_or_its_result_is_read_leaves_nothing_out() {
    let stage = with_accounts(1_500).await;
    stage.org.fault(rests("jobs/query", 0, 1_000));
    let stage = stage.begin().await;
    stage.wait("the job works", || struck(&stage) == 1).await;
    let stage = stage.crash().await;
    assert_eq!(stage.org.requests("/results"), 0);
    let jobs = |stage: &Stage| {
        let entries = stage.org.simulator.org.journal.since(0);
        entries.iter().filter(|entry| entry.method == "POST" && entry.path.ends_with("jobs/query")).count()
    };
    let stage = stage.begin().await;
    stage.shows("SELECT count(*) > 0 FROM accounts", "t").await;
    let begun = jobs(&stage);
    let stage = stage.crash().await.start().await;
    assert_eq!(jobs(&stage), begun, "the load went on with the job that it had begun");
    is_loaded_once(stage, 1_500).await;
}

#[tokio::test]
async fn a_load_that_uses_up_the_days_deliveries_ends_and_edits_flow_on_both_ways() {
    let stage = with_rows(300).await.looking(Duration::from_millis(100)).delivered(120);
    let stage = stage.start().await;
    stage.is_loaded("SELECT count(DISTINCT sf_id) FROM accounts", "300").await;
    // Every echo counts, so that the last of them are not delivered: people's edits are found all the same.
    let made = stage.org.create("Account", json!({"Name": "by the org"}));
    stage.shows(&format!("SELECT account_name FROM accounts WHERE sf_id = '{made}'"), "by the org").await;
    stage.row("UPDATE accounts SET annual_revenue = 7 WHERE account_name = 'row 9'").await;
    let id = stage.value("SELECT sf_id FROM accounts WHERE account_name = 'row 9'").await;
    stage.account_shows(&id, "AnnualRevenue", json!(7.0)).await;
    stage.passes_a_beat().await;
    let now_ms = stage.org.simulator.org.clock.now_ms();
    assert_eq!(stage.org.simulator.org.state().limits.used(Limit::DailyDeliveredPlatformEvents, now_ms), 120);
    let says = |told: &str| told.contains("no change events are delivered") && told.contains("CON-2301");
    let is_said = || stage.status().feeds.iter().any(|feed| says(&feed.position) && feed.warning.as_deref().is_some_and(says));
    stage.wait("it is said", is_said).await;
    assert_eq!(stage.accounts().len(), 301);
    assert!(stage.reviews().await.is_empty(), "{:#?}", stage.reviews().await);
    stage.stop().await;
}

// Others use the org's calls up while a load is under way. What it still has to write waits; what a user does does not.
#[tokio::test]
async fn what_a_first_load_still_writes_waits_while_others_use_up_the_calls_and_what_people_do_does_not() {
    const ROWS: usize = 3_000;
    let stage = with_rows(ROWS).await.with_options(json!({"bulk_above": 1_000_000}));
    stage.org.fault(json!({"on": {"method": "POST", "path": "/composite"}, "times": null, "do": {"slow": {"ms": 300}}}));
    let stage = stage.begin().await;
    stage.wait("the load writes", || stage.org.requests("/composite") > 0).await;
    let org = &stage.org.simulator.org;
    let now_ms = org.clock.now_ms();
    let used = org.state().limits.used(Limit::DailyApiRequests, now_ms);
    assert!(org.state().limits.take(Limit::DailyApiRequests, 95_000 - used, now_ms));
    stage.wait("the load waits", || stage.load_of_the_org().contains("waits")).await;
    org.faults.clear();
    let made = stage.accounts().len();
    assert!(made < ROWS, "{made} were made before it was known");

    stage.row("INSERT INTO accounts (account_name) VALUES ('made by a user')").await;
    stage.wait("the user's account", || stage.accounts().iter().any(|one| one["Name"] == json!("made by a user"))).await;
    stage.row("UPDATE accounts SET industry_type = 'Energy' WHERE account_name = 'made by a user'").await;
    stage.wait("the user's edit", || stage.accounts().iter().any(|one| one["Industry"] == json!("Energy"))).await;
    stage.minutes_pass(20);
    stage.row("UPDATE accounts SET industry_type = 'Banking' WHERE account_name = 'made by a user'").await;
    stage.wait("the next edit", || stage.accounts().iter().any(|one| one["Industry"] == json!("Banking"))).await;
    assert_eq!(stage.accounts().len(), made + 1, "the load goes on waiting, however often it asks");

    // A day later.
    stage.org.simulator.org.state().limits.set_max(Limit::DailyApiRequests, 1_000_000);
    stage.passes_a_beat().await;
    stage.minutes_pass(20);
    stage.is_loaded("SELECT count(DISTINCT sf_id) FROM accounts", &(ROWS + 1).to_string()).await;
    assert_eq!(stage.accounts().len(), ROWS + 1);
    assert!(stage.reviews().await.is_empty(), "{:#?}", stage.reviews().await);
    stage.stop().await;
}

#[tokio::test]
async fn a_first_load_that_finds_the_calls_used_reads_nothing_and_what_people_do_is_carried() {
    let stage = with_accounts(150).await;
    let org = &stage.org.simulator.org;
    assert!(org.state().limits.take(Limit::DailyApiRequests, 99_000, org.clock.now_ms()));
    let stage = stage.begin().await;
    stage.wait("the load waits", || stage.load_of_the_org().contains("waits")).await;
    let made = stage.org.create("Account", json!({"Name": "made by a user"}));
    stage.shows("SELECT count(*) FROM accounts", "1").await;
    stage.row(&format!("UPDATE accounts SET account_name = 'and edited' WHERE sf_id = '{made}'")).await;
    stage.account_shows(&made, "Name", json!("and edited")).await;
    assert_eq!((stage.org.requests("/jobs/query"), stage.value("SELECT count(*) FROM accounts").await.as_str()), (0, "1"));
    assert!(stage.status().syncs[0].members[0].reach.starts_with("up"), "{:?}", stage.status().syncs[0].members[0]);
    stage.stop().await;
}

// What others use leaves no calls for a first load: it looks for no match either, which would cost as much as writing. What a
// user makes meanwhile is matched and made.
#[tokio::test]
async fn while_calls_are_short_no_match_is_looked_for_of_what_a_first_load_reads_and_what_people_make_is_carried() {
    const ROWS: usize = 60;
    let stage = with_rows(ROWS).await.matching("Name").with_options(json!({"settle_ms": 1}));
    let twin = stage.org.create("Account", json!({"Name": "row 7"}));
    let org = &stage.org.simulator.org;
    assert!(org.state().limits.take(Limit::DailyApiRequests, 85_000, org.clock.now_ms()));
    let searches = |stage: &Stage| {
        let of_names = |text: &str| text.contains("Name%20IN") || text.contains("Name IN");
        stage.org.simulator.org.journal.since(0).iter().filter(|one| of_names(&one.query) || of_names(&one.body)).count()
    };
    let stage = stage.begin().await;
    stage.wait("the load waits", || stage.load_of_the_org().contains("waits")).await;
    stage.row("INSERT INTO accounts (account_name) VALUES ('made by a user')").await;
    stage.wait("the user's account", || stage.accounts().iter().any(|one| one["Name"] == json!("made by a user"))).await;
    let looked = searches(&stage);
    assert!((1..=4).contains(&looked), "{looked} searches: for the user's, and before it was made");
    stage.row("INSERT INTO accounts (account_name) VALUES ('another one')").await;
    stage.wait("the next account", || stage.accounts().iter().any(|one| one["Name"] == json!("another one"))).await;
    assert_eq!(stage.accounts().len(), 3, "and nothing else was made");

    // A day later.
    stage.org.simulator.org.state().limits.set_max(Limit::DailyApiRequests, 1_000_000);
    stage.passes_a_beat().await;
    stage.minutes_pass(20);
    stage.is_loaded("SELECT count(DISTINCT sf_id) FROM accounts", &(ROWS + 2).to_string()).await;
    assert_eq!(stage.value(&format!("SELECT account_name FROM accounts WHERE sf_id = '{twin}'")).await, "row 7");
    assert_eq!(stage.accounts().len(), ROWS + 2, "the one that was there was found");
    stage.stop().await;
}

#[tokio::test]
async fn a_plan_counts_what_a_restricted_picklist_would_not_take_where_it_would_be_written() {
    let stage = Stage::new(json!({})).await;
    let field = json!({"name": "Industry", "type": "picklist", "length": 255, "restricted": true,
        "values": ["Energy", "Banking"], "inactiveValues": ["Alchemy"]});
    let schema = json!({"objects": [{"name": "Account", "fields": [field]}]});
    stage.org.simulator.org.add_schema(&serde_json::from_value(schema).unwrap()).unwrap();
    stage
        .row("INSERT INTO accounts (account_name, industry_type) VALUES ('Good', 'Energy'), ('Also good', NULL), ('Bad', 'Shipping'), ('Old', 'Alchemy')")
        .await;
    let plan = stage.planned().await;
    assert_eq!((plan.members[0].creates, plan.members[1].unfit, plan.review), (4, 2, 2), "{plan:#?}");
    let samples = plan.samples.iter().filter(|sample| sample.kind == "unfit");
    let values: Vec<&str> = samples.map(|sample| sample.fields[0].1.as_str()).collect();
    assert_eq!(values, ["Shipping", "Alchemy"]);

    // What the org holds already is not written.
    let id = stage.org.create("Account", json!({"Name": "Known", "Industry": "Energy"}));
    stage.row(&format!("INSERT INTO accounts (account_name, industry_type, sf_id) VALUES ('Known', 'Energy', '{id}')")).await;
    let plan = stage.planned().await;
    assert_eq!((plan.matched, plan.members[1].unfit), (1, 2), "{plan:#?}");
}
