//! How the change event of an object is built: its fields in order, compounds with their parts, and the Avro schema that
//! says so. The schema's id follows from its content.

use crate::salesforce::schema::{Field, Kind, Object, place};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value as Json, json};

/// How a value travels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wire {
    Text,
    Bool,
    Int,
    Long,
    Double,
}

/// The change event of an object at one moment of its schema.
#[derive(Debug)]
pub struct Shape {
    /// `AccountChangeEvent`.
    pub name: String,
    pub id: String,
    pub json: String,
    /// In the order of the wire; the header in front is not among them.
    pub fields: Vec<ShapeField>,
}

/// One field of a change event.
#[derive(Debug)]
pub struct ShapeField {
    pub name: String,
    /// The record's value, of a plain field.
    pub place: usize,
    pub wire: Wire,
    /// The parts of a compound: name, the record's value if it has one, wire type.
    pub parts: Vec<(String, Option<usize>, Wire)>,
    /// Text can also come as a person's name: the union has a third branch.
    pub switchable: bool,
}

const NOT_TOLD: [&str; 8] = [
    "Id",
    "IsDeleted",
    "SystemModstamp",
    "MasterRecordId",
    "LastViewedDate",
    "LastReferencedDate",
    "LastActivityDate",
    "PhotoUrl",
];
const PERSON: [&str; 3] = ["Salutation", "FirstName", "LastName"];
const ADDRESS: [(&str, Wire); 10] = [
    ("Street", Wire::Text),
    ("City", Wire::Text),
    ("State", Wire::Text),
    ("PostalCode", Wire::Text),
    ("Country", Wire::Text),
    ("StateCode", Wire::Text),
    ("CountryCode", Wire::Text),
    ("Latitude", Wire::Double),
    ("Longitude", Wire::Double),
    ("GeocodeAccuracy", Wire::Text),
];

impl Shape {
    /// The change event of the object as it is now.
    pub fn of(object: &Object) -> Self {
        let mut fields = Vec::new();
        let mut json_fields = vec![json!({"name": "ChangeEventHeader", "doc": "Data:ComplexValueType", "type": header()})];
        let mut defined: Vec<&'static str> = Vec::new();
        for (at, field) in ordered(object) {
            let (shaped, mut types, doc) = shape_field(object, at, field);
            // A record type is defined where it is first used, and named afterwards.
            for kind in &mut types {
                for name in ["Address", "Location", "PersonName", "Switchable_PersonName"] {
                    if kind.get("name").and_then(Json::as_str) == Some(name) {
                        if defined.contains(&name) {
                            *kind = json!(name);
                            break;
                        }
                        defined.push(name);
                    }
                }
            }
            types.insert(0, json!("null"));
            json_fields.push(json!({"name": field.name, "type": types, "doc": doc, "default": null}));
            fields.push(shaped);
        }
        let name = match object.name.strip_suffix("__c") {
            Some(stem) => format!("{stem}__ChangeEvent"),
            None => format!("{}ChangeEvent", object.name),
        };
        Self::sealed(name, &json_fields, fields)
    }

    /// With these fields, as the schema has them and as values are laid out.
    pub fn sealed(name: String, json_fields: &[Json], fields: Vec<ShapeField>) -> Self {
        let mut schema = json!({"name": name, "namespace": "com.sforce.eventbus", "type": "record", "fields": json_fields});
        let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, schema.to_string().as_bytes());
        let id = URL_SAFE_NO_PAD.encode(digest.as_ref().get(..16).unwrap_or_default());
        if let Some(schema) = schema.as_object_mut() {
            schema.insert("uuid".to_string(), json!(id));
        }
        Self { name, id, json: schema.to_string(), fields }
    }
}

/// Standard fields, then who and when, then custom fields.
fn ordered(object: &Object) -> Vec<(usize, &std::sync::Arc<Field>)> {
    let told = |(at, field): &(usize, &std::sync::Arc<Field>)| {
        let name_of_person = *at > place::SYSTEM_MODSTAMP && field.compound.as_deref() == Some("Name");
        let part = field.compound.is_some() || name_of_person;
        !NOT_TOLD.contains(&field.name.as_str()) && field.formula.is_none() && !part
    };
    let all: Vec<_> = object.fields().filter(told).collect();
    let system = |at: usize| at <= place::SYSTEM_MODSTAMP;
    let mut order: Vec<_> = all.iter().filter(|(at, field)| !system(*at) && !field.custom).copied().collect();
    // A record is named first.
    order.sort_by_key(|(_, field)| !field.name_field);
    order.extend(all.iter().filter(|(at, _)| system(*at)));
    order.extend(all.iter().filter(|(at, field)| !system(*at) && field.custom));
    order
}

fn shape_field(object: &Object, at: usize, field: &Field) -> (ShapeField, Vec<Json>, String) {
    let mut shaped =
        ShapeField { name: field.name.clone(), place: at, wire: wire(field.kind), parts: Vec::new(), switchable: false };
    let part = |name: &str| {
        let found = object.parts(&field.name).find(|(_, part)| part.name.trim_end_matches("__s").ends_with(name));
        found.map(|(at, _)| at)
    };
    if field.name == "Name" && object.field("LastName").is_some() {
        shaped.parts = PERSON.iter().map(|name| (name.to_string(), part(name), Wire::Text)).collect();
        return (shaped, vec![person("PersonName")], "Data:PersonName".to_string());
    }
    if object.name == "Account" && field.name == "Name" {
        shaped.switchable = true;
        let types = vec![json!("string"), person("Switchable_PersonName")];
        return (shaped, types, "Data:Switchable_PersonName".to_string());
    }
    match field.kind {
        Kind::Address => {
            shaped.parts = ADDRESS
                .iter()
                .map(|(name, wire)| {
                    let code = name.ends_with("Code") && *name != "PostalCode";
                    (name.to_string(), if code { None } else { part(name) }, *wire)
                })
                .collect();
            let fields: Vec<Json> = ADDRESS.iter().map(|(name, wire)| part_field(name, *wire)).collect();
            let record = json!({"type": "record", "name": "Address", "fields": fields});
            (shaped, vec![record], "Data:Address".to_string())
        }
        Kind::Location => {
            let names = ["Latitude", "Longitude"];
            shaped.parts = names.iter().map(|name| (name.to_string(), part(name), Wire::Double)).collect();
            let fields: Vec<Json> = names.iter().map(|name| part_field(name, Wire::Double)).collect();
            let record = json!({"type": "record", "name": "Location", "fields": fields});
            (shaped, vec![record], "Data:Location".to_string())
        }
        kind => {
            let avro = avro(wire(kind));
            (shaped, vec![json!(avro)], doc(field).to_string())
        }
    }
}

fn person(name: &str) -> Json {
    let fields: Vec<Json> = PERSON.iter().map(|part| part_field(part, Wire::Text)).collect();
    json!({"type": "record", "name": name, "fields": fields})
}

fn part_field(name: &str, wire: Wire) -> Json {
    json!({"name": name, "type": ["null", avro(wire)], "default": null})
}

fn wire(kind: Kind) -> Wire {
    match kind {
        Kind::Boolean => Wire::Bool,
        Kind::Int => Wire::Int,
        Kind::Double | Kind::Currency | Kind::Percent => Wire::Double,
        Kind::Date | Kind::Datetime | Kind::Time => Wire::Long,
        _ => Wire::Text,
    }
}

fn avro(wire: Wire) -> &'static str {
    match wire {
        Wire::Text => "string",
        Wire::Bool => "boolean",
        Wire::Int => "int",
        Wire::Long => "long",
        Wire::Double => "double",
    }
}

/// The semantic type, which only the documentation of a field tells.
fn doc(field: &Field) -> &'static str {
    match field.kind {
        _ if field.name == "CreatedDate" => "CreatedDate:DateTime",
        _ if field.external_id => "Data:Text",
        Kind::Reference | Kind::Id => "ForeignKey:EntityId",
        Kind::Textarea if field.html => "Data:HtmlStringPlusClob",
        Kind::Textarea => "Data:StringPlusClob",
        Kind::Email => "Data:Email",
        Kind::Phone => "Data:Phone",
        Kind::Url => "Data:Url",
        Kind::Picklist | Kind::Combobox if field.restricted => "Data:StaticEnum",
        Kind::Picklist | Kind::Combobox => "Data:DynamicEnum",
        Kind::Multipicklist => "Data:MultiEnum",
        Kind::Boolean => "Data:Boolean",
        Kind::Int => "Data:Integer",
        Kind::Double => "Data:Double",
        Kind::Currency => "Data:Currency",
        Kind::Percent => "Data:Percent",
        Kind::Date => "Data:DateOnly",
        Kind::Datetime => "Data:DateTime",
        Kind::Time => "Data:TimeOnly",
        _ => "Data:Text",
    }
}

fn header() -> Json {
    let texts = json!({"type": "array", "items": "string"});
    json!({"type": "record", "name": "ChangeEventHeader", "fields": [
        {"name": "entityName", "type": "string"},
        {"name": "recordIds", "type": texts},
        {"name": "changeType", "type": {"type": "enum", "name": "ChangeType", "symbols": super::ChangeType::NAMES}},
        {"name": "changeOrigin", "type": "string"},
        {"name": "transactionKey", "type": "string"},
        {"name": "sequenceNumber", "type": "int"},
        {"name": "commitTimestamp", "type": "long"},
        {"name": "commitNumber", "type": "long"},
        {"name": "commitUser", "type": "string"},
        {"name": "nulledFields", "type": texts},
        {"name": "diffFields", "type": texts},
        {"name": "changedFields", "type": texts},
    ]})
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::salesforce::schema::Schema;

    #[test]
    fn the_event_of_an_account_has_compounds_in_the_place_of_their_parts() {
        let schema = Schema::standard().expect("the standard objects");
        let shape = Shape::of(schema.object("Account").expect("Account"));
        let names: Vec<&str> = shape.fields.iter().map(|field| field.name.as_str()).collect();
        assert_eq!(names.first(), Some(&"Name"));
        assert!(names.contains(&"BillingAddress") && !names.contains(&"BillingCity"));
        assert!(!names.contains(&"SystemModstamp") && names.contains(&"LastModifiedDate"));
        let json: Json = serde_json::from_str(&shape.json).expect("JSON");
        assert_eq!(json["fields"].as_array().map(Vec::len), Some(names.len() + 1));
        assert_eq!(json["fields"][1]["type"][2]["name"], "Switchable_PersonName");
        assert_eq!(shape.json.matches("\"name\":\"Address\"").count(), 1, "named where it is used again");
    }

    #[test]
    fn a_schema_of_other_content_has_another_id() {
        let schema = Schema::standard().expect("the standard objects");
        let account = schema.object("Account").expect("Account");
        let mut changed = account.as_ref().clone();
        changed.remove_field("Sic");
        assert_eq!(Shape::of(account).id, Shape::of(account).id);
        assert_ne!(Shape::of(account).id, Shape::of(&changed).id);
    }
}
