//! The look behind the change events: what no event ever tells of is found, whatever happens meanwhile, and nothing else is
//! read for it.

use crate::support::*;
use concord_connectors::salesforce::{self, SalesforceConnector};
use concord_connectors::settings::AskedChanges;
use concord_engine::change::{Image, Observation, Position};
use concord_engine::connector::{Changes, Connector, Event, Feed};
use serde_json::json;
use std::collections::HashSet;
use std::time::Duration;

/// A connector that looks as soon as there is anything to look at.
fn looking(org: &Org) -> SalesforceConnector {
    let secret = org.secret("client_secret", "simulated-secret");
    let connection = org.connection(json!({"client_secret": secret}), json!({}));
    let mut settings = settings(&connection, &|_: &str| Ok(None), None, AskedChanges::default()).unwrap();
    settings.look_every = Duration::from_millis(50);
    salesforce::open(settings).unwrap()
}

/// No event of accounts comes from now on.
fn lose(org: &Org) {
    org.fault(json!({"on": {"object": "Account"}, "times": null, "do": {"late": {"ms": 864_000_000}}}));
}

/// Time passes at the org, and the connector hears of it.
async fn seconds_pass(org: &Org, connector: &SalesforceConnector, seconds: i64) {
    org.simulator.org.clock.advance(seconds * 1_000);
    connector.count(&"Account".into()).await.unwrap();
}

/// Exactly the next so many observations, and the place behind them.
async fn placed(changes: &mut dyn Changes, count: usize) -> (Vec<Observation>, Position) {
    let mut found = Vec::new();
    let wait = async {
        loop {
            let batch = changes.next(LIMITS).await.unwrap();
            found.extend(batch.events.into_iter().filter_map(observed));
            if let Some(position) = batch.position.filter(|_| found.len() >= count) {
                break position;
            }
        }
    };
    let position = tokio::time::timeout(PATIENCE, wait).await.unwrap();
    assert_eq!(found.len(), count, "{found:#?}");
    (found, position)
}

/// Waits until it has been looked behind the events once more, which brings nothing.
async fn looks_in_vain(org: &Org, changes: &mut dyn Changes) {
    let before = org.requests("/deleted/");
    let looked = async {
        while org.requests("/deleted/") == before {
            let events = changes.next(LIMITS).await.unwrap().events;
            assert!(events.is_empty(), "they have been told of: {events:#?}");
        }
    };
    tokio::time::timeout(PATIENCE, looked).await.expect("it is looked behind the events");
}

#[tokio::test]
async fn what_was_lost_before_a_restart_is_found_behind_it() {
    let org = Org::new().await;
    let selection = accounts(&["Name"]);
    let connector = looking(&org);
    let feed = prepared(&connector, &selection).await;
    let mut changes = connector.capture(&feed, &feed.position).await.unwrap();
    let [lost, other] = ["Acme", "Bolt"].map(|name| org.create("Account", json!({"Name": name})));
    placed(&mut *changes, 2).await;
    seconds_pass(&org, &connector, 5).await;
    lose(&org);
    org.update("Account", &lost, json!({"Name": "Unheard of"}));
    org.simulator.org.faults.clear();
    seconds_pass(&org, &connector, 5).await;
    org.update("Account", &other, json!({"Name": "Heard of"}));
    let (told, position) = placed(&mut *changes, 1).await;
    assert_eq!(text(&told[0], "Name"), "Heard of");
    drop(changes);

    let later = looking(&org);
    let known = Feed { position: position.clone(), ..feed };
    later.prepare(&[selection], std::slice::from_ref(&known)).await.unwrap();
    let mut changes = later.capture(&known, &position).await.unwrap();
    seconds_pass(&org, &later, 120).await;
    // Another life does not know what the first one has told.
    let (found, _) = placed(&mut *changes, 2).await;
    let shown: HashSet<_> = found.iter().map(|one| (id_of(one), text(one, "Name"))).collect();
    assert_eq!(shown, HashSet::from([(lost, "Unheard of".to_owned()), (other, "Heard of".to_owned())]));
    looks_in_vain_after(&org, &later, &mut *changes).await;
}

async fn looks_in_vain_after(org: &Org, connector: &SalesforceConnector, changes: &mut dyn Changes) {
    seconds_pass(org, connector, 120).await;
    looks_in_vain(org, changes).await;
}

#[tokio::test]
async fn what_a_lost_event_changed_is_found_though_a_later_event_of_the_record_was_heard() {
    let org = Org::new().await;
    let connector = looking(&org);
    let feed = prepared(&connector, &accounts(&["Name", "Industry", "Phone"])).await;
    let mut changes = connector.capture(&feed, &feed.position).await.unwrap();
    let id = org.create("Account", json!({"Name": "Acme", "Industry": "Energy", "Phone": "1"}));
    placed(&mut *changes, 1).await;
    seconds_pass(&org, &connector, 5).await;
    lose(&org);
    org.update("Account", &id, json!({"Industry": "Banking"}));
    org.simulator.org.faults.clear();
    seconds_pass(&org, &connector, 3).await;
    org.update("Account", &id, json!({"Phone": "2"}));
    let (told, _) = placed(&mut *changes, 1).await;
    assert_eq!((text(&told[0], "Phone"), text(&told[0], "Industry")), ("2".to_owned(), String::new()), "it shows what changed");
    seconds_pass(&org, &connector, 120).await;
    let (found, _) = placed(&mut *changes, 1).await;
    assert_eq!((text(&found[0], "Phone"), text(&found[0], "Industry")), ("2".to_owned(), "Banking".to_owned()));
    assert!(matches!(found[0].image, Image::Full(_)) && found[0].mark.is_none() && found[0].time.estimated);
    looks_in_vain_after(&org, &connector, &mut *changes).await;
}

#[tokio::test]
async fn a_feed_that_is_opened_again_hands_on_what_it_has_told_once_and_asks_nothing_for_it() {
    let org = Org::new().await;
    let connector = looking(&org);
    let feed = prepared(&connector, &accounts(&["Name"])).await;
    let mut changes = connector.capture(&feed, &feed.position).await.unwrap();
    // More than a position remembers.
    for number in 0..40 {
        org.create("Account", json!({"Name": format!("n{number}")}));
    }
    let (_, position) = placed(&mut *changes, 40).await;
    drop(changes);
    let mut changes = connector.capture(&feed, &position).await.unwrap();
    seconds_pass(&org, &connector, 120).await;
    let (found, _) = placed(&mut *changes, 40).await;
    assert_eq!(found.iter().map(id_of).collect::<HashSet<_>>().len(), 40);
    looks_in_vain_after(&org, &connector, &mut *changes).await;
    assert_eq!(org.requests("/composite/sobjects/Account"), 0);
    assert_eq!(connector.health(&feed.name).await.unwrap().warning, None);
}

#[tokio::test]
async fn what_was_lost_is_found_page_by_page_and_a_page_that_cannot_be_read_is_not_passed_over() {
    let org = Org::new().await;
    let connector = looking(&org);
    let feed = prepared(&connector, &accounts(&["Name"])).await;
    let mut changes = connector.capture(&feed, &feed.position).await.unwrap();
    seconds_pass(&org, &connector, 5).await;
    lose(&org);
    let records: Vec<_> = (0..2_500).map(|n| json!({"Name": format!("n{n}")}).as_object().unwrap().clone()).collect();
    org.simulator.person().create_all("Account", &records).unwrap();
    let more = |number: usize| json!({"on": {"path": "/queryAll", "body": ""}, "after": number, "do": "unavailable"});
    seconds_pass(&org, &connector, 120).await;
    org.fault(more(1));
    let (found, position) = placed(&mut *changes, 2_500).await;
    assert_eq!(found.iter().map(id_of).collect::<HashSet<_>>().len(), 2_500);
    assert_eq!(org.refused_with(503), 1, "the second page was asked for twice");
    assert_eq!(org.requests("/composite/sobjects/Account"), 0, "pages show what is needed");
    assert!(found.iter().all(|one| one.mark.is_none() && one.time.estimated));
    // What was found is before the place: in another life only what may have been forgotten is read again.
    assert!(connector.reached(&position, &position));
}

// Each look would read a mass change again for as long as it reaches back.
#[tokio::test]
async fn a_mass_change_is_not_read_at_every_look_and_what_becomes_visible_late_is_found_all_the_same() {
    let org = Org::new().await;
    let connector = looking(&org);
    let feed = prepared(&connector, &accounts(&["Name"])).await;
    let mut changes = connector.capture(&feed, &feed.position).await.unwrap();
    seconds_pass(&org, &connector, 900).await;
    looks_in_vain(&org, &mut *changes).await;
    lose(&org);
    let records: Vec<_> = (0..4_500).map(|n| json!({"Name": format!("n{n}")}).as_object().unwrap().clone()).collect();
    org.simulator.person().create_all("Account", &records).unwrap();
    seconds_pass(&org, &connector, 120).await;
    placed(&mut *changes, 4_500).await;
    let pages = || org.requests("/queryAll");
    let before = pages();
    for _ in 0..10 {
        seconds_pass(&org, &connector, 25).await;
        let (looked, deadline) = (pages(), tokio::time::Instant::now() + PATIENCE);
        while pages() == looked {
            assert!(tokio::time::Instant::now() < deadline, "it looks");
            assert!(changes.next(LIMITS).await.unwrap().events.is_empty(), "each was handed on once");
        }
    }
    let read = pages() - before;
    assert!(read <= 24, "{read} pages in 250 s: three for each look would be thirty");
    // A transaction that stamped its record before all these looks ends now.
    org.simulator.org.clock.advance(-300_000);
    let late = org.create("Account", json!({"Name": "late"}));
    seconds_pass(&org, &connector, 300).await;
    let mut found = Vec::new();
    for _ in 0..30 {
        seconds_pass(&org, &connector, 25).await;
        for _ in 0..3 {
            found.extend(changes.next(LIMITS).await.unwrap().events.into_iter().filter_map(observed));
        }
        if !found.is_empty() {
            break;
        }
    }
    assert_eq!(found.iter().map(id_of).collect::<Vec<_>>(), [late]);
}

#[tokio::test]
async fn what_was_deleted_for_good_without_an_event_is_found() {
    let org = Org::new().await;
    let connector = looking(&org);
    let feed = prepared(&connector, &accounts(&["Name"])).await;
    let mut changes = connector.capture(&feed, &feed.position).await.unwrap();
    let [gone, told] = ["Acme", "Bolt"].map(|name| org.create("Account", json!({"Name": name})));
    placed(&mut *changes, 2).await;
    seconds_pass(&org, &connector, 5).await;
    org.simulator.person().hard_delete("Account", org.id(&told)).unwrap();
    placed(&mut *changes, 1).await;
    lose(&org);
    org.simulator.person().hard_delete("Account", org.id(&gone)).unwrap();
    seconds_pass(&org, &connector, 400).await;
    let (found, _) = placed(&mut *changes, 1).await;
    assert_eq!((&found[0].key, &found[0].image), (&key(&gone), &Image::Deleted));
}

#[tokio::test]
async fn what_became_visible_behind_its_stamp_without_an_event_is_found() {
    let org = Org::new().await;
    let connector = looking(&org);
    let feed = prepared(&connector, &accounts(&["Name"])).await;
    let mut changes = connector.capture(&feed, &feed.position).await.unwrap();
    seconds_pass(&org, &connector, 600).await;
    looks_in_vain(&org, &mut *changes).await;
    // A transaction that stamped its record five minutes ago ends now.
    lose(&org);
    org.simulator.org.clock.advance(-300_000);
    let late = org.create("Account", json!({"Name": "late"}));
    seconds_pass(&org, &connector, 400).await;
    let (found, _) = placed(&mut *changes, 1).await;
    assert_eq!(found[0].key, key(&late));
}

#[tokio::test]
async fn what_is_read_in_the_place_of_an_event_says_so() {
    let org = Org::new().await;
    let connector = looking(&org);
    let feed = prepared(&connector, &accounts(&["Name"])).await;
    let mut changes = connector.capture(&feed, &feed.position).await.unwrap();
    let mut kinds = Vec::new();
    for fault in [None, Some(json!("gap")), Some(json!("overflow")), Some(json!({"late": {"ms": 864_000_000}}))] {
        if let Some(fault) = fault {
            org.fault(json!({"on": {"object": "Account"}, "do": fault}));
        }
        org.create("Account", json!({"Name": "Acme"}));
        if kinds.len() == 3 {
            seconds_pass(&org, &connector, 120).await;
        }
        let wait = async {
            loop {
                if let Some(event) = changes.next(LIMITS).await.unwrap().events.pop() {
                    break event;
                }
            }
        };
        let event = tokio::time::timeout(PATIENCE, wait).await.unwrap();
        kinds.push(matches!(event, Event::Read(_)));
    }
    assert_eq!(kinds, [false, true, true, true]);
}
