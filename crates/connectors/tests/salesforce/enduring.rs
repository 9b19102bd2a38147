//! What a feed lives through: an org that is moved, a stream that goes silent or says nothing for long, pages that cannot be had,
//! and other objects of which one is not as it should be.

use crate::support::*;
use concord_connectors::salesforce;
use concord_connectors::settings::AskedChanges;
use concord_engine::connector::{Connector, Event, Feed, Presence};
use concord_engine::error::Code;
use concord_engine::schema::Selection;
use concord_simulators::salesforce::Options;
use serde_json::json;
use std::cmp::Ordering;
use std::collections::HashSet;
use std::time::Duration;

/// The org is moved to another database, and some time passes.
fn is_moved(org: &Org, away_ms: i64) {
    org.simulator.org.state().events.renumber();
    org.simulator.org.clock.advance(away_ms);
}

async fn an_edit_behind_a_move_of_the_org_is_not_taken_for_an_old_one(connect: Connect) {
    let org = Org::new().await;
    let connector = connect(&org);
    let selection = accounts(&["Name"]);
    let feed = prepared(&connector, &selection).await;
    let mut changes = connector.capture(&feed, &feed.position).await.unwrap();
    let id = org.create("Account", json!({"Name": "before"}));
    let before = observations(&mut *changes, 1).await.remove(0).version;
    let shown = connector.read(&selection, &[key(&id)]).await.unwrap().remove(0);
    let Presence::Present(shown) = shown else { panic!("{shown:?}") };
    is_moved(&org, 60_000);
    org.update("Account", &id, json!({"Name": "behind"}));
    let behind = observations(&mut *changes, 1).await.remove(0).version;
    for older in [&before, &shown.version] {
        assert_eq!(connector.compare(older, &behind), None, "only a read can tell");
        assert_eq!(connector.compare(&behind, older), None);
    }
    let read = connector.read(&selection, &[key(&id)]).await.unwrap().remove(0);
    let Presence::Present(read) = read else { panic!("{read:?}") };
    for older in [&before, &shown.version, &behind] {
        assert_eq!(connector.compare(older, &read.version), Some(Ordering::Less), "and it does");
    }
    org.simulator.org.clock.advance(1_000);
    org.update("Account", &id, json!({"Name": "later"}));
    let later = observations(&mut *changes, 1).await.remove(0).version;
    assert_eq!(connector.compare(&behind, &later), Some(Ordering::Less));
    assert_eq!(connector.compare(&read.version, &later), Some(Ordering::Less));
}

async fn commits_that_are_numbered_anew_behind_a_long_absence_are_a_gap(connect: Connect) {
    let org = Org::new().await;
    let connector = connect(&org);
    let selection = accounts(&["Name"]);
    let feed = prepared(&connector, &selection).await;
    let mut changes = connector.capture(&feed, &feed.position).await.unwrap();
    let id = org.create("Account", json!({"Name": "before"}));
    observations(&mut *changes, 1).await;
    is_moved(&org, 2 * 3_600_000);
    org.update("Account", &id, json!({"Name": "behind"}));
    let told = async {
        loop {
            if let Err(error) = changes.next(LIMITS).await {
                break error;
            }
        }
    };
    let error = tokio::time::timeout(PATIENCE, told).await.unwrap();
    assert_eq!(error.code, Code::FeedGap, "{error}");
    drop(changes);
    // A person has accepted it: the feed begins anew, and its numbers count from there.
    let accepted = Feed { position: Default::default(), ..feed };
    let feed = connector.prepare(std::slice::from_ref(&selection), &[accepted]).await.unwrap().remove(0);
    let mut changes = connector.capture(&feed, &feed.position).await.unwrap();
    let read = connector.read(&selection, &[key(&id)]).await.unwrap().remove(0);
    let Presence::Present(read) = read else { panic!("{read:?}") };
    org.simulator.org.clock.advance(1_000);
    org.update("Account", &id, json!({"Name": "later"}));
    let later = observations(&mut *changes, 1).await.remove(0);
    assert_eq!(text(&later, "Name"), "later");
    assert_eq!(connector.compare(&read.version, &later.version), Some(Ordering::Less));
}

mod by_grpc {
    #[tokio::test]
    async fn an_edit_behind_a_move_of_the_org_is_not_taken_for_an_old_one() {
        super::an_edit_behind_a_move_of_the_org_is_not_taken_for_an_old_one(crate::support::by_grpc).await;
    }

    #[tokio::test]
    async fn commits_that_are_numbered_anew_behind_a_long_absence_are_a_gap() {
        super::commits_that_are_numbered_anew_behind_a_long_absence_are_a_gap(crate::support::by_grpc).await;
    }
}

mod by_long_polling {
    #[tokio::test]
    async fn an_edit_behind_a_move_of_the_org_is_not_taken_for_an_old_one() {
        super::an_edit_behind_a_move_of_the_org_is_not_taken_for_an_old_one(crate::support::by_long_polling).await;
    }
}

#[tokio::test]
async fn a_stream_that_has_gone_silent_is_opened_again_behind_the_same_place() {
    let org = Org::new().await;
    let secret = org.secret("client_secret", "simulated-secret");
    let connection = org.connection(json!({"client_secret": secret}), json!({"events": "grpc"}));
    let mut settings = settings(&connection, &|_: &str| Ok(None), None, AskedChanges::default()).unwrap();
    settings.silent_max = Duration::from_millis(500);
    let connector = salesforce::open(settings).unwrap();
    let feed = prepared(&connector, &accounts(&["Name"])).await;
    let mut changes = connector.capture(&feed, &feed.position).await.unwrap();
    org.create("Account", json!({"Name": "before"}));
    assert_eq!(text(&observations(&mut *changes, 1).await[0], "Name"), "before");
    org.fault(json!({"do": "stream_silent"}));
    org.simulator.org.wake_streams();
    org.create("Account", json!({"Name": "meanwhile"}));
    assert_eq!(text(&observations(&mut *changes, 1).await[0], "Name"), "meanwhile");
}

#[tokio::test]
async fn a_stream_whose_head_comes_with_its_first_message_is_read_by_grpc_and_misses_nothing() {
    let org = Org::with(Options { late_heads: true, ..Options::default() }).await;
    org.create("Account", json!({"Name": "long known"}));
    let connector = org.connect();
    let feed = prepared(&connector, &accounts(&["Name"])).await;
    let known = org.create("Account", json!({"Name": "before it is read"}));
    let mut changes = connector.capture(&feed, &feed.position).await.unwrap();
    let mut seen = HashSet::new();
    let wait = async {
        while !seen.contains("before it is read") {
            seen.extend(
                changes.next(LIMITS).await.unwrap().events.into_iter().filter_map(observed).map(|one| text(&one, "Name")),
            );
        }
        org.update("Account", &known, json!({"Name": "while it is read"}));
        while !seen.contains("while it is read") {
            seen.extend(
                changes.next(LIMITS).await.unwrap().events.into_iter().filter_map(observed).map(|one| text(&one, "Name")),
            );
        }
    };
    tokio::time::timeout(PATIENCE, wait).await.unwrap();
    let position = connector.health(&feed.name).await.unwrap().position;
    assert!(!position.contains("long polling") && org.requests("/cometd") == 0, "{position}");
}

#[tokio::test]
async fn a_sweep_whose_page_cannot_be_had_goes_on_with_that_page() {
    let org = Org::new().await;
    let connector = org.connect();
    let feed = prepared(&connector, &accounts(&["Name"])).await;
    let mut changes = connector.capture(&feed, &feed.position).await.unwrap();
    org.fault(json!({"on": {"object": "Account"}, "times": null, "do": {"late": {"ms": 864_000_000}}}));
    let records: Vec<_> = (0..2_500).map(|n| json!({"Name": format!("n{n}")}).as_object().unwrap().clone()).collect();
    org.simulator.person().create_all("Account", &records).unwrap();
    org.simulator.org.faults.clear();
    let before = org.requests("/queryAll");
    org.fault(json!({"on": {"object": "Account"}, "do": "overflow"}));
    org.fault(json!({"on": {"path": "/queryAll"}, "after": 1, "do": "unavailable"}));
    org.create("Account", json!({"Name": "overflows"}));
    let seen = observations(&mut *changes, 2_501).await;
    assert_eq!(seen.iter().map(id_of).collect::<HashSet<_>>().len(), 2_501);
    assert_eq!(org.requests("/queryAll") - before, 3, "two pages, one of them asked for twice");
}

// Nothing that was touched meanwhile is read before the day has turned: that is neither idle nor level.
#[tokio::test]
async fn a_sweep_that_waits_for_the_allowance_says_so() {
    let org = Org::new().await;
    let connector = org.connect();
    let feed = prepared(&connector, &accounts(&["Name"])).await;
    let mut changes = connector.capture(&feed, &feed.position).await.unwrap();
    assert!(changes.waits_for().is_none());
    org.fault(json!({"on": {"object": "Account"}, "do": "overflow"}));
    org.fault(json!({"on": {"path": "/queryAll"}, "times": null, "do": "request_limit"}));
    org.create("Account", json!({"Name": "overflows"}));
    let waits = async {
        loop {
            changes.next(LIMITS).await.unwrap();
            if let Some(why) = changes.waits_for() {
                return why;
            }
        }
    };
    let why = tokio::time::timeout(std::time::Duration::from_secs(30), waits).await.expect("it says so");
    assert!(why.to_string().contains("CON-23"), "{why}");
}

#[tokio::test]
async fn an_object_that_is_not_as_it_should_be_keeps_no_other_from_being_read() {
    let org = Org::new().await;
    let extra = json!({"objects": [{"name": "Account", "fields": [{"name": "Extra__c", "type": "string"}]}]});
    org.simulator.org.add_schema(&serde_json::from_value(extra).unwrap()).unwrap();
    let selections = [accounts(&["Name", "Extra__c"]), Selection { object: "Contact".into(), fields: vec!["LastName".into()] }];
    let connector = org.connect();
    connector.schema(&"Account".into()).await.unwrap();
    let known = connector.prepare(&selections, &[]).await.unwrap();
    org.simulator.org.remove_field("Account", "Extra__c").unwrap();
    let feeds = connector.prepare(&selections, &known).await.unwrap();
    assert_eq!(feeds, known);
    let mut contacts = connector.capture(&feeds[1], &feeds[1].position).await.unwrap();
    org.create("Contact", json!({"LastName": "Berg"}));
    assert_eq!(text(&observations(&mut *contacts, 1).await[0], "LastName"), "Berg");
    // The one says what it lacks.
    let mut changes = connector.capture(&feeds[0], &feeds[0].position).await.unwrap();
    let announced = changes.next(LIMITS).await.unwrap().events;
    let lacks = |schema: &concord_engine::schema::Schema| schema.field("Extra__c").is_none();
    assert!(matches!(&announced[..], [Event::SchemaChanged(schema), ..] if lacks(schema)), "{announced:?}");
}

#[tokio::test]
async fn an_object_whose_events_were_switched_off_keeps_no_other_from_being_read() {
    let org = Org::new().await;
    let selections = [accounts(&["Name"]), Selection { object: "Contact".into(), fields: vec!["LastName".into()] }];
    let connector = org.connect_asking(concord_engine::config::ChangeDetection::LogBased, 60_000);
    let known = connector.prepare(&selections, &[]).await.unwrap();
    {
        let mut state = org.simulator.org.state();
        let mut account = state.data.schema.object("Account").unwrap().as_ref().clone();
        account.change_events = false;
        state.data.schema.put(account);
    }
    let feeds = connector.prepare(&selections, &known).await.unwrap();
    let mut contacts = connector.capture(&feeds[1], &feeds[1].position).await.unwrap();
    org.create("Contact", json!({"LastName": "Berg"}));
    assert_eq!(text(&observations(&mut *contacts, 1).await[0], "LastName"), "Berg");
    let later = org.connect_asking(concord_engine::config::ChangeDetection::LogBased, 60_000);
    later.prepare(&selections, &known).await.unwrap();
    assert_eq!(later.capture(&feeds[0], &feeds[0].position).await.err().unwrap().code, Code::HostedEventsOff);
}
