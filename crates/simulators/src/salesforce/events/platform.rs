//! Platform events: what clients publish themselves. An administrator defines them; their content is the publisher's, byte for
//! byte. Knows how one is laid out; the bytes are the transports' business.

use super::build::{ChangeType, Event};
use super::shape::{Shape, Wire};
use serde_json::{Map, Value as Json, json};
use std::sync::Arc;

/// The end of their names.
const SUFFIX: &str = "__e";

/// A platform event as it is defined.
#[derive(Debug)]
pub struct PlatformEvent {
    pub shape: Arc<Shape>,
    pub fields: Vec<PlatformField>,
}

/// A field, in the order of the wire.
#[derive(Debug)]
pub struct PlatformField {
    pub name: String,
    pub wire: Wire,
    /// In a union with null.
    pub nullable: bool,
}

/// What a client has published: as it came, and what that says.
#[derive(Clone, Debug, PartialEq)]
pub struct Published {
    pub bytes: Vec<u8>,
    pub fields: Map<String, Json>,
}

impl PlatformEvent {
    /// `Order__e` with fields of its own: `text`, `boolean`, `double`, `datetime`. Who has published it and when stand in front.
    pub fn define(name: &str, own: &Map<String, Json>) -> Result<Self, String> {
        if !name.ends_with(SUFFIX) {
            return Err(format!("{name}: the name of a platform event ends in {SUFFIX}"));
        }
        let system = |name: &str, wire| PlatformField { name: name.to_string(), wire, nullable: false };
        let mut fields = vec![system("CreatedDate", Wire::Long), system("CreatedById", Wire::Text)];
        let mut json_fields = vec![
            json!({"name": "CreatedDate", "type": "long", "doc": "CreatedDate:DateTime"}),
            json!({"name": "CreatedById", "type": "string", "doc": "CreatedBy:EntityId"}),
        ];
        for (field, kind) in own {
            let (wire, avro, doc) = match kind.as_str() {
                Some("text") => (Wire::Text, "string", "Data:Text"),
                Some("boolean") => (Wire::Bool, "boolean", "Data:Boolean"),
                Some("double") => (Wire::Double, "double", "Data:Double"),
                Some("datetime") => (Wire::Long, "long", "Data:DateTime"),
                _ => return Err(format!("{name}.{field}: text, boolean, double or datetime")),
            };
            json_fields.push(json!({"name": field, "type": ["null", avro], "doc": doc, "default": null}));
            fields.push(PlatformField { name: field.clone(), wire, nullable: true });
        }
        Ok(Self { shape: Arc::new(Shape::sealed(name.to_string(), &json_fields, Vec::new())), fields })
    }

    /// An event of it, before the log gives it a number.
    pub fn event(&self, id: &str, published: Published, now_ms: i64) -> Event {
        Event {
            replay_id: 0,
            event_id: id.to_string(),
            entity: self.shape.name.clone(),
            record_ids: Vec::new(),
            change: ChangeType::Create,
            origin: String::new(),
            transaction_key: String::new(),
            sequence: 0,
            commit_ms: now_ms,
            commit_number: 0,
            user: String::new(),
            shape: self.shape.clone(),
            body: Vec::new(),
            changed: Vec::new(),
            nulled: Vec::new(),
            differing: Vec::new(),
            published: Some(published),
        }
    }
}
