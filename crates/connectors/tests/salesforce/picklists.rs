//! Restricted picklists: what they do not take, and what was added to them meanwhile.

use crate::support::*;
use concord_engine::connector::{Connector, Outcome};
use concord_engine::error::Code;
use concord_engine::schema::Type;
use concord_engine::value::Value;
use serde_json::json;

#[tokio::test]
async fn a_restricted_picklist_is_a_text_and_what_it_does_not_take_is_not_sent() {
    let org = Org::new().await;
    let picklist = |name: &str, kind: &str| json!({"name": name, "type": kind, "length": 40, "restricted": true, "values": ["A", "B", "C"], "inactiveValues": ["Z"]});
    let fields_of = json!([picklist("Grade__c", "picklist"), picklist("Grades__c", "multipicklist")]);
    let file = json!({"objects": [{"name": "Account", "fields": fields_of}]});
    org.simulator.org.add_schema(&serde_json::from_value(file).unwrap()).unwrap();
    let connector = org.connect();
    let schema = connector.schema(&"Account".into()).await.unwrap();
    for name in ["Grade__c", "Grades__c", "Industry"] {
        assert!(matches!(schema.field(name).unwrap().ty, Type::Text { .. }), "{name}");
    }
    let selection = accounts(&["Name", "Grade__c", "Grades__c"]);
    let graded = |grade: &str, grades: &str| {
        create(fields([("Name", Value::text("n")), ("Grade__c", Value::text(grade)), ("Grades__c", Value::text(grades))]))
    };
    let all = vec![graded("A", "B;C"), graded("Z", "B"), graded("B", "A;Q"), graded("B", "Z")];
    let outcomes = apply(&connector, &selection, all).await;
    let Outcome::Written { image: Some(image), .. } = &outcomes[0] else { panic!("{outcomes:?}") };
    assert_eq!(image.get("Grade__c"), Some(&Value::text("A")));
    assert_eq!(image.get("Grades__c"), Some(&Value::text("B;C")));
    for outcome in &outcomes[1..] {
        let Outcome::Failed(error) = outcome else { panic!("{outcome:?}") };
        assert_eq!(error.code, Code::ValueDoesNotFit);
        assert!(error.message.contains("takes A, B, C") && !error.message.contains('Z'), "{error}");
    }
    assert_eq!(org.records("Account").len(), 1);
}

#[tokio::test]
async fn a_value_that_was_added_to_a_restricted_picklist_is_taken_and_what_a_schema_says_stays_the_same() {
    let org = Org::new().await;
    let takes = |values: &[&str], restricted: bool| {
        let field = json!({"name": "Grade__c", "type": "picklist", "length": 40, "restricted": restricted, "values": values});
        let file = json!({"objects": [{"name": "Account", "fields": [field]}]});
        org.simulator.org.add_schema(&serde_json::from_value(file).unwrap()).unwrap();
    };
    takes(&["Gold"], true);
    let connector = org.connect();
    let before = connector.schema(&"Account".into()).await.unwrap();
    takes(&["Gold", "Platinum"], true);
    let selection = accounts(&["Name", "Grade__c"]);
    let graded = |grade: &str| create(fields([("Name", Value::text(grade)), ("Grade__c", Value::text(grade))]));
    let describes = || org.requests("/sobjects/Account/describe");
    let known = describes();
    let outcomes = apply(&connector, &selection, vec![graded("Gold")]).await;
    assert!(matches!(outcomes[..], [Outcome::Written { .. }]), "{outcomes:?}");
    assert_eq!(describes(), known, "nothing is asked for what is known");
    let outcomes = apply(&connector, &selection, vec![graded("Platinum"), graded("Tin"), graded("Iron")]).await;
    assert!(matches!(outcomes[0], Outcome::Written { .. }), "{outcomes:?}");
    for outcome in &outcomes[1..] {
        assert!(matches!(outcome, Outcome::Failed(error) if error.message.contains("takes Gold, Platinum")), "{outcome:?}");
    }
    apply(&connector, &selection, vec![graded("Tin")]).await;
    assert_eq!(describes(), known + 1, "once for a batch, and not again at once");
    takes(&["Gold", "Platinum"], false);
    assert_eq!(connector.schema(&"Account".into()).await.unwrap(), before, "no drift");
    let outcomes = apply(&connector, &selection, vec![graded("Tin")]).await;
    assert!(matches!(outcomes[..], [Outcome::Written { .. }]), "{outcomes:?}");
}
