//! CometD by hand: what is refused, with which number and which advice. What events show is tried by jsforce.

use crate::wire::World;
use serde_json::{Value as Json, json};

const TOPIC: &str = "/data/AccountChangeEvent";

/// What the org says to one message: all messages of the answer.
async fn say(world: &World, message: Json) -> Vec<Json> {
    let token = format!("OAuth {}", world.token);
    let head = [("Authorization", token.as_str()), ("Content-Type", "application/json")];
    let answer = world.send("POST", "/cometd/65.0", &head, &json!([message]).to_string()).await.expect("an answer");
    answer.json().as_array().expect("messages").clone()
}

async fn shake_hands(world: &World) -> String {
    let said =
        say(world, json!({"channel": "/meta/handshake", "version": "1.0", "supportedConnectionTypes": ["long-polling"]})).await;
    said[0]["clientId"].as_str().expect("a client").to_string()
}

async fn subscribe(world: &World, client: &str, topic: &str, replay: i64) -> Json {
    let ext = json!({"replay": {topic: replay}});
    say(world, json!({"channel": "/meta/subscribe", "clientId": client, "subscription": topic, "ext": ext})).await.remove(0)
}

async fn connect(world: &World, client: &str) -> Vec<Json> {
    say(world, json!({"channel": "/meta/connect", "clientId": client, "connectionType": "long-polling"})).await
}

#[tokio::test]
async fn events_are_replayed_behind_a_place_and_a_place_that_is_gone_is_refused() {
    let world = World::new().await;
    let ids = [world.account("one").await, world.account("two").await];
    let client = shake_hands(&world).await;
    assert_eq!(subscribe(&world, &client, TOPIC, -2).await["successful"], true);
    let told = connect(&world, &client).await;
    let seen: Vec<&Json> = told.iter().filter(|one| one["channel"] == TOPIC).collect();
    let of = |one: &Json| one["data"]["payload"]["ChangeEventHeader"]["recordIds"][0].clone();
    assert_eq!(seen.iter().map(|one| of(one)).collect::<Vec<_>>(), ids.map(Json::from));
    let first = seen[0]["data"]["event"]["replayId"].as_i64().expect("a place");

    let client = shake_hands(&world).await;
    assert_eq!(subscribe(&world, &client, TOPIC, first).await["successful"], true);
    let behind = connect(&world, &client).await;
    assert_eq!(behind.iter().filter(|one| one["channel"] == TOPIC).count(), 1);
    for (topic, replay) in [(TOPIC, 7), (TOPIC, first + 1_000), ("/data/NothingChangeEvent", -1)] {
        let refused = subscribe(&world, &client, topic, replay).await;
        assert!(refused["error"].as_str().is_some_and(|error| error.starts_with("400::")), "{refused}");
    }
    world.control("POST", "/clock", json!({"advance_ms": 73 * 3_600_000})).await;
    let world = {
        let mut world = world;
        world.login().await;
        world
    };
    world.account("three").await;
    let client = shake_hands(&world).await;
    let expired = subscribe(&world, &client, TOPIC, first).await;
    assert!(expired["error"].as_str().is_some_and(|error| error.starts_with("400::")), "{expired}");
}

#[tokio::test]
async fn no_more_is_delivered_than_the_allocation_has_and_it_comes_back_after_a_day() {
    let mut world = World::new().await;
    for name in ["one", "two", "three"] {
        world.account(name).await;
    }
    world.control("POST", "/limits", json!({"DailyDeliveredPlatformEvents": 2})).await;
    let client = shake_hands(&world).await;
    assert_eq!(subscribe(&world, &client, TOPIC, -2).await["successful"], true);
    let told = connect(&world, &client).await;
    assert_eq!(told.iter().filter(|one| one["channel"] == TOPIC).count(), 2);
    let limits = world.call("GET", "/limits", json!(null)).await.expect("an answer").json();
    assert_eq!(limits["DailyDeliveredPlatformEvents"], json!({"Max": 2, "Remaining": 0}));
    let words = "403::Organization total events daily limit exceeded";
    assert_eq!(connect(&world, &client).await.remove(0)["error"], words);
    assert_eq!(subscribe(&world, &client, TOPIC, -2).await["error"], words);

    world.control("POST", "/clock", json!({"advance_ms": 86_400_000})).await;
    world.login().await;
    let client = shake_hands(&world).await;
    assert_eq!(subscribe(&world, &client, TOPIC, -2).await["successful"], true);
    assert_eq!(connect(&world, &client).await.iter().filter(|one| one["channel"] == TOPIC).count(), 2);
}

#[tokio::test]
async fn a_client_that_stays_away_is_forgotten_and_one_without_a_session_is_not_heard() {
    let mut world = World::new().await;
    let client = shake_hands(&world).await;
    assert_eq!(subscribe(&world, &client, TOPIC, -1).await["successful"], true);
    assert_eq!(connect(&world, &client).await[0]["successful"], true);
    world.control("POST", "/clock", json!({"advance_ms": 41_000})).await;
    let forgotten = connect(&world, &client).await.remove(0);
    assert_eq!((&forgotten["error"], &forgotten["advice"]["reconnect"]), (&json!("403::Unknown client"), &json!("handshake")));
    world.token = "nobody".to_string();
    let unheard = connect(&world, &client).await.remove(0);
    assert_eq!(unheard["error"], "401::Authentication invalid");
}
