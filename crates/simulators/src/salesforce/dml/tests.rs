//! What a save does, case by case.

use super::*;
use crate::clock::Clock;
use crate::faults::{Action, Fault, Where};
use crate::salesforce::org::{Options, Org};
use crate::salesforce::person::Person;
use crate::salesforce::schema::SchemaFile;
use serde_json::{Map, Value as Json, json};

fn org() -> Org {
    let clock = Clock::new();
    clock.freeze();
    let schema: SchemaFile = serde_json::from_value(json!({"objects": [
        {"name": "Account", "fields": [
            {"name": "Ext__c", "type": "string", "externalId": true, "unique": true},
            {"name": "Label__c", "type": "string", "formula": "{!UPPER(Name)}"}]},
        {"name": "Ticket__c", "fields": [
            {"name": "Name", "type": "string", "nameField": true, "autoNumber": "T-{0000}"},
            {"name": "Account__c", "type": "reference", "referenceTo": ["Account"], "required": true, "children": "Tickets__r"}]}
    ]}))
    .expect("a schema");
    Org::new(Options { schema, ..Options::default() }, clock).expect("an org")
}

fn fields(value: Json) -> Map<String, Json> {
    value.as_object().cloned().expect("an object")
}

fn rules(org: &Org, value: Json) {
    org.state().rules.add(serde_json::from_value(value).expect("rules")).expect("rules that can be read");
}

fn value(org: &Org, id: Id, field: &str) -> Value {
    let state = org.state();
    let object = state.data.schema.object_of(&id).expect("an object");
    let (at, _) = object.field(field).expect("a field");
    state.data.store.get(&object.name, &id).expect("a record").get(at).clone()
}

fn code(result: Result<Id, Refused>) -> String {
    result.expect_err("refused").first().expect("an error").code.clone()
}

#[test]
fn a_new_record_has_its_defaults_and_its_stamps() {
    let org = org();
    let person = Person { org: &org };
    let id = person.create("Lead", &fields(json!({"LastName": "Byron", "FirstName": "Ada", "Company": "Acme"}))).expect("made");
    assert_eq!(value(&org, id, "Status"), Value::text("Open - Not Contacted"));
    assert_eq!(value(&org, id, "Name"), Value::text("Ada Byron"));
    assert_eq!(value(&org, id, "HasOptedOutOfEmail"), Value::Bool(false));
    let stamp = value(&org, id, "SystemModstamp").as_datetime().expect("a moment");
    assert_eq!(stamp, org.clock.now_ms() - org.clock.now_ms() % 1_000);
}

#[test]
fn a_trigger_changes_other_fields_in_the_same_transaction_and_in_the_same_event() {
    let org = org();
    rules(
        &org,
        json!({"triggers": [{"object": "Account", "changed": ["Industry"], "when": "Industry = 'Banking'",
        "set": {"Rating": "Hot", "Description": "{!Name} banks"}}]}),
    );
    let person = Person { org: &org };
    let id = person.create("Account", &fields(json!({"Name": "Acme"}))).expect("made");
    assert_eq!(value(&org, id, "Rating"), Value::Null);
    person.update("Account", id, &fields(json!({"Industry": "Banking"}))).expect("changed");
    assert_eq!(value(&org, id, "Rating"), Value::text("Hot"));
    assert_eq!(value(&org, id, "Description"), Value::text("Acme banks"));
    let state = org.state();
    let channel = state.events.channel(&state.data.schema, "/data/AccountChangeEvent").expect("a channel");
    let events = state.events.after(&channel, 0, 10);
    assert_eq!(events.len(), 2);
    assert_eq!(events[1].changed.len(), 4, "three fields and the stamp");
}

#[test]
fn a_validation_rule_refuses_and_leaves_nothing() {
    let org = org();
    rules(
        &org,
        json!({"validation": [{"object": "Account", "when": "AnnualRevenue < 0", "message": "Not below zero", "field": "AnnualRevenue"}]}),
    );
    let person = Person { org: &org };
    let refused = person.create("Account", &fields(json!({"Name": "Acme", "AnnualRevenue": -1}))).expect_err("refused");
    assert_eq!(refused[0].code, "FIELD_CUSTOM_VALIDATION_EXCEPTION");
    assert_eq!(refused[0].fields, ["AnnualRevenue"]);
    let state = org.state();
    assert_eq!(state.data.store.table("Account").map_or(0, crate::salesforce::store::Table::count), 0);
    assert_eq!(state.events.latest(), state.events.earliest(), "nothing was told");
}

#[test]
fn a_duplicate_rule_can_be_overruled_unless_it_blocks() {
    let org = org();
    let author = Author { user: Id::new("005", 1), origin: String::new() };
    let insert = |allow: bool| {
        let state = &mut *org.state();
        let object = state.data.schema.object("Account").expect("Account").clone();
        let fields = vec![("Name".to_string(), Given::Cell("Acme".to_string()))];
        let on_duplicates = OnDuplicates::of(&format!("allowSave={allow}"), "65.0");
        org.write(state, &author, &on_duplicates, |writer| writer.insert(&object, &fields))
    };
    let first = insert(false).expect("the first");
    rules(&org, json!({"duplicates": [{"object": "Account", "fields": ["Name"]}]}));
    let refused = insert(false).expect_err("refused").remove(0);
    assert_eq!(refused.code, "DUPLICATES_DETECTED");
    let told = refused.duplicates.expect("it is told of the other");
    let matched = &told["matchResults"][0];
    assert_eq!((&told["allowSave"], &matched["size"]), (&json!(true), &json!(1)));
    let url = format!("/services/data/v65.0/sobjects/Account/{first}");
    let record = json!({"attributes": {"type": "Account", "url": url}, "Id": first.to_string()});
    assert_eq!(matched["matchRecords"][0]["record"], record);
    insert(true).expect("the client accepts it");
    rules(&org, json!({"duplicates": [{"object": "Account", "fields": ["Name"], "block": true}]}));
    assert_eq!(code(insert(true)), "DUPLICATES_DETECTED");
}

#[test]
fn a_unique_value_is_unique_without_regard_to_case_and_free_again_after_a_delete() {
    let org = org();
    let person = Person { org: &org };
    let id = person.create("Account", &fields(json!({"Name": "A", "Ext__c": "X"}))).expect("made");
    assert_eq!(code(person.create("Account", &fields(json!({"Name": "B", "Ext__c": "x"})))), "DUPLICATE_VALUE");
    person.delete("Account", id).expect("deleted");
    person.create("Account", &fields(json!({"Name": "B", "Ext__c": "x"}))).expect("free");
    assert_eq!(code(person.undelete("Account", id)), "DUPLICATE_VALUE");
}

#[test]
fn children_go_into_the_bin_with_their_parent_and_come_back_with_it() {
    let org = org();
    let person = Person { org: &org };
    let account = person.create("Account", &fields(json!({"Name": "A"}))).expect("made");
    let contact = person.create("Contact", &fields(json!({"LastName": "C", "AccountId": account.to_string()}))).expect("made");
    let ticket = person.create("Ticket__c", &fields(json!({"Account__c": account.to_string()}))).expect("made");
    assert_eq!(value(&org, ticket, "Name"), Value::text("T-0001"));
    person.delete("Account", account).expect("deleted");
    for id in [account, contact, ticket] {
        assert_eq!(value(&org, id, "IsDeleted"), Value::Bool(true), "{id}");
    }
    assert_eq!(code(person.update("Contact", contact, &Map::new())), "ENTITY_IS_DELETED");
    person.undelete("Account", account).expect("back");
    for id in [account, contact, ticket] {
        assert_eq!(value(&org, id, "IsDeleted"), Value::Bool(false), "{id}");
    }
}

#[test]
fn a_merge_moves_the_children_and_names_the_winner() {
    let org = org();
    let person = Person { org: &org };
    let winner = person.create("Account", &fields(json!({"Name": "Winner"}))).expect("made");
    let loser = person.create("Account", &fields(json!({"Name": "Loser", "Phone": "1"}))).expect("made");
    let contact = person.create("Contact", &fields(json!({"LastName": "C", "AccountId": loser.to_string()}))).expect("made");
    person.merge("Account", winner, &[loser], &fields(json!({"Phone": "1"}))).expect("merged");
    assert_eq!(value(&org, loser, "MasterRecordId"), Value::Id(winner));
    assert_eq!(value(&org, loser, "IsDeleted"), Value::Bool(true));
    assert_eq!(value(&org, contact, "AccountId"), Value::Id(winner));
    assert_eq!(value(&org, contact, "IsDeleted"), Value::Bool(false));
    assert_eq!(value(&org, winner, "Phone"), Value::text("1"));
}

#[test]
fn the_bin_is_emptied_after_fifteen_days() {
    let org = org();
    let person = Person { org: &org };
    let id = person.create("Account", &fields(json!({"Name": "A"}))).expect("made");
    person.delete("Account", id).expect("deleted");
    org.clock.advance(14 * 86_400_000);
    empty_bin(&mut org.state(), org.clock.now_ms());
    assert!(org.state().data.store.get("Account", &id).is_some());
    org.clock.advance(2 * 86_400_000);
    empty_bin(&mut org.state(), org.clock.now_ms());
    assert!(org.state().data.store.get("Account", &id).is_none());
    assert!(org.state().data.store.table("Account").expect("a table").known_since_ms > 0);
}

#[test]
fn a_locked_record_is_refused_alone_and_once() {
    let org = org();
    let person = Person { org: &org };
    let id = person.create("Account", &fields(json!({"Name": "A"}))).expect("made");
    let on = Where { id: Some(id.to_string()), ..Where::default() };
    org.faults.add(Fault::once(on, Action::LockRow));
    assert_eq!(code(person.update("Account", id, &fields(json!({"Name": "B"})))), "UNABLE_TO_LOCK_ROW");
    person.update("Account", id, &fields(json!({"Name": "B"}))).expect("the lock is gone");
}

#[test]
fn references_must_lead_to_records_of_the_right_kind() {
    let org = org();
    let person = Person { org: &org };
    let contact = |id: &str| person.create("Contact", &fields(json!({"LastName": "C", "AccountId": id})));
    assert_eq!(code(contact(&Id::new("001", 99).to_string())), "INVALID_CROSS_REFERENCE_KEY");
    assert_eq!(code(contact(&Id::new("003", 1).to_string())), "MALFORMED_ID");
    person.create("Account", &fields(json!({"Name": "A", "Ext__c": "X"}))).expect("made");
    let by_key = person.create("Contact", &fields(json!({"LastName": "C", "Account": {"Ext__c": "X"}}))).expect("made");
    assert!(value(&org, by_key, "AccountId").as_id().is_some());
    let unknown = person.create("Contact", &fields(json!({"LastName": "C", "Account": {"Ext__c": "Y"}})));
    assert_eq!(code(unknown), "INVALID_FIELD");
}

#[test]
fn the_same_change_of_many_records_in_one_transaction_is_one_event() {
    let org = org();
    let person = Person { org: &org };
    let account = person.create("Account", &fields(json!({"Name": "A"}))).expect("made");
    let contact = |n: i32| json!({"LastName": format!("C{n}"), "AccountId": account.to_string()});
    let contacts: Vec<Map<String, Json>> = (0..3).map(|n| fields(contact(n))).collect();
    person.create_all("Contact", &contacts).expect("made");
    person.delete("Account", account).expect("deleted");
    let state = org.state();
    let channel = state.events.channel(&state.data.schema, "/data/ContactChangeEvent").expect("a channel");
    let events = state.events.after(&channel, 0, 10);
    assert_eq!(events.len(), 4, "three creates, one delete");
    assert_eq!(events[3].record_ids.len(), 3);
}
