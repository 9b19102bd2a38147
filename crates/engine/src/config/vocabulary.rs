//! Which keys each object of the language has, learnt from the types themselves through their generated schema, so
//! that the types stay the only place where a key is named.

use super::model::document::Config;
use serde_json::Value;
use std::sync::LazyLock;

/// The schema of the canonical form, as generated from the types.
pub(crate) static CANONICAL: LazyLock<Value> = LazyLock::new(|| schemars::schema_for!(Config).to_value());

/// The objects of the language in which a setting can be written in more than one form.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scope {
    Root,
    Process,
    Connection,
    Credentials,
    Sync,
    Member,
    Spoke,
    Mapping,
}

impl Scope {
    /// The name of the object's type in the schema; empty for the whole document.
    pub(crate) fn type_name(self) -> &'static str {
        match self {
            Scope::Root => "",
            Scope::Process => "ProcessSettings",
            Scope::Connection => "Connection",
            Scope::Credentials => "Credentials",
            Scope::Sync => "SyncConfig",
            Scope::Member => "Member",
            Scope::Spoke => "ConnectedSystem",
            Scope::Mapping => "FieldMapping",
        }
    }

    /// The schema of the object's type.
    pub(crate) fn schema(self) -> &'static Value {
        match self {
            Scope::Root => &CANONICAL,
            _ => definition(self.type_name()),
        }
    }

    /// The keys of the object in its canonical form.
    pub(crate) fn keys(self) -> impl Iterator<Item = &'static str> {
        properties(self.schema())
    }

    /// Whether the object has the key in its canonical form.
    pub(crate) fn has(self, key: &str) -> bool {
        self.keys().any(|known| known == key)
    }
}

/// The schema of a type by its name.
pub(crate) fn definition(name: &str) -> &'static Value {
    CANONICAL.get("$defs").and_then(|definitions| definitions.get(name)).unwrap_or(&Value::Null)
}

/// The names of an object schema's properties.
pub(crate) fn properties(schema: &Value) -> impl Iterator<Item = &str> {
    schema.get("properties").and_then(Value::as_object).into_iter().flat_map(|properties| properties.keys().map(String::as_str))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_scope_is_a_type_with_keys() {
        let scopes = [
            Scope::Root,
            Scope::Process,
            Scope::Connection,
            Scope::Credentials,
            Scope::Sync,
            Scope::Member,
            Scope::Spoke,
            Scope::Mapping,
        ];
        for scope in scopes {
            assert!(scope.keys().count() >= 3, "{scope:?}");
        }
    }
}
