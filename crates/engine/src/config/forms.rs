//! The table of everything that can be written in more than one form. The parser brings documents into canonical form
//! by it, the JSON Schema accepts the other forms by it, and unknown keys are compared with its names.

use super::vocabulary::Scope;

/// A path of keys below the object of a scope.
pub(crate) type Path = &'static [&'static str];

/// Another way to write a setting.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Form {
    /// `from` is another spelling of `to`.
    Alias { from: Path, to: Path },
    /// What stands in the object under this key belongs to the object around it.
    Wrapper { key: &'static str },
    /// An object under this key: its entry `own` is the key's own value, the others belong to the object around it.
    Spread { key: &'static str, own: &'static str },
    /// The keys of another object can be written one level up.
    Gather { into: &'static str, keys_of: Scope },
    /// A value that is no object stands for an object with that value under `inner`.
    Short { at: Path, inner: &'static str },
    /// A value that is no list stands for a list of it.
    One { at: Path },
    /// An item (of the list at this path) that is no object stands for an object with that item under `inner`.
    Items { at: Path, inner: &'static str },
    /// A text at this path, or in the list at it, has another spelling.
    Spelling { at: Path, from: &'static str, to: &'static str },
}

/// Every other form of every setting.
pub(crate) const FORMS: &[(Scope, Form)] = &[
    (Scope::Root, Form::Gather { into: "process_settings", keys_of: Scope::Process }),
    (Scope::Process, Form::Short { at: &["store"], inner: "path" }),
    (Scope::Process, Form::Short { at: &["metrics"], inner: "address" }),
    (Scope::Process, Form::Spelling { at: &["logging", "level"], from: "warning", to: "warn" }),
    (Scope::Connection, Form::Gather { into: "credentials", keys_of: Scope::Credentials }),
    (Scope::Credentials, Form::Alias { from: &["user"], to: &["username"] }),
    (Scope::Credentials, Form::Alias { from: &["dbname"], to: &["database"] }),
    (Scope::Credentials, Form::Alias { from: &["ssl_mode"], to: &["sslmode"] }),
    (Scope::Credentials, Form::One { at: &["scopes"] }),
    (Scope::Member, Form::Alias { from: &["table"], to: &["object"] }),
    (Scope::Member, Form::Alias { from: &["connection"], to: &["system"] }),
    (Scope::Spoke, Form::Alias { from: &["connection"], to: &["system"] }),
    (Scope::Spoke, Form::One { at: &["objects"] }),
    (Scope::Mapping, Form::One { at: &["source"] }),
    (Scope::Mapping, Form::One { at: &["target"] }),
    (Scope::Sync, Form::Wrapper { key: "sync_settings" }),
    (Scope::Sync, Form::Spread { key: "field_selection", own: "mode" }),
    (Scope::Sync, Form::Short { at: &["conflict_resolution"], inner: "strategy" }),
    (Scope::Sync, Form::Short { at: &["initial_sync"], inner: "strategy" }),
    (Scope::Sync, Form::Short { at: &["ongoing_sync"], inner: "mode" }),
    (Scope::Sync, Form::Short { at: &["loop_prevention"], inner: "enabled" }),
    (Scope::Sync, Form::Short { at: &["rollout"], inner: "stage" }),
    (Scope::Sync, Form::Short { at: &["error_handling", "fallback"], inner: "action" }),
    (Scope::Sync, Form::One { at: &["match_on"] }),
    (Scope::Sync, Form::Items { at: &["match_on"], inner: "field" }),
    (Scope::Sync, Form::One { at: &["include_fields"] }),
    (Scope::Sync, Form::One { at: &["exclude_fields"] }),
    (Scope::Sync, Form::One { at: &["conflict_resolution", "priority"] }),
    (Scope::Sync, Form::One { at: &["error_handling", "notification", "channels"] }),
    (Scope::Sync, Form::One { at: &["error_handling", "notifications", "email"] }),
    (Scope::Sync, Form::Spelling { at: &["metric_collection"], from: "latency", to: "sync_latency" }),
    (Scope::Sync, Form::Spelling { at: &["monitoring", "metric_collection"], from: "latency", to: "sync_latency" }),
    (Scope::Sync, Form::Spelling { at: &["monitoring", "metrics"], from: "latency", to: "sync_latency" }),
    (Scope::Sync, Form::Spelling { at: &["monitoring", "log_level"], from: "warning", to: "warn" }),
    (Scope::Sync, Form::Spelling { at: &["monitoring", "logging", "level"], from: "warning", to: "warn" }),
    (Scope::Sync, Form::One { at: &["metric_collection"] }),
    (Scope::Sync, Form::One { at: &["monitoring", "metric_collection"] }),
    (Scope::Sync, Form::One { at: &["monitoring", "metrics"] }),
    (Scope::Sync, Form::Alias { from: &["connection_name"], to: &["name"] }),
    (Scope::Sync, Form::Alias { from: &["metric_collection"], to: &["monitoring", "metrics"] }),
    (Scope::Sync, Form::Alias { from: &["monitoring", "metric_collection"], to: &["monitoring", "metrics"] }),
    (Scope::Sync, Form::Alias { from: &["monitoring", "log_level"], to: &["monitoring", "logging", "level"] }),
];

/// The forms of a scope.
pub(crate) fn forms_of(scope: Scope) -> impl Iterator<Item = Form> {
    FORMS.iter().filter(move |(of, _)| *of == scope).map(|(_, form)| *form)
}

/// The keys that can stand in the object of a scope besides its canonical ones.
pub(crate) fn other_keys(scope: Scope) -> impl Iterator<Item = &'static str> {
    forms_of(scope).filter_map(|form| match form {
        Form::Alias { from, .. } => from.first().copied(),
        Form::Wrapper { key } => Some(key),
        _ => None,
    })
}
