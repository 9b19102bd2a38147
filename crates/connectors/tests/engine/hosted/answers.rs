//! Calls whose answers are late, break off, or say to come back later: what was done stays done, once, and each record has
//! an outcome of its own.

use super::silence;
use super::stage::Stage;
use serde_json::{Value as Json, json};
use std::collections::BTreeMap;

/// A create takes longer than we wait, and succeeds.
const LATE: &str = r#"{"on": {"method": "POST", "path": "/composite/sobjects"}, "do": {"answer_late": {"ms": 3000}}}"#;

fn late() -> Json {
    serde_json::from_str(LATE).unwrap()
}

async fn is_made_once(stage: Stage) {
    stage.row("INSERT INTO accounts (account_name) VALUES ('Once')").await;
    stage.shows("SELECT count(*) FROM accounts WHERE sf_id IS NOT NULL", "1").await;
    stage.row("UPDATE accounts SET account_name = 'Once more'").await;
    stage.wait("the account is known", || stage.accounts().iter().any(|one| one["Name"] == json!("Once more"))).await;
    assert_eq!(stage.all_accounts().len(), 1, "made once, and no double in the bin: {:#?}", stage.all_accounts());
    assert!(stage.reviews().await.is_empty(), "{:#?}", stage.reviews().await);
    stage.stop().await;
}

#[tokio::test]
async fn a_create_that_times_out_and_has_succeeded_is_made_once() {
    let stage = Stage::new(json!({})).await.with_options(json!({"timeout_ms": 1000})).start().await;
    stage.org.fault(late());
    is_made_once(stage).await;
}

#[tokio::test]
async fn a_create_that_times_out_and_has_succeeded_and_of_which_no_event_tells_is_made_once() {
    let stage = Stage::new(json!({})).await.with_options(json!({"timeout_ms": 1000})).start().await;
    silence(&stage);
    stage.org.fault(late());
    is_made_once(stage).await;
}

/// The names in each call that makes records.
fn sent(stage: &Stage) -> Vec<Vec<String>> {
    let entries = stage.org.simulator.org.journal.since(0).into_iter();
    let makes = entries.filter(|entry| entry.method == "POST" && entry.path.ends_with("/composite/sobjects"));
    let names = |body: Json| -> Vec<String> {
        body["records"].as_array().unwrap().iter().map(|record| record["Name"].as_str().unwrap().to_owned()).collect()
    };
    makes.map(|entry| names(serde_json::from_str(&entry.body).unwrap())).collect()
}

#[tokio::test]
async fn of_a_batch_of_two_hundred_with_rejects_a_lock_and_an_answer_that_breaks_off_the_good_ones_are_made_once() {
    let rules = json!({"validation": [{"object": "Account", "when": "AnnualRevenue < 0", "message": "Never below zero", "field": "AnnualRevenue"}]});
    let stage = Stage::started(rules).await;
    // The connection breaks behind what is said of the first hundred and twenty or so; before the end where the first call has
    // fewer, for the rows need not come all at once.
    let makes = json!({"method": "POST", "path": "/composite/sobjects", "body": "allOrNone"});
    stage.org.fault(json!({"on": makes, "do": {"truncated": {"bytes": 120 * 55}}}));
    stage.org.fault(json!({"on": {"object": "Account"}, "after": 150, "do": "lock_row"}));
    stage
        .row(
            "INSERT INTO accounts (account_name, annual_revenue)
             SELECT 'n' || n, CASE WHEN n IN (7, 77, 177) THEN -1 ELSE n END FROM generate_series(1, 200) n",
        )
        .await;
    stage.shows("SELECT count(*) FROM accounts WHERE sf_id IS NOT NULL", "197").await;
    stage.wait_for_reviews(3).await;
    let reviews = stage.reviews().await;
    assert!(reviews.iter().all(|one| one.code == "CON-3001" && one.message.contains("Never below zero")), "{reviews:#?}");
    let befell: Vec<u32> = stage.org.simulator.org.faults.counts().into_iter().map(|(_, times)| times).collect();
    assert_eq!(befell, [1, 1], "one answer broke off, one record was locked");
    let made: Vec<String> = stage.all_accounts().iter().map(|one| one["Name"].as_str().unwrap().to_owned()).collect();
    assert_eq!((made.len(), stage.accounts().len()), (197, 197), "nothing was made twice and taken away again");
    // Whoever was made by the call that broke off was not sent again: only the locked one and the refused ones were.
    let calls = sent(&stage);
    let mut times: BTreeMap<&String, usize> = BTreeMap::new();
    for name in calls.iter().flatten() {
        *times.entry(name).or_default() += 1;
    }
    let refused = |name: &&String| ["n7", "n77", "n177"].contains(&name.as_str());
    let again: Vec<&String> = times.into_iter().filter(|(_, times)| *times > 1).map(|(name, _)| name).collect();
    let broken_off: Vec<&String> = calls[0].iter().filter(refused).collect();
    assert!(
        broken_off.iter().all(|name| again.contains(name)),
        "nobody knew that they were refused: {again:?} of {broken_off:?}"
    );
    let made_again = again.iter().filter(|name| !refused(name)).count();
    assert_eq!((again.len(), made_again), (broken_off.len() + 1, 1), "besides the one that was locked: {again:?}");

    stage.row("UPDATE accounts SET annual_revenue = 1 WHERE annual_revenue < 0").await;
    stage.shows("SELECT count(*) FROM accounts WHERE sf_id IS NOT NULL", "200").await;
    stage.wait_for_reviews(0).await;
    assert_eq!(stage.all_accounts().len(), 200);
    stage.stop().await;
}

#[tokio::test]
async fn a_storm_of_refusals_that_say_when_to_come_back_is_heeded_and_costs_no_attempt() {
    let stage = Stage::started(json!({})).await;
    stage.row("INSERT INTO accounts (account_name) SELECT 'n' || n FROM generate_series(1, 20) n").await;
    stage.shows("SELECT count(*) FROM accounts WHERE sf_id IS NOT NULL", "20").await;
    stage.passes_a_beat().await;
    let storm = json!({"status": 429, "body": "[]", "headers": {"Retry-After": "600"}});
    stage.org.fault(json!({"on": {"path": "/composite"}, "times": null, "do": {"answer": storm}}));
    let refused = || stage.org.refused_with(429);
    let mut refusals = 0;
    // More often than an attempt would be made.
    for round in 1..=8 {
        stage.row(&format!("UPDATE accounts SET account_name = account_name || '.', annual_revenue = {round}")).await;
        stage
            .wait("a call is refused", || {
                stage.minutes_pass(1);
                refused() > refusals
            })
            .await;
        // Nobody asks again before the time, while the other way goes on as ever.
        refusals = refused();
        let made = stage.org.create("Account", json!({"Name": format!("by the org {round}")}));
        stage.shows(&format!("SELECT count(*) FROM accounts WHERE sf_id = '{made}'"), "1").await;
        stage.minutes_pass(5);
        let made = stage.org.create("Account", json!({"Name": format!("by the org, later {round}")}));
        stage.shows(&format!("SELECT count(*) FROM accounts WHERE sf_id = '{made}'"), "1").await;
        assert_eq!(refused(), refusals, "asked again before the ten minutes were over");
    }
    assert!(stage.reviews().await.is_empty(), "{:#?}", stage.reviews().await);
    stage.org.simulator.org.faults.clear();
    let before = stage.org.requests("/composite");
    let dotted = |one: &serde_json::Map<String, Json>| {
        one["Name"].as_str().unwrap().ends_with("........") && one["AnnualRevenue"] == json!(8.0)
    };
    stage
        .wait("everything is caught up with", || {
            stage.minutes_pass(1);
            stage.accounts().iter().filter(|one| dotted(one)).count() == 20
        })
        .await;
    let calls = stage.org.requests("/composite") - before;
    assert!(calls <= 12, "{calls} calls: each record once, in its newest state");
    assert!(stage.reviews().await.is_empty());
    stage.stop().await;
}
