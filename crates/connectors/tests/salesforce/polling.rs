//! Objects of which no change events come: asked for what was touched, with an overlap, deletes by name alone.

use crate::support::*;
use concord_engine::change::{Image, Observation};
use concord_engine::config::ChangeDetection;
use concord_engine::connector::{Changes, Connector, Event, Feed};
use concord_engine::schema::Selection;
use serde_json::json;
use std::collections::HashMap;

/// An org in which nothing tells of changes of `Silent__c`.
async fn silent() -> (Org, Selection) {
    let org = Org::new().await;
    let fields = json!([{"name": "Name", "type": "string", "length": 80, "nameField": true}]);
    let file = json!({"objects": [{"name": "Silent__c", "keyPrefix": "z0S", "changeEvents": false, "fields": fields}]});
    org.simulator.org.add_schema(&serde_json::from_value(file).unwrap()).unwrap();
    (org, Selection { object: "Silent__c".into(), fields: vec!["Name".into()] })
}

/// What a fence that is set now lets through.
async fn seen_by_now(connector: &dyn Connector, feed: &Feed, changes: &mut dyn Changes) -> Vec<Observation> {
    let fence = connector.fence(&feed.name).await.unwrap();
    let mut seen = Vec::new();
    let wait = async {
        loop {
            let batch = changes.next(LIMITS).await.unwrap();
            seen.extend(batch.events.into_iter().filter_map(observed));
            if batch.position.is_some_and(|position| connector.reached(&position, &fence)) {
                break;
            }
        }
    };
    tokio::time::timeout(PATIENCE, wait).await.unwrap();
    seen
}

fn names(seen: &[Observation]) -> Vec<String> {
    let mut names: Vec<String> = seen.iter().map(|one| text(one, "Name")).collect();
    names.sort();
    names
}

#[tokio::test]
async fn an_object_without_change_events_is_polled_and_check_says_so() {
    let (org, selection) = silent().await;
    let connector = org.connect_asking(ChangeDetection::Auto, 3_600_000);
    let findings = connector.check(&["Silent__c".into()]).await.unwrap();
    assert!(findings.iter().any(|finding| finding.message.contains("polled every 3600 s")), "{findings:#?}");
    let feed = prepared(&connector, &selection).await;
    let mut changes = connector.capture(&feed, &feed.position).await.unwrap();
    let one = org.create("Silent__c", json!({"Name": "one"}));
    let two = org.create("Silent__c", json!({"Name": "two"}));
    assert_eq!(names(&seen_by_now(&connector, &feed, &mut *changes).await), ["one", "two"]);
    org.update("Silent__c", &one, json!({"Name": "uno"}));
    org.delete("Silent__c", &two);
    let seen = seen_by_now(&connector, &feed, &mut *changes).await;
    let last: HashMap<_, _> = seen.iter().map(|one| (id_of(one), text(one, "Name"))).collect();
    assert_eq!(last, [(one, "uno".to_owned()), (two, "deleted".to_owned())].into());
    assert!(seen.iter().all(|one| one.mark.is_none() && one.time.estimated));
}

#[tokio::test]
async fn two_changes_within_a_second_are_both_seen_and_old_ones_once() {
    let (org, selection) = silent().await;
    org.simulator.org.clock.freeze();
    let connector = org.connect_asking(ChangeDetection::Auto, 3_600_000);
    let feed = prepared(&connector, &selection).await;
    let mut changes = connector.capture(&feed, &feed.position).await.unwrap();
    let id = org.create("Silent__c", json!({"Name": "first"}));
    assert_eq!(names(&seen_by_now(&connector, &feed, &mut *changes).await), ["first"]);
    org.update("Silent__c", &id, json!({"Name": "second"}));
    assert_eq!(names(&seen_by_now(&connector, &feed, &mut *changes).await), ["second"], "of the same stamp as before");
    org.simulator.org.clock.advance(60_000);
    seen_by_now(&connector, &feed, &mut *changes).await;
    org.create("Silent__c", json!({"Name": "other"}));
    assert_eq!(
        names(&seen_by_now(&connector, &feed, &mut *changes).await),
        ["other"],
        "what is long settled does not come again"
    );
}

#[tokio::test]
async fn a_record_that_becomes_visible_behind_its_stamp_is_not_missed() {
    let (org, selection) = silent().await;
    let connector = org.connect_asking(ChangeDetection::Auto, 3_600_000);
    let feed = prepared(&connector, &selection).await;
    let mut changes = connector.capture(&feed, &feed.position).await.unwrap();
    // Stamped now, shown after the next look: as a long transaction does.
    org.simulator.org.clock.freeze();
    org.simulator.org.clock.advance(300_000);
    seen_by_now(&connector, &feed, &mut *changes).await;
    org.simulator.org.clock.advance(-240_000);
    org.create("Silent__c", json!({"Name": "late"}));
    org.simulator.org.clock.advance(300_000);
    assert_eq!(names(&seen_by_now(&connector, &feed, &mut *changes).await), ["late"]);
}

#[tokio::test]
async fn what_happened_while_nobody_looked_is_caught_up_with_and_what_was_purged_is_deleted() {
    let (org, selection) = silent().await;
    let connector = org.connect_asking(ChangeDetection::Auto, 3_600_000);
    let feed = prepared(&connector, &selection).await;
    let mut changes = connector.capture(&feed, &feed.position).await.unwrap();
    let stays = org.create("Silent__c", json!({"Name": "stays"}));
    let purged = org.create("Silent__c", json!({"Name": "purged"}));
    seen_by_now(&connector, &feed, &mut *changes).await;
    let position = changes.next(LIMITS).await.unwrap().position.unwrap();
    drop(changes);
    org.simulator.org.clock.advance(86_400_000);
    org.simulator.person().hard_delete("Silent__c", org.id(&purged)).unwrap();
    org.update("Silent__c", &stays, json!({"Name": "stays, renamed"}));
    let later = org.connect_asking(ChangeDetection::Auto, 3_600_000);
    let known = Feed { position: position.clone(), ..feed };
    later.prepare(std::slice::from_ref(&selection), std::slice::from_ref(&known)).await.unwrap();
    let mut changes = later.capture(&known, &position).await.unwrap();
    let seen = seen_by_now(&later, &known, &mut *changes).await;
    let gone: Vec<_> = seen.iter().filter(|one| one.image == Image::Deleted).map(|one| one.key.clone()).collect();
    assert_eq!(gone, [key(&purged)]);
    assert!(names(&seen).contains(&"stays, renamed".to_owned()), "{seen:#?}");
    // Behind what the org keeps of deletes nothing is certain.
    drop(changes);
    org.simulator.org.clock.advance(40 * 86_400_000);
    let mut changes = later.capture(&known, &position).await.unwrap();
    let told = async {
        loop {
            if let Err(error) = changes.next(LIMITS).await {
                break error.code;
            }
        }
    };
    assert_eq!(tokio::time::timeout(PATIENCE, told).await.unwrap(), concord_engine::error::Code::FeedGap);
}

#[tokio::test]
async fn a_look_that_fails_for_a_while_is_gone_on_with() {
    let (org, selection) = silent().await;
    let connector = org.connect_asking(ChangeDetection::Auto, 3_600_000);
    let feed = prepared(&connector, &selection).await;
    let mut changes = connector.capture(&feed, &feed.position).await.unwrap();
    seen_by_now(&connector, &feed, &mut *changes).await;
    let records: Vec<_> = (0..2_100).map(|n| json!({"Name": format!("n{n}")}).as_object().unwrap().clone()).collect();
    org.simulator.person().create_all("Silent__c", &records).unwrap();
    let fence = connector.fence(&feed.name).await.unwrap();
    let before = org.requests("/queryAll");
    org.fault(json!({"on": {"path": "/queryAll"}, "after": 1, "do": "unavailable"}));
    let mut seen = Vec::new();
    let wait = async {
        loop {
            let batch = changes.next(LIMITS).await.expect("the feed stays open");
            seen.extend(batch.events.into_iter().filter_map(observed));
            if batch.position.is_some_and(|position| connector.reached(&position, &fence)) {
                break;
            }
        }
    };
    tokio::time::timeout(PATIENCE, wait).await.unwrap();
    assert_eq!(seen.len(), 2_100, "each once");
    assert_eq!(org.requests("/queryAll") - before, 3, "two pages, one of them asked for twice");
}

#[tokio::test]
async fn an_empty_answer_deletes_nothing() {
    let (org, selection) = silent().await;
    let connector = org.connect_asking(ChangeDetection::Auto, 3_600_000);
    org.create("Silent__c", json!({"Name": "one"}));
    let feed = prepared(&connector, &selection).await;
    let mut changes = connector.capture(&feed, &feed.position).await.unwrap();
    seen_by_now(&connector, &feed, &mut *changes).await;
    let nothing = json!({"totalSize": 0, "done": true, "records": []}).to_string();
    org.fault(json!({"on": {"path": "/queryAll"}, "times": 3, "do": {"answer": {"status": 200, "body": nothing}}}));
    assert!(seen_by_now(&connector, &feed, &mut *changes).await.is_empty());
}

#[tokio::test]
async fn events_that_are_switched_on_take_over_where_polling_has_got_to() {
    let org = Org::new().await;
    let selection = accounts(&["Name"]);
    let polling = org.connect_asking(ChangeDetection::Polling, 3_600_000);
    let feed = prepared(&polling, &selection).await;
    let mut changes = polling.capture(&feed, &feed.position).await.unwrap();
    org.create("Account", json!({"Name": "polled"}));
    assert_eq!(names(&seen_by_now(&polling, &feed, &mut *changes).await), ["polled"]);
    let position = changes.next(LIMITS).await.unwrap().position.unwrap();
    drop(changes);
    org.create("Account", json!({"Name": "between"}));
    let events = org.connect();
    let known = Feed { position: position.clone(), ..feed };
    events.prepare(std::slice::from_ref(&selection), std::slice::from_ref(&known)).await.unwrap();
    let mut changes = events.capture(&known, &position).await.unwrap();
    org.create("Account", json!({"Name": "told"}));
    let mut names = std::collections::BTreeSet::new();
    let mut last = position;
    while !(names.contains("between") && names.contains("told")) {
        let batch = changes.next(LIMITS).await.unwrap();
        last = batch.position.unwrap_or(last);
        names.extend(batch.events.into_iter().filter_map(observed).map(|one| text(&one, "Name")));
    }
    drop(changes);
    // And back again: from the last event on.
    org.create("Account", json!({"Name": "polled again"}));
    let known = Feed { position: last.clone(), ..known };
    polling.prepare(std::slice::from_ref(&selection), std::slice::from_ref(&known)).await.unwrap();
    let mut changes = polling.capture(&known, &last).await.unwrap();
    let seen = seen_by_now(&polling, &known, &mut *changes).await;
    assert!(seen.iter().any(|one| text(one, "Name") == "polled again"), "{seen:#?}");
}

#[tokio::test]
async fn a_field_that_appears_is_announced_by_a_round() {
    let (org, selection) = silent().await;
    let connector = org.connect_asking(ChangeDetection::Auto, 3_600_000);
    connector.schema(&"Silent__c".into()).await.unwrap();
    let feed = prepared(&connector, &selection).await;
    let file = json!({"objects": [{"name": "Silent__c", "fields": [{"name": "Extra__c", "type": "string"}]}]});
    org.simulator.org.add_schema(&serde_json::from_value(file).unwrap()).unwrap();
    let mut changes = connector.capture(&feed, &feed.position).await.unwrap();
    let batch = changes.next(LIMITS).await.unwrap();
    assert!(matches!(&batch.events[..], [Event::SchemaChanged(schema), ..] if schema.field("Extra__c").is_some()), "{batch:?}");
}

#[tokio::test]
async fn a_polled_feed_says_how_far_it_has_got_and_why_it_is_polled() {
    let (org, selection) = silent().await;
    for (how, why) in [
        (ChangeDetection::Auto, "no change events come for Silent__c"),
        (ChangeDetection::Polling, "as the configuration wants it"),
    ] {
        let connector = org.connect_asking(how, 30_000);
        let feed = prepared(&connector, &selection).await;
        let mut changes = connector.capture(&feed, &feed.position).await.unwrap();
        assert!(!changes.tells_whose(), "it only asks what is new");
        seen_by_now(&connector, &feed, &mut *changes).await;
        let position = connector.health(&feed.name).await.unwrap().position;
        assert!(position.starts_with("polled every 30 s, up to 20") && position.ends_with(why), "{position}");
    }
}
