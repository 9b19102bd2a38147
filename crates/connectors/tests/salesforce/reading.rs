//! Reading: schemas, records by key and by value, and snapshots.

use crate::support::*;
use concord_engine::config::ChangeDetection;
use concord_engine::connector::{ChunkCursor, Connector, Presence, Severity};
use concord_engine::error::Code;
use concord_engine::record::Key;
use concord_engine::schema::Type;
use concord_engine::value::Value;
use serde_json::json;

#[tokio::test]
async fn a_schema_says_what_can_be_written_and_shows_compounds_by_their_parts() {
    let org = Org::new().await;
    let schema = org.connect().schema(&"Account".into()).await.unwrap();
    assert_eq!(schema.key, ["Id".into()]);
    let field = |name: &str| schema.field(name).unwrap_or_else(|| panic!("no {name}"));
    assert!(field("Name").creatable && !field("Name").nullable);
    assert!(!field("Id").creatable && !field("LastModifiedDate").updatable && field("LastModifiedDate").has_default);
    assert_eq!(field("AnnualRevenue").ty, Type::Decimal { precision: Some(18), scale: Some(0), special: false });
    assert_eq!(field("LastModifiedDate").ty, Type::TimestampTz { fraction_digits: 0 });
    assert!(schema.field("BillingAddress").is_none() && schema.field("BillingStreet").is_some());
    let missing = org.connect().schema(&"Nothing".into()).await.unwrap_err();
    assert_eq!(missing.code, Code::ObjectMissing);
}

#[tokio::test]
async fn records_are_read_by_key_in_the_order_asked_whatever_the_form_of_the_id() {
    let org = Org::new().await;
    let acme = org.create("Account", json!({"Name": "Acme", "AnnualRevenue": 350_000_000, "Description": "two\nlines"}));
    let gone = org.create("Account", json!({"Name": "Gone"}));
    org.delete("Account", &gone);
    let connector = org.connect();
    let selection = accounts(&["Name", "AnnualRevenue", "Description", "Industry", "LastModifiedDate"]);
    let nonsense = Key(vec![Value::text("not an id")]);
    let found = connector.read(&selection, &[key(&gone), nonsense, key(&acme[..15])]).await.unwrap();
    assert!(matches!(found[0], Presence::Absent { .. }) && matches!(found[1], Presence::Absent { .. }));
    let Presence::Present(shown) = &found[2] else { panic!("{found:?}") };
    assert_eq!(shown.key, key(&acme));
    let record = shown.image.record().unwrap();
    assert!(record.get("AnnualRevenue").unwrap().equivalent(&Value::Int(350_000_000)));
    assert_eq!(record.get("Description"), Some(&Value::text("two\nlines")));
    assert_eq!(record.get("Industry"), Some(&Value::Null));
    assert!(matches!(record.get("LastModifiedDate"), Some(Value::TimestampTz(_))));
}

#[tokio::test]
async fn a_record_that_is_not_shared_with_us_is_not_called_gone_and_one_that_was_purged_is() {
    let org = Org::new().await;
    let [hidden, binned, purged] = ["hidden", "binned", "purged"].map(|name| org.create("Account", json!({"Name": name})));
    org.simulator.person().hide("Account", org.id(&hidden), true).unwrap();
    org.delete("Account", &binned);
    org.simulator.person().hard_delete("Account", org.id(&purged)).unwrap();
    let connector = org.connect();
    let selection = accounts(&["Name"]);
    let found = connector.read(&selection, &[key(&hidden), key(&binned), key(&purged), key(&hidden)]).await.unwrap();
    for place in [0, 3] {
        let Presence::Forbidden(error) = &found[place] else { panic!("{found:?}") };
        assert_eq!(error.code, Code::HostedRecordDenied);
    }
    assert!(matches!(found[1], Presence::Absent { .. }) && matches!(found[2], Presence::Absent { .. }), "{found:?}");
    assert_eq!((org.requests("/queryAll"), org.requests("/deleted")), (1, 1), "a call for the bin, and one for what was purged");
    org.simulator.person().hide("Account", org.id(&hidden), false).unwrap();
    let found = connector.read(&selection, &[key(&hidden)]).await.unwrap();
    assert!(matches!(&found[0], Presence::Present(shown) if text(shown, "Name") == "hidden"), "{found:?}");
    assert_eq!((org.requests("/queryAll"), org.requests("/deleted")), (1, 1), "what is shown costs no further call");
}

#[tokio::test]
async fn records_are_found_by_values_with_their_case_and_with_quotes() {
    let org = Org::new().await;
    for name in ["O'Neil \\ Co", "acme", "ACME", "Acme"] {
        org.create("Account", json!({"Name": name, "AnnualRevenue": 1}));
    }
    let connector = org.connect();
    let by = ["Name".into(), "AnnualRevenue".into()];
    let row = |name: &str| vec![Value::text(name), Value::Int(1)];
    let rows = [row("O'Neil \\ Co"), row("Acme"), row("nobody"), vec![Value::text("acme"), Value::Null]];
    let found = connector.find(&accounts(&["Name"]), &by, &rows, 2).await.unwrap();
    let counts: Vec<usize> = found.iter().map(Vec::len).collect();
    assert_eq!(counts, [1, 1, 0, 0]);
    assert_eq!(text(&found[1][0], "Name"), "Acme");
    let refused = connector.find(&accounts(&["Name"]), &["Description".into()], &[vec![Value::text("x")]], 2).await;
    assert_eq!(refused.unwrap_err().code, Code::Unsupported);
}

#[tokio::test]
async fn a_snapshot_goes_on_behind_its_cursor_and_shows_each_record_once() {
    let org = Org::new().await;
    let records: Vec<_> = (0..57).map(|number| json!({"Name": format!("n{number}")}).as_object().unwrap().clone()).collect();
    org.simulator.person().create_all("Account", &records).unwrap();
    let (mut cursor, mut names) = (ChunkCursor::default(), Vec::new());
    loop {
        // A connector of its own each time, as after a restart.
        let chunk = org.connect().snapshot(&accounts(&["Name"]), &cursor, 20).await.unwrap();
        names.extend(chunk.records.iter().map(|one| text(one, "Name")));
        match chunk.next {
            Some(next) => cursor = next,
            None => break,
        }
    }
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), 57);
}

#[tokio::test]
async fn check_finds_an_object_that_no_event_tells_of_and_says_where_to_switch_it_on() {
    let org = Org::new().await;
    let connector = org.connect_asking(ChangeDetection::LogBased, 60_000);
    let findings = connector.check(&["Account".into(), "User".into()]).await.unwrap();
    let problems: Vec<_> = findings.iter().filter(|finding| finding.severity == Severity::Problem).collect();
    assert_eq!(problems.len(), 1, "{findings:#?}");
    assert_eq!((problems[0].about.as_str(), problems[0].code), ("User", Some(Code::HostedEventsOff)));
    assert!(problems[0].remedy.contains("Change Data Capture"));
    assert!(findings.iter().any(|finding| finding.message.contains("API calls")));
}

#[tokio::test]
async fn a_large_object_is_read_by_a_job_and_shows_the_same() {
    let org = Org::new().await;
    let records: Vec<_> = (0..57)
        .map(|number| {
            let text = format!("n{number}, \"quoted\"\nand more");
            json!({"Name": format!("n{number}"), "Description": text, "AnnualRevenue": number}).as_object().unwrap().clone()
        })
        .collect();
    org.simulator.person().create_all("Account", &records).unwrap();
    let secret = org.secret("client_secret", "simulated-secret");
    let fields = ["Name", "Description", "AnnualRevenue", "Industry", "LastModifiedDate", "ParentId"];
    let mut shown = Vec::new();
    for above in [10, 1_000] {
        let connector = open(&org.connection(json!({"client_secret": secret}), json!({"bulk_above": above})), None).unwrap();
        let (mut cursor, mut found) = (ChunkCursor::default(), Vec::new());
        loop {
            let chunk = connector.snapshot(&accounts(&fields), &cursor, 20).await.unwrap();
            found.extend(chunk.records.into_iter().map(|one| (one.key.to_string(), one.image.record().unwrap().clone())));
            match chunk.next {
                Some(next) => cursor = next,
                None => break,
            }
        }
        found.sort_by(|(a, _), (b, _)| a.cmp(b));
        shown.push(found);
    }
    assert_eq!(shown[0].len(), 57);
    assert_eq!(shown[0], shown[1]);
    assert!(org.requests("/jobs/query") >= 4);
}

#[tokio::test]
async fn a_job_that_comes_to_nothing_is_no_loss() {
    let org = Org::new().await;
    for number in 0..12 {
        org.create("Account", json!({"Name": format!("n{number}")}));
    }
    let secret = org.secret("client_secret", "simulated-secret");
    let connector = open(&org.connection(json!({"client_secret": secret}), json!({"bulk_above": 10})), None).unwrap();
    org.fault(json!({"on": {"method": "GET", "path": "/jobs/query/"}, "do": {"answer": {"status": 404, "body": "[]"}}}));
    let (mut cursor, mut count) = (ChunkCursor::default(), 0);
    loop {
        let chunk = connector.snapshot(&accounts(&["Name"]), &cursor, 5).await.unwrap();
        count += chunk.records.len();
        match chunk.next {
            Some(next) => cursor = next,
            None => break,
        }
    }
    assert_eq!(count, 12);
}

#[tokio::test]
async fn what_no_job_reads_is_read_by_queries_and_what_cannot_be_counted_in_time_by_a_job() {
    let org = Org::new().await;
    for number in 0..12 {
        org.create("Account", json!({"Name": format!("n{number}")}));
    }
    let connector = org.connect_with(json!({"bulk_above": 10}));
    let read_all = async || {
        let (mut cursor, mut count) = (ChunkCursor::default(), 0);
        loop {
            let chunk = connector.snapshot(&accounts(&["Name"]), &cursor, 5).await.unwrap();
            count += chunk.records.len();
            match chunk.next {
                Some(next) => cursor = next,
                None => break count,
            }
        }
    };
    let refusal =
        |code: &str| json!({"answer": {"status": 400, "body": json!([{"errorCode": code, "message": ""}]).to_string()}});
    org.fault(json!({"on": {"method": "POST", "path": "/jobs/query"}, "do": refusal("INVALIDENTITY")}));
    assert_eq!(read_all().await, 12);
    assert_eq!(org.requests("/jobs/query/"), 0);
    org.fault(json!({"on": {"path": "COUNT"}, "do": refusal("QUERY_TIMEOUT")}));
    assert_eq!(read_all().await, 12);
    assert!(org.requests("/jobs/query/") > 0);
}

#[tokio::test]
async fn a_value_that_very_many_records_share_is_searched_in_bounded_pages() {
    let org = Org::new().await;
    let shared: Vec<_> = (0..2_300).map(|_| json!({"Name": "acme"}).as_object().unwrap().clone()).collect();
    org.simulator.person().create_all("Account", &shared).unwrap();
    let acme = org.create("Account", json!({"Name": "Acme"}));
    let connector = org.connect();
    let find = async |name: &str, limit| {
        let found = connector.find(&accounts(&["Name"]), &["Name".into()], &[vec![Value::text(name)]], limit).await.unwrap();
        found.into_iter().next().unwrap()
    };
    let found = find("Acme", 2).await;
    assert_eq!(found.iter().map(|one| &one.key).collect::<Vec<_>>(), [&key(&acme)], "behind 2,300 of another case");
    let before = org.requests("/query");
    assert_eq!(find("acme", 2).await.len(), 2);
    assert_eq!(org.requests("/query") - before, 1, "two are enough");
}

#[tokio::test]
async fn what_is_read_comes_compressed() {
    let org = Org::new().await;
    let name = |number: usize| format!("account {number} of a long list of accounts");
    let records: Vec<_> = (0..300).map(|number| json!({"Name": name(number)}).as_object().unwrap().clone()).collect();
    org.simulator.person().create_all("Account", &records).unwrap();
    let selection = accounts(&["Name"]);
    // By a job, and by queries.
    for bulk_above in [100, 2_000] {
        let before = org.simulator.org.journal.since(0).last().map_or(0, |entry| entry.number);
        let connector = org.connect_with(json!({"bulk_above": bulk_above}));
        let (mut cursor, mut names) = (ChunkCursor::default(), Vec::new());
        loop {
            let chunk = connector.snapshot(&selection, &cursor, 1_000).await.unwrap();
            names.extend(chunk.records.iter().map(|one| text(one, "Name")));
            match chunk.next {
                Some(next) => cursor = next,
                None => break,
            }
        }
        names.sort();
        let mut expected: Vec<String> = (0..300).map(name).collect();
        expected.sort();
        assert_eq!(names, expected);
        let answers = org.simulator.org.journal.since(before);
        let read: Vec<_> = answers.iter().filter(|entry| entry.path.contains("/query") && entry.answer_bytes > 0).collect();
        assert!(!read.is_empty() && read.iter().all(|entry| entry.answer_coding == "gzip"), "{read:#?}");
        let whole: usize = expected.iter().map(String::len).sum();
        let sent: usize = read.iter().map(|entry| entry.answer_bytes).sum();
        assert!(sent < whole, "{sent} bytes for names of {whole}");
    }
}
