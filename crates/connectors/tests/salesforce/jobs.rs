//! Jobs of Bulk API that take their time, or break in the middle: each record has an outcome of its own, and nothing is read
//! twice or left out.

use crate::support::*;
use concord_connectors::salesforce::SalesforceConnector;
use concord_engine::clock::{Clock, SystemClock};
use concord_engine::connector::{ChunkCursor, Connector, Made, Operation, Outcome, Write};
use concord_engine::error::{Class, Code};
use concord_engine::schema::Selection;
use concord_engine::value::Value;
use serde_json::json;
use std::collections::BTreeSet;
use std::time::Duration;

fn named(number: usize) -> Operation {
    create(fields([("Name", Value::text(format!("n{number}")))]))
}

#[tokio::test]
async fn of_a_job_that_breaks_in_the_middle_each_record_has_the_outcome_that_it_had() {
    let org = Org::with(concord_simulators::salesforce::Options {
        rules: serde_json::from_value(
            json!({"validation": [{"object": "Account", "when": "Name = 'n7'", "message": "Not seven", "field": "Name"}]}),
        )
        .unwrap(),
        ..Default::default()
    })
    .await;
    let connector = org.connect_with(json!({"bulk_above": 100}));
    let selection = accounts(&["Name"]);
    org.fault(json!({"on": {"path": "jobs/ingest"}, "do": {"job_breaks": {"after": 250}}}));
    let outcomes = apply(&connector, &selection, (0..600).map(named).collect()).await;
    let (mut made, mut undone) = (0, 0);
    for (number, outcome) in outcomes.iter().enumerate() {
        match outcome {
            Outcome::Written { .. } => made += 1,
            Outcome::Failed(error) if number == 7 => assert_eq!(error.code, Code::TargetRejected, "{error}"),
            Outcome::Failed(error) => {
                // It is tried again, which costs nobody a double: nothing was done.
                assert_eq!((error.class(), error.code), (Class::Transient, Code::Unreachable), "{error}");
                undone += 1;
            }
            other => panic!("{number}: {other:?}"),
        }
    }
    assert_eq!((made, undone), (249, 350));
    let names: BTreeSet<String> = org.records("Account").iter().map(|one| one["Name"].as_str().unwrap().to_owned()).collect();
    assert_eq!(names.len(), 249);
    for (number, outcome) in outcomes.iter().enumerate() {
        assert_eq!(matches!(outcome, Outcome::Written { .. }), names.contains(&format!("n{number}")), "{number}");
    }
}

/// An org with accounts enough for a job.
async fn with_accounts(count: usize) -> (Org, SalesforceConnector, Selection) {
    let org = Org::new().await;
    for number in 0..count {
        org.create("Account", json!({"Name": format!("n{number}")}));
    }
    let connector = org.connect_with(json!({"bulk_above": 10}));
    (org, connector, accounts(&["Name"]))
}

/// Everything that is read, chunk by chunk; how often a chunk brought nothing.
async fn all(connector: &SalesforceConnector, selection: &Selection) -> (Vec<String>, usize) {
    let (mut names, mut empty, mut next) = (Vec::new(), 0, Some(ChunkCursor::default()));
    while let Some(from) = next {
        let chunk = connector.snapshot(selection, &from, 20).await.unwrap();
        empty += usize::from(chunk.records.is_empty());
        names.extend(chunk.records.iter().map(|one| text(one, "Name")));
        next = chunk.next;
    }
    names.sort();
    (names, empty)
}

fn expected(count: usize) -> Vec<String> {
    let mut names: Vec<String> = (0..count).map(|number| format!("n{number}")).collect();
    names.sort();
    names
}

#[tokio::test]
async fn a_job_that_reads_is_waited_for_while_it_works() {
    let (org, connector, selection) = with_accounts(50).await;
    org.fault(json!({"on": {"path": "jobs/query"}, "do": {"job_rests": {"after": 0, "ms": 700}}}));
    let began = std::time::Instant::now();
    let (names, _) = all(&connector, &selection).await;
    assert!(began.elapsed() >= Duration::from_millis(700));
    assert_eq!(names, expected(50));
    let looks = org
        .simulator
        .org
        .journal
        .since(0)
        .iter()
        .filter(|one| one.method == "GET" && one.path.contains("jobs/query/") && !one.path.contains("results"))
        .count();
    assert!((3..=8).contains(&looks), "{looks} looks in 700 ms");
}

#[tokio::test]
async fn a_job_that_reads_and_fails_is_no_loss() {
    let (org, connector, selection) = with_accounts(50).await;
    org.fault(json!({"on": {"path": "jobs/query"}, "do": {"job_breaks": {"after": 0}}}));
    let (names, _) = all(&connector, &selection).await;
    assert_eq!(names, expected(50), "by ordinary queries");
    assert_eq!(org.requests("/results"), 0);
    let queries = org.simulator.org.journal.since(0).iter().filter(|entry| entry.path.ends_with("/query")).count();
    assert!(queries >= 4, "counted, and read in pages: {queries}");
}

// Another program fills a job of its own for as long as it likes: nothing of ours is in it, and nothing of ours ends it.
#[tokio::test]
async fn a_job_that_another_program_of_our_user_has_open_is_left_open_and_not_waited_for() {
    let org = Org::new().await;
    let connector = org.connect_with(json!({"settle_ms": 1}));
    let since = SystemClock.now();
    let job = json!({"object": "Account", "operation": "insert", "contentType": "CSV", "lineEnding": "LF"});
    let job = org.post_as_the_integration("jobs/ingest", job).await["id"].as_str().unwrap().to_owned();
    org.fault(json!({"on": {"method": "POST", "path": "/composite/sobjects"}, "do": "cut"}));
    let outcomes = apply(&connector, &accounts(&["Name"]), vec![named(1)]).await;
    assert!(matches!(outcomes[0], Outcome::Unknown), "{outcomes:?}");
    let lost = [Write { id: 0, operation: named(1) }];
    let made = async {
        loop {
            let made = connector.made(&accounts(&["Name"]), &mark(7), since, &lost).await.unwrap().remove(0);
            match made {
                // The call that was lost may still come, for a moment.
                Made::NotYet(wait) if wait < Duration::from_secs(1) => tokio::time::sleep(wait).await,
                made => break made,
            }
        }
    };
    let made = tokio::time::timeout(PATIENCE, made).await.unwrap();
    assert!(matches!(made, Made::No), "{made:?}");
    assert!(org.requests("/jobs/ingest") >= 2, "the jobs were looked at");
    let state = org.simulator.org.state();
    let stage = state.jobs.ingest.values().find(|one| one.id.to_string() == job).unwrap().stage;
    assert_eq!(format!("{stage:?}"), "Open");
}
