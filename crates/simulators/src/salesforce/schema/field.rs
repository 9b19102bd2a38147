//! One field: its type and everything that a describe says of it.

use serde::Deserialize;

/// The type of a field, by the name that a describe gives it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    Id,
    String,
    Textarea,
    Email,
    Phone,
    Url,
    Picklist,
    Multipicklist,
    Combobox,
    Boolean,
    Int,
    Double,
    Currency,
    Percent,
    Date,
    Datetime,
    Time,
    Reference,
    /// A street address, shown whole and written by its parts.
    Address,
    /// A latitude and a longitude, shown whole and written by its parts.
    Location,
}

impl Kind {
    /// The name in a describe.
    pub fn name(self) -> &'static str {
        match self {
            Self::Id => "id",
            Self::String => "string",
            Self::Textarea => "textarea",
            Self::Email => "email",
            Self::Phone => "phone",
            Self::Url => "url",
            Self::Picklist => "picklist",
            Self::Multipicklist => "multipicklist",
            Self::Combobox => "combobox",
            Self::Boolean => "boolean",
            Self::Int => "int",
            Self::Double => "double",
            Self::Currency => "currency",
            Self::Percent => "percent",
            Self::Date => "date",
            Self::Datetime => "datetime",
            Self::Time => "time",
            Self::Reference => "reference",
            Self::Address => "address",
            Self::Location => "location",
        }
    }

    /// The name in SOAP, which a describe also gives.
    pub fn soap(self) -> &'static str {
        match self {
            Self::Id | Self::Reference => "tns:ID",
            Self::Boolean => "xsd:boolean",
            Self::Int => "xsd:int",
            Self::Double | Self::Currency | Self::Percent => "xsd:double",
            Self::Date => "xsd:date",
            Self::Datetime => "xsd:dateTime",
            Self::Time => "xsd:time",
            Self::Address => "urn:address",
            Self::Location => "urn:location",
            _ => "xsd:string",
        }
    }

    /// Holds characters.
    pub fn is_text(self) -> bool {
        use Kind::{Combobox, Email, Multipicklist, Phone, Picklist, String, Textarea, Url};
        matches!(self, String | Textarea | Email | Phone | Url | Picklist | Multipicklist | Combobox)
    }

    /// Holds a number with a fraction.
    pub fn is_decimal(self) -> bool {
        matches!(self, Self::Double | Self::Currency | Self::Percent)
    }

    /// Shown whole, written by parts.
    pub fn is_compound(self) -> bool {
        matches!(self, Self::Address | Self::Location)
    }
}

/// One value of a picklist.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Picklist {
    pub value: String,
    pub active: bool,
    pub default: bool,
}

/// A field.
#[derive(Clone, Debug)]
pub struct Field {
    pub name: String,
    pub label: String,
    pub kind: Kind,
    pub custom: bool,
    /// Characters that fit.
    pub length: u32,
    /// Digits in all, of a number.
    pub precision: u32,
    /// Digits behind the point.
    pub scale: u32,
    pub nillable: bool,
    pub createable: bool,
    pub updateable: bool,
    pub defaulted: bool,
    pub unique: bool,
    pub external_id: bool,
    pub case_sensitive: bool,
    pub restricted: bool,
    pub values: Vec<Picklist>,
    pub reference_to: Vec<String>,
    pub relationship_name: Option<String>,
    /// The name by which the parent knows these children.
    pub child_relationship: Option<String>,
    /// The compound field of which this is a part.
    pub compound: Option<String>,
    /// A formula over the record's other fields: read-only, and its changes are announced by nothing.
    pub formula: Option<String>,
    /// The pattern of numbers that are handed out, `A-{00000}`.
    pub auto_number: Option<String>,
    pub default: Option<String>,
    /// The field that names the record.
    pub name_field: bool,
    /// Rich text.
    pub html: bool,
    /// Exists no more; its place is kept.
    pub removed: bool,
}

impl Field {
    /// Its children are deleted with the parent.
    pub fn cascades(&self) -> bool {
        self.kind == Kind::Reference && self.custom && !self.nillable
    }

    /// Can stand in a condition.
    pub fn filterable(&self) -> bool {
        !self.kind.is_compound() && (self.kind != Kind::Textarea || self.length <= 255)
    }

    /// Can find a record in an upsert.
    pub fn id_lookup(&self) -> bool {
        self.kind == Kind::Id || self.external_id
    }
}
