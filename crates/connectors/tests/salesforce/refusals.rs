//! What the org refuses, each with the code that says what follows: for one record alone, or for everything.

use crate::support::*;
use concord_engine::connector::{Operation, Outcome};
use concord_engine::error::{Class, Code, Error};
use concord_engine::record::Record;
use concord_engine::value::Value;
use serde_json::json;

fn named(name: &str) -> Record {
    fields([("Name", Value::text(name))])
}

/// An org with rules of an administrator's, and a record.
async fn ruled() -> (Org, String) {
    let rules = json!({
        "duplicates": [{"object": "Account", "fields": ["Phone"], "block": true}],
        "triggers": [{"object": "Account", "when": "Industry = 'Banking'", "fail": "Banks are made by Finance"}],
    });
    let options = concord_simulators::salesforce::Options {
        rules: serde_json::from_value(rules).unwrap(),
        ..concord_simulators::salesforce::Options::default()
    };
    let org = Org::with(options).await;
    let id = org.create("Account", json!({"Name": "there", "Phone": "1"}));
    (org, id)
}

/// A create and an update with these fields, and what became of them.
async fn refused(org: &Org, id: &str, image: Record) -> Vec<Error> {
    let set = Operation::Update { key: key(id), set: image.clone(), guard: Record::new() };
    let operations = vec![create(image), set, create(named("beside it"))];
    let outcomes = apply(&org.connect(), &accounts(&["Name", "Phone", "Industry", "ParentId"]), operations).await;
    assert!(matches!(outcomes.last(), Some(Outcome::Written { .. })), "the others are written: {outcomes:?}");
    let failed = |outcome| match outcome {
        Outcome::Failed(error) => Some(error),
        _ => None,
    };
    outcomes.into_iter().filter_map(failed).collect()
}

#[tokio::test]
async fn what_rules_references_and_automations_refuse_waits_by_itself_with_its_code() {
    let (org, id) = ruled().await;
    let other = org.create("Account", json!({"Name": "other"}));
    let with = |field: &'static str, value: &str| fields([("Name", Value::text("x")), (field, Value::text(value))]);
    for (image, code, words) in [
        (with("Phone", "1"), Code::HostedDuplicateRule, "DUPLICATES_DETECTED"),
        (with("ParentId", "001000000000099AAA"), Code::HostedReferenceUnknown, "INVALID_CROSS_REFERENCE_KEY"),
        (with("Industry", "Banking"), Code::HostedAutomationFailed, "Banks are made by Finance"),
    ] {
        let errors = refused(&org, &other, image).await;
        assert_eq!(errors.len(), 2, "the create and the update: {errors:#?}");
        for error in errors {
            assert_eq!((error.code, error.class()), (code, Class::Rejected), "{error}");
            assert!(error.message.contains(words), "{error}");
        }
    }
    assert_eq!(org.records("Account").iter().find(|one| one["Id"] == json!(id)).unwrap()["Name"], json!("there"));
}

#[tokio::test]
async fn what_the_org_says_of_a_record_has_one_code_whichever_words_it_takes() {
    let (org, id) = ruled().await;
    for (said, code, class) in [
        ("STORAGE_LIMIT_EXCEEDED", Code::HostedStorageFull, Class::Stop),
        ("DUPLICATES_DETECTED", Code::HostedDuplicateRule, Class::Rejected),
        ("INVALID_FIELD_FOR_INSERT_UPDATE", Code::HostedFieldRefused, Class::Rejected),
        ("INVALID_FIELD", Code::HostedFieldRefused, Class::Rejected),
        ("INVALID_CROSS_REFERENCE_KEY", Code::HostedReferenceUnknown, Class::Rejected),
        ("INSUFFICIENT_ACCESS_ON_CROSS_REFERENCE_ENTITY", Code::HostedReferenceUnknown, Class::Rejected),
        ("CANNOT_INSERT_UPDATE_ACTIVATE_ENTITY", Code::HostedAutomationFailed, Class::Rejected),
        ("CANNOT_EXECUTE_FLOW_TRIGGER", Code::HostedAutomationFailed, Class::Rejected),
        ("INSUFFICIENT_ACCESS_OR_READONLY", Code::HostedRecordDenied, Class::Rejected),
    ] {
        let refusal = json!({"record_error": {"code": said, "message": "so it is"}});
        org.fault(json!({"on": {"object": "Account", "id": id}, "do": refusal}));
        let set = Operation::Update { key: key(&id), set: named("changed"), guard: Record::new() };
        let outcomes = apply(&org.connect(), &accounts(&["Name"]), vec![set, create(named(said))]).await;
        let [Outcome::Failed(error), Outcome::Written { .. }] = outcomes.as_slice() else { panic!("{said}: {outcomes:?}") };
        assert_eq!((error.code, error.class()), (code, class), "{error}");
        assert!(error.message.contains(said), "{error}");
    }
    assert_eq!(org.records("Account").iter().find(|one| one["Id"] == json!(id)).unwrap()["Name"], json!("there"));
}
