//! A hosted CRM and a database, kept equal both ways: the pair of the example that ships with Concord, on the simulated
//! org and a real server. What people do on either side arrives on the other; what goes wrong on the way costs nothing.

mod answers;
mod contacts;
mod loads;
mod polled;
mod sharing;
mod stage;
mod times;

use serde_json::json;
use stage::Stage;
use std::time::Duration;

#[tokio::test]
async fn a_row_becomes_an_account_and_gets_its_id_back_and_edits_flow_both_ways() {
    let stage = Stage::started(json!({})).await;
    stage.row("INSERT INTO accounts (account_name, industry_type, annual_revenue) VALUES ('Acme', 'Energy', 1500000)").await;
    stage.shows("SELECT count(*) FROM accounts WHERE length(sf_id) = 18", "1").await;
    let id = stage.value("SELECT sf_id FROM accounts").await;
    stage.account_shows(&id, "Name", json!("Acme")).await;
    assert_eq!(stage.account(&id)["AnnualRevenue"], json!(1_500_000.0));
    stage.org.update("Account", &id, json!({"Name": "Acme Corp", "Industry": null}));
    stage.shows("SELECT account_name || coalesce(industry_type, '-') FROM accounts", "Acme Corp-").await;
    stage.row("UPDATE accounts SET annual_revenue = 2000000").await;
    stage.account_shows(&id, "AnnualRevenue", json!(2_000_000.0)).await;

    let made = stage.org.create("Account", json!({"Name": "Bolt"}));
    stage.shows("SELECT sf_id FROM accounts WHERE account_name = 'Bolt'", &made).await;
    stage.org.delete("Account", &made);
    stage.shows("SELECT count(*) FROM accounts", "1").await;
    stage.row("DELETE FROM accounts").await;
    stage.wait("the account is deleted", || stage.accounts().is_empty()).await;
    assert!(stage.reviews().await.is_empty(), "{:#?}", stage.reviews().await);
    stage.stop().await;
}

#[tokio::test]
async fn what_is_on_either_side_at_first_is_made_on_the_other() {
    let stage = Stage::new(json!({})).await;
    for number in 0..30 {
        stage.org.create("Account", json!({"Name": format!("crm {number}")}));
    }
    stage.row("INSERT INTO accounts (account_name) SELECT 'erp ' || n FROM generate_series(1, 250) n").await;
    let stage = stage.start().await;
    stage.shows("SELECT count(*) FROM accounts WHERE sf_id IS NOT NULL", "280").await;
    stage.wait("280 accounts", || stage.accounts().len() == 280).await;
    stage.stop().await;
}

#[tokio::test]
async fn a_validation_rule_sends_one_record_to_review_with_its_words_and_the_others_flow() {
    let rules = json!({"validation": [{"object": "Account", "when": "AnnualRevenue < 0", "message": "Revenue is never negative", "field": "AnnualRevenue"}]});
    let stage = Stage::started(rules).await;
    stage.row("INSERT INTO accounts (account_name, annual_revenue) VALUES ('Low', -5), ('Good', 5), ('Better', 6)").await;
    stage.wait("two accounts", || stage.accounts().len() == 2).await;
    stage.wait_for_reviews(1).await;
    let reviews = stage.reviews().await;
    assert_eq!(reviews[0].code, "CON-3001");
    assert!(reviews[0].message.contains("Revenue is never negative"), "{}", reviews[0].message);
    stage.row("UPDATE accounts SET annual_revenue = 7 WHERE account_name = 'Low'").await;
    stage.wait("three accounts", || stage.accounts().len() == 3).await;
    stage.wait_for_reviews(0).await;
    stage.stop().await;
}

#[tokio::test]
async fn a_create_whose_answer_is_lost_is_made_once() {
    let stage = Stage::started(json!({})).await;
    stage.org.fault(json!({"on": {"method": "POST", "path": "/composite/sobjects"}, "do": "answer_lost"}));
    stage.row("INSERT INTO accounts (account_name) VALUES ('Once')").await;
    stage.shows("SELECT count(*) FROM accounts WHERE sf_id IS NOT NULL", "1").await;
    stage.passes_a_beat().await;
    assert_eq!(stage.accounts().len(), 1);
    assert!(stage.reviews().await.is_empty(), "{:#?}", stage.reviews().await);
    stage.stop().await;
}

#[tokio::test]
async fn a_create_that_never_arrived_is_made_again() {
    let stage = Stage::started(json!({})).await;
    stage.org.fault(json!({"on": {"method": "POST", "path": "/composite/sobjects"}, "do": "cut"}));
    stage.row("INSERT INTO accounts (account_name) VALUES ('Once')").await;
    stage.shows("SELECT count(*) FROM accounts WHERE sf_id IS NOT NULL", "1").await;
    assert_eq!(stage.accounts().len(), 1);
    stage.stop().await;
}

#[tokio::test]
async fn what_a_trigger_makes_of_our_write_comes_back() {
    let rules = json!({"triggers": [{"object": "Account", "changed": ["Name"], "when": "Name = 'Bank'", "set": {"Industry": "Banking"}}]});
    let stage = Stage::started(rules).await;
    stage.row("INSERT INTO accounts (account_name) VALUES ('Acme')").await;
    stage.shows("SELECT count(*) FROM accounts WHERE sf_id IS NOT NULL", "1").await;
    stage.row("UPDATE accounts SET account_name = 'Bank'").await;
    stage.shows("SELECT industry_type FROM accounts", "Banking").await;
    stage.passes_a_beat().await;
    assert!(stage.reviews().await.is_empty());
    stage.stop().await;
}

/// A pair of which Salesforce takes no account for a bank: a flow puts the old name back while it is saved.
async fn names_are_put_back() -> (Stage, String) {
    let rules = json!({"triggers": [{"object": "Account", "on": ["update"], "when": "Name = 'Bank'", "set": {"Name": "Acme"}}]});
    let stage = Stage::started(rules).await;
    stage.row("INSERT INTO accounts (account_name) VALUES ('Acme')").await;
    stage.shows("SELECT count(*) FROM accounts WHERE sf_id IS NOT NULL", "1").await;
    let id = stage.value("SELECT sf_id FROM accounts").await;
    stage.passes_a_beat().await;
    // Behind the second of the create: what is put back tells of nothing but its stamp.
    stage.minutes_pass(1);
    (stage, id)
}

/// Everything is as the flow wants it, and nothing goes on: no loop of writes, nor of looks.
async fn is_as_before(stage: Stage, id: &str) {
    stage.shows(&format!("SELECT account_name FROM accounts WHERE sf_id = '{id}'"), "Acme").await;
    stage.passes_a_beat().await;
    stage.wait("level", || stage.status().syncs[0].level).await;
    assert_eq!((stage.account(id)["Name"].clone(), stage.reviews().await.len()), (json!("Acme"), 0));
    let before = stage.org.requests("/services/data");
    stage.passes_a_beat().await;
    let calls = stage.org.requests("/services/data") - before;
    assert!(calls <= 16, "{calls} calls for a beat");
    stage.stop().await;
}

#[tokio::test]
async fn a_write_that_a_flow_puts_back_at_once_is_not_believed_to_stand() {
    let (stage, id) = names_are_put_back().await;
    let before = stage.org.requests("/services/data");
    stage.row("UPDATE accounts SET account_name = 'Bank'").await;
    stage.wait("the write has been made", || stage.org.requests("/services/data") > before).await;
    is_as_before(stage, &id).await;
}

#[tokio::test]
async fn what_a_flow_puts_back_beside_what_it_leaves_is_not_believed_to_stand() {
    let (stage, id) = names_are_put_back().await;
    stage.row("UPDATE accounts SET account_name = 'Bank', industry_type = 'Energy'").await;
    stage.account_shows(&id, "Industry", json!("Energy")).await;
    is_as_before(stage, &id).await;
}

#[tokio::test]
async fn what_a_flow_puts_back_is_seen_where_the_answer_is_lost_or_a_kill_comes_between() {
    for kill in [false, true] {
        let (stage, id) = names_are_put_back().await;
        stage.org.fault(json!({"on": {"method": "POST", "path": "/composite", "body": "Bank"}, "do": "answer_lost"}));
        stage.row("UPDATE accounts SET account_name = 'Bank', industry_type = 'Energy'").await;
        stage.account_shows(&id, "Industry", json!("Energy")).await;
        let stage = if kill { stage.crash().await.start().await } else { stage };
        is_as_before(stage, &id).await;
    }
}

#[tokio::test]
async fn two_quick_edits_leave_the_last_one_on_both_sides() {
    let stage = Stage::started(json!({})).await;
    stage.row("INSERT INTO accounts (account_name) VALUES ('v0')").await;
    stage.shows("SELECT count(*) FROM accounts WHERE sf_id IS NOT NULL", "1").await;
    let id = stage.value("SELECT sf_id FROM accounts").await;
    stage.passes_a_beat().await;
    for round in 1..=5 {
        // The echo of the first one comes a second after it, and the second one lies between.
        stage.org.fault(json!({"on": {"object": "Account", "change": "UPDATE"}, "do": {"late": {"ms": 1_000}}}));
        stage.row(&format!("UPDATE accounts SET account_name = 'v{round}a'")).await;
        stage.account_shows(&id, "Name", json!(format!("v{round}a"))).await;
        stage.row(&format!("UPDATE accounts SET account_name = 'v{round}b'")).await;
        stage.account_shows(&id, "Name", json!(format!("v{round}b"))).await;
    }
    let befell: Vec<u32> = stage.org.simulator.org.faults.counts().into_iter().map(|(_, times)| times).collect();
    assert_eq!(befell, [1; 5], "each first echo was late");
    stage.passes_a_beat().await;
    assert_eq!(stage.value("SELECT account_name FROM accounts").await, "v5b");
    assert_eq!(stage.account(&id)["Name"], json!("v5b"));
    assert!(stage.reviews().await.is_empty(), "{:#?}", stage.reviews().await);
    stage.stop().await;
}

#[tokio::test]
async fn an_echo_costs_no_call() {
    let stage = Stage::started(json!({})).await;
    stage.row("INSERT INTO accounts (account_name) SELECT 'n' || n FROM generate_series(1, 200) n").await;
    stage.wait("200 accounts", || stage.accounts().len() == 200).await;
    stage.shows("SELECT count(*) FROM accounts WHERE sf_id IS NOT NULL", "200").await;
    let calls = || stage.org.requests("/services/data");
    let mut beats = Vec::new();
    for _ in 0..3 {
        stage.wait("level", || stage.status().syncs[0].level).await;
        let before = calls();
        stage.passes_a_beat().await;
        stage.wait("level", || stage.status().syncs[0].level).await;
        beats.push(calls() - before);
    }
    assert_eq!(beats[1], beats[2], "a beat has its price");
    // The echoes are held back until every answer is in.
    let held = json!({"on": {"object": "Account", "change": "UPDATE"}, "times": 200, "do": {"late": {"ms": 60_000}}});
    stage.org.fault(held);
    let before = calls();
    let flown = stage.org.simulator.org.journal.since(0).iter().filter(|entry| entry.path.ends_with("/composite")).count();
    stage.row("UPDATE accounts SET annual_revenue = 1").await;
    stage.wait("all accounts changed", || stage.accounts().iter().all(|one| one["AnnualRevenue"] == json!(1.0))).await;
    let answered = || stage.status().syncs[0].members[0].in_flight == 200;
    stage.wait("every answer is waited for no longer", answered).await;
    let flights =
        stage.org.simulator.org.journal.since(0).iter().filter(|entry| entry.path.ends_with("/composite")).count() - flown;
    assert_eq!(calls() - before, 2 * flights, "each is read before, and written and read behind");
    stage.org.simulator.org.faults.clear();
    let before = calls();
    stage.org.simulator.org.clock.advance(60_000);
    stage.wait("the echoes settle what was written", || stage.status().syncs[0].level).await;
    stage.passes_a_beat().await;
    stage.wait("level", || stage.status().syncs[0].level).await;
    assert_eq!(calls() - before, beats[2], "the echoes of 200 records cost nothing beside a beat");
    stage.stop().await;
}

#[tokio::test]
async fn a_value_that_a_restricted_picklist_does_not_take_waits_for_a_person_who_is_told_which_it_does() {
    let stage = Stage::new(json!({})).await;
    let field = json!({"name": "Industry", "type": "picklist", "length": 255, "restricted": true,
        "values": ["Energy", "Banking"], "inactiveValues": ["Alchemy"]});
    let schema = json!({"objects": [{"name": "Account", "fields": [field]}]});
    stage.org.simulator.org.add_schema(&serde_json::from_value(schema).unwrap()).unwrap();
    let stage = stage.start().await;
    stage
        .row("INSERT INTO accounts (account_name, industry_type) VALUES ('Good', 'Energy'), ('Bad', 'Shipping'), ('Old', 'Alchemy')")
        .await;
    stage.wait_for_reviews(2).await;
    stage.shows("SELECT account_name FROM accounts WHERE sf_id IS NOT NULL", "Good").await;
    for review in stage.reviews().await {
        assert!(review.message.contains("Energy, Banking") && !review.message.contains("Alchemy"), "{}", review.message);
    }
    assert_eq!(stage.all_accounts().len(), 1, "nothing was sent that would not be taken");
    stage.row("UPDATE accounts SET industry_type = 'Banking' WHERE sf_id IS NULL").await;
    stage.wait("three accounts", || stage.accounts().len() == 3).await;
    stage.wait_for_reviews(0).await;
    stage.stop().await;
}

#[tokio::test]
async fn a_session_that_runs_out_and_a_stream_that_ends_lose_nothing() {
    let stage = Stage::started(json!({})).await;
    stage.org.fault(json!({"on": {"path": "/composite"}, "times": 2, "do": "session_expired"}));
    stage.org.fault(json!({"do": "stream_cut"}));
    stage.row("INSERT INTO accounts (account_name) VALUES ('Acme')").await;
    stage.shows("SELECT count(*) FROM accounts WHERE sf_id IS NOT NULL", "1").await;
    let id = stage.value("SELECT sf_id FROM accounts").await;
    stage.org.update("Account", &id, json!({"Name": "Acme 2"}));
    stage.shows("SELECT account_name FROM accounts", "Acme 2").await;
    stage.stop().await;
}

#[tokio::test]
async fn gaps_overflows_and_a_restart_are_caught_up_with() {
    are_caught_up_with(Stage::started(json!({})).await).await;
}

#[tokio::test]
async fn gaps_overflows_and_a_restart_are_caught_up_with_where_grpc_is_closed() {
    let closed = json!({"pubsub_url": "https://localhost:1"});
    let stage = Stage::new(json!({})).await.with_options(closed).start().await;
    are_caught_up_with(stage).await;
}

async fn are_caught_up_with(stage: Stage) {
    let id = stage.org.create("Account", json!({"Name": "Acme"}));
    stage.shows("SELECT account_name FROM accounts", "Acme").await;
    stage.org.fault(json!({"on": {"object": "Account"}, "do": "gap"}));
    stage.org.update("Account", &id, json!({"Industry": "Energy"}));
    stage.shows("SELECT industry_type FROM accounts", "Energy").await;
    stage.org.fault(json!({"on": {"object": "Account"}, "do": "overflow"}));
    stage.org.update("Account", &id, json!({"Industry": "Banking"}));
    stage.shows("SELECT industry_type FROM accounts", "Banking").await;
    stage.org.fault(json!({"on": {"object": "Account"}, "do": "wildcard"}));
    stage.org.update("Account", &id, json!({"Industry": "Shipping"}));
    stage.shows("SELECT industry_type FROM accounts", "Shipping").await;
    // One event of many records: what is done to all of them in one go, alike.
    let more: Vec<String> = (0..20).map(|n| stage.org.create("Account", json!({"Name": format!("n{n}")}))).collect();
    stage.shows("SELECT count(*) FROM accounts", "21").await;
    let ids: Vec<_> = more.iter().map(|id| stage.org.id(id)).collect();
    let events = || stage.org.simulator.org.state().events.latest();
    let before = events();
    let alike = json!({"Industry": "Retail", "AnnualRevenue": 20});
    stage.org.simulator.person().update_all("Account", &ids, alike.as_object().unwrap()).unwrap();
    assert!(events() - before <= 5, "one event, and the holes in the numbers");
    stage.shows("SELECT count(*) FROM accounts WHERE industry_type = 'Retail' AND annual_revenue = 20", "20").await;
    let stage = stage.crash().await;
    stage.org.update("Account", &id, json!({"Name": "while it was down"}));
    let stage = stage.start().await;
    stage.shows(&format!("SELECT account_name FROM accounts WHERE sf_id = '{id}'"), "while it was down").await;
    stage.stop().await;
}

#[tokio::test]
async fn what_is_merged_in_the_org_or_taken_out_of_its_bin_is_followed() {
    let stage = Stage::started(json!({})).await;
    let ids: Vec<String> = ["Winner", "Loser", "Bystander"]
        .map(|name| stage.org.create("Account", json!({"Name": name, "Industry": format!("{name}'s")})))
        .to_vec();
    stage.shows("SELECT count(*) FROM accounts", "3").await;
    let person = stage.org.simulator.person();
    let fields = json!({"Industry": "Loser's"});
    person.merge("Account", stage.org.id(&ids[0]), &[stage.org.id(&ids[1])], fields.as_object().unwrap()).unwrap();
    stage
        .shows(
            "SELECT string_agg(account_name || ' ' || industry_type, ', ' ORDER BY account_name) FROM accounts",
            "Bystander Bystander's, Winner Loser's",
        )
        .await;
    stage.org.delete("Account", &ids[2]);
    stage.shows("SELECT count(*) FROM accounts", "1").await;
    person.undelete("Account", stage.org.id(&ids[2])).unwrap();
    stage.shows(&format!("SELECT account_name FROM accounts WHERE sf_id = '{}'", ids[2]), "Bystander").await;
    // What came back is a record like any other, either way.
    stage.row(&format!("UPDATE accounts SET account_name = 'Back' WHERE sf_id = '{}'", ids[2])).await;
    stage.account_shows(&ids[2], "Name", json!("Back")).await;
    stage.passes_a_beat().await;
    assert_eq!((stage.accounts().len(), stage.value("SELECT count(*) FROM accounts").await.as_str()), (2, "2"));
    assert!(stage.reviews().await.is_empty(), "{:#?}", stage.reviews().await);
    stage.stop().await;
}

#[tokio::test]
async fn an_org_that_does_not_answer_for_a_while_costs_nothing() {
    let stage = Stage::started(json!({})).await;
    stage.org.fault(json!({"on": {"path": "/composite"}, "times": 3, "do": "unavailable"}));
    stage.row("INSERT INTO accounts (account_name) VALUES ('Acme')").await;
    stage.shows("SELECT count(*) FROM accounts WHERE sf_id IS NOT NULL", "1").await;
    assert!(stage.reviews().await.is_empty());
    tokio::time::timeout(Duration::from_secs(30), stage.stop()).await.unwrap();
}

// What could not be written was put off by a clock that was hours ahead.
#[tokio::test]
async fn a_clock_that_ran_ahead_and_is_put_right_parks_nothing() {
    let stage = Stage::started(json!({})).await;
    stage.clock_steps(300);
    stage.org.fault(json!({"on": {"path": "/composite"}, "times": null, "do": "unavailable"}));
    stage.row("INSERT INTO accounts (account_name) VALUES ('Acme'), ('Bolt')").await;
    stage.wait("a write that fails", befell_of(&stage)).await;
    stage.clock_steps(-300);
    stage.org.simulator.org.faults.clear();
    stage.shows("SELECT count(*) FROM accounts WHERE sf_id IS NOT NULL", "2").await;
    let stage = stage.crash().await;
    // The same where the process ended with the clock ahead.
    stage.clock_steps(300);
    let stage = stage.start().await;
    stage.org.fault(json!({"on": {"path": "/composite"}, "times": null, "do": "unavailable"}));
    stage.row("UPDATE accounts SET account_name = account_name || '!'").await;
    stage.wait("a write that fails", befell_of(&stage)).await;
    let stage = stage.crash().await;
    stage.clock_steps(-300);
    stage.org.simulator.org.faults.clear();
    let stage = stage.start().await;
    stage.wait("both", || stage.accounts().iter().all(|one| one["Name"].as_str().is_some_and(|name| name.ends_with('!')))).await;
    stage.stop().await;
}

/// Whether a fault has befallen anybody.
fn befell_of(stage: &Stage) -> impl Fn() -> bool + '_ {
    || stage.org.simulator.org.faults.counts().into_iter().any(|(_, times)| times > 0)
}

#[tokio::test]
async fn an_edit_whose_event_is_lost_arrives_though_a_later_event_of_the_account_was_heard() {
    let stage = Stage::new(json!({})).await.looking(Duration::from_millis(200)).start().await;
    for number in 0..20 {
        stage.org.create("Account", json!({"Name": format!("n{number}")}));
    }
    let id = stage.org.create("Account", json!({"Name": "Acme", "Industry": "Energy"}));
    stage.shows("SELECT count(*) FROM accounts", "21").await;
    stage.org.fault(json!({"on": {"change": "UPDATE"}, "do": {"late": {"ms": 864_000_000}}}));
    stage.org.update("Account", &id, json!({"Industry": "Banking"}));
    stage.org.update("Account", &id, json!({"AnnualRevenue": 7}));
    stage.shows("SELECT annual_revenue::int FROM accounts WHERE account_name = 'Acme'", "7").await;
    stage.wait("level", || stage.status().syncs[0].level).await;
    let industry = "SELECT industry_type FROM accounts WHERE account_name = 'Acme'";
    assert_eq!(stage.value(industry).await, "Energy", "no event has told");
    let others = "SELECT id, xmin::text FROM accounts WHERE account_name <> 'Acme' ORDER BY id";
    let (links, rows) = (stage.links().await, stage.rows(others).await);
    stage.minutes_pass(2);
    // What time it is at the org is known by the answers of calls.
    stage.passes_a_beat().await;
    stage.shows(industry, "Banking").await;
    let looks = stage.org.requests("/queryAll");
    stage.wait("some looks", || stage.org.requests("/queryAll") > looks + 5).await;
    stage.wait("level", || stage.status().syncs[0].level).await;
    // Of the others the looks have shown nothing new: nothing was written of them anywhere.
    let now = stage.links().await;
    assert_eq!(links.len(), 21);
    let changed = links.iter().filter(|link| !now.contains(link)).count();
    assert_eq!((changed, stage.rows(others).await), (1, rows));
    stage.stop().await;
}

/// No event tells of what is written from now on.
fn silence(stage: &Stage) {
    stage.org.fault(json!({"on": {"object": "Account"}, "times": null, "do": {"late": {"ms": 86_400_000}}}));
}

#[tokio::test]
async fn a_create_whose_answer_is_lost_and_of_which_no_event_tells_is_made_once() {
    let stage = Stage::started(json!({})).await;
    silence(&stage);
    stage.org.fault(json!({"on": {"method": "POST", "path": "/composite/sobjects"}, "do": "answer_lost"}));
    stage.row("INSERT INTO accounts (account_name) VALUES ('Once')").await;
    stage.shows("SELECT count(*) FROM accounts WHERE sf_id IS NOT NULL", "1").await;
    assert_eq!((stage.accounts().len(), stage.value("SELECT count(*) FROM accounts").await.as_str()), (1, "1"));
    assert!(stage.reviews().await.is_empty(), "{:#?}", stage.reviews().await);
    stage.stop().await;
}

#[tokio::test]
async fn a_create_in_flight_when_the_process_died_is_made_once_even_if_no_event_tells_of_it() {
    let stage = Stage::started(json!({})).await;
    silence(&stage);
    stage.org.fault(json!({"on": {"method": "POST", "path": "/composite/sobjects"}, "do": "answer_lost"}));
    stage.row("INSERT INTO accounts (account_name) VALUES ('Once')").await;
    stage.wait("the account is made", || stage.accounts().len() == 1).await;
    let stage = stage.crash().await.start().await;
    stage.shows("SELECT count(*) FROM accounts WHERE sf_id IS NOT NULL", "1").await;
    assert_eq!((stage.accounts().len(), stage.value("SELECT count(*) FROM accounts").await.as_str()), (1, "1"));
    stage.stop().await;
}

#[tokio::test]
async fn a_create_that_could_be_one_of_several_waits_for_a_person() {
    let stage = Stage::started(json!({})).await;
    silence(&stage);
    // Two accounts of the same name by the same user as ours, another program's: nothing tells which is whose.
    stage.org.fault(json!({"on": {"method": "POST", "path": "/composite/sobjects"}, "do": "answer_lost"}));
    stage.row("INSERT INTO accounts (account_name) VALUES ('Once')").await;
    stage.wait("the account is made", || stage.accounts().len() == 1).await;
    stage.org.create_as_the_integration("Account", json!({"Name": "Once"})).await;
    stage.wait_for_review("CON-3022").await;
    assert_eq!((stage.accounts().len(), stage.value("SELECT count(*) FROM accounts").await.as_str()), (2, "1"));
    stage.stop().await;
}

#[tokio::test]
async fn thousands_on_either_side_are_loaded_by_jobs_both_ways() {
    const IN_ORG: usize = 2_500;
    const IN_DATABASE: usize = 6_000;
    let stage = Stage::new(json!({})).await;
    // Calls take their time, and what is to be written gathers meanwhile.
    stage.org.fault(json!({"on": {"method": "POST", "path": "/composite"}, "times": null, "do": {"slow": {"ms": 1_500}}}));
    let records: Vec<_> = (0..IN_ORG).map(|n| json!({"Name": format!("made in the org {n}")})).collect();
    let records: Vec<_> = records.iter().map(|record| record.as_object().unwrap().clone()).collect();
    stage.org.simulator.person().create_all("Account", &records).unwrap();
    stage
        .row(&format!(
            "INSERT INTO accounts (account_name) SELECT 'made in the database ' || n FROM generate_series(1, {IN_DATABASE}) n"
        ))
        .await;
    let stage = stage.start().await;
    stage.is_loaded("SELECT count(sf_id) FROM accounts", &(IN_ORG + IN_DATABASE).to_string()).await;
    let made = |part: &str| stage.accounts().iter().filter(|one| one["Name"].as_str().unwrap().contains(part)).count();
    assert_eq!((made("in the org"), made("in the database")), (IN_ORG, IN_DATABASE));
    assert!(stage.org.requests("/jobs/query") >= 1, "read by a job");
    assert!(stage.org.requests("/batches") >= 1, "written by a job");
    assert!(stage.reviews().await.is_empty());
    stage.stop().await;
}

#[tokio::test]
async fn an_allowance_that_is_used_up_for_hours_costs_no_attempt_and_is_caught_up_with_by_the_newest_state() {
    use concord_simulators::salesforce::Limit;
    let stage = Stage::started(json!({})).await;
    stage.row("INSERT INTO accounts (account_name) SELECT 'n' || n FROM generate_series(1, 20) n").await;
    stage.shows("SELECT count(*) FROM accounts WHERE sf_id IS NOT NULL", "20").await;
    stage.passes_a_beat().await;
    let allow = |calls| stage.org.simulator.org.state().limits.set_max(Limit::DailyApiRequests, calls);
    allow(1);
    for hour in 1..=6 {
        stage.row(&format!("UPDATE accounts SET account_name = account_name || '.', annual_revenue = {hour}")).await;
        let waits = || stage.status().syncs[0].members[0].owed >= 20;
        stage.wait("the edits are recorded and wait", waits).await;
        stage.minutes_pass(60);
    }
    // The database keeps no log for us meanwhile: everything is recorded.
    stage
        .wait("the log is let go", || stage.status().feeds.iter().all(|feed| feed.retained_bytes.unwrap_or(0) < 1_000_000))
        .await;
    let told = stage.status().allowances;
    assert!(told.len() == 1 && told[0].calls.allowed == 1 && told[0].left == 0, "{told:?}");
    let before = stage.org.requests("/composite");
    allow(100_000);
    stage
        .wait("everything is caught up with", || {
            // The last refusal may just have come: a quarter of an hour is waited after it.
            stage.minutes_pass(1);
            stage
                .accounts()
                .iter()
                .all(|one| one["AnnualRevenue"] == json!(6.0) && one["Name"].as_str().unwrap().ends_with("......"))
        })
        .await;
    let calls = stage.org.requests("/composite") - before;
    assert!(calls <= 12, "{calls} calls for 20 records that changed six times");
    stage.passes_a_beat().await;
    assert!(stage.reviews().await.is_empty(), "{:#?}", stage.reviews().await);
    stage.stop().await;
}

#[tokio::test]
async fn kills_under_load_lose_and_double_nothing_between_an_org_and_a_database() {
    let mut stage = Stage::started(json!({})).await;
    for round in 0..6_u64 {
        // Answers are lost now and then, besides: what a kill leaves open can be anything.
        if round % 2 == 1 {
            stage.org.fault(json!({"on": {"method": "POST", "path": "/composite"}, "do": "answer_lost"}));
        }
        stage.row(&format!("INSERT INTO accounts (account_name) SELECT 'row {round} ' || n FROM generate_series(1, 12) n")).await;
        for number in 0..12 {
            stage.org.create("Account", json!({"Name": format!("account {round} {number}")}));
        }
        stage.row(&format!("UPDATE accounts SET annual_revenue = {round} WHERE account_name LIKE 'row %'")).await;
        for account in stage.accounts().iter().filter(|one| one["Name"].as_str().unwrap().starts_with("account")) {
            stage.org.update("Account", account["Id"].as_str().unwrap(), json!({"Industry": format!("Round {round}")}));
        }
        // At ever other moments of the work.
        let moment = std::time::Duration::from_millis(7 + 23 * round);
        let _ = tokio::time::timeout(moment, std::future::pending::<()>()).await;
        stage = stage.crash().await.start().await;
    }
    stage.shows("SELECT count(*) FROM accounts WHERE sf_id IS NOT NULL", "144").await;
    stage.passes_a_beat().await;
    stage.wait("level", || stage.status().syncs[0].level).await;
    let rows = stage
        .rows("SELECT sf_id, account_name, coalesce(industry_type, ''), coalesce(annual_revenue::int, -1)::text FROM accounts")
        .await;
    assert_eq!((rows.len(), stage.accounts().len()), (144, 144));
    for row in rows {
        let [id, name, industry, revenue] = row.as_slice() else { panic!("{row:?}") };
        let account = stage.account(id);
        assert_eq!(account["Name"], json!(name));
        assert_eq!(account["Industry"].as_str().unwrap_or(""), industry, "{name}");
        assert_eq!(account["AnnualRevenue"].as_f64().map_or("-1".to_owned(), |amount| amount.to_string()), *revenue, "{name}");
        let (last, expected) = if name.starts_with("row") { (revenue, "5") } else { (industry, "Round 5") };
        assert_eq!(last, expected, "{name}");
    }
    assert!(stage.reviews().await.is_empty(), "{:#?}", stage.reviews().await);
    stage.stop().await;
}

/// A row that is deleted before its create is answered takes the account along, whatever becomes of the answer.
async fn a_row_deleted_behind_its_create(stage: &Stage) {
    stage.org.fault(json!({"on": {"method": "POST", "path": "/composite/sobjects"}, "do": "answer_lost"}));
    stage.row("INSERT INTO accounts (account_name) VALUES ('Goes')").await;
    stage.wait("the account is made", || stage.accounts().len() == 1).await;
    stage.row("DELETE FROM accounts").await;
}

async fn takes_its_account_along(stage: Stage) {
    stage.wait("the account is gone again", || stage.accounts().is_empty() && stage.status().syncs[0].level).await;
    assert!(stage.reviews().await.is_empty(), "{:#?}", stage.reviews().await);
    stage.stop().await;
}

#[tokio::test]
async fn a_row_that_goes_before_its_create_is_answered_takes_its_account_along() {
    let stage = Stage::started(json!({})).await;
    a_row_deleted_behind_its_create(&stage).await;
    takes_its_account_along(stage).await;
}

#[tokio::test]
async fn a_row_that_goes_before_its_create_is_answered_takes_its_account_along_where_no_event_tells_of_it() {
    let stage = Stage::started(json!({})).await;
    silence(&stage);
    a_row_deleted_behind_its_create(&stage).await;
    takes_its_account_along(stage).await;
}

#[tokio::test]
async fn a_row_that_goes_before_its_create_is_answered_takes_its_account_along_after_a_crash() {
    let stage = Stage::started(json!({})).await;
    a_row_deleted_behind_its_create(&stage).await;
    takes_its_account_along(stage.crash().await.start().await).await;
}
