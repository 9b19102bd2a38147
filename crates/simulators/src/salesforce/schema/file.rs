//! The form in which objects are written down: the standard ones beside this file, custom ones in a file that a test
//! brings. Fills in what a type implies; refuses what it does not know.

use super::{Field, Kind, Object, Picklist, Schema};
use serde::Deserialize;

const STANDARD: &str = include_str!("standard.json");

/// A schema file: objects, new ones or additions to those that exist.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SchemaFile {
    pub objects: Vec<ObjectSpec>,
}

/// An object in a schema file. Where one of this name exists, its fields are added to it.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct ObjectSpec {
    pub name: String,
    pub label: Option<String>,
    pub plural: Option<String>,
    pub key_prefix: Option<String>,
    /// Whether change events tell of it; where nothing is said they do, or do as before.
    pub change_events: Option<bool>,
    #[serde(default)]
    pub mergeable: bool,
    #[serde(default)]
    pub fields: Vec<FieldSpec>,
}

/// A field in a schema file.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct FieldSpec {
    pub name: String,
    #[serde(rename = "type")]
    pub kind: Kind,
    label: Option<String>,
    length: Option<u32>,
    precision: Option<u32>,
    scale: Option<u32>,
    #[serde(default)]
    required: bool,
    #[serde(default)]
    read_only: bool,
    #[serde(default)]
    create_only: bool,
    #[serde(default)]
    unique: bool,
    #[serde(default)]
    external_id: bool,
    #[serde(default)]
    case_sensitive: bool,
    #[serde(default)]
    restricted: bool,
    #[serde(default)]
    values: Vec<String>,
    #[serde(default)]
    inactive_values: Vec<String>,
    #[serde(default)]
    reference_to: Vec<String>,
    relationship: Option<String>,
    children: Option<String>,
    compound: Option<String>,
    formula: Option<String>,
    auto_number: Option<String>,
    default: Option<String>,
    #[serde(default)]
    name_field: bool,
    #[serde(default)]
    html: bool,
}

impl Schema {
    /// The standard objects.
    pub fn standard() -> Result<Self, String> {
        let mut schema = Self::default();
        let file: SchemaFile = serde_json::from_str(STANDARD).map_err(|error| format!("the standard objects: {error}"))?;
        schema.load(&file)?;
        Ok(schema)
    }

    /// Adds what a file says: new objects, and new fields of objects that exist.
    pub fn load(&mut self, file: &SchemaFile) -> Result<(), String> {
        for spec in &file.objects {
            let mut object = match self.object(&spec.name) {
                Some(known) => known.as_ref().clone(),
                None => {
                    let count = self.objects().filter(|object| object.custom).count();
                    Object::begin(spec, count)?
                }
            };
            object.change_events = spec.change_events.unwrap_or(object.change_events);
            for field in &spec.fields {
                if field.kind == Kind::Reference && field.reference_to.is_empty() {
                    return Err(format!("{}.{}: a reference to what?", spec.name, field.name));
                }
                object.add_field(field.build());
            }
            if !object.fields().any(|(_, field)| field.name_field) {
                return Err(format!("{}: no field names the record; give one \"nameField\": true", spec.name));
            }
            self.put(object);
        }
        Ok(())
    }
}

impl Object {
    fn begin(spec: &ObjectSpec, custom_so_far: usize) -> Result<Self, String> {
        let custom = spec.name.ends_with("__c");
        let label = spec.label.clone().unwrap_or_else(|| label_of(&spec.name));
        let key_prefix = match &spec.key_prefix {
            Some(prefix) => prefix.clone(),
            None if custom => format!("a{custom_so_far:02}"),
            None => return Err(format!("{}: a standard object has a keyPrefix", spec.name)),
        };
        let mut object = Self {
            name: spec.name.clone(),
            label_plural: spec.plural.clone().unwrap_or_else(|| format!("{label}s")),
            label,
            key_prefix,
            custom,
            change_events: true,
            mergeable: spec.mergeable,
            modified_ms: 0,
            fields: Vec::new(),
            by_name: Default::default(),
        };
        for field in system_fields() {
            object.add_field(field);
        }
        Ok(object)
    }
}

impl FieldSpec {
    /// The field that this describes.
    pub fn build(&self) -> Field {
        let (length, precision, scale) = sizes(self.kind);
        let custom = self.name.ends_with("__c");
        let read_only = self.read_only || self.formula.is_some() || self.auto_number.is_some() || self.kind.is_compound();
        let picklist = |active: bool, value: &String| Picklist {
            value: value.clone(),
            active,
            default: self.default.as_ref() == Some(value),
        };
        let mut values: Vec<Picklist> = self.values.iter().map(|value| picklist(true, value)).collect();
        values.extend(self.inactive_values.iter().map(|value| picklist(false, value)));
        let relationship_name = self.relationship.clone().or_else(|| {
            let is_reference = self.kind == Kind::Reference;
            is_reference.then(|| match self.name.strip_suffix("__c") {
                Some(stem) => format!("{stem}__r"),
                None => self.name.strip_suffix("Id").unwrap_or(&self.name).to_string(),
            })
        });
        Field {
            label: self.label.clone().unwrap_or_else(|| label_of(&self.name)),
            name: self.name.clone(),
            kind: self.kind,
            custom,
            length: self.length.unwrap_or(length),
            precision: self.precision.unwrap_or(precision),
            scale: self.scale.unwrap_or(scale),
            nillable: !self.required && self.kind != Kind::Boolean,
            createable: !read_only,
            updateable: !read_only && !self.create_only,
            defaulted: self.default.is_some() || self.kind == Kind::Boolean || self.auto_number.is_some(),
            unique: self.unique,
            external_id: self.external_id,
            case_sensitive: self.case_sensitive,
            restricted: self.restricted,
            values,
            reference_to: self.reference_to.clone(),
            relationship_name,
            child_relationship: self.children.clone(),
            compound: self.compound.clone(),
            formula: self.formula.clone(),
            auto_number: self.auto_number.clone(),
            default: self.default.clone(),
            name_field: self.name_field,
            html: self.html,
            removed: false,
        }
    }
}

/// (length, precision, scale) where nothing else is said.
fn sizes(kind: Kind) -> (u32, u32, u32) {
    match kind {
        Kind::Id | Kind::Reference => (18, 0, 0),
        Kind::Textarea => (255, 0, 0),
        Kind::Email => (80, 0, 0),
        Kind::Phone => (40, 0, 0),
        Kind::Url | Kind::Picklist | Kind::Combobox | Kind::String => (255, 0, 0),
        Kind::Multipicklist => (4099, 0, 0),
        Kind::Int => (0, 8, 0),
        Kind::Double | Kind::Currency => (0, 18, 2),
        Kind::Percent => (0, 3, 0),
        _ => (0, 0, 0),
    }
}

/// `AnnualRevenue` → `Annual Revenue`.
fn label_of(name: &str) -> String {
    let stem = name.strip_suffix("__c").unwrap_or(name).replace('_', " ");
    let mut label = String::new();
    let mut last_lower = false;
    for letter in stem.chars() {
        if letter.is_uppercase() && last_lower {
            label.push(' ');
        }
        last_lower = letter.is_lowercase();
        label.push(letter);
    }
    label
}

fn system_fields() -> Vec<Field> {
    let specs = serde_json::json!([
        {"name": "Id", "type": "id", "readOnly": true, "required": true, "label": "Record ID", "default": ""},
        {"name": "IsDeleted", "type": "boolean", "readOnly": true, "label": "Deleted"},
        {"name": "CreatedDate", "type": "datetime", "readOnly": true, "required": true, "default": ""},
        {"name": "CreatedById", "type": "reference", "referenceTo": ["User"], "readOnly": true, "required": true, "default": ""},
        {"name": "LastModifiedDate", "type": "datetime", "readOnly": true, "required": true, "default": ""},
        {"name": "LastModifiedById", "type": "reference", "referenceTo": ["User"], "readOnly": true, "required": true, "default": ""},
        {"name": "SystemModstamp", "type": "datetime", "readOnly": true, "required": true, "default": ""}
    ]);
    let specs: Vec<FieldSpec> = serde_json::from_value(specs).unwrap_or_default();
    specs.iter().map(FieldSpec::build).collect()
}

#[cfg(test)]
mod tests {
    use super::super::SYSTEM_FIELDS;
    use super::*;

    #[test]
    fn the_standard_objects_are_there_with_their_system_fields_in_front() {
        let schema = Schema::standard().expect("the standard objects");
        for name in ["Account", "Contact", "Lead", "Opportunity", "User"] {
            let object = schema.object(name).expect(name);
            let front: Vec<&str> = object.fields().take(7).map(|(_, field)| field.name.as_str()).collect();
            assert_eq!(front, SYSTEM_FIELDS, "{name}");
        }
        let account = schema.object("account").expect("in any case");
        assert_eq!(account.field("annualrevenue").expect("a field").1.kind, Kind::Currency);
        assert_eq!(account.parts("BillingAddress").count(), 8);
    }

    #[test]
    fn a_file_adds_fields_to_standard_objects_and_new_objects() {
        let mut schema = Schema::standard().expect("the standard objects");
        let text = r#"{"objects": [
            {"name": "Account", "fields": [{"name": "Ext__c", "type": "string", "length": 40, "externalId": true, "unique": true}]},
            {"name": "Asset_Line__c", "fields": [{"name": "Name", "type": "string", "nameField": true},
                {"name": "Account__c", "type": "reference", "referenceTo": ["Account"], "children": "Lines__r"}]}]}"#;
        schema.load(&serde_json::from_str(text).expect("a schema file")).expect("loads");
        assert!(schema.object("Account").expect("it").field("ext__C").expect("added").1.external_id);
        let line = schema.object("Asset_Line__c").expect("new");
        assert_eq!((line.key_prefix.as_str(), line.label.as_str(), line.custom), ("a00", "Asset Line", true));
        assert!(line.relationship("Account__r").is_some());
    }

    #[test]
    fn what_a_file_does_not_know_is_refused() {
        let text = r#"{"objects": [{"name": "A__c", "fields": [{"name": "X", "type": "sting"}]}]}"#;
        assert!(serde_json::from_str::<SchemaFile>(text).is_err());
    }
}
