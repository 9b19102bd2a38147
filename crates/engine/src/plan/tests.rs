//! Configurations proven against schemas made by hand: what was written goes in, rules or findings come out.

use super::compile::{Compiled, MemberFacts, Referred, Subject, compile};
use crate::clock::Moment;
use crate::config::{ChangeDetection as Detection, ConnectorKind, Document, Severity, parse};
use crate::connector::{Capabilities, ChangeDetection};
use crate::error::Code;
use crate::link::SyncId;
use crate::record::Record;
use crate::rules::{InitialStrategy, Policy, SyncRules};
use crate::schema::{Field, Schema, Type};
use crate::transform::{MatchKind, normalise_for_match};
use crate::value::Value;

const KINDS: &[ConnectorKind] = &[ConnectorKind {
    name: "memory",
    aliases: &[],
    built: true,
    required: &[],
    credentials: &[],
    auth: &[],
    change_detection: &[Detection::LogBased],
}];

fn text(max_chars: u32) -> Type {
    Type::Text { max_chars: Some(max_chars), padded: false, nul: false, empty: true }
}

fn int() -> Type {
    Type::Int { bits: 32, unsigned: false }
}

fn field(name: &str, ty: Type) -> Field {
    let native_type = format!("{ty:?}").split([' ', '{']).next().unwrap_or_default().to_lowercase();
    Field {
        name: name.into(),
        ty,
        native_type,
        nullable: true,
        creatable: true,
        updatable: true,
        has_default: false,
        origin: None,
    }
}

/// A key that the system makes up.
fn serial(name: &str) -> Field {
    Field { nullable: false, has_default: true, ..field(name, int()) }
}

fn schema(object: &str, fields: Vec<Field>) -> Schema {
    let key = fields.first().map(|field| field.name.clone()).into_iter().collect();
    Schema { object: object.into(), fields, key, unique: Vec::new(), indexes: Vec::new() }
}

fn crm() -> Schema {
    let fields =
        vec![serial("id"), field("name", text(80)), field("email", text(120)), field("phone", text(32)), field("city", text(40))];
    schema("accounts", fields)
}

fn erp() -> Schema {
    let fields = vec![
        serial("customer_no"),
        field("company", text(80)),
        field("E-Mail", text(120)),
        field("tel", text(32)),
        field("crm_id", int()),
    ];
    schema("customers", fields)
}

fn facts(schema: Schema) -> MemberFacts {
    let capabilities = Capabilities {
        kind: "memory",
        change_detection: ChangeDetection::Log,
        guarded_writes: true,
        marks: true,
        fences_prove: true,
        keys_can_be_given: true,
        max_batch: 100,
        load_batch: None,
        writes_take: None,
        writes_settle: None,
        time_granularity_micros: 1,
        feeds_apart: false,
    };
    MemberFacts { schema, capabilities, count: Some(10) }
}

/// Compiles the sync that `settings` (JSON entries) describe between these objects.
fn compiled(settings: &str, source: Schema, target: Schema) -> Compiled {
    compiled_with(settings, source, target, &[])
}

fn compiled_with(settings: &str, source: Schema, target: Schema, referred: &[Referred]) -> Compiled {
    let sync_type = if settings.contains("sync_type") { "" } else { r#""sync_type": "bidirectional","# };
    let text = format!(
        r#"{{
            "connections": {{ "crm": {{ "type": "memory" }}, "erp": {{ "type": "memory" }} }},
            "name": "accounts", {sync_type}
            "source": {{ "system": "crm", "object": "accounts" }}, "target": {{ "system": "erp", "object": "customers", "role": "money" }},
            {settings}
        }}"#
    );
    let loaded = parse(&[Document { name: "accounts.json", text: &text }], KINDS);
    let config = loaded.config.unwrap_or_else(|| panic!("{:#?}", loaded.diagnostics));
    let (source, target) = (facts(source), facts(target));
    let sync = config.syncs.first().expect("a sync");
    compile(&Subject { sync, pointer: "/syncs/0", places: &loaded.places, facts: (&source, &target), id: SyncId(1), referred })
}

fn rules(settings: &str) -> SyncRules {
    let compiled = compiled(settings, crm(), erp());
    compiled.rules.unwrap_or_else(|| panic!("{:#?}", compiled.findings))
}

/// The codes of the findings of a severity, with where each stands.
fn found(compiled: &Compiled, severity: Severity) -> Vec<(Code, String)> {
    let of_severity = compiled.findings.iter().filter(|finding| finding.severity == severity);
    of_severity.map(|finding| (finding.code, finding.pointer.clone().unwrap_or_default())).collect()
}

const MAPPED: &str = r#""match_on": ["email"], "field_mappings": [
    { "source": "name", "target": "company" }, { "source": "email", "target": "E-Mail" } ]"#;

#[test]
fn canonical_names_are_the_sources_and_both_sides_are_read_with_their_keys() {
    let rules = rules(MAPPED);
    let names: Vec<&str> = rules.fields.iter().map(|field| field.name.as_str()).collect();
    assert_eq!(names, ["name", "email"]);
    let selected: Vec<&str> = rules.members[1].selection.fields.iter().map(|field| field.as_str()).collect();
    assert_eq!(selected, ["customer_no", "company", "E-Mail"]);
    assert_eq!(rules.match_on[0].field, 1);
    assert_eq!(rules.batch_size, 100, "no more than the systems take at once");
}

#[test]
fn phone_numbers_are_matched_in_the_region_that_is_written_or_that_the_sync_reads_them_in_elsewhere() {
    let region = |settings: &str| match &rules(settings).match_on[0].normaliser {
        MatchKind::Phone { region } => region
            .map(|region| normalise_for_match(&Value::Text("(650) 253-0000".into()), &MatchKind::Phone { region: Some(region) })),
        other => panic!("{other:?}"),
    };
    let mapped = |match_on: &str, step: &str, rule: &str| {
        format!(
            r#""match_on": [{match_on}], "validation_rules": [{rule}], "field_mappings": [ {{ "source": "name", "target": "company" }},
               {{ "source": "email", "target": "E-Mail", "transformation": {step} }} ]"#
        )
    };
    let american = Some(Some(Value::Text("+16502530000".into())));
    let phone = r#"{ "field": "email", "normalizer": "phone" }"#;
    let named = mapped(r#"{ "field": "email", "normalizer": "phone", "region": "US" }"#, r#""none""#, "");
    assert_eq!(region(&named), american);
    assert_eq!(region(&mapped(phone, r#"{ "format_phone": { "region": "US" } }"#, "")), american);
    assert_eq!(region(&mapped(phone, r#""none""#, r#"{ "field": "email", "rule": "phone", "region": "US" }"#)), american);
    assert_eq!(region(&mapped(phone, r#""none""#, r#"{ "field": "name", "rule": "phone", "region": "US" }"#)), None);
}

#[test]
fn a_missing_field_is_named_at_its_line_with_the_nearest_one() {
    let compiled =
        compiled(r#""match_on": ["email"], "field_mappings": [{ "source": "email", "target": "e_mial" }]"#, crm(), erp());
    let finding = &compiled.findings[0];
    assert_eq!(finding.code, Code::PlanFieldMissing);
    assert_eq!(finding.remedy, "Write `E-Mail`.");
    assert!(finding.place.as_deref().is_some_and(|place| place.starts_with("accounts.json:5:")), "{:?}", finding.place);
    assert!(compiled.rules.is_none());
}

#[test]
fn without_mappings_fields_of_equal_name_correspond_but_made_up_keys_do_not() {
    let target = schema("customers", vec![serial("id"), field("Name", text(80)), field("e_mail", text(120))]);
    let compiled = compiled(r#""match_on": ["email"]"#, crm(), target);
    let rules = compiled.rules.unwrap_or_else(|| panic!("{:#?}", compiled.findings));
    let pairs: Vec<(&str, &str)> =
        rules.fields.iter().map(|field| (field.name.as_str(), field.members[1].as_ref().unwrap().name.as_str())).collect();
    assert_eq!(pairs, [("name", "Name"), ("email", "e_mail")]);
}

#[test]
fn an_excluded_field_takes_no_part() {
    let target =
        schema("customers", vec![serial("id"), field("name", text(80)), field("email", text(120)), field("city", text(40))]);
    let compiled = compiled(r#""match_on": ["email"], "exclude_fields": ["city"]"#, crm(), target);
    assert_eq!(compiled.rules.unwrap().fields.len(), 2);
}

#[test]
fn both_sides_with_records_and_nothing_to_match_by_are_refused_with_a_proposal() {
    let mut source = crm();
    source.unique = vec![vec!["email".into()]];
    let settings = r#""field_mappings": [{ "source": "name", "target": "company" }, { "source": "email", "target": "E-Mail" }]"#;
    let compiled = compiled(settings, source, erp());
    assert_eq!(found(&compiled, Severity::Error), [(Code::PlanMatchNeeded, "/syncs/0".to_string())]);
    assert_eq!(compiled.findings[0].remedy, r#"Write "match_on": ["email"]."#);
}

#[test]
fn a_key_carried_to_a_plain_field_matches_by_itself_and_flows_out_alone() {
    let rules = rules(r#""field_mappings": [{ "source": "id", "target": "crm_id" }, { "source": "name", "target": "company" }]"#);
    assert_eq!(rules.match_on[0].field, 0);
    let (at_crm, at_erp) = (rules.at(0, 0).unwrap(), rules.at(1, 0).unwrap());
    assert!(at_crm.outward && !at_crm.inward, "the CRM makes its own keys");
    assert!(at_erp.inward && !at_erp.outward);
}

#[test]
fn types_that_never_fit_are_refused_and_those_that_may_not_are_said() {
    let target = schema("customers", vec![serial("id"), field("company", text(10)), field("email", Type::Bool)]);
    let settings = r#""match_on": ["name"], "field_mappings": [{ "source": "name", "target": "company" }, { "source": "id", "target": "email" }]"#;
    let compiled = compiled(settings, crm(), target);
    assert!(found(&compiled, Severity::Warning).contains(&(Code::PlanMayNotFit, "/syncs/0/field_mappings/0".into())));
    let time = schema("customers", vec![serial("id"), field("company", Type::Date)]);
    let compiled =
        super::tests::compiled(r#""match_on": ["id"], "field_mappings": [{ "source": "id", "target": "company" }]"#, crm(), time);
    assert!(
        found(&compiled, Severity::Error).contains(&(Code::PlanTypesApart, "/syncs/0/field_mappings/0".into())),
        "{compiled:#?}"
    );
}

#[test]
fn a_transformation_without_a_way_back_makes_its_field_one_way() {
    let settings = r#""match_on": ["email"], "field_mappings": [ { "source": "email", "target": "E-Mail" },
        { "source": "name", "target": "company", "transformation": { "split": { "separator": " ", "index": 0 } } } ]"#;
    let compiled = compiled(settings, crm(), erp());
    assert_eq!(found(&compiled, Severity::Warning)[0].0, Code::PlanOneWayField);
    let rules = compiled.rules.unwrap();
    assert!(!rules.at(0, 1).unwrap().inward && !rules.at(1, 1).unwrap().outward);
    assert!(rules.at(1, 1).unwrap().inward);
}

#[test]
fn a_table_of_values_is_read_backwards_on_the_way_back() {
    let settings = r#""match_on": ["email"], "field_mappings": [ { "source": "email", "target": "E-Mail" },
        { "source": "city", "target": "company", "transformation": { "map": { "active": "A", "inactive": "I" } } } ]"#;
    let rules = rules(settings);
    let mapping = &rules.at(1, 1).unwrap().mapping;
    assert_eq!(mapping.from_canonical(&Value::text("active"), Record::new).unwrap(), Some(Value::text("A")));
    assert_eq!(mapping.to_canonical(&Value::text("I"), Record::new).unwrap(), Some(Value::text("inactive")));
}

fn joined(transformation: &str) -> Compiled {
    let settings = format!(
        r#""match_on": ["email"], "field_mappings": [ {{ "source": "email", "target": "E-Mail" }},
        {{ "source": ["name", "city"], "target": "company", "transformation": {transformation} }} ]"#
    );
    compiled(&settings, crm(), erp())
}

fn record(fields: &[(&str, &str)]) -> Record {
    fields.iter().map(|(name, value)| ((*name).into(), Value::text(*value))).collect()
}

/// What each of the fields 1 and 2 takes of a text that a member shows.
fn parts(rules: &SyncRules, member: usize, text: &str) -> Option<[Value; 2]> {
    let part = |field| {
        let mapping = &rules.at(member, field).unwrap().mapping;
        mapping.to_canonical(&Value::text(text), Record::new).ok().flatten()
    };
    Some([part(1)?, part(2)?])
}

#[test]
fn joined_fields_change_hands_together_and_are_told_apart_on_the_way_back() {
    let rules = joined(r#"{ "join": { "separator": ", " } }"#).rules.unwrap();
    assert_eq!(rules.groups[rules.fields[1].group].fields, [1, 2]);
    let ada = record(&[("name", "Ada"), ("city", "Leeds")]);
    for field in [1, 2] {
        let shown = rules.at(1, field).unwrap().mapping.from_canonical(&Value::Null, || ada.clone()).unwrap();
        assert_eq!(shown, Some(Value::text("Ada, Leeds")));
        assert!(rules.at(0, field).unwrap().inward && rules.at(1, field).unwrap().outward);
    }
    assert_eq!(parts(&rules, 1, "Ada, Leeds"), Some([Value::text("Ada"), Value::text("Leeds")]));
    assert_eq!(parts(&rules, 1, "Ada"), None, "which of the two it is nobody can tell");
    assert_eq!(parts(&rules, 1, "Ada, of, Leeds"), None);
}

#[test]
fn what_is_left_over_goes_where_the_mapping_says() {
    let first = joined(r#"{ "name": "join", "rest": "first" }"#).rules.unwrap();
    assert_eq!(parts(&first, 1, "Ada Marie King"), Some([Value::text("Ada Marie"), Value::text("King")]));
    assert_eq!(parts(&first, 1, "King"), Some([Value::Null, Value::text("King")]));
    let last = joined(r#"{ "name": "join", "rest": "last" }"#).rules.unwrap();
    assert_eq!(parts(&last, 1, "Ada van Dyke"), Some([Value::text("Ada"), Value::text("van Dyke")]));
    assert_eq!(parts(&last, 1, "Ada"), Some([Value::text("Ada"), Value::Null]));
}

#[test]
fn steps_behind_a_join_are_undone_before_it_and_one_without_a_way_back_makes_it_one_way() {
    let rules = joined(r#"["join", "uppercase"]"#).rules.unwrap();
    assert_eq!(parts(&rules, 1, "ADA LEEDS"), Some([Value::text("ADA"), Value::text("LEEDS")]));
    for one_way in [r#"["join", { "expression": "value ~ '!'" }]"#, r#"{ "expression": "name ~ city" }"#] {
        let compiled = joined(one_way);
        assert_eq!(found(&compiled, Severity::Warning)[0].0, Code::PlanOneWayField, "{one_way}");
        let rules = compiled.rules.unwrap();
        assert!((1..=2).all(|field| !rules.at(0, field).unwrap().inward && rules.at(1, field).unwrap().inward));
    }
}

#[test]
fn a_split_field_is_put_together_again_and_nothing_of_it_is_dropped() {
    let settings = r#""match_on": ["email"], "field_mappings": [ { "source": "email", "target": "E-Mail" },
        { "source": "name", "target": ["company", "tel"], "transformation": ["trim", { "split": " " }] } ]"#;
    let rules = rules(settings);
    assert_eq!(rules.fields.iter().map(|field| field.name.as_str()).collect::<Vec<_>>(), ["email", "company", "tel"]);
    assert_eq!(parts(&rules, 0, " Ada Marie King "), Some([Value::text("Ada"), Value::text("Marie King")]));
    let ada = record(&[("company", "Ada"), ("tel", "King")]);
    for field in [1, 2] {
        let at_source = rules.at(0, field).unwrap();
        assert!(at_source.inward && at_source.outward);
        assert_eq!(at_source.mapping.from_canonical(&Value::Null, || ada.clone()).unwrap(), Some(Value::text("Ada King")));
    }
}

#[test]
fn every_form_of_a_timestamp_in_a_text_field_is_written_and_read_back() {
    let mut source = crm();
    source.fields.push(field("changed", Type::TimestampTz { fraction_digits: 6 }));
    for (format, written) in [
        ("epoch_millis", "1709209800500"),
        ("epoch_seconds", "1709209800.5"),
        ("%Y-%m-%d %H:%M:%S%.f %z", "2024-02-29 12:30:00.5 +0000"),
    ] {
        let settings = format!(
            r#""match_on": ["email"], "mapping_options": {{ "timestamp_format": "{format}" }}, "field_mappings": [
            {{ "source": "email", "target": "E-Mail" }}, {{ "source": "changed", "target": "company" }} ]"#
        );
        let rules = compiled(&settings, source.clone(), erp()).rules.unwrap();
        let moment = Value::parse_as("2024-02-29T12:30:00.5Z", &Type::TimestampTz { fraction_digits: 6 }).unwrap();
        let mapping = &rules.at(1, 1).unwrap().mapping;
        assert_eq!(mapping.from_canonical(&moment, Record::new).unwrap(), Some(Value::text(written)));
        assert_eq!(mapping.to_canonical(&Value::text(written), Record::new).unwrap(), Some(moment));
    }
}

#[test]
fn a_filter_is_held_against_the_sources_fields_and_they_are_read_for_it() {
    let one_way = |filter: &str| format!(r#"{MAPPED}, "sync_type": "one_way", "filter": "{filter}""#);
    let rules = rules(&one_way("City LIKE 'Lee%' OR id < 5"));
    assert_eq!(rules.filter.unwrap().to_string(), "city LIKE 'Lee%' OR id < 5");
    let selected: Vec<&str> = rules.members[0].selection.fields.iter().map(|field| field.as_str()).collect();
    assert_eq!(selected, ["id", "name", "email", "city"]);
    let unfit = compiled(&one_way("id = 'x' AND cty = 'Leeds'"), crm(), erp());
    assert_eq!(found(&unfit, Severity::Error), vec![(Code::PlanFilterUnusable, "/syncs/0/filter".to_owned()); 2]);
    assert!(unfit.findings[0].message.contains("at 1:6: 'x' is nothing that `id`"), "{:?}", unfit.findings);
    assert_eq!(unfit.findings[1].remedy, "Write `city`.");
}

#[test]
fn a_rule_uses_the_default_of_its_field_s_mapping_where_it_has_none() {
    let settings = r#""match_on": ["email"], "field_mappings": [
        { "source": "email", "target": "E-Mail" }, { "source": "city", "target": "company", "default": "Leeds" } ],
        "validation_rules": [{ "field": "city", "rule": "one_of", "values": ["Leeds", "York"], "on_error": "use_default" }]"#;
    let rules = rules(settings);
    let checked = crate::validate::validate(&rules.validation, &record(&[("city", "Atlantis")]));
    assert_eq!(checked.record.get("city"), Some(&Value::text("Leeds")));
}

#[test]
fn records_are_not_matched_by_a_part_of_a_field() {
    let settings = r#""match_on": ["name"], "field_mappings": [
        { "source": ["name", "city"], "target": "company", "transformation": "join" } ]"#;
    let compiled = compiled(settings, crm(), erp());
    assert!(found(&compiled, Severity::Error).iter().any(|(code, _)| *code == Code::PlanMatchUnusable));
}

#[test]
fn a_beginning_by_time_needs_a_member_that_tells_time_and_says_which_does_not() {
    let since = |field: &str| {
        format!(
            r#"{MAPPED}, "initial_sync": {{ "strategy": "since", "since": "2026-01-01" }},
            "conflict_resolution": {{ "strategy": "last_write_wins", "timestamp_field": "{field}" }}"#
        )
    };
    let neither = compiled(&since("phone"), crm(), erp());
    assert!(found(&neither, Severity::Error).contains(&(Code::ConfigMissing, "/syncs/0/initial_sync/strategy".into())));
    let mut source = crm();
    source.fields.push(field("changed", Type::TimestampTz { fraction_digits: 6 }));
    let compiled = compiled(&since("changed"), source, erp());
    assert!(found(&compiled, Severity::Warning).contains(&(Code::PlanNotRead, "/syncs/0/initial_sync/since".into())));
    let rules = compiled.rules.unwrap();
    assert_eq!(rules.initial.strategy, InitialStrategy::Since(Moment(1_767_225_600_000_000)));
}

#[test]
fn a_beginning_with_the_present_needs_a_match_rule_as_well() {
    let settings = r#""initial_sync": "from_now", "field_mappings": [{ "source": "name", "target": "company" }]"#;
    assert!(found(&compiled(settings, crm(), erp()), Severity::Error).iter().any(|(code, _)| *code == Code::PlanMatchNeeded));
}

#[test]
fn field_rules_name_systems_roles_groups_and_either_sides_fields() {
    let settings = r#""match_on": ["email"], "field_mappings": [ { "source": "email", "target": "E-Mail" },
            { "source": "name", "target": "company" }, { "source": "phone", "target": "tel", "group": "contact" } ],
        "conflict_resolution": { "strategy": "field_level_priority", "field_rules": [
            { "field": "company", "priority_system": "money" }, { "field": "contact", "priority_system": "manual" } ] }"#;
    let rules = rules(settings);
    let policies: Vec<(&str, &Policy)> = rules.groups.iter().map(|group| (group.name.as_str(), &group.policy)).collect();
    assert_eq!(policies, [("email", &Policy::LastWriteWins), ("name", &Policy::Priority(vec![1])), ("contact", &Policy::Manual)]);
}

#[test]
fn a_read_only_field_flows_out_only_and_two_of_them_are_refused() {
    let read_only = |name: &str| Field { creatable: false, updatable: false, ..field(name, text(80)) };
    let source = schema("accounts", vec![serial("id"), read_only("name"), field("email", text(120))]);
    let outward = compiled(MAPPED, source.clone(), erp());
    let at_source = outward.rules.as_ref().unwrap().at(0, 0).unwrap();
    assert!(at_source.outward && !at_source.inward);
    assert_eq!(found(&outward, Severity::Warning)[0].0, Code::PlanReadOnly);
    let target = schema("customers", vec![serial("customer_no"), read_only("company"), field("E-Mail", text(120))]);
    let neither = compiled(MAPPED, source, target);
    assert!(found(&neither, Severity::Error).iter().any(|(code, _)| *code == Code::PlanReadOnly));
}

#[test]
fn a_create_that_would_leave_out_what_the_system_insists_on_is_said_beforehand() {
    let mut target = erp();
    target.fields.push(Field { nullable: false, ..field("branch", int()) });
    let compiled = compiled(MAPPED, crm(), target);
    assert!(
        found(&compiled, Severity::Warning).iter().any(|(code, _)| *code == Code::PlanCreateIncomplete),
        "{:#?}",
        compiled.findings
    );
    assert!(compiled.rules.is_some());
}

#[test]
fn a_match_field_without_an_index_is_advised_on_both_sides() {
    let compiled = compiled(MAPPED, crm(), erp());
    let missing: Vec<&str> = compiled.indexes.iter().map(|index| index.system.as_str()).collect();
    assert_eq!(missing, ["crm", "erp"]);
    let mut source = crm();
    source.indexes = vec![vec!["email".into()]];
    assert_eq!(super::tests::compiled(MAPPED, source, erp()).indexes.len(), 1);
}

#[test]
fn an_object_without_a_key_is_refused() {
    let mut target = erp();
    target.key.clear();
    assert!(
        found(&compiled(MAPPED, crm(), target), Severity::Error).contains(&(Code::KeyMissing, "/syncs/0/target/object".into()))
    );
}

#[test]
fn an_object_without_a_key_may_be_appended_from_where_the_source_owns_the_fields() {
    let (mut source, mut target) = (crm(), erp());
    source.key.clear();
    target.key.clear();
    let mapped = MAPPED.replacen(r#""match_on": ["email"], "#, "", 1);
    let one_way = compiled(&format!(r#"{mapped}, "sync_type": "one_way""#), source.clone(), target.clone());
    assert!(one_way.rules.is_some_and(|rules| rules.match_on.is_empty()), "{:#?}", one_way.findings);
    for otherwise in [mapped.clone(), format!(r#"{mapped}, "sync_type": "one_way", "target_edits": "keep""#)] {
        let found = found(&compiled(&otherwise, source.clone(), target.clone()), Severity::Error);
        assert!(found.contains(&(Code::KeyMissing, "/syncs/0/source/object".into())), "{found:?}");
    }
}

#[test]
fn a_one_way_sync_writes_to_its_target_alone() {
    let compiled = compiled(&(MAPPED.to_string() + r#", "sync_type": "one_way""#), crm(), erp());
    let rules = compiled.rules.unwrap_or_else(|| panic!("{:#?}", compiled.findings));
    assert!(rules.members[0].outward && !rules.members[0].inward && rules.members[1].inward && !rules.members[1].outward);
}

const REFERRING: &str = r#""match_on": ["email"], "field_mappings": [ { "source": "email", "target": "E-Mail" },
    { "source": "parent", "target": "crm_id", "reference": "accounts" } ]"#;

/// The objects of a sync whose records name each other, with these keys of their own.
fn referring(source: Schema, target: Schema) -> Compiled {
    let referred = Referred {
        name: "accounts".into(),
        id: SyncId(1),
        members: vec![("crm".into(), source.clone()), ("erp".into(), target.clone())],
    };
    let mut source = source;
    source.fields.push(field("parent", int()));
    compiled_with(REFERRING, source, target, &[referred])
}

#[test]
fn a_reference_is_found_under_the_key_of_the_same_system_whatever_its_type_on_the_other_side() {
    let mut target = erp();
    target.fields[0].ty = text(18);
    target.fields[4].ty = text(18);
    let compiled = referring(crm(), target);
    // A number here and a text there is no lack: neither is carried as it is.
    assert_eq!(found(&compiled, Severity::Warning), []);
    let rules = compiled.rules.unwrap_or_else(|| panic!("{:#?}", compiled.findings));
    let reference = rules.fields[1].reference.as_ref().unwrap();
    let keys: Vec<(usize, &Type)> = reference.members.iter().flatten().map(|there| (there.member, &there.key)).collect();
    assert_eq!(keys, [(0, &int()), (1, &text(18))]);
}

#[test]
fn a_reference_that_its_field_cannot_hold_is_refused() {
    let mut target = erp();
    target.fields[4].ty = Type::Date;
    let refused = referring(crm(), target);
    assert_eq!(found(&refused, Severity::Error), [(Code::PlanReferenceUnusable, "/syncs/0/field_mappings/1/reference".into())]);
    let mut target = erp();
    target.key = vec!["customer_no".into(), "tel".into()];
    let refused = referring(crm(), target);
    assert_eq!(found(&refused, Severity::Error), [(Code::PlanReferenceUnusable, "/syncs/0/field_mappings/1/reference".into())]);
}
