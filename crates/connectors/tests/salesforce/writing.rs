//! Writing: guards, outcomes of single records, and answers that never come.

use crate::support::*;
use concord_engine::clock::{Clock, Moment, SystemClock};
use concord_engine::connector::{Connector, Made, Operation, Outcome, Presence, Write};
use concord_engine::error::{Class, Code};
use concord_engine::record::Record;
use concord_engine::value::Value;
use serde_json::json;
use std::sync::Arc;

fn named(name: &str) -> Record {
    fields([("Name", Value::text(name))])
}

fn update(id: &str, set: Record, guard: Record) -> Operation {
    Operation::Update { key: key(id), set, guard }
}

#[tokio::test]
async fn a_create_gives_the_key_and_what_the_org_made_of_it() {
    let org = Org::new().await;
    let connector = org.connect();
    let selection = accounts(&["Name", "AnnualRevenue", "LastModifiedDate"]);
    let image = fields([("Name", Value::text(" Acme ")), ("AnnualRevenue", Value::Int(5))]);
    let outcomes = apply(&connector, &selection, vec![create(image)]).await;
    let [Outcome::Written { key, image: Some(image), .. }] = outcomes.as_slice() else { panic!("{outcomes:?}") };
    assert_eq!(image.get("Name"), Some(&Value::text("Acme")), "the org trims texts, and says so");
    assert!(matches!(image.get("LastModifiedDate"), Some(Value::TimestampTz(_))));
    assert!(matches!(connector.read(&selection, std::slice::from_ref(key)).await.unwrap()[0], Presence::Present(_)));
}

#[tokio::test]
async fn guards_are_compared_right_before_the_write() {
    let org = Org::new().await;
    let acme = org.create("Account", json!({"Name": "Acme", "Industry": "Banking"}));
    let gone = org.create("Account", json!({"Name": "Gone"}));
    org.delete("Account", &gone);
    let connector = org.connect();
    let selection = accounts(&["Name", "Industry"]);
    let industry = |value: &str| fields([("Industry", Value::text(value))]);
    let outcomes = apply(
        &connector,
        &selection,
        vec![
            update(&acme, named("A"), industry("Energy")),
            update(&gone, named("B"), fields([])),
            Operation::Delete { key: key(&acme), guard: named("other") },
            update(&acme, named("D"), industry("Banking")),
        ],
    )
    .await;
    assert!(outcomes[..3].iter().all(|outcome| matches!(outcome, Outcome::Missed)), "{outcomes:?}");
    assert!(matches!(&outcomes[3], Outcome::Written { image: Some(image), .. } if image.get("Name") == Some(&Value::text("D"))));
    let outcomes = apply(&connector, &selection, vec![Operation::Delete { key: key(&acme), guard: named("D") }]).await;
    assert!(matches!(outcomes[0], Outcome::Written { image: None, .. }));
    assert!(matches!(connector.read(&selection, &[key(&acme)]).await.unwrap()[0], Presence::Absent { .. }));
}

#[tokio::test]
async fn each_record_of_a_batch_has_an_outcome_of_its_own() {
    let org = Org::new().await;
    let rules = json!({"validation": [{"object": "Account", "when": "AnnualRevenue < 0", "message": "Not below zero", "field": "AnnualRevenue"}]});
    let rules = serde_json::from_value(rules).unwrap();
    org.simulator.org.state().rules.add(rules).unwrap();
    let locked = org.create("Account", json!({"Name": "Locked"}));
    org.fault(json!({"on": {"object": "Account", "id": locked}, "do": "lock_row"}));
    let connector = org.connect();
    let mut operations: Vec<Operation> = (0..430).map(|number| create(named(&format!("n{number}")))).collect();
    operations[120] = create(fields([("Name", Value::text("low")), ("AnnualRevenue", Value::Int(-1))]));
    operations[250] = create(named(&"x".repeat(300)));
    operations.push(update(&locked, named("Mine"), fields([])));
    let outcomes = apply(&connector, &accounts(&["Name"]), operations).await;
    let Outcome::Failed(low) = &outcomes[120] else { panic!("{:?}", outcomes[120]) };
    assert_eq!((low.code, low.class()), (Code::TargetRejected, Class::Rejected));
    assert!(low.message.contains("Not below zero"), "{low}");
    assert!(matches!(&outcomes[250], Outcome::Failed(error) if error.code == Code::ValueDoesNotFit));
    assert!(matches!(outcomes[430], Outcome::Locked));
    let written = outcomes.iter().filter(|outcome| matches!(outcome, Outcome::Written { .. })).count();
    assert_eq!(written, 428);
    assert_eq!(
        org.requests("/composite"),
        1 + 1 + 1 + 1,
        "read before, one call of creates in parts, one of updates, read behind"
    );
}

#[tokio::test]
async fn an_answer_that_is_lost_leaves_the_outcome_unknown_and_others_known() {
    let org = Org::new().await;
    let connector = org.connect();
    let operations: Vec<Operation> = (0..1_050).map(|number| create(named(&format!("n{number}")))).collect();
    org.fault(json!({"on": {"method": "POST", "path": "/composite/sobjects"}, "do": "answer_lost"}));
    let outcomes = apply(&connector, &accounts(&["Name"]), operations).await;
    assert!(outcomes[..1_000].iter().all(|outcome| matches!(outcome, Outcome::Written { .. })));
    assert!(outcomes[1_000..].iter().all(|outcome| matches!(outcome, Outcome::Unknown)), "{:?}", outcomes[1_000]);
    assert_eq!(connector.count(&"Account".into()).await.unwrap(), 1_050, "they happened all the same");
}

#[tokio::test]
async fn the_parts_of_a_call_fail_and_succeed_each_by_itself() {
    let org = Org::new().await;
    let connector = org.connect();
    // One record says `@{`, which a call of several parts would take for a reference: it goes by itself.
    let names = (0..450).map(|number| if number == 7 { "@{odd}".to_owned() } else { format!("n{number}") });
    let outcomes = apply(&connector, &accounts(&["Name"]), names.map(|name| create(named(&name))).collect()).await;
    assert!(outcomes.iter().all(|outcome| matches!(outcome, Outcome::Written { .. })), "{outcomes:?}");
    assert_eq!(org.records("Account").iter().filter(|one| one["Name"] == json!("@{odd}")).count(), 1);
    let key_of = |outcome: &Outcome| match outcome {
        Outcome::Written { key, .. } => key.clone(),
        other => panic!("{other:?}"),
    };
    let keys: Vec<concord_engine::record::Key> = outcomes.iter().map(key_of).collect();
    let gone = keys[300].0[0].clone();
    let Value::Text(gone) = gone else { panic!("{gone:?}") };
    org.delete("Account", &gone);
    let before = org.requests("/composite");
    let deletes = keys.iter().map(|key| Operation::Delete { key: key.clone(), guard: Record::new() }).collect();
    let outcomes = apply(&connector, &accounts(&["Name"]), deletes).await;
    assert!(matches!(outcomes[300], Outcome::Missed), "{:?}", outcomes[300]);
    assert_eq!(outcomes.iter().filter(|outcome| matches!(outcome, Outcome::Written { .. })).count(), 449);
    assert_eq!(org.requests("/composite") - before, 1 + 1, "read before, one call of deletes in parts");
    assert!(org.records("Account").is_empty());
}

#[tokio::test]
async fn a_create_that_meets_its_match_collides() {
    let org = Org::new().await;
    org.create("Account", json!({"Name": "Acme"}));
    let connector = org.connect();
    let make = |name: &str| Operation::Create { image: named(name), absent_by: vec!["Name".into()] };
    let outcomes = apply(&connector, &accounts(&["Name"]), vec![make("Acme"), make("New"), make("New")]).await;
    assert!(matches!(outcomes[0], Outcome::Collision) && matches!(outcomes[2], Outcome::Collision), "{outcomes:?}");
    assert!(matches!(outcomes[1], Outcome::Written { .. }));
}

#[tokio::test]
async fn what_a_field_cannot_hold_is_refused_before_it_is_sent() {
    let org = Org::new().await;
    let connector = org.connect();
    let with = |field: &'static str, value| create(fields([("Name", Value::text("x")), (field, value)]));
    let outcomes = apply(
        &connector,
        &accounts(&["Name"]),
        vec![
            with("AnnualRevenue", Value::decimal("1.5").unwrap()),
            with("AnnualRevenue", Value::text("many")),
            with("NumberOfEmployees", Value::Int(5_000_000_000)),
            with("Description", Value::text("")),
            with("LastModifiedDate", Value::Null),
        ],
    )
    .await;
    for outcome in &outcomes {
        assert!(matches!(outcome, Outcome::Failed(error) if error.class() == Class::Rejected), "{outcome:?}");
    }
    assert_eq!(org.requests("/composite"), 0);
}

#[tokio::test]
async fn many_updates_are_made_and_read_again_in_few_calls() {
    let org = Org::new().await;
    let records: Vec<_> = (0..1_000).map(|number| named_json(&format!("n{number}"))).collect();
    let made = org.simulator.person().create_all("Account", &records).unwrap();
    let connector = org.connect();
    let selection = accounts(&["Name", "Industry", "LastModifiedDate"]);
    connector.schema(&"Account".into()).await.unwrap();
    org.fault(json!({"on": {"object": "Account", "id": made[500].to_string()}, "do": {"record_error": {"code": "UNABLE_TO_LOCK_ROW", "message": "locked"}}}));
    let before = org.requests("/services/data");
    let operations = made
        .iter()
        .enumerate()
        .map(|(number, id)| update(&id.to_string(), named(&format!("m{number}")), named(&format!("n{number}"))))
        .collect();
    let outcomes = apply(&connector, &selection, operations).await;
    assert_eq!(org.requests("/services/data") - before, 3, "read before, and two calls that write and read");
    for (number, outcome) in outcomes.iter().enumerate() {
        match outcome {
            Outcome::Locked => assert_eq!(number, 500),
            Outcome::Written { image: Some(image), .. } => {
                assert_eq!(image.get("Name"), Some(&Value::text(format!("m{number}"))));
                assert!(image.has("Industry") && number != 500);
            }
            other => panic!("{number}: {other:?}"),
        }
    }
}

#[tokio::test]
async fn a_text_that_looks_like_a_reference_to_a_part_is_written_as_it_is() {
    let org = Org::new().await;
    let id = org.create("Account", json!({"Name": "Acme"}));
    let connector = org.connect();
    let outcomes = apply(&connector, &accounts(&["Name"]), vec![update(&id, named("@{w0[0].id}"), named("Acme"))]).await;
    assert!(
        matches!(&outcomes[0], Outcome::Written { image: Some(image), .. } if image.get("Name") == Some(&Value::text("@{w0[0].id}")))
    );
}

fn named_json(name: &str) -> serde_json::Map<String, serde_json::Value> {
    json!({"Name": name}).as_object().unwrap().clone()
}

/// An org with a field for our keys, and a connector that fills it in.
async fn with_keys(options: serde_json::Value) -> (Org, concord_connectors::salesforce::SalesforceConnector) {
    let org = Org::new().await;
    let key = json!({"name": "Concord_Key__c", "type": "string", "length": 40, "externalId": true, "unique": true});
    let file = json!({"objects": [{"name": "Account", "fields": [key]}]});
    org.simulator.org.add_schema(&serde_json::from_value(file).unwrap()).unwrap();
    let secret = org.secret("client_secret", "simulated-secret");
    let connector = open(&org.connection(json!({"client_secret": secret}), options), None).unwrap();
    (org, connector)
}

async fn settling(org: &Org, settle_ms: u64) -> concord_connectors::salesforce::SalesforceConnector {
    let secret = org.secret("client_secret", "simulated-secret");
    open(&org.connection(json!({"client_secret": secret}), json!({"settle_ms": settle_ms})), None).unwrap()
}

async fn made(connector: &dyn Connector, images: Vec<Record>, since: Moment) -> Vec<Made> {
    let writes: Vec<Write> = (0..).zip(images).map(|(id, image)| Write { id, operation: create(image) }).collect();
    let made = connector.made(&accounts(&["Name", "Industry"]), &mark(7), since, &writes).await.unwrap();
    assert_eq!(made.len(), writes.len());
    made
}

fn lose(org: &Org, how: &str) {
    org.fault(json!({"on": {"method": "POST", "path": "/composite/sobjects"}, "do": how}));
}

#[tokio::test]
async fn creates_whose_answer_was_lost_are_found_by_what_was_made_since() {
    let org = Org::new().await;
    org.create("Account", json!({"Name": "Twin"}));
    let connector = org.connect();
    let images = || vec![named("Acme"), named("Twin"), named("Twin"), named(" Trimmed ")];
    let since = SystemClock.now();
    lose(&org, "answer_lost");
    let outcomes = apply(&connector, &accounts(&["Name"]), images().into_iter().map(create).collect()).await;
    assert!(outcomes.iter().all(|outcome| matches!(outcome, Outcome::Unknown)), "{outcomes:?}");
    let found = made(&connector, images(), since).await;
    let names: Vec<String> = found
        .iter()
        .map(|made| match made {
            Made::Yes(record) => text(record, "Name"),
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(names, ["Acme", "Twin", "Twin", "Trimmed"], "the Twin that a person made is not ours");
    let Made::Yes(one) = &found[1] else { panic!() };
    let Made::Yes(other) = &found[2] else { panic!() };
    assert_ne!(one.key, other.key);
}

#[tokio::test]
async fn a_create_that_never_arrived_counts_as_not_made_only_when_it_can_no_longer_come() {
    let org = Org::new().await;
    let connector = settling(&org, 3_000_000).await;
    let since = SystemClock.now();
    lose(&org, "cut");
    let outcomes = apply(&connector, &accounts(&["Name"]), vec![create(named("Acme"))]).await;
    assert!(matches!(outcomes[0], Outcome::Unknown));
    let found = made(&connector, vec![named("Acme")], since).await;
    assert!(matches!(found[0], Made::NotYet(wait) if !wait.is_zero()), "{found:?}");
    let connector = settling(&org, 1).await;
    assert!(matches!(made(&connector, vec![named("Acme")], since).await[0], Made::No));
}

/// A connection for which a person consents, and where that is kept.
async fn consented(org: &Org) -> (serde_json::Value, Arc<Shelf>) {
    let shelf = Arc::new(Shelf::default());
    shelf.give("crm_token", &org.refresh_token().await);
    (org.connection(json!({"refresh_token": {"secret": "crm_token"}}), json!({"settle_ms": 1})), shelf)
}

/// What the engine ends up with: asked again as long as it may still come.
async fn made_at_last(connector: &dyn Connector, images: &[Record], since: Moment) -> Vec<Made> {
    loop {
        let found = made(connector, images.to_vec(), since).await;
        match found.iter().find_map(|made| if let Made::NotYet(wait) = made { Some(*wait) } else { None }) {
            Some(wait) => tokio::time::sleep(wait).await,
            None => return found,
        }
    }
}

/// Somebody else consents.
async fn consents_as_another(org: &Org, shelf: &Shelf) {
    org.simulator.org.state().auth.apps[0].username = concord_simulators::salesforce::PERSON.into();
    shelf.give("crm_token", &org.refresh_token().await);
}

#[tokio::test]
async fn a_create_of_another_user_than_the_present_one_is_found_and_what_is_not_found_is_nobodys_to_say() {
    let org = Org::new().await;
    let (connection, shelf) = consented(&org).await;
    let connector = shelf.open(&connection).unwrap();
    let since = SystemClock.now();
    lose(&org, "answer_lost");
    apply(&connector, &accounts(&["Name"]), vec![create(named("Arrived"))]).await;
    lose(&org, "cut");
    apply(&connector, &accounts(&["Name"]), vec![create(named("Lost"))]).await;
    consents_as_another(&org, &shelf).await;
    let images = [named("Arrived"), named("Lost")];
    // In this life, and in one that begins now.
    for connector in [connector, shelf.open(&connection).unwrap()] {
        let found = made_at_last(&connector, &images, since).await;
        assert!(matches!(&found[0], Made::Yes(record) if text(record, "Name") == "Arrived"), "{found:?}");
        assert!(matches!(found[1], Made::Unsure), "the one who acts now need not see it: {found:?}");
    }
    // What this user sends is looked up as ever.
    let later = SystemClock.now();
    let found = made_at_last(&shelf.open(&connection).unwrap(), &images[1..], later).await;
    assert!(matches!(found[0], Made::No), "{found:?}");
}

#[tokio::test]
async fn what_could_be_one_of_several_or_something_else_is_left_to_a_person() {
    let rules = json!({"triggers": [{"object": "Account", "changed": ["Name"], "when": "Name = 'Bank'", "set": {"Industry": "Banking"}}]});
    let options = concord_simulators::salesforce::Options {
        rules: serde_json::from_value(rules).unwrap(),
        ..concord_simulators::salesforce::Options::default()
    };
    let org = Org::with(options).await;
    let connector = settling(&org, 1).await;
    let since = SystemClock.now();
    let bank = fields([("Name", Value::text("Bank")), ("Industry", Value::text("Energy")), ("Phone", Value::text("1"))]);
    apply(&connector, &accounts(&["Name"]), vec![create(named("Twin")), create(named("Twin")), create(bank.clone())]).await;
    let gone = org.records("Account")[0]["Id"].as_str().unwrap().to_owned();
    assert!(matches!(made(&connector, vec![named("Twin")], since).await[0], Made::Unsure), "one of two");
    assert!(matches!(made(&connector, vec![bank], since).await[0], Made::Unsure), "a trigger may have changed it");
    org.delete("Account", &gone);
    assert!(matches!(made(&connector, vec![named("Twin")], since).await[0], Made::Unsure), "one is left, one is deleted");
}

#[tokio::test]
async fn a_key_of_ours_makes_a_create_once_however_often_it_is_tried() {
    let (org, connector) = with_keys(json!({"external_ids": {"Account": "Concord_Key__c"}})).await;
    let since = SystemClock.now();
    assert!(matches!(made(&connector, vec![named("Acme")], since).await[0], Made::No), "a second one would be refused");
    lose(&org, "answer_lost");
    apply(&connector, &accounts(&["Name"]), vec![create(named("Acme"))]).await;
    let id = org.records("Account")[0]["Id"].as_str().unwrap().to_owned();
    org.update("Account", &id, json!({"Name": "renamed by a person"}));
    let found = made(&connector, vec![named("Acme")], since).await;
    assert!(matches!(&found[0], Made::Yes(record) if record.key == key(&id)), "{found:?}");
    let outcomes = apply(&connector, &accounts(&["Name"]), vec![create(named("Acme"))]).await;
    assert!(matches!(&outcomes[0], Outcome::Written { key: made, .. } if *made == key(&id)), "{outcomes:?}");
    assert_eq!(org.records("Account").len(), 1);
}

#[tokio::test]
async fn a_create_with_a_key_that_took_effect_and_was_deleted_since_is_left_to_a_person() {
    let (org, connector) = with_keys(json!({"external_ids": {"Account": "Concord_Key__c"}})).await;
    let since = SystemClock.now();
    lose(&org, "answer_lost");
    apply(&connector, &accounts(&["Name"]), vec![create(named("Acme"))]).await;
    let id = org.records("Account")[0]["Id"].as_str().unwrap().to_owned();
    org.delete("Account", &id);
    let found = made(&connector, vec![named("Acme")], since).await;
    assert!(matches!(found[0], Made::Unsure), "it would be made a second time: {found:?}");
    let later = Moment(since.micros() + 3_600_000_000);
    assert!(matches!(made(&connector, vec![named("Acme")], later).await[0], Made::No), "that was an earlier create");
}

#[tokio::test]
async fn a_field_that_cannot_hold_our_keys_is_refused_before_anything_is_written() {
    let (_org, connector) = with_keys(json!({"external_ids": {"Account": "Phone"}})).await;
    let error = connector.prepare(&[accounts(&["Name"])], &[]).await.unwrap_err();
    assert_eq!((error.code, error.class()), (Code::FieldMissing, Class::Stop), "{error}");
}

#[tokio::test]
async fn only_a_refusal_says_that_nothing_was_done() {
    let org = Org::new().await;
    let connector = org.connect();
    let answers = [(503, true), (500, true), (502, true), (408, true), (420, true), (406, true), (403, false), (429, false)];
    for (status, unknown) in answers {
        let answer = json!({"answer": {"status": status, "body": ""}});
        org.fault(json!({"on": {"method": "POST", "path": "/composite/sobjects"}, "do": answer}));
        let outcome = apply(&connector, &accounts(&["Name"]), vec![create(named("Acme"))]).await.remove(0);
        assert_eq!(matches!(outcome, Outcome::Unknown), unknown, "{status}: {outcome:?}");
    }
}

/// An org that refuses negative revenues, and a connector that loads more than 300 new records by a job.
async fn loading() -> (Org, concord_connectors::salesforce::SalesforceConnector) {
    let rules = json!({"validation": [{"object": "Account", "when": "AnnualRevenue < 0", "message": "Not below zero", "field": "AnnualRevenue"}]});
    let options = concord_simulators::salesforce::Options {
        rules: serde_json::from_value(rules).unwrap(),
        ..concord_simulators::salesforce::Options::default()
    };
    let org = Org::with(options).await;
    let secret = org.secret("client_secret", "simulated-secret");
    let options = json!({"bulk_above": 300, "settle_ms": 1});
    let connector = open(&org.connection(json!({"client_secret": secret}), options), None).unwrap();
    (org, connector)
}

#[tokio::test]
async fn very_many_new_records_are_made_by_one_job_and_each_has_its_outcome() {
    let (org, connector) = loading().await;
    let selection = accounts(&["Name", "Industry"]);
    let feed = prepared(&connector, &selection).await;
    let mut images: Vec<Record> = (0..1_000)
        .map(|n| fields([("Name", Value::text(format!("n{n}, \"quoted\"\nand more"))), ("Industry", Value::Null)]))
        .collect();
    images[120] = fields([("Name", Value::text("low")), ("AnnualRevenue", Value::Int(-1))]);
    images[250] = named(&"x".repeat(255));
    images[251] = named("twin");
    images[252] = named("twin");
    images[253] = named("#N/A");
    let before = org.requests("/services/data");
    let outcomes = apply(&connector, &selection, images.iter().cloned().map(create).collect()).await;
    let calls = org.requests("/services/data") - before;
    assert!(calls <= 13, "{calls} calls for 1,000 records");
    let mut ids = std::collections::BTreeSet::new();
    for (number, outcome) in outcomes.iter().enumerate() {
        match outcome {
            Outcome::Failed(error) => {
                assert_eq!((number, error.code), (120, Code::TargetRejected));
                assert!(error.message.contains("Not below zero"), "{error}");
            }
            Outcome::Written { key, image: Some(image), .. } => {
                assert_eq!(image.get("Name"), images[number].get("Name"));
                ids.insert(key.0[0].to_string());
            }
            other => panic!("{number}: {other:?}"),
        }
    }
    assert_eq!((ids.len(), org.records("Account").len()), (999, 999));
    let mut changes = connector.capture(&feed, &feed.position).await.unwrap();
    let seen = observations(&mut *changes, 999).await;
    assert!(seen.iter().all(|one| one.mark == Some(mark(7))), "each echo names us");
}

#[tokio::test]
async fn a_job_whose_results_cannot_be_read_leaves_nothing_unknown_for_good() {
    let (org, connector) = loading().await;
    let since = SystemClock.now();
    let images: Vec<Record> = (0..400).map(|n| named(&format!("n{n}"))).collect();
    org.fault(json!({"on": {"path": "successfulResults"}, "do": "cut"}));
    let outcomes = apply(&connector, &accounts(&["Name"]), images.iter().cloned().map(create).collect()).await;
    assert!(outcomes.iter().all(|outcome| matches!(outcome, Outcome::Unknown)), "{:?}", outcomes[0]);
    let found = made(&connector, images, since).await;
    assert!(found.iter().all(|made| matches!(made, Made::Yes(_))), "{:?}", found[0]);
}

#[tokio::test]
async fn a_job_that_has_not_begun_when_it_is_given_up_makes_nothing_later() {
    let (org, connector) = loading().await;
    let images = || -> Vec<Record> { (0..400).map(|n| named(&format!("n{n}"))).collect() };
    for (method, path) in [("POST", "/jobs/ingest"), ("PUT", "/batches")] {
        org.fault(json!({"on": {"method": method, "path": path}, "do": "answer_lost"}));
        let outcomes = apply(&connector, &accounts(&["Name"]), images().into_iter().map(create).collect()).await;
        assert!(
            outcomes.iter().all(|outcome| matches!(outcome, Outcome::Failed(error) if error.class() == Class::Transient)),
            "{:?}",
            outcomes[0]
        );
    }
    // An upload that was not closed for certain was closed, or is stopped: its state tells.
    org.fault(json!({"on": {"method": "PATCH", "path": "/jobs/ingest"}, "do": "answer_lost"}));
    let outcomes = apply(&connector, &accounts(&["Name"]), images().into_iter().map(create).collect()).await;
    assert!(outcomes.iter().all(|outcome| matches!(outcome, Outcome::Written { .. })), "{:?}", outcomes[0]);
    assert_eq!(org.records("Account").len(), 400);
}

#[tokio::test]
async fn what_a_job_may_still_make_is_not_counted_as_not_made() {
    let (org, connector) = loading().await;
    let since = SystemClock.now();
    org.simulator.org.state().jobs.held = true;
    let selection = accounts(&["Name"]);
    let operations = (0..400).map(|n| create(named(&format!("n{n}")))).collect();
    let under_way = apply(&connector, &selection, operations);
    tokio::pin!(under_way);
    while org.simulator.org.state().jobs.waiting.is_empty() {
        let step = tokio::time::timeout(std::time::Duration::from_millis(20), &mut under_way).await;
        assert!(step.is_err(), "the job is held");
    }
    let found = made(&connector, vec![named("n1")], since).await;
    assert!(matches!(found[0], Made::NotYet(_)), "{found:?}");
}

#[tokio::test]
async fn a_job_on_a_later_page_of_the_list_counts() {
    let (org, connector) = loading().await;
    let since = SystemClock.now();
    let selection = accounts(&["Name"]);
    let operations = |name: &'static str| (0..400).map(move |n| create(named(&format!("{name}{n}")))).collect();
    // A job that was not forgotten fills the first page.
    org.simulator.org.state().jobs.page = 1;
    org.fault(json!({"on": {"method": "DELETE", "path": "/jobs/ingest"}, "do": "unavailable"}));
    apply(&connector, &selection, operations("n")).await;
    org.simulator.org.state().jobs.held = true;
    let under_way = apply(&connector, &selection, operations("m"));
    tokio::pin!(under_way);
    while org.simulator.org.state().jobs.waiting.is_empty() {
        let step = tokio::time::timeout(std::time::Duration::from_millis(20), &mut under_way).await;
        assert!(step.is_err(), "the job is held");
    }
    let found = made(&connector, vec![named("m1")], since).await;
    assert!(matches!(found[0], Made::NotYet(_)), "{found:?}");
}

#[tokio::test]
async fn a_fence_waits_for_the_writes_of_its_own_object_only() {
    let (org, connector) = loading().await;
    let contacts = concord_engine::schema::Selection { object: "Contact".into(), fields: vec!["LastName".into()] };
    let feeds = connector.prepare(&[accounts(&["Name"]), contacts.clone()], &[]).await.unwrap();
    org.simulator.org.state().jobs.held = true;
    let selection = accounts(&["Name"]);
    let under_way = apply(&connector, &selection, (0..400).map(|n| create(named(&format!("n{n}")))).collect());
    tokio::pin!(under_way);
    while org.simulator.org.state().jobs.waiting.is_empty() {
        let step = tokio::time::timeout(std::time::Duration::from_millis(20), &mut under_way).await;
        assert!(step.is_err(), "the job is held");
    }
    let waits = connector.fence(&feeds[0].name);
    tokio::pin!(waits);
    assert!(tokio::time::timeout(std::time::Duration::from_millis(100), &mut waits).await.is_err(), "a write is under way");
    let passes = tokio::time::timeout(PATIENCE, connector.fence(&feeds[1].name)).await;
    assert!(passes.is_ok(), "of another object");
    let writes = apply(&connector, &contacts, vec![create(fields([("LastName", Value::text("Berg"))]))]);
    let outcomes = tokio::time::timeout(PATIENCE, writes).await.expect("nor does a write wait behind that fence");
    assert!(matches!(outcomes[0], Outcome::Written { .. }), "{outcomes:?}");
    let writes = apply(&connector, &selection, vec![create(named("meanwhile"))]);
    let outcomes = tokio::time::timeout(PATIENCE, writes).await.expect("nor does one to the same object");
    assert!(matches!(outcomes[0], Outcome::Written { .. }), "{outcomes:?}");
    assert!(tokio::time::timeout(std::time::Duration::from_millis(100), &mut waits).await.is_err(), "the first write goes on");
}

#[tokio::test]
async fn records_that_no_job_takes_are_made_by_calls() {
    let (org, connector) = loading().await;
    let body = json!([{"errorCode": "INVALIDENTITY", "message": "Entity 'Account' is not supported by the Bulk API."}]);
    let answer = json!({"answer": {"status": 400, "body": body.to_string()}});
    org.fault(json!({"on": {"method": "POST", "path": "/jobs/ingest"}, "times": null, "do": answer}));
    let operations = (0..400).map(|n| create(named(&format!("n{n}")))).collect();
    let outcomes = apply(&connector, &accounts(&["Name"]), operations).await;
    assert!(outcomes.iter().all(|outcome| matches!(outcome, Outcome::Written { .. })), "{:?}", outcomes[0]);
    assert_eq!(org.records("Account").len(), 400);
}

#[tokio::test]
async fn a_duplicate_of_which_no_field_is_named_is_looked_into() {
    let (org, connector) = with_keys(json!({"external_ids": {"Account": "Concord_Key__c"}})).await;
    let selection = accounts(&["Name"]);
    apply(&connector, &selection, vec![create(named("Acme"))]).await;
    let id = org.records("Account")[0]["Id"].as_str().unwrap().to_owned();
    let words = |field: &str| format!("duplicate value found: {field} duplicates value on record with id: {id}");
    let refuse = |field: &str| {
        let error = json!({"record_error": {"code": "DUPLICATE_VALUE", "message": words(field)}});
        org.fault(json!({"on": {"object": "Account"}, "do": error}));
    };
    for field in ["Concord_Key__c", "<unknown>"] {
        refuse(field);
        let outcomes = apply(&connector, &selection, vec![create(named("Acme"))]).await;
        assert!(matches!(&outcomes[0], Outcome::Written { key: made, .. } if *made == key(&id)), "{field}: {outcomes:?}");
    }
    // Of the next write nothing was made before: another value was in its way.
    let another = |absent_by: Vec<concord_engine::record::FieldName>| Write {
        id: 77,
        operation: Operation::Create { image: named("Bolt"), absent_by },
    };
    let outcome_of = async |write: Write| {
        let results = connector.apply(&selection, &mark(7), &[write]).await.unwrap();
        results.into_iter().next().unwrap().outcome
    };
    refuse("<unknown>");
    let outcome = outcome_of(another(vec![])).await;
    assert!(matches!(&outcome, Outcome::Failed(error) if error.class() == Class::Rejected), "{outcome:?}");
    for field in ["<unknown>", "Name"] {
        refuse(field);
        let outcome = outcome_of(another(vec!["Name".into()])).await;
        assert!(matches!(outcome, Outcome::Collision), "{field}: {outcome:?}");
    }
    refuse("Other__c");
    let outcome = outcome_of(another(vec!["Name".into()])).await;
    assert!(matches!(outcome, Outcome::Failed(_)), "{outcome:?}");
    assert_eq!(org.records("Account").len(), 1);
}
