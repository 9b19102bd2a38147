//! What goes wrong on purpose, and what it leaves behind.

use super::wire::World;
use serde_json::json;

#[tokio::test]
async fn a_session_that_ends_in_mid_run_is_refused_until_there_is_a_new_one() {
    let mut world = World::new().await;
    world.account("A").await;
    world.control("POST", "/faults", json!({"on": {"method": "GET"}, "do": "session_expired"})).await;
    let answer = world.call("GET", "/limits", json!(null)).await.expect("an answer");
    assert_eq!((answer.status, answer.code().as_str()), (401, "INVALID_SESSION_ID"));
    let answer = world.call("GET", "/limits", json!(null)).await.expect("an answer");
    assert_eq!(answer.status, 401, "the session stays ended");
    world.login().await;
    assert_eq!(world.call("GET", "/limits", json!(null)).await.expect("an answer").status, 200);
}

#[tokio::test]
async fn an_answer_that_is_lost_has_had_its_effect_and_a_cut_request_has_not() {
    let world = World::new().await;
    world.control("POST", "/faults", json!({"on": {"path": "/sobjects/Account"}, "do": "answer_lost"})).await;
    assert!(world.call("POST", "/sobjects/Account", json!({"Name": "A"})).await.is_none());
    assert_eq!(world.accounts().await, 1);
    world.control("POST", "/faults", json!({"on": {"path": "/sobjects/Account"}, "do": "cut"})).await;
    assert!(world.call("POST", "/sobjects/Account", json!({"Name": "B"})).await.is_none());
    assert_eq!(world.accounts().await, 1);
    world.control("POST", "/faults", json!({"on": {"path": "/sobjects/Account"}, "do": {"truncated": {"bytes": 5}}})).await;
    assert!(world.call("POST", "/sobjects/Account", json!({"Name": "C"})).await.is_none());
    assert_eq!(world.accounts().await, 2);
}

#[tokio::test]
async fn faults_come_in_the_order_and_number_in_which_they_were_scripted() {
    let world = World::new().await;
    world.control("POST", "/faults", json!({"on": {"path": "/limits"}, "after": 1, "times": 2, "do": "unavailable"})).await;
    world.control("POST", "/faults", json!({"on": {"path": "/limits"}, "after": 3, "do": "request_limit"})).await;
    let mut statuses = Vec::new();
    for _ in 0..6 {
        statuses.push(world.call("GET", "/limits", json!(null)).await.expect("an answer").status);
    }
    // The second rule sees what the first one let through.
    assert_eq!(statuses, [200, 503, 503, 200, 200, 403]);
}

#[tokio::test]
async fn one_locked_record_of_a_collection_fails_alone() {
    let world = World::new().await;
    let (a, b) = (world.account("A").await, world.account("B").await);
    world.control("POST", "/faults", json!({"on": {"id": b}, "do": "lock_row"})).await;
    let record = |id: &str| json!({"attributes": {"type": "Account"}, "id": id, "Phone": "1"});
    let body = json!({"allOrNone": false, "records": [record(&a), record(&b)]});
    let answer = world.call("PATCH", "/composite/sobjects", body).await.expect("an answer");
    let results = answer.json();
    assert_eq!(results[0]["success"], true);
    assert_eq!(results[1]["errors"][0]["statusCode"], "UNABLE_TO_LOCK_ROW");
}

#[tokio::test]
async fn an_allocation_that_is_used_up_comes_back_after_a_day() {
    let world = World::new().await;
    world.control("POST", "/limits", json!({"DailyApiRequests": 2})).await;
    world.account("A").await;
    world.account("B").await;
    let refused = world.call("POST", "/sobjects/Account", json!({"Name": "C"})).await.expect("an answer");
    assert_eq!((refused.status, refused.code().as_str()), (403, "REQUEST_LIMIT_EXCEEDED"));
    assert_eq!(refused.header("Sforce-Limit-Info").as_deref(), Some("api-usage=2/2"));
    world.simulator.org.clock.advance(90 * 60_000);
    assert_eq!(world.call("GET", "/limits", json!(null)).await.expect("an answer").status, 403);
    world.simulator.org.clock.advance(23 * 3_600_000);
    let mut world = world;
    world.login().await;
    world.account("C").await;
}

#[tokio::test]
async fn the_journal_tells_every_request_and_which_of_them_counted() {
    let world = World::new().await;
    world.account("A").await;
    assert!(world.send("GET", "/services/data", &[], "").await.is_some());
    let entries = world.simulator.org.journal.since(0);
    let told: Vec<(&str, &str, u16, bool)> =
        entries.iter().map(|entry| (entry.method.as_str(), entry.path.as_str(), entry.status, entry.counted)).collect();
    assert_eq!(told, [("POST", "/services/data/v65.0/sobjects/Account", 201, true), ("GET", "/services/data", 200, false)]);
    assert_eq!(entries[0].body, r#"{"Name":"A"}"#);
}
