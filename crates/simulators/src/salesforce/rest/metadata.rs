//! What objects and fields there are: the global list, and the describe of one object with every attribute of its
//! fields.

use super::record::http_date;
use super::{Call, Result, Sub};
use crate::net::http::Answer;
use crate::salesforce::errors::ApiError;
use crate::salesforce::schema::{Field, Kind, Object};
use crate::salesforce::state::State;
use serde_json::{Value as Json, json};

/// GET /sobjects.
pub fn global(call: &Call<'_>, state: &State, sub: &Sub<'_>) -> Result<Answer> {
    if sub.method != "GET" {
        return Err(ApiError::method());
    }
    let objects: Vec<Json> = state.data.schema.objects().map(|object| summary(call, object)).collect();
    Ok(Answer::json(200, &json!({"encoding": "UTF-8", "maxBatchSize": 200, "sobjects": objects})))
}

/// GET /sobjects/{type}/describe; 304 where nothing changed since the date in the header.
pub fn describe(call: &Call<'_>, state: &State, sub: &Sub<'_>) -> Result<Answer> {
    let name = sub.path.get(1).map_or("", String::as_str);
    let object = state.data.schema.object(name).ok_or_else(ApiError::not_found)?;
    if http_date(sub, "if-modified-since").is_some_and(|since| object.modified_ms <= since) {
        return Ok(Answer::empty(304));
    }
    let mut describe = summary(call, object);
    let children: Vec<Json> = state
        .data
        .schema
        .children(&object.name)
        .map(|(child, field)| {
            json!({"cascadeDelete": field.cascades(), "childSObject": child.name, "deprecatedAndHidden": false,
                "field": field.name, "junctionIdListNames": [], "junctionReferenceTo": [],
                "relationshipName": field.child_relationship, "restrictedDelete": false})
        })
        .collect();
    let fields: Vec<Json> = object.fields().map(|(_, field)| field_json(object, field)).collect();
    let master = json!({"active": true, "available": true, "defaultRecordTypeMapping": true, "developerName": "Master",
        "master": true, "name": "Master", "recordTypeId": "012000000000000AAA", "urls": {}});
    if let Some(describe) = describe.as_object_mut() {
        describe.insert("actionOverrides".into(), json!([]));
        describe.insert("childRelationships".into(), json!(children));
        describe.insert("compactLayoutable".into(), json!(true));
        describe.insert("fields".into(), json!(fields));
        describe.insert("namedLayoutInfos".into(), json!([]));
        describe.insert("recordTypeInfos".into(), json!([master]));
        describe.insert("searchLayoutable".into(), json!(true));
        describe.insert("supportedScopes".into(), json!([{"label": "All", "name": "everything"}]));
    }
    Ok(Answer::json(200, &describe))
}

/// What the global list says of an object.
pub fn summary(call: &Call<'_>, object: &Object) -> Json {
    let own = format!("sobjects/{}", object.name);
    json!({
        "activateable": false, "associateEntityType": null, "associateParentEntity": null, "createable": true,
        "custom": object.custom, "customSetting": false, "deepCloneable": false, "deletable": object.name != "User",
        "deprecatedAndHidden": false, "feedEnabled": true, "hasSubtypes": false, "isInterface": false, "isSubtype": false,
        "keyPrefix": object.key_prefix, "label": object.label, "labelPlural": object.label_plural, "layoutable": true,
        "mergeable": object.mergeable, "mruEnabled": true, "name": object.name, "queryable": true, "replicateable": true,
        "retrieveable": true, "searchable": true, "triggerable": true, "undeletable": object.name != "User",
        "updateable": true,
        "urls": {"sobject": call.url(&own), "describe": call.url(&format!("{own}/describe")),
            "rowTemplate": call.url(&format!("{own}/{{ID}}"))}
    })
}

fn field_json(object: &Object, field: &Field) -> Json {
    let text = field.kind.is_text() || matches!(field.kind, Kind::Id | Kind::Reference);
    let length = if text { field.length } else { 0 };
    let values: Vec<Json> = field
        .values
        .iter()
        .map(|value| json!({"active": value.active, "defaultValue": value.default, "label": value.value, "validFor": null, "value": value.value}))
        .collect();
    let default = match field.kind {
        Kind::Boolean => json!(field.default.as_deref() == Some("true")),
        _ => field.default.as_ref().filter(|text| !text.is_empty()).map_or(Json::Null, |text| json!(text)),
    };
    let first = json!({
        "aggregatable": field.filterable(), "aiPredictionField": false, "autoNumber": field.auto_number.is_some(),
        "byteLength": length * 3, "calculated": field.formula.is_some(), "calculatedFormula": field.formula,
        "cascadeDelete": field.cascades(), "caseSensitive": field.case_sensitive,
        "compoundFieldName": field.compound, "controllerName": null, "createable": field.createable,
        "custom": field.custom, "defaultValue": default, "defaultValueFormula": null,
        "defaultedOnCreate": field.defaulted, "dependentPicklist": false, "deprecatedAndHidden": false,
        "digits": if field.kind == Kind::Int { field.precision } else { 0 },
        "displayLocationInDecimal": field.kind == Kind::Location, "encrypted": false, "externalId": field.external_id,
        "extraTypeInfo": extra_type(object, field), "filterable": field.filterable(), "filteredLookupInfo": null,
        "formulaTreatNullNumberAsZero": false, "groupable": field.filterable() && field.formula.is_none() && !field.kind.is_decimal(),
        "highScaleNumber": false, "htmlFormatted": field.html, "idLookup": field.id_lookup(), "inlineHelpText": null,
        "label": field.label, "length": length
    });
    let second = json!({
        "mask": null, "maskType": null, "name": field.name, "nameField": field.name_field, "namePointing": false,
        "nillable": field.nillable, "permissionable": field.nillable && field.createable, "picklistValues": values,
        "polymorphicForeignKey": field.reference_to.len() > 1,
        "precision": if field.kind.is_decimal() { field.precision } else { 0 },
        "queryByDistance": field.kind.is_compound(), "referenceTargetField": null, "referenceTo": field.reference_to,
        "relationshipName": field.relationship_name, "relationshipOrder": null, "restrictedDelete": false,
        "restrictedPicklist": field.restricted, "scale": if field.kind.is_decimal() { field.scale } else { 0 },
        "searchPrefilterable": field.kind == Kind::Reference, "soapType": field.kind.soap(), "sortable": field.filterable(),
        "type": field.kind.name(), "unique": field.unique, "updateable": field.updateable, "writeRequiresMasterRead": false
    });
    match (first, second) {
        (Json::Object(mut first), Json::Object(second)) => {
            first.extend(second);
            Json::Object(first)
        }
        _ => Json::Null,
    }
}

fn extra_type(object: &Object, field: &Field) -> Json {
    let person = field.compound.as_deref() == Some("Name") || (field.name == "Name" && object.field("LastName").is_some());
    match field.kind {
        Kind::Textarea if field.html => json!("richtextarea"),
        Kind::Textarea => json!("plaintextarea"),
        _ if person => json!("personname"),
        _ => Json::Null,
    }
}
