//! Change events: what they show, what they leave unsaid, and everything that can become of a stream.

use crate::support::*;
use concord_connectors::salesforce;
use concord_connectors::settings::AskedChanges;
use concord_engine::change::Image;
use concord_engine::config::ChangeDetection;
use concord_engine::connector::{Connector, Event, Feed, Limits};
use concord_engine::error::{Class, Code};
use concord_engine::value::Value;
use serde_json::json;
use std::cmp::Ordering;
use std::collections::HashMap;
use std::time::Duration;

async fn edits_deletes_and_undeletes_come_in_their_order_and_show_what_changed(connect: Connect) {
    let org = Org::new().await;
    let connector = connect(&org);
    let selection = accounts(&["Name", "Industry", "AnnualRevenue", "BillingCity", "LastModifiedDate"]);
    let feed = prepared(&connector, &selection).await;
    let id = org.create("Account", json!({"Name": "Acme", "BillingCity": "Bonn", "AnnualRevenue": 1234567}));
    org.update("Account", &id, json!({"Industry": "Energy", "BillingCity": null}));
    org.delete("Account", &id);
    org.simulator.person().undelete("Account", org.id(&id)).unwrap();
    let mut changes = connector.capture(&feed, &feed.position).await.unwrap();
    let seen = observations(&mut *changes, 4).await;
    assert!(seen.iter().all(|one| one.key == key(&id) && one.mark.is_none()));
    let Image::Full(made) = &seen[0].image else { panic!("{:?}", seen[0]) };
    assert_eq!(made.get("Industry"), Some(&Value::Null));
    assert!(made.get("AnnualRevenue").unwrap().equivalent(&Value::Int(1_234_567)));
    let Image::Partial(edit) = &seen[1].image else { panic!("{:?}", seen[1]) };
    assert_eq!((edit.get("Industry"), edit.get("BillingCity")), (Some(&Value::text("Energy")), Some(&Value::Null)));
    assert!(!edit.has("Name") && edit.has("LastModifiedDate"));
    assert_eq!(seen[2].image, Image::Deleted);
    assert_eq!(text(&seen[3], "Industry"), "Energy");
    for pair in seen.windows(2) {
        assert_eq!(connector.compare(&pair[0].version, &pair[1].version), Some(Ordering::Less));
    }
}

async fn an_echo_carries_its_mark_and_stands_before_what_was_returned(connect: Connect) {
    let org = Org::new().await;
    let connector = connect(&org);
    let selection = accounts(&["Name"]);
    let feed = prepared(&connector, &selection).await;
    let outcomes = apply(&connector, &selection, vec![create(fields([("Name", Value::text("ours"))]))]).await;
    let concord_engine::connector::Outcome::Written { version, .. } = &outcomes[0] else { panic!("{outcomes:?}") };
    let mut changes = connector.capture(&feed, &feed.position).await.unwrap();
    let seen = observations(&mut *changes, 1).await;
    assert_eq!(seen[0].mark, Some(mark(7)));
    assert_eq!(connector.compare(&seen[0].version, version), Some(Ordering::Less));
}

async fn a_feed_goes_on_behind_its_position_in_another_life(connect: Connect) {
    let org = Org::new().await;
    let selection = accounts(&["Name"]);
    let connector = connect(&org);
    let feed = prepared(&connector, &selection).await;
    for number in 0..5 {
        org.create("Account", json!({"Name": format!("n{number}")}));
    }
    let mut changes = connector.capture(&feed, &feed.position).await.unwrap();
    let mut position = feed.position.clone();
    let mut names = Vec::new();
    while names.len() < 3 {
        let batch = changes.next(concord_engine::connector::Limits { max_events: 1, ..LIMITS }).await.unwrap();
        position = batch.position.unwrap_or(position);
        names.extend(batch.events.into_iter().filter_map(observed).map(|one| text(&one, "Name")));
    }
    drop(changes);
    org.create("Account", json!({"Name": "n5"}));
    let later = connect(&org);
    let known = Feed { position: position.clone(), ..feed.clone() };
    let again = later.prepare(std::slice::from_ref(&selection), std::slice::from_ref(&known)).await.unwrap();
    assert_eq!(again, std::slice::from_ref(&known));
    let mut changes = later.capture(&known, &position).await.unwrap();
    names.extend(observations(&mut *changes, 3).await.iter().map(|one| text(one, "Name")));
    assert_eq!(names, ["n0", "n1", "n2", "n3", "n4", "n5"]);
}

#[tokio::test]
async fn a_stream_that_ends_or_whose_session_runs_out_goes_on_without_a_loss() {
    let org = Org::new().await;
    let connector = org.connect();
    let feed = prepared(&connector, &accounts(&["Name"])).await;
    let mut changes = connector.capture(&feed, &feed.position).await.unwrap();
    org.create("Account", json!({"Name": "before"}));
    assert_eq!(text(&observations(&mut *changes, 1).await[0], "Name"), "before");
    let ends = [
        json!({"do": {"stream_end": {"status": 14, "error_code": "", "message": "RST_STREAM closed stream"}}}),
        json!({"do": {"stream_end": {"status": 16, "error_code": "sfdc.platform.eventbus.grpc.service.auth.error", "message": "expired"}}}),
        json!({"do": "stream_cut"}),
    ];
    for (number, end) in ends.into_iter().enumerate() {
        org.fault(end);
        org.create("Account", json!({"Name": format!("after {number}")}));
        let seen = observations(&mut *changes, 1).await;
        assert_eq!(text(&seen[0], "Name"), format!("after {number}"));
    }
}

async fn gaps_are_read_and_an_overflow_is_swept(connect: Connect) {
    let org = Org::new().await;
    let connector = connect(&org);
    let feed = prepared(&connector, &accounts(&["Name", "Industry"])).await;
    let mut changes = connector.capture(&feed, &feed.position).await.unwrap();
    let id = org.create("Account", json!({"Name": "Acme", "Industry": "Energy"}));
    observations(&mut *changes, 1).await;
    org.fault(json!({"on": {"object": "Account"}, "do": "gap"}));
    org.update("Account", &id, json!({"Name": "Acme 2"}));
    let seen = observations(&mut *changes, 1).await;
    assert!(matches!(&seen[0].image, Image::Full(record) if record.has("Industry")), "{:?}", seen[0]);
    assert_eq!(text(&seen[0], "Name"), "Acme 2");
    org.fault(json!({"on": {"object": "Account"}, "do": "overflow"}));
    org.update("Account", &id, json!({"Name": "Acme 3"}));
    let seen = observations(&mut *changes, 1).await;
    assert_eq!((&seen[0].key, text(&seen[0], "Name")), (&key(&id), "Acme 3".to_owned()));
    org.fault(json!({"on": {"object": "Account"}, "do": "gap"}));
    org.delete("Account", &id);
    assert_eq!(observations(&mut *changes, 1).await[0].image, Image::Deleted);
}

async fn large_texts_are_read_and_an_event_of_all_records_has_all_of_them_looked_at(connect: Connect) {
    let org = Org::new().await;
    let connector = connect(&org);
    let feed = prepared(&connector, &accounts(&["Name", "Description"])).await;
    let mut changes = connector.capture(&feed, &feed.position).await.unwrap();
    let long = |last: &str| format!("{}{last}", "a line of a long text\n".repeat(60));
    let id = org.create("Account", json!({"Name": "Acme", "Description": long("old")}));
    let other = org.create("Account", json!({"Name": "Bolt"}));
    observations(&mut *changes, 2).await;
    org.update("Account", &id, json!({"Description": long("new")}));
    let seen = observations(&mut *changes, 1).await;
    assert_eq!((&seen[0].key, text(&seen[0], "Description")), (&key(&id), long("new")), "read, for the event has what differs");
    org.fault(json!({"on": {"object": "Account"}, "do": "wildcard"}));
    org.update("Account", &id, json!({"Name": "Acme 2"}));
    let seen = observations(&mut *changes, 2).await;
    let names: HashMap<String, String> = seen.iter().map(|one| (id_of(one), text(one, "Name"))).collect();
    assert_eq!((names[&id].as_str(), names[&other].as_str()), ("Acme 2", "Bolt"));
    org.update("Account", &other, json!({"Name": "Bolt 2"}));
    assert_eq!(text(&observations(&mut *changes, 1).await[0], "Name"), "Bolt 2", "the feed goes on");
}

/// When what an observation shows was edited, in seconds since 1970, and whether that is known for certain.
fn edited(one: &concord_engine::change::Observation) -> (i64, bool) {
    (one.time.at.micros().div_euclid(1_000_000), !one.time.estimated)
}

// An event says that something changed, and before that is read a person edits the record: the read shows both. The earlier
// event's time for it would let an edit win at the other side that was made between the two.
async fn what_is_read_in_the_place_of_an_event_was_not_edited_when_the_event_was(connect: Connect) {
    let org = Org::new().await;
    org.simulator.org.clock.freeze();
    let seconds = || org.simulator.org.clock.now_ms().div_euclid(1_000);
    let connector = connect(&org);
    let feed = prepared(&connector, &accounts(&["Name", "Industry"])).await;
    let mut changes = connector.capture(&feed, &feed.position).await.unwrap();
    let id = org.create("Account", json!({"Name": "Acme", "Industry": "Energy"}));
    observations(&mut *changes, 1).await;
    org.simulator.org.clock.advance(10_000);
    org.fault(json!({"on": {"object": "Account"}, "do": "gap"}));
    org.update("Account", &id, json!({"Industry": "Banking"}));
    org.simulator.org.clock.advance(20_000);
    org.update("Account", &id, json!({"Name": "a person's"}));
    let seen = observations(&mut *changes, 2).await;
    assert!(seen.iter().all(|one| text(one, "Name") == "a person's"), "{seen:#?}");
    assert_eq!(edited(&seen[0]), (seconds(), false), "as of now, for all that the gap says");
    assert_eq!(edited(&seen[1]), (seconds(), true), "the person's event says when");
}

async fn what_an_event_tells_keeps_its_time_though_another_field_is_read(connect: Connect) {
    let org = Org::new().await;
    org.simulator.org.clock.freeze();
    let seconds = || org.simulator.org.clock.now_ms().div_euclid(1_000);
    let connector = connect(&org);
    let feed = prepared(&connector, &accounts(&["Name", "Description", "Phone"])).await;
    let mut changes = connector.capture(&feed, &feed.position).await.unwrap();
    let long = |last: &str| format!("{}{last}", "a line of a long text\n".repeat(60));
    let id = org.create("Account", json!({"Name": "Acme", "Description": long("old"), "Phone": "1"}));
    observations(&mut *changes, 1).await;
    org.simulator.org.clock.advance(10_000);
    org.update("Account", &id, json!({"Name": "Acme 2", "Description": long("new")}));
    let told = seconds();
    org.simulator.org.clock.advance(20_000);
    org.update("Account", &id, json!({"Phone": "2"}));
    let seen = observations(&mut *changes, 3).await;
    assert_eq!((text(&seen[0], "Name"), edited(&seen[0])), ("Acme 2".to_owned(), (told, true)));
    assert!(matches!(&seen[0].image, Image::Partial(record) if !record.has("Description") && !record.has("Phone")));
    assert_eq!((text(&seen[1], "Description"), text(&seen[1], "Phone")), (long("new"), "2".to_owned()));
    assert_eq!(edited(&seen[1]), (seconds(), false));
    assert_eq!((text(&seen[2], "Phone"), edited(&seen[2])), ("2".to_owned(), (seconds(), true)));
}

async fn an_expired_position_is_a_gap_and_never_begun_anew(connect: Connect) {
    let org = Org::new().await;
    let connector = connect(&org);
    let feed = prepared(&connector, &accounts(&["Name"])).await;
    let mut changes = connector.capture(&feed, &feed.position).await.unwrap();
    org.create("Account", json!({"Name": "n"}));
    let batch = loop {
        let batch = changes.next(LIMITS).await.unwrap();
        if !batch.events.is_empty() {
            break batch;
        }
    };
    let position = batch.position.unwrap();
    drop(changes);
    org.create("Account", json!({"Name": "missed"}));
    org.simulator.org.clock.advance(4 * 86_400_000);
    let outcome = async {
        let mut changes = connector.capture(&feed, &position).await?;
        changes.next(LIMITS).await
    };
    assert_eq!(outcome.await.unwrap_err().code, Code::FeedGap);
}

async fn a_field_that_appears_is_announced_before_events_that_show_it(connect: Connect) {
    let org = Org::new().await;
    let connector = connect(&org);
    let feed = prepared(&connector, &accounts(&["Name"])).await;
    let mut changes = connector.capture(&feed, &feed.position).await.unwrap();
    org.create("Account", json!({"Name": "before"}));
    observations(&mut *changes, 1).await;
    let schema = json!({"objects": [{"name": "Account", "fields": [{"name": "Extra__c", "type": "string"}]}]});
    org.simulator.org.add_schema(&serde_json::from_value(schema).unwrap()).unwrap();
    org.create("Account", json!({"Name": "behind", "Extra__c": "e"}));
    let mut kinds = Vec::new();
    let begun = tokio::time::Instant::now();
    while kinds.len() < 2 {
        assert!(begun.elapsed() < PATIENCE, "{kinds:?}");
        for event in changes.next(LIMITS).await.unwrap().events {
            kinds.push(match event {
                concord_engine::connector::Event::SchemaChanged(schema) => {
                    format!("schema {}", schema.field("Extra__c").is_some())
                }
                other => text(&observed(other).unwrap(), "Name"),
            });
        }
    }
    assert_eq!(kinds, ["schema true", "behind"]);
}

async fn a_fence_is_passed_when_everything_before_it_was_shown(connect: Connect) {
    let org = Org::new().await;
    org.create("Account", json!({"Name": "long known"}));
    let connector = connect(&org);
    let feed = prepared(&connector, &accounts(&["Name"])).await;
    for number in 0..20 {
        org.create("Account", json!({"Name": format!("n{number}")}));
    }
    let fence = connector.fence(&feed.name).await.unwrap();
    let mut changes = connector.capture(&feed, &feed.position).await.unwrap();
    let mut names = 0;
    let begun = tokio::time::Instant::now();
    loop {
        let batch = changes.next(LIMITS).await.unwrap();
        names += batch.events.len();
        if batch.position.is_some_and(|position| connector.reached(&position, &fence)) {
            break;
        }
    }
    assert_eq!(names, 20);
    assert!(begun.elapsed() < std::time::Duration::from_secs(4), "by what was shown, not by waiting");
}

#[tokio::test]
async fn a_topic_that_is_not_there_is_named_where_nothing_else_will_do() {
    let org = Org::new().await;
    let selection = concord_engine::schema::Selection { object: "User".into(), fields: vec!["Email".into()] };
    let connector = org.connect_asking(ChangeDetection::LogBased, 60_000);
    let error = connector.prepare(&[selection], &[]).await.unwrap_err();
    assert_eq!((error.code, error.class()), (Code::HostedEventsOff, Class::Stop));
}

/// Every event until the fence is passed, each batch being taken in at once.
async fn until_passed(
    connector: &dyn Connector,
    changes: &mut dyn concord_engine::connector::Changes,
    fence: &concord_engine::change::Position,
) -> Vec<concord_engine::change::Observation> {
    let mut seen = Vec::new();
    let wait = async {
        loop {
            let batch = changes.next(LIMITS).await.unwrap();
            seen.extend(batch.events.into_iter().filter_map(observed));
            if batch.position.is_some_and(|position| connector.reached(&position, fence)) {
                break;
            }
        }
    };
    tokio::time::timeout(PATIENCE, wait).await.unwrap();
    seen
}

async fn what_was_handed_out_and_not_taken_in_passes_no_fence(connect: Connect) {
    let org = Org::new().await;
    let connector = connect(&org);
    let feed = prepared(&connector, &accounts(&["Name"])).await;
    let mut changes = connector.capture(&feed, &feed.position).await.unwrap();
    org.create("Account", json!({"Name": "Acme"}));
    let position = loop {
        let batch = changes.next(LIMITS).await.unwrap();
        if !batch.events.is_empty() {
            break batch.position.unwrap();
        }
    };
    let fence = connector.fence(&feed.name).await.unwrap();
    assert!(!connector.reached(&feed.position, &fence), "the batch may still be on its way");
    assert!(connector.reached(&position, &fence));
}

async fn what_no_event_tells_of_is_read_before_a_fence_is_passed(connect: Connect) {
    let org = Org::new().await;
    let connector = connect(&org);
    let feed = prepared(&connector, &accounts(&["Name"])).await;
    let gone = org.create("Account", json!({"Name": "Gone"}));
    let mut changes = connector.capture(&feed, &feed.position).await.unwrap();
    observations(&mut *changes, 1).await;
    org.fault(json!({"on": {"object": "Account"}, "times": null, "do": {"late": {"ms": 86_400_000}}}));
    org.simulator.org.clock.advance(1_000);
    let acme = org.create("Account", json!({"Name": "Acme"}));
    org.delete("Account", &gone);
    let fence = connector.fence(&feed.name).await.unwrap();
    let mut seen = until_passed(&connector, &mut *changes, &fence).await;
    seen.sort_by_key(|one| one.image == Image::Deleted);
    assert_eq!(seen.len(), 2, "{seen:#?}");
    assert_eq!((&seen[0].key, text(&seen[0], "Name")), (&key(&acme), "Acme".to_owned()));
    assert_eq!((&seen[1].key, &seen[1].image), (&key(&gone), &Image::Deleted));
    assert!(seen.iter().all(|one| one.time.estimated && one.mark.is_none()));
}

async fn a_position_is_never_ahead_of_what_was_handed_out(connect: Connect) {
    let org = Org::new().await;
    let connector = connect(&org);
    let selection = accounts(&["Name"]);
    let feed = prepared(&connector, &selection).await;
    let records: Vec<_> = (0..250).map(|n| json!({"Name": format!("n{n}")}).as_object().unwrap().clone()).collect();
    org.simulator.person().create_all("Account", &records).unwrap();
    let mut changes = connector.capture(&feed, &feed.position).await.unwrap();
    let mut names = std::collections::BTreeSet::new();
    let mut position = feed.position.clone();
    // Whatever the position is at any time, what follows it completes what came before: here where the first events are
    // taken, and the next have been asked for and are not there yet.
    let at_once = concord_engine::connector::Limits { max_wait: std::time::Duration::ZERO, ..LIMITS };
    loop {
        let batch = changes.next(at_once).await.unwrap();
        let has_more = !batch.events.is_empty();
        names.extend(batch.events.into_iter().filter_map(observed).map(|one| text(&one, "Name")));
        position = batch.position.unwrap_or(position);
        if names.len() >= 100 && (!has_more || names.len() == 250) {
            break;
        }
    }
    drop(changes);
    let later = connect(&org);
    let known = Feed { position: position.clone(), ..feed };
    later.prepare(&[selection], std::slice::from_ref(&known)).await.unwrap();
    let mut changes = later.capture(&known, &position).await.unwrap();
    let left = 250 - names.len();
    names.extend(observations(&mut *changes, left).await.iter().map(|one| text(one, "Name")));
    assert_eq!(names.len(), 250);
}

async fn a_schema_that_changed_while_no_stream_was_open_is_announced_until_it_is_taken_in(connect: Connect) {
    use concord_engine::connector::Event;
    let org = Org::new().await;
    let connector = connect(&org);
    connector.schema(&"Account".into()).await.unwrap();
    let feed = prepared(&connector, &accounts(&["Name"])).await;
    let mut changes = connector.capture(&feed, &feed.position).await.unwrap();
    org.create("Account", json!({"Name": "before"}));
    observations(&mut *changes, 1).await;
    drop(changes);
    let schema = json!({"objects": [{"name": "Account", "fields": [{"name": "Extra__c", "type": "string"}]}]});
    org.simulator.org.add_schema(&serde_json::from_value(schema).unwrap()).unwrap();
    org.create("Account", json!({"Name": "behind"}));
    let mut acknowledged = None;
    for round in 0..3 {
        let mut changes = connector.capture(&feed, &feed.position).await.unwrap();
        let mut announced = 0;
        let mut shown = Vec::new();
        while shown.len() < 2 {
            let batch = changes.next(LIMITS).await.unwrap();
            for event in batch.events {
                match event {
                    Event::SchemaChanged(schema) => {
                        assert!(shown.is_empty() && schema.field("Extra__c").is_some());
                        announced += 1;
                    }
                    other => shown.extend(observed(other).map(|one| text(&one, "Name"))),
                }
            }
            acknowledged = batch.position;
        }
        // The first time nobody takes it in; the second time it is.
        assert_eq!((announced, shown), (usize::from(round < 2), vec!["before".to_owned(), "behind".to_owned()]), "{round}");
        if round == 1 {
            connector.acknowledge(&feed.name, acknowledged.as_ref().unwrap()).await.unwrap();
        }
    }
}

#[tokio::test]
async fn a_stream_that_is_opened_again_asks_for_no_description() {
    let org = Org::new().await;
    let connector = org.connect();
    connector.schema(&"Account".into()).await.unwrap();
    let feed = prepared(&connector, &accounts(&["Name"])).await;
    drop(connector.capture(&feed, &feed.position).await.unwrap());
    let before = org.requests("/describe");
    for number in 0..3 {
        org.create("Account", json!({"Name": format!("n{number}")}));
        let mut changes = connector.capture(&feed, &feed.position).await.unwrap();
        assert!(!changes.next(LIMITS).await.unwrap().events.is_empty());
    }
    assert_eq!(org.requests("/describe"), before);
}

async fn what_was_purged_during_an_overflow_is_told_as_deleted(connect: Connect) {
    let org = Org::new().await;
    let connector = connect(&org);
    let feed = prepared(&connector, &accounts(&["Name"])).await;
    let mut changes = connector.capture(&feed, &feed.position).await.unwrap();
    let stays = org.create("Account", json!({"Name": "stays"}));
    let purged = org.create("Account", json!({"Name": "purged"}));
    let again = org.create("Account", json!({"Name": "deleted and taken out of the bin"}));
    observations(&mut *changes, 3).await;
    org.fault(json!({"on": {"object": "Account"}, "times": null, "do": "overflow"}));
    org.simulator.person().hard_delete("Account", org.id(&purged)).unwrap();
    org.delete("Account", &again);
    org.simulator.person().undelete("Account", org.id(&again)).unwrap();
    let mut last = std::collections::HashMap::new();
    let wait = async {
        while last.get(&purged) != Some(&true) || last.len() < 3 {
            for one in changes.next(LIMITS).await.unwrap().events.into_iter().filter_map(observed) {
                last.insert(id_of(&one), one.image == Image::Deleted);
            }
        }
    };
    tokio::time::timeout(PATIENCE, wait).await.unwrap();
    assert_eq!((last[&stays], last[&again]), (false, false));
}

#[tokio::test]
async fn what_no_event_ever_tells_of_is_found_and_no_call_is_made_for_what_was_told() {
    for events in ["grpc", "long_polling"] {
        let org = Org::new().await;
        let secret = org.secret("client_secret", "simulated-secret");
        let connection = org.connection(json!({"client_secret": secret}), json!({"events": events}));
        let mut settings = settings(&connection, &|_: &str| Ok(None), None, AskedChanges::default()).unwrap();
        settings.look_every = Duration::from_millis(50);
        let connector = salesforce::open(settings).unwrap();
        let feed = prepared(&connector, &accounts(&["Name"])).await;
        let mut changes = connector.capture(&feed, &feed.position).await.unwrap();
        let [edited, deleted, told] = ["Acme", "Bolt", "Crest"].map(|name| org.create("Account", json!({"Name": name})));
        observations(&mut *changes, 3).await;
        let (looks, reads) = (|| org.requests("/queryAll"), || org.requests("/composite/sobjects/Account"));
        // A minute later it is looked what they show, in one call.
        let minutes_pass = async |count: i64| {
            org.simulator.org.clock.advance(count * 60_000);
            connector.count(&"Account".into()).await.unwrap();
        };
        let before = looks();
        minutes_pass(2).await;
        observations(&mut *changes, 3).await;
        assert!(looks() > before && reads() == 0);
        assert_eq!(connector.health(&feed.name).await.unwrap().warning, None, "all of them had been told of");

        org.fault(json!({"on": {"object": "Account"}, "times": null, "do": {"late": {"ms": 864_000_000}}}));
        org.update("Account", &edited, json!({"Name": "Unheard of"}));
        org.delete("Account", &deleted);
        minutes_pass(2).await;
        let seen = observations(&mut *changes, 2).await;
        let of = |id: &str| seen.iter().find(|one| one.key == key(id)).unwrap();
        assert_eq!((text(of(&edited), "Name"), &of(&deleted).image), ("Unheard of".to_owned(), &Image::Deleted));
        assert_eq!(reads(), 0, "the look shows it");
        let warning = connector.health(&feed.name).await.unwrap().warning.unwrap();
        assert!(warning.contains("2 records") && warning.contains("Account"), "{warning}");
        // The feed goes on behind it.
        org.simulator.org.faults.clear();
        org.update("Account", &told, json!({"Name": "Heard of"}));
        assert_eq!(text(&observations(&mut *changes, 1).await[0], "Name"), "Heard of");
        assert_eq!(reads(), 0);
    }
}

async fn a_topic_on_which_nothing_happens_for_days_keeps_its_place(connect: Connect) {
    let org = Org::new().await;
    let connector = connect(&org);
    let feed = prepared(&connector, &accounts(&["Name"])).await;
    let mut changes = connector.capture(&feed, &feed.position).await.unwrap();
    org.create("Account", json!({"Name": "first"}));
    assert_eq!(text(&observations(&mut *changes, 1).await[0], "Name"), "first");
    // A sign of life by gRPC says how far the topic has got, while events of other topics age; one of long polling says nothing.
    let says_how_far = !connector.health(&feed.name).await.unwrap().position.contains("by long polling");
    let brief = Limits { max_wait: Duration::from_millis(300), ..LIMITS };
    let mut position = None;
    for day in 0..4 {
        if says_how_far {
            org.create("Contact", json!({"LastName": format!("day {day}")}));
        }
        // The clock is known by the answers of calls.
        connector.count(&"Account".into()).await.unwrap();
        for _ in 0..3 {
            let batch = changes.next(brief).await.unwrap();
            // A look behind the events may hand on what it was told of once.
            assert!(batch.events.iter().all(|event| matches!(event, Event::Read(_))), "{batch:?}");
            position = batch.position.or(position);
            org.simulator.org.clock.advance(120_000);
        }
        org.simulator.org.clock.advance(40 * 3_600_000);
    }
    drop(changes);
    org.create("Account", json!({"Name": "after days"}));
    let position = position.unwrap();
    let later = connect(&org);
    let known = Feed { position: position.clone(), ..feed };
    later.prepare(&[accounts(&["Name"])], std::slice::from_ref(&known)).await.unwrap();
    let mut changes = later.capture(&known, &position).await.unwrap();
    assert_eq!(text(&observations(&mut *changes, 1).await[0], "Name"), "after days");
}

/// Each of these on either transport.
macro_rules! on_either_way {
    ($($test:ident),* $(,)?) => {
        mod by_grpc {
            $(#[tokio::test] async fn $test() { super::$test(crate::support::by_grpc).await; })*
        }
        mod by_long_polling {
            $(#[tokio::test] async fn $test() { super::$test(crate::support::by_long_polling).await; })*
        }
    };
}

on_either_way!(
    edits_deletes_and_undeletes_come_in_their_order_and_show_what_changed,
    an_echo_carries_its_mark_and_stands_before_what_was_returned,
    a_feed_goes_on_behind_its_position_in_another_life,
    gaps_are_read_and_an_overflow_is_swept,
    large_texts_are_read_and_an_event_of_all_records_has_all_of_them_looked_at,
    what_is_read_in_the_place_of_an_event_was_not_edited_when_the_event_was,
    what_an_event_tells_keeps_its_time_though_another_field_is_read,
    an_expired_position_is_a_gap_and_never_begun_anew,
    a_field_that_appears_is_announced_before_events_that_show_it,
    a_fence_is_passed_when_everything_before_it_was_shown,
    what_was_handed_out_and_not_taken_in_passes_no_fence,
    what_no_event_tells_of_is_read_before_a_fence_is_passed,
    a_position_is_never_ahead_of_what_was_handed_out,
    a_schema_that_changed_while_no_stream_was_open_is_announced_until_it_is_taken_in,
    what_was_purged_during_an_overflow_is_told_as_deleted,
    a_topic_on_which_nothing_happens_for_days_keeps_its_place,
);
