//! Collects what is found while a configuration is proven, each finding at the line of the setting that it is about.

use super::compile::Subject;
use crate::config::{Diagnostic, Severity, nearest};
use crate::error::Code;
use crate::schema::Schema;

/// What was found.
pub(super) struct Notes<'a> {
    subject: &'a Subject<'a>,
    pub all: Vec<Diagnostic>,
}

impl<'a> Notes<'a> {
    pub fn new(subject: &'a Subject<'a>) -> Notes<'a> {
        Notes { subject, all: Vec::new() }
    }

    /// Whether the sync cannot run.
    pub fn has_errors(&self) -> bool {
        self.all.iter().any(|note| note.severity == Severity::Error)
    }

    /// Adds an error about the setting at `path` below the sync (`/match_on/0`).
    pub fn error(&mut self, path: &str, code: Code, message: impl Into<String>, remedy: impl Into<String>) {
        self.add(path, Diagnostic::error(code, message), remedy.into());
    }

    /// Adds a warning about the setting at `path` below the sync.
    pub fn warning(&mut self, path: &str, code: Code, message: impl Into<String>, remedy: impl Into<String>) {
        self.add(path, Diagnostic::warning(code, message), remedy.into());
    }

    fn add(&mut self, path: &str, mut note: Diagnostic, remedy: String) {
        let pointer = format!("{}{path}", self.subject.pointer);
        if let Some(place) = self.subject.places.at(&pointer) {
            note = note.at(place);
        }
        if !remedy.is_empty() {
            note = note.instead(remedy);
        }
        self.all.push(note.about(pointer));
    }

    /// Adds that an object has no such field, with the nearest that it has.
    pub fn field_missing(&mut self, path: &str, name: &str, system: &str, schema: &Schema) {
        let names: Vec<&str> = schema.fields.iter().map(|field| field.name.as_str()).collect();
        let remedy = match nearest(name, names.iter().copied()) {
            Some(near) => format!("Write `{near}`."),
            None => format!("Write one of its fields: {}.", names.join(", ")),
        };
        self.error(path, Code::PlanFieldMissing, format!("`{}` of `{system}` has no field `{name}`", schema.object), remedy);
    }
}
