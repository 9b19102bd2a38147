//! The search for matches: each value once, and few calls however many records are looked for.

use crate::support::*;
use concord_engine::connector::{Connector, Operation, Outcome, Write};
use concord_engine::error::{Class, Code};
use concord_engine::record::FieldName;
use concord_engine::schema::Selection;
use concord_engine::value::Value;
use concord_simulators::salesforce::Limit;
use serde_json::json;

fn contacts() -> Selection {
    Selection { object: "Contact".into(), fields: vec!["LastName".into(), "Email".into()] }
}

fn by_email() -> [FieldName; 1] {
    ["Email".into()]
}

fn address(number: usize) -> String {
    format!("somebody.{number}@a-company.example")
}

/// Each value as it is and smoothed out, as the engine asks for it.
fn rows(addresses: &[String]) -> Vec<Vec<Value>> {
    addresses.iter().flat_map(|address| [address.clone(), address.to_lowercase()]).map(|one| vec![Value::text(one)]).collect()
}

fn create(number: usize) -> Write {
    let image = fields([("LastName", Value::text(format!("n{number}"))), ("Email", Value::text(address(number)))]);
    Write { id: u64::try_from(number).unwrap(), operation: Operation::Create { image, absent_by: vec!["Email".into()] } }
}

#[tokio::test]
async fn a_thousand_records_are_matched_and_made_in_few_calls() {
    let org = Org::new().await;
    let known = org.create("Contact", json!({"LastName": "known", "Email": address(7)}));
    let connector = org.connect();
    connector.schema(&"Contact".into()).await.unwrap();
    let before = org.requests("/services/data");
    let all: Vec<String> = (0..1_000).map(address).collect();
    for part in all.chunks(500) {
        let asked = rows(part);
        let found = connector.find_for_load(&contacts(), &by_email(), &asked, 5).await.unwrap();
        assert_eq!(found.len(), asked.len());
        for (row, found) in asked.iter().zip(found) {
            let keys: Vec<_> = found.iter().map(|one| one.key.clone()).collect();
            let expected = if row[0] == Value::text(address(7)) { vec![key(&known)] } else { vec![] };
            assert_eq!(keys, expected, "{row:?}");
        }
    }
    let writes: Vec<Write> = (0..1_000).map(create).collect();
    let made = connector.load(&contacts(), &mark(1), &writes).await.unwrap();
    let collided: Vec<u64> = made.iter().filter(|one| matches!(one.outcome, Outcome::Collision)).map(|one| one.id).collect();
    assert_eq!(collided, [7], "what is there is not made again");
    assert_eq!(made.iter().filter(|one| matches!(one.outcome, Outcome::Written { .. })).count(), 999);
    let calls = org.requests("/services/data") - before;
    assert!(calls <= 6, "{calls} calls for 1,000 records");
}

#[tokio::test]
async fn values_that_fill_several_queries_are_each_found_whatever_is_in_them() {
    let org = Org::new().await;
    let odd = ["O'Neil \\ Co", "@{q0.records[0].Id}", "100% & more; ?q=1"];
    let ids: Vec<String> = odd.iter().map(|name| org.create("Account", json!({"Name": name}))).collect();
    let last = org.create("Account", json!({"Name": "the last one of all"}));
    let connector = org.connect();
    connector.schema(&"Account".into()).await.unwrap();
    let filler = (0..6_000).map(|n| format!("{} {n}", "a company of a long name ".repeat(2)));
    let names = odd.iter().map(|name| (*name).to_owned()).chain(filler).chain(["the last one of all".to_owned()]);
    let values: Vec<Vec<Value>> = names.map(|name| vec![Value::text(name)]).collect();
    let before = org.requests("/services/data");
    let found = connector.find(&accounts(&["Name"]), &["Name".into()], &values, 2).await.unwrap();
    let calls = org.requests("/services/data") - before;
    assert!((2..=3).contains(&calls), "{calls} calls, of several queries each");
    let keys: Vec<_> = found.iter().flatten().map(id_of).collect();
    assert_eq!(keys, [ids, vec![last]].concat());
    assert_eq!(found[..3].iter().map(Vec::len).collect::<Vec<_>>(), [1, 1, 1]);
}

#[tokio::test]
async fn a_query_of_several_that_is_refused_is_an_error_and_not_an_absence() {
    let org = Org::new().await;
    let connector = org.connect();
    connector.schema(&"Account".into()).await.unwrap();
    let values: Vec<Vec<Value>> = (0..2_000).map(|n| vec![Value::text(format!("a company of a name {n}"))]).collect();
    let refusal = json!([{"errorCode": "QUERY_TOO_COMPLICATED", "message": "too long"}]);
    let one = |status: u16, body: serde_json::Value| json!({"httpStatusCode": status, "httpHeaders": {}, "referenceId": "q", "body": body});
    let empty = json!({"totalSize": 0, "done": true, "records": []});
    let body = json!({"compositeResponse": [one(200, empty.clone()), one(400, refusal)]}).to_string();
    org.fault(json!({"on": {"path": "/composite"}, "do": {"answer": {"status": 200, "body": body}}}));
    let error = connector.find(&accounts(&["Name"]), &["Name".into()], &values, 2).await.unwrap_err();
    assert!(error.to_string().contains("QUERY_TOO_COMPLICATED") || error.message.contains("too long"), "{error}");
    let body = json!({"compositeResponse": [one(200, empty)]}).to_string();
    org.fault(json!({"on": {"path": "/composite"}, "do": {"answer": {"status": 200, "body": body}}}));
    let error = connector.find(&accounts(&["Name"]), &["Name".into()], &values, 2).await.unwrap_err();
    assert_eq!(error.code, Code::ProtocolViolation, "an answer is missing");
    assert!(connector.find(&accounts(&["Name"]), &["Name".into()], &values, 2).await.unwrap().iter().all(Vec::is_empty));
}

#[tokio::test]
async fn while_calls_are_short_a_first_load_is_not_matched_and_what_people_make_is() {
    let org = Org::new().await;
    let connector = org.connect();
    let now_ms = org.simulator.org.clock.now_ms();
    assert!(org.simulator.org.state().limits.take(Limit::DailyApiRequests, 85_000, now_ms));
    connector.count(&"Contact".into()).await.unwrap();
    connector.schema(&"Contact".into()).await.unwrap();
    let asked = rows(&[address(1)]);
    let calls = org.requests("/services/data");
    let error = connector.find_for_load(&contacts(), &by_email(), &asked, 5).await.unwrap_err();
    assert_eq!((error.code, error.class()), (Code::HostedAllowanceUsed, Class::Throttled));
    assert_eq!(org.requests("/services/data"), calls, "nothing was asked");
    connector.find(&contacts(), &by_email(), &asked, 5).await.unwrap();
}
