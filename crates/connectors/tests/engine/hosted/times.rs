//! When a field was edited, where the org is read before its events come: a record's stamp is of its last edit, whichever field that
//! was of, and only the event of an edit says when that one was made.

use super::stage::Stage;
use serde_json::json;
use std::time::Duration;

/// Longer than a whole second, which is as fine as the org's stamps are.
async fn seconds_pass() {
    let _ = tokio::time::timeout(Duration::from_millis(2_200), std::future::pending::<()>()).await;
}

#[tokio::test]
async fn a_later_edit_of_another_field_makes_no_edit_win_that_was_made_before_the_rows() {
    let stage = Stage::started(json!({})).await;
    stage.row("INSERT INTO accounts (account_name) VALUES ('Acme')").await;
    stage.shows("SELECT count(*) FROM accounts WHERE sf_id IS NOT NULL", "1").await;
    let id = stage.value("SELECT sf_id FROM accounts").await;
    stage.passes_a_beat().await;
    let stage = stage.crash().await;
    // The account is read long before the events of its edits come: what it shows by then was stamped behind the row's edit.
    stage.org.fault(json!({"on": {"object": "Account", "change": "UPDATE"}, "times": 2, "do": {"late": {"ms": 9_000}}}));
    stage.org.update("Account", &id, json!({"Name": "first, in the org"}));
    seconds_pass().await;
    stage.row("UPDATE accounts SET account_name = 'then, in the row'").await;
    seconds_pass().await;
    stage.org.update("Account", &id, json!({"Industry": "Energy"}));
    let befell: Vec<u32> = stage.org.simulator.org.faults.counts().into_iter().map(|(_, times)| times).collect();
    assert_eq!(befell, [2], "both events are late");
    let stage = stage.start().await;
    stage.shows("SELECT account_name || ', ' || industry_type FROM accounts", "then, in the row, Energy").await;
    stage.account_shows(&id, "Name", json!("then, in the row")).await;
    stage.passes_a_beat().await;
    let row = "SELECT account_name FROM accounts WHERE industry_type = 'Energy'";
    assert_eq!((stage.value(row).await.as_str(), &stage.account(&id)["Name"]), ("then, in the row", &json!("then, in the row")));
    assert!(stage.reviews().await.is_empty(), "{:#?}", stage.reviews().await);
    stage.stop().await;
}
