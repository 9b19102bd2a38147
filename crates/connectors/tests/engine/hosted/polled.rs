//! Accounts that are asked for what has changed, because no change events come of them, or are delivered, or nobody wants them:
//! nothing tells whose a change is, a change's time is a whole second, and what is gone is in the bin.

use super::stage::Stage;
use concord_simulators::salesforce::Limit;
use serde_json::json;
use std::time::{Duration, Instant};

const EVERY: Duration = Duration::from_millis(100);

/// How a stage comes to be polled.
type Way = fn(Stage) -> Stage;

async fn edits_flow_both_ways_and_deletes_follow(way: Way) {
    let stage = way(Stage::new(json!({})).await).start().await;
    stage.row("INSERT INTO accounts (account_name, industry_type) VALUES ('Acme', 'Energy')").await;
    stage.shows("SELECT count(*) FROM accounts WHERE length(sf_id) = 18", "1").await;
    let id = stage.value("SELECT sf_id FROM accounts").await;
    stage.org.update("Account", &id, json!({"Name": "Acme Corp", "Industry": null}));
    stage.shows("SELECT account_name || coalesce(industry_type, '-') FROM accounts", "Acme Corp-").await;
    stage.row("UPDATE accounts SET annual_revenue = 2000000").await;
    stage.account_shows(&id, "AnnualRevenue", json!(2_000_000.0)).await;
    let made = stage.org.create("Account", json!({"Name": "Bolt"}));
    stage.shows("SELECT sf_id FROM accounts WHERE account_name = 'Bolt'", &made).await;
    stage.org.delete("Account", &made);
    stage.shows("SELECT count(*) FROM accounts", "1").await;
    stage.org.simulator.person().undelete("Account", stage.org.id(&made)).unwrap();
    stage.shows("SELECT account_name FROM accounts WHERE account_name <> 'Acme Corp'", "Bolt").await;
    stage.row("DELETE FROM accounts").await;
    stage.wait("the accounts are deleted", || stage.accounts().is_empty()).await;
    assert!(stage.reviews().await.is_empty(), "{:#?}", stage.reviews().await);
    let now_ms = stage.org.simulator.org.clock.now_ms();
    let consumed = stage.org.simulator.org.state().limits.used(Limit::DailyDeliveredPlatformEvents, now_ms);
    assert_eq!(consumed, 0, "no change event is consumed");
    stage.stop().await;
}

async fn an_echo_without_a_mark_writes_nothing_back(way: Way) {
    let stage = way(Stage::new(json!({})).await).start().await;
    stage.row("INSERT INTO accounts (account_name) SELECT 'n' || n FROM generate_series(1, 50) n").await;
    stage.shows("SELECT count(*) FROM accounts WHERE sf_id IS NOT NULL", "50").await;
    stage.passes_a_beat().await;
    let stamps = || stage.accounts().iter().map(|one| one["SystemModstamp"].clone()).collect::<Vec<_>>();
    stage.row("UPDATE accounts SET annual_revenue = 1").await;
    stage.wait("all accounts changed", || stage.accounts().iter().all(|one| one["AnnualRevenue"] == json!(1.0))).await;
    let (written, rows) =
        (stamps(), stage.rows("SELECT id, xmin::text FROM accounts WHERE last_modified IS NOT NULL ORDER BY id").await);
    // The stamps of what was written come back, once; then nothing more happens.
    stage.passes_a_beat().await;
    stage.wait("level", || stage.status().syncs[0].level).await;
    let settled = stage.rows("SELECT id, xmin::text FROM accounts ORDER BY id").await;
    stage.passes_a_beat().await;
    stage.passes_a_beat().await;
    assert_eq!(stamps(), written, "nothing was written to the org again");
    assert_eq!(stage.rows("SELECT id, xmin::text FROM accounts ORDER BY id").await, settled, "nor to the table");
    assert_eq!((rows.len(), stage.accounts().len()), (50, 50));
    assert!(stage.reviews().await.is_empty(), "{:#?}", stage.reviews().await);
    stage.stop().await;
}

async fn the_later_of_two_edits_wins_by_whole_seconds(way: Way) {
    for row_is_later in [true, false] {
        let stage = way(Stage::new(json!({})).await).start().await;
        stage.row("INSERT INTO accounts (account_name) VALUES ('Acme')").await;
        stage.shows("SELECT count(*) FROM accounts WHERE sf_id IS NOT NULL", "1").await;
        let id = stage.value("SELECT sf_id FROM accounts").await;
        stage.passes_a_beat().await;
        let stage = stage.crash().await;
        let row = async || stage.row("UPDATE accounts SET account_name = 'in the row'").await;
        let pause = || tokio::time::timeout(Duration::from_millis(2_200), std::future::pending::<()>());
        if !row_is_later {
            row().await;
            let _ = pause().await;
        }
        stage.org.update("Account", &id, json!({"Name": "in the org"}));
        if row_is_later {
            let _ = pause().await;
            row().await;
        }
        let stage = stage.start().await;
        let wins = if row_is_later { "in the row" } else { "in the org" };
        stage.shows("SELECT account_name FROM accounts", wins).await;
        stage.account_shows(&id, "Name", json!(wins)).await;
        stage.passes_a_beat().await;
        assert_eq!(
            (stage.value("SELECT account_name FROM accounts").await.as_str(), &stage.account(&id)["Name"]),
            (wins, &json!(wins))
        );
        assert!(stage.reviews().await.is_empty(), "{:#?}", stage.reviews().await);
        stage.stop().await;
    }
}

async fn two_quick_edits_leave_the_last_one_on_both_sides(way: Way) {
    let stage = way(Stage::new(json!({})).await).start().await;
    stage.row("INSERT INTO accounts (account_name) VALUES ('v0')").await;
    stage.shows("SELECT count(*) FROM accounts WHERE sf_id IS NOT NULL", "1").await;
    let id = stage.value("SELECT sf_id FROM accounts").await;
    for round in 1..=5 {
        stage.row(&format!("UPDATE accounts SET account_name = 'v{round}a'")).await;
        stage.account_shows(&id, "Name", json!(format!("v{round}a"))).await;
        stage.row(&format!("UPDATE accounts SET account_name = 'v{round}b'")).await;
    }
    stage.account_shows(&id, "Name", json!("v5b")).await;
    stage.passes_a_beat().await;
    assert_eq!(stage.value("SELECT account_name FROM accounts").await, "v5b");
    assert_eq!(stage.account(&id)["Name"], json!("v5b"));
    stage.stop().await;
}

async fn a_create_whose_answer_is_lost_is_made_once(way: Way) {
    let stage = way(Stage::new(json!({})).await).start().await;
    stage.org.fault(json!({"on": {"method": "POST", "path": "/composite/sobjects"}, "do": "answer_lost"}));
    stage.row("INSERT INTO accounts (account_name) VALUES ('Once')").await;
    stage.shows("SELECT count(*) FROM accounts WHERE sf_id IS NOT NULL", "1").await;
    stage.passes_a_beat().await;
    let once = stage.all_accounts().iter().filter(|one| one["Name"] == json!("Once")).count();
    assert_eq!((once, stage.value("SELECT count(*) FROM accounts").await.as_str()), (1, "1"));
    assert!(stage.reviews().await.is_empty(), "{:#?}", stage.reviews().await);
    stage.stop().await;
}

async fn a_row_that_goes_before_its_create_is_answered_takes_its_account_along(way: Way) {
    let stage = way(Stage::new(json!({})).await).start().await;
    super::a_row_deleted_behind_its_create(&stage).await;
    super::takes_its_account_along(stage).await;
}

async fn what_a_trigger_makes_of_our_write_comes_back(way: Way) {
    let rules = json!({"triggers": [{"object": "Account", "changed": ["Name"], "when": "Name = 'Bank'", "set": {"Industry": "Banking"}}]});
    let stage = way(Stage::new(rules).await).start().await;
    stage.row("INSERT INTO accounts (account_name) VALUES ('Acme')").await;
    stage.shows("SELECT count(*) FROM accounts WHERE sf_id IS NOT NULL", "1").await;
    stage.row("UPDATE accounts SET account_name = 'Bank'").await;
    stage.shows("SELECT industry_type FROM accounts", "Banking").await;
    stage.passes_a_beat().await;
    assert!(stage.reviews().await.is_empty());
    stage.stop().await;
}

async fn kills_lose_and_double_nothing(way: Way) {
    let mut stage = way(Stage::new(json!({})).await).start().await;
    for round in 0..4_u64 {
        if round % 2 == 1 {
            stage.org.fault(json!({"on": {"method": "POST", "path": "/composite"}, "do": "answer_lost"}));
        }
        stage.row(&format!("INSERT INTO accounts (account_name) SELECT 'row {round} ' || n FROM generate_series(1, 8) n")).await;
        for number in 0..8 {
            stage.org.create("Account", json!({"Name": format!("account {round} {number}")}));
        }
        stage.row(&format!("UPDATE accounts SET annual_revenue = {round} WHERE account_name LIKE 'row %'")).await;
        for account in stage.accounts().iter().filter(|one| one["Name"].as_str().unwrap().starts_with("account")) {
            stage.org.update("Account", account["Id"].as_str().unwrap(), json!({"Industry": format!("Round {round}")}));
        }
        // At ever other moments of the work.
        let _ = tokio::time::timeout(Duration::from_millis(11 + 60 * round), std::future::pending::<()>()).await;
        stage = stage.crash().await.start().await;
    }
    stage.shows("SELECT count(*) FROM accounts WHERE sf_id IS NOT NULL", "64").await;
    stage.passes_a_beat().await;
    stage.wait("level", || stage.status().syncs[0].level).await;
    let rows = stage
        .rows("SELECT sf_id, account_name, coalesce(industry_type, ''), coalesce(annual_revenue::int, -1)::text FROM accounts")
        .await;
    assert_eq!((rows.len(), stage.accounts().len()), (64, 64));
    for row in rows {
        let [id, name, industry, revenue] = row.as_slice() else { panic!("{row:?}") };
        let account = stage.account(id);
        assert_eq!(account["Name"], json!(name));
        let (last, expected) = if name.starts_with("row") { (revenue, "3") } else { (industry, "Round 3") };
        assert_eq!(last, expected, "{name}");
        assert_eq!(account["Industry"].as_str().unwrap_or(""), industry, "{name}");
    }
    assert!(stage.reviews().await.is_empty(), "{:#?}", stage.reviews().await);
    stage.stop().await;
}

// Nothing tells whose a change is: no write waits for an event with our mark that never comes.
async fn the_first_update_behind_a_start_is_settled_by_its_answer(way: Way) {
    let stage = way(Stage::new(json!({})).await).start().await;
    stage.row("INSERT INTO accounts (account_name) VALUES ('Acme')").await;
    stage.shows("SELECT count(*) FROM accounts WHERE sf_id IS NOT NULL", "1").await;
    let id = stage.value("SELECT sf_id FROM accounts").await;
    stage.wait("level", || stage.status().syncs[0].level).await;
    let stage = stage.crash().await.start().await;
    stage.row("UPDATE accounts SET account_name = 'Bolt'").await;
    stage.account_shows(&id, "Name", json!("Bolt")).await;
    let began = Instant::now();
    stage.wait("nothing is in flight", || stage.status().syncs[0].members[0].in_flight == 0).await;
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    stage.stop().await;
}

/// Each of these where the configuration wants it so, where no change events come, and where none are delivered today.
macro_rules! either_way {
    ($($test:ident),* $(,)?) => {
        mod as_the_configuration_wants_it {
            $(#[tokio::test] async fn $test() { super::$test(|stage| stage.polled(super::EVERY)).await; })*
        }
        mod where_no_change_events_come {
            $(#[tokio::test] async fn $test() { super::$test(|stage| stage.without_events(super::EVERY)).await; })*
        }
        mod where_none_are_delivered {
            $(#[tokio::test] async fn $test() { super::$test(|stage| stage.looking(super::EVERY).delivered(0)).await; })*
        }
    };
}

either_way!(
    edits_flow_both_ways_and_deletes_follow,
    an_echo_without_a_mark_writes_nothing_back,
    the_later_of_two_edits_wins_by_whole_seconds,
    two_quick_edits_leave_the_last_one_on_both_sides,
    a_create_whose_answer_is_lost_is_made_once,
    a_row_that_goes_before_its_create_is_answered_takes_its_account_along,
    what_a_trigger_makes_of_our_write_comes_back,
    kills_lose_and_double_nothing,
    the_first_update_behind_a_start_is_settled_by_its_answer,
);
