//! The day's deliveries of change events: where they are used up what was touched is asked for instead, nothing is passed over, and
//! events go on when some are left again.

use crate::support::*;
use concord_connectors::salesforce::{self, SalesforceConnector};
use concord_connectors::settings::AskedChanges;
use concord_engine::change::{Image, Observation, Position};
use concord_engine::connector::{Changes, Connector, Event, Feed};
use concord_simulators::salesforce::Limit;
use serde_json::json;
use std::time::Duration;

const DELIVERIES: Limit = Limit::DailyDeliveredPlatformEvents;

/// A connector by this way that asks soon where no events are delivered, and soon again whether they are; behind events it looks
/// once an hour.
fn asking(org: &Org, way: &str) -> SalesforceConnector {
    let secret = org.secret("client_secret", "simulated-secret");
    let connection = org.connection(json!({"client_secret": secret}), json!({"events": way}));
    let mut settings = settings(&connection, &|_: &str| Ok(None), None, AskedChanges::default()).unwrap();
    settings.poll_every = Duration::from_millis(50);
    settings.look_every = Duration::from_secs(3_600);
    settings.deliveries_again = Duration::from_millis(200);
    salesforce::open(settings).unwrap()
}

fn allow(org: &Org, deliveries: u64) {
    org.simulator.org.state().limits.set_max(DELIVERIES, deliveries);
    org.simulator.org.wake_streams();
}

fn delivered(org: &Org) -> u64 {
    let now_ms = org.simulator.org.clock.now_ms();
    org.simulator.org.state().limits.used(DELIVERIES, now_ms)
}

/// A feed of which nothing is passed over: what comes with something that is waited for may be waited for next.
struct Heard {
    changes: Box<dyn Changes>,
    left: Vec<(Observation, bool)>,
}

impl Heard {
    async fn of(connector: &SalesforceConnector, feed: &Feed) -> Heard {
        Heard { changes: connector.capture(feed, &feed.position).await.unwrap(), left: Vec::new() }
    }

    /// What comes next; gives back the position behind it.
    async fn listen(&mut self) -> Option<Position> {
        let batch = self.changes.next(LIMITS).await.unwrap();
        for event in batch.events {
            let is_change = matches!(event, Event::Observed(_));
            self.left.extend(observed(event).map(|one| (one, is_change)));
        }
        batch.position
    }

    /// The next observation of a record that shows this name (`deleted`: that it is gone), and whether it came as a change.
    async fn shown(&mut self, id: &str, name: &str) -> (Observation, bool) {
        let wait = async {
            loop {
                let place = self.left.iter().position(|(one, _)| id_of(one) == id && text(one, "Name") == name);
                match place {
                    Some(place) => return self.left.remove(place),
                    None => drop(self.listen().await),
                }
            }
        };
        tokio::time::timeout(PATIENCE, wait).await.unwrap_or_else(|_| panic!("{name} is never shown"))
    }

    /// The first position behind a fence.
    async fn behind(&mut self, connector: &SalesforceConnector, fence: &Position) -> Position {
        let wait = async {
            loop {
                if let Some(position) = self.listen().await.filter(|position| connector.reached(position, fence)) {
                    return position;
                }
            }
        };
        tokio::time::timeout(PATIENCE, wait).await.expect("the fence is passed")
    }

    /// Makes accounts until an event tells of one.
    async fn events_tell(&mut self, org: &Org) {
        let wait = async {
            loop {
                let id = org.create("Account", json!({"Name": "heard"}));
                if !self.shown(&id, "heard").await.0.time.estimated {
                    return;
                }
            }
        };
        tokio::time::timeout(PATIENCE, wait).await.expect("events are delivered again");
    }
}

async fn go_on_without_events(way: &str) {
    let org = Org::new().await;
    allow(&org, 2);
    let connector = asking(&org, way);
    let feed = prepared(&connector, &accounts(&["Name"])).await;
    let mut heard = Heard::of(&connector, &feed).await;
    assert!(heard.changes.tells_whose());
    let ids = ["Acme", "Bolt"].map(|name| org.create("Account", json!({"Name": name})));
    for (id, name) in ids.iter().zip(["Acme", "Bolt"]) {
        let (one, is_change) = heard.shown(id, name).await;
        // With the second the allowance is used up: the look that follows may tell of it first.
        assert!(is_change && (name == "Bolt" || !one.time.estimated), "told by an event: {one:?}");
    }

    // Two were delivered, and no more are.
    for number in 0..30 {
        org.update("Account", &ids[0], json!({"Name": format!("n{number}")}));
    }
    let (one, is_change) = heard.shown(&ids[0], "n29").await;
    assert!(is_change && one.time.estimated && one.mark.is_none(), "told as where no events come: {one:?}");
    assert!(matches!(one.image, Image::Full(_)));
    assert!(!heard.changes.tells_whose() && heard.changes.waits_for().is_none());
    let health = connector.health(&feed.name).await.unwrap();
    for said in [health.position, health.warning.unwrap_or_default()] {
        assert!(said.contains("no change events are delivered") && said.contains("CON-2301"), "{said}");
    }
    org.delete("Account", &ids[1]);
    heard.shown(&ids[1], "deleted").await;
    // A fence is passed in a moment, though no event tells of what it waits for.
    org.update("Account", &ids[0], json!({"Name": "behind a fence"}));
    let fence = connector.fence(&feed.name).await.unwrap();
    heard.behind(&connector, &fence).await;
    assert_eq!(delivered(&org), 2);

    allow(&org, 1_000);
    heard.events_tell(&org).await;
    assert!(delivered(&org) < 20, "what was asked for is not delivered, too: {}", delivered(&org));
    assert!(heard.changes.tells_whose());
    let health = connector.health(&feed.name).await.unwrap();
    assert!(health.warning.is_none() && !health.position.contains("delivered"), "{health:?}");
}

#[tokio::test]
async fn where_no_events_are_delivered_what_was_touched_is_asked_for_until_they_are() {
    go_on_without_events("grpc").await;
}

#[tokio::test]
async fn where_none_are_delivered_by_long_polling_what_was_touched_is_asked_for_until_they_are() {
    go_on_without_events("long_polling").await;
}

#[tokio::test]
async fn a_feed_begins_though_no_events_are_delivered_and_a_restart_days_later_misses_nothing() {
    let org = Org::new().await;
    allow(&org, 0);
    let selection = accounts(&["Name"]);
    let connector = asking(&org, "grpc");
    let feed = prepared(&connector, &selection).await;
    let mut heard = Heard::of(&connector, &feed).await;
    let id = org.create("Account", json!({"Name": "Acme"}));
    heard.shown(&id, "Acme").await;
    let gone = org.create("Account", json!({"Name": "gone"}));
    heard.shown(&gone, "gone").await;
    let fence = connector.fence(&feed.name).await.unwrap();
    let position = heard.behind(&connector, &fence).await;
    drop(heard);

    // By now no event of that time is kept any more.
    org.update("Account", &id, json!({"Name": "while nothing ran"}));
    org.simulator.person().hard_delete("Account", org.id(&gone)).unwrap();
    org.simulator.org.clock.advance(100 * 3_600_000);
    let later = asking(&org, "grpc");
    let known = Feed { position, ..feed };
    later.prepare(&[selection], std::slice::from_ref(&known)).await.unwrap();
    let mut heard = Heard::of(&later, &known).await;
    heard.shown(&id, "while nothing ran").await;
    heard.shown(&gone, "deleted").await;
    allow(&org, 1_000);
    heard.events_tell(&org).await;
}

#[tokio::test]
async fn a_look_that_fails_while_no_events_are_delivered_is_said_and_passes_nothing_over() {
    let org = Org::new().await;
    allow(&org, 0);
    let connector = asking(&org, "grpc");
    let feed = prepared(&connector, &accounts(&["Name"])).await;
    let mut heard = Heard::of(&connector, &feed).await;
    let id = org.create("Account", json!({"Name": "Acme"}));
    heard.shown(&id, "Acme").await;
    org.fault(json!({"on": {"path": "/queryAll"}, "times": null, "do": "unavailable"}));
    org.update("Account", &id, json!({"Name": "Bolt"}));
    let waits = async {
        while heard.changes.waits_for().is_none() {
            heard.listen().await;
        }
    };
    tokio::time::timeout(PATIENCE, waits).await.expect("it is said");
    org.simulator.org.faults.clear();
    heard.shown(&id, "Bolt").await;
    assert!(heard.changes.waits_for().is_none());
}
