//! Change events by long polling: when that way is taken, and everything that can become of it. What events show is tested on
//! either way in `capturing`.

use crate::support::*;
use concord_connectors::salesforce::SalesforceConnector;
use concord_engine::change::Position;
use concord_engine::connector::{Changes, Connector, Feed, Limits};
use concord_engine::error::Code;
use serde_json::json;
use std::time::Duration;

/// Where nobody listens.
const CLOSED: &str = "https://localhost:1";

/// An org that is reached by long polling, its feed of accounts, and a stream that has told of an account.
async fn listening() -> (Org, SalesforceConnector, Feed, Box<dyn Changes>) {
    let org = Org::new().await;
    let connector = by_long_polling(&org);
    let feed = prepared(&connector, &accounts(&["Name"])).await;
    let mut changes = connector.capture(&feed, &feed.position).await.unwrap();
    hears(&org, &mut *changes, "first").await;
    (org, connector, feed, changes)
}

async fn hears(org: &Org, changes: &mut dyn Changes, name: &str) {
    org.create("Account", json!({"Name": name}));
    assert_eq!(text(&observations(changes, 1).await[0], "Name"), name);
}

fn shaken_hands(org: &Org) -> usize {
    let entries = org.simulator.org.journal.since(0);
    entries.iter().filter(|entry| entry.path.contains("/cometd/") && entry.body.contains("/meta/handshake")).count()
}

#[tokio::test]
async fn where_grpc_is_closed_events_come_by_long_polling_and_it_is_said_why() {
    let org = Org::new().await;
    let connector = org.connect_with(json!({"pubsub_url": CLOSED}));
    let feed = prepared(&connector, &accounts(&["Name"])).await;
    let mut changes = connector.capture(&feed, &feed.position).await.unwrap();
    hears(&org, &mut *changes, "Acme").await;
    let found = connector.check(&["Account".into()]).await.unwrap();
    let said = found.iter().find(|finding| finding.message.contains("by long polling: gRPC is closed")).expect("said");
    assert!(said.code.is_none() && said.remedy.contains(CLOSED), "{said:?}");
    let health = connector.health(&feed.name).await.unwrap();
    assert!(health.position.contains("by long polling (gRPC is closed"), "{}", health.position);
    // An object without change events is polled as ever.
    let silent = connector.check(&["User".into()]).await.unwrap();
    assert!(silent.iter().any(|finding| finding.message.contains("it is polled every")), "{silent:#?}");
}

#[tokio::test]
async fn a_way_that_the_configuration_names_is_the_only_one() {
    let org = Org::new().await;
    let connector = org.connect_with(json!({"pubsub_url": CLOSED, "events": "grpc"}));
    let error = connector.prepare(&[accounts(&["Name"])], &[]).await.err().unwrap();
    assert_eq!(error.code, Code::Unreachable);
    assert_eq!(org.requests("/cometd"), 0);
    let wrong = open(&org.connection(json!({"client_secret": org.secret("s", "s")}), json!({"events": "smoke"})), None);
    assert_eq!(wrong.err().unwrap().code, Code::ConfigUnknownValue);
}

#[tokio::test]
async fn a_stream_that_is_closed_on_the_way_goes_on_by_long_polling_behind_the_same_place() {
    let org = Org::new().await;
    let connector = org.connect();
    let feed = prepared(&connector, &accounts(&["Name"])).await;
    let mut changes = connector.capture(&feed, &feed.position).await.unwrap();
    hears(&org, &mut *changes, "by gRPC").await;
    // From now on gRPC ends every call, and tells nothing.
    let end = json!({"stream_end": {"status": 14, "error_code": "", "message": "closed"}});
    org.fault(json!({"times": null, "do": end}));
    for number in 0..3 {
        hears(&org, &mut *changes, &format!("by long polling {number}")).await;
    }
    assert!(shaken_hands(&org) >= 1);
}

#[tokio::test]
async fn a_client_that_the_org_has_forgotten_shakes_hands_anew_and_misses_nothing() {
    let (org, _connector, _feed, mut changes) = listening().await;
    let before = shaken_hands(&org);
    // Nobody polls for a minute.
    org.simulator.org.clock.advance(60_000);
    hears(&org, &mut *changes, "while nobody polled").await;
    assert_eq!(shaken_hands(&org), before + 1);
}

#[tokio::test]
async fn a_session_that_runs_out_and_an_answer_that_is_lost_lose_no_event() {
    let (org, _connector, _feed, mut changes) = listening().await;
    for action in [json!("session_expired"), json!("answer_lost"), json!("unavailable"), json!({"truncated": {"bytes": 40}})] {
        org.fault(json!({"on": {"path": "/cometd", "body": "/meta/connect"}, "do": action}));
        hears(&org, &mut *changes, &format!("behind {action}")).await;
    }
    hears(&org, &mut *changes, "last").await;
}

#[tokio::test]
async fn a_wait_that_is_broken_off_loses_no_event() {
    let (org, _connector, _feed, mut changes) = listening().await;
    let brief = Limits { max_wait: Duration::from_millis(1), ..LIMITS };
    for number in 0..20 {
        assert!(changes.next(brief).await.unwrap().events.is_empty());
        hears(&org, &mut *changes, &format!("n{number}")).await;
    }
    // One request was held all the while, and none was broken off.
    let polls = org.simulator.org.journal.since(0).iter().filter(|entry| entry.body.contains("/meta/connect")).count();
    assert!(polls <= 25, "{polls} polls for 21 events");
}

#[tokio::test]
async fn an_event_that_comes_hours_late_is_taken_in() {
    let (org, connector, _feed, mut changes) = listening().await;
    org.fault(json!({"on": {"change": "CREATE"}, "do": {"late": {"ms": 5 * 3_600_000}}}));
    org.create("Account", json!({"Name": "late"}));
    let brief = Limits { max_wait: Duration::from_millis(300), ..LIMITS };
    for _ in 0..4 {
        org.simulator.org.clock.advance(3_600_000);
        // The clock is known by the answers of calls.
        connector.count(&"Account".into()).await.unwrap();
        for _ in 0..3 {
            let batch = changes.next(brief).await.unwrap();
            assert!(batch.events.is_empty(), "{batch:?}");
            org.simulator.org.clock.advance(120_000);
        }
    }
    org.simulator.org.clock.advance(3_600_000);
    assert_eq!(text(&observations(&mut *changes, 1).await[0], "Name"), "late");
}

#[tokio::test]
async fn a_place_that_long_polling_cannot_name_is_a_gap_and_never_the_end_of_the_topic() {
    let (org, connector, feed, mut changes) = listening().await;
    hears(&org, &mut *changes, "second").await;
    let batch = changes.next(Limits { max_wait: Duration::from_millis(300), ..LIMITS }).await.unwrap();
    let mut bytes = batch.position.unwrap().0;
    // The kind, the replay id's length, its bytes.
    assert_eq!(bytes[1], 8, "{bytes:?}");
    bytes.splice(1..10, [3, 1, 2, 3]);
    let position = Position(bytes);
    drop(changes);
    let known = Feed { position: position.clone(), ..feed };
    connector.prepare(&[accounts(&["Name"])], std::slice::from_ref(&known)).await.unwrap();
    assert_eq!(connector.capture(&known, &position).await.err().unwrap().code, Code::FeedGap);
    // Where both ways are open it is gRPC's, which knows its own.
    let both = org.connect_with(json!({"pubsub_url": CLOSED}));
    assert_eq!(both.capture(&known, &position).await.err().unwrap().code, Code::Unreachable);
}
