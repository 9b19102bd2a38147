//! Accounts that are no longer shared with our user: they look absent, and are not deleted for that on the other side.

use super::stage::Stage;
use serde_json::json;

#[tokio::test]
async fn an_account_that_is_no_longer_shared_with_us_is_not_taken_for_deleted() {
    let stage = Stage::started(json!({})).await;
    stage.row("INSERT INTO accounts (account_name) VALUES ('Acme')").await;
    stage.shows("SELECT count(*) FROM accounts WHERE sf_id IS NOT NULL", "1").await;
    let id = stage.value("SELECT sf_id FROM accounts").await;
    stage.passes_a_beat().await;
    stage.org.simulator.person().hide("Account", stage.org.id(&id), true).unwrap();
    stage.row("UPDATE accounts SET account_name = 'Acme Corp'").await;
    stage.wait_for_review("CON-3018").await;
    stage.passes_a_beat().await;
    assert_eq!(stage.value("SELECT account_name FROM accounts").await, "Acme Corp", "the row stays");
    assert_eq!(stage.account(&id)["Name"], json!("Acme"), "nor was anything written to what cannot be read");
    stage.stop().await;
}
