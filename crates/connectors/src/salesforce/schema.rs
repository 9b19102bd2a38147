//! Objects as the describe shows them: fields, types, what can be written. Compound fields (addresses, locations) are
//! shown by their parts; what has no value of its own (files, unknown types) is left out.

use super::client::{Call, Client};
use concord_engine::error::{Code, Error, Result};
use concord_engine::record::{FieldName, ObjectName};
use concord_engine::schema::{Field, Schema, Selection, Type};
use serde::Deserialize;
use std::collections::HashMap;

/// The key of every object.
pub(super) const ID: &str = "Id";
/// The stamp of the last change of any kind.
pub(super) const SYSTEM_MODSTAMP: &str = "SystemModstamp";
/// The stamp of the last change by a person or a program.
pub(super) const LAST_MODIFIED_DATE: &str = "LastModifiedDate";

/// How a field's values are carried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Id,
    Text,
    Bool,
    Int,
    Decimal,
    Date,
    DateTime,
    Time,
    Reference,
}

/// A field as the connector needs it.
#[derive(Clone, Debug)]
pub(super) struct FieldInfo {
    pub name: String,
    pub kind: Kind,
    /// The vendor's name of the type, for messages.
    pub native: String,
    pub max_chars: Option<u32>,
    pub precision: u32,
    pub scale: u32,
    pub filterable: bool,
    /// Computed when it is read: no event tells of its change.
    pub calculated: bool,
    /// The compound field that it is a part of.
    pub part_of: Option<String>,
    /// Composed of other fields: its change is told through them.
    pub composed: bool,
    /// The values that it takes, where it takes no others: the active ones of a restricted picklist, as last seen. To the engine
    /// it is a text all the same: people change such lists every day, and no event tells of that.
    pub allowed: Option<Vec<String>>,
    pub field: Field,
    unique: bool,
    external_id: bool,
    indexed: bool,
}

/// An object as the connector needs it.
#[derive(Clone, Debug)]
pub(super) struct Object {
    pub name: String,
    pub key_prefix: Option<String>,
    pub createable: bool,
    pub updateable: bool,
    pub deletable: bool,
    pub queryable: bool,
    pub fields: Vec<FieldInfo>,
    places: HashMap<String, usize>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Described {
    name: String,
    key_prefix: Option<String>,
    #[serde(default)]
    createable: bool,
    #[serde(default)]
    updateable: bool,
    #[serde(default)]
    deletable: bool,
    #[serde(default)]
    queryable: bool,
    fields: Vec<DescribedField>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", default)]
#[derive(Default)]
struct DescribedField {
    name: String,
    r#type: String,
    length: u32,
    precision: u32,
    scale: u32,
    digits: u32,
    nillable: bool,
    createable: bool,
    updateable: bool,
    defaulted_on_create: bool,
    calculated: bool,
    auto_number: bool,
    external_id: bool,
    unique: bool,
    filterable: bool,
    id_lookup: bool,
    deprecated_and_hidden: bool,
    compound_field_name: Option<String>,
    reference_to: Vec<String>,
    extra_type_info: Option<String>,
    restricted_picklist: bool,
    picklist_values: Vec<PicklistValue>,
}

/// A value of a picklist.
#[derive(Deserialize)]
#[serde(default)]
#[derive(Default)]
struct PicklistValue {
    value: String,
    /// Retired values stay with the records that have them, and are given to no other.
    active: bool,
}

/// Asks for an object's description.
pub(super) async fn describe(client: &Client, object: &ObjectName) -> Result<Object> {
    if !is_name(object.as_str()) {
        return Err(missing(object));
    }
    let call = Call::get(client.settings.path(&format!("sobjects/{object}/describe")));
    let described: Described = client.json(&format!("describing {object}"), call).await.map_err(|error| match error.code {
        Code::ObjectMissing => missing(object),
        _ => error,
    })?;
    Ok(Object::from(described))
}

/// Names of objects that can take part.
pub(super) async fn objects(client: &Client) -> Result<Vec<ObjectName>> {
    #[derive(Deserialize)]
    struct Global {
        sobjects: Vec<Summary>,
    }
    #[derive(Deserialize)]
    struct Summary {
        name: String,
        #[serde(default)]
        queryable: bool,
        #[serde(default)]
        retrieveable: bool,
    }
    let global: Global = client.json("listing the objects", Call::get(client.settings.path("sobjects"))).await?;
    let can = global.sobjects.into_iter().filter(|object| object.queryable && object.retrieveable);
    Ok(can.map(|object| ObjectName::from(object.name)).collect())
}

fn missing(object: &ObjectName) -> Error {
    Error::new(Code::ObjectMissing, format!("there is no object {object} that we may see"))
}

/// Whether a text can be the name of an object or field.
pub(super) fn is_name(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|letter| letter.is_ascii_alphanumeric() || letter == b'_')
}

impl From<Described> for Object {
    fn from(described: Described) -> Object {
        let fields: Vec<FieldInfo> = described.fields.into_iter().filter_map(FieldInfo::of).collect();
        let places = fields.iter().enumerate().map(|(place, field)| (field.name.clone(), place)).collect();
        Object {
            name: described.name,
            key_prefix: described.key_prefix,
            createable: described.createable,
            updateable: described.updateable,
            deletable: described.deletable,
            queryable: described.queryable,
            fields,
            places,
        }
    }
}

impl Object {
    /// The field of exactly this name.
    pub fn field(&self, name: &str) -> Option<&FieldInfo> {
        self.places.get(name).and_then(|place| self.fields.get(*place))
    }

    /// The fields of a selection, the key in front; all of them where it names none.
    pub fn selected(&self, selection: &Selection) -> Result<Vec<&FieldInfo>> {
        let key = self.field(ID).into_iter();
        if selection.fields.is_empty() {
            return Ok(key.chain(self.fields.iter().filter(|field| field.name != ID)).collect());
        }
        let named = selection.fields.iter().filter(|name| name.as_str() != ID).map(|name| {
            let error = || Error::new(Code::FieldMissing, format!("the object {} has no field {name}", self.name));
            self.field(name.as_str()).ok_or_else(error)
        });
        key.map(Ok).chain(named).collect()
    }

    /// The object as the engine knows it.
    pub fn schema(&self) -> Schema {
        let alone = |matches: fn(&FieldInfo) -> bool| {
            self.fields
                .iter()
                .filter(move |field| matches(field))
                .map(|field| vec![FieldName::from(field.name.as_str())])
                .collect()
        };
        Schema {
            object: ObjectName::from(self.name.as_str()),
            fields: self.fields.iter().map(|field| field.field.clone()).collect(),
            key: vec![FieldName::from(ID)],
            unique: alone(|field| field.unique),
            indexes: alone(|field| field.indexed),
        }
    }
}

impl FieldInfo {
    /// Whether it holds the key that a record has elsewhere: no two records can show the same.
    pub fn is_key_of_others(&self) -> bool {
        self.external_id && self.unique && self.filterable
    }

    /// A field as an org describes it.
    #[cfg(test)]
    pub(super) fn described(json: &str) -> FieldInfo {
        FieldInfo::of(serde_json::from_str(json).unwrap()).unwrap()
    }

    fn of(described: DescribedField) -> Option<FieldInfo> {
        if described.deprecated_and_hidden {
            return None;
        }
        let kind = match described.r#type.as_str() {
            "id" => Kind::Id,
            "boolean" => Kind::Bool,
            "int" | "long" => Kind::Int,
            "double" | "currency" | "percent" => Kind::Decimal,
            "date" => Kind::Date,
            "datetime" => Kind::DateTime,
            "time" => Kind::Time,
            "reference" => Kind::Reference,
            "string" | "email" | "phone" | "url" | "picklist" | "multipicklist" | "combobox" | "textarea" | "encryptedstring" => {
                Kind::Text
            }
            _ => return None,
        };
        let max_chars = (described.length > 0).then_some(described.length);
        let precision = if kind == Kind::Int { described.digits.max(described.precision) } else { described.precision };
        let native = match (kind, described.length) {
            (Kind::Decimal, _) => format!("{}({},{})", described.r#type, precision, described.scale),
            (_, length) if length > 0 => format!("{}({length})", described.r#type),
            _ => described.r#type.clone(),
        };
        let ty = match kind {
            Kind::Bool => Type::Bool,
            Kind::Int => Type::Int { bits: 32, unsigned: false },
            Kind::Decimal => Type::Decimal {
                precision: Some(precision),
                scale: Some(i32::try_from(described.scale).unwrap_or(0)),
                special: false,
            },
            Kind::Date => Type::Date,
            Kind::DateTime => Type::TimestampTz { fraction_digits: 0 },
            Kind::Time => Type::Time { fraction_digits: 3, zone: false },
            Kind::Reference => match described.reference_to.as_slice() {
                [one] => Type::Reference { object: ObjectName::from(one.as_str()) },
                _ => text(max_chars),
            },
            Kind::Id | Kind::Text => text(max_chars),
        };
        let active = described.picklist_values.into_iter().filter(|value| value.active).map(|value| value.value);
        let allowed: Option<Vec<String>> =
            described.restricted_picklist.then(|| active.collect()).filter(|values: &Vec<_>| !values.is_empty());
        let is_key = kind == Kind::Id;
        let system = matches!(described.name.as_str(), "CreatedDate" | LAST_MODIFIED_DATE | SYSTEM_MODSTAMP);
        Some(FieldInfo {
            kind,
            native: native.clone(),
            max_chars,
            precision,
            scale: described.scale,
            filterable: described.filterable,
            calculated: described.calculated,
            part_of: described.compound_field_name.clone().filter(|whole| *whole != described.name),
            composed: described.name == "Name"
                && !described.createable
                && described.extra_type_info.as_deref() == Some("personname"),
            allowed,
            unique: described.unique && !is_key,
            external_id: described.external_id,
            indexed: is_key
                || described.unique
                || described.external_id
                || described.id_lookup
                || kind == Kind::Reference
                || system
                || described.name == "Name",
            field: Field {
                name: FieldName::from(described.name.as_str()),
                ty,
                native_type: native,
                nullable: described.nillable,
                creatable: described.createable && !described.calculated,
                updatable: described.updateable && !described.calculated,
                has_default: described.defaulted_on_create
                    || described.auto_number
                    || !described.createable
                    || kind == Kind::Bool,
                origin: None,
            },
            name: described.name,
        })
    }
}

fn text(max_chars: Option<u32>) -> Type {
    Type::Text { max_chars, padded: false, nul: false, empty: false }
}
