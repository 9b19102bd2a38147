//! Settings checked against each other, as far as the documents alone can tell; what needs real schemas is the plan's
//! business. Each check says everything that it finds and changes nothing.

mod connections;
mod fields;
mod members;
pub(crate) mod overlaps;
mod policies;
mod references;
mod rules;
mod running;

use super::diagnostic::{Diagnostic, Findings};
use super::kinds::ConnectorKind;
use super::model::document::Config;
use super::model::sync::SyncConfig;
use super::node::Places;
use super::resolve::{MemberName, member_names};
use crate::error::Code;

/// Checks a configuration whose names are resolved.
pub(crate) fn check(config: &Config, kinds: &[ConnectorKind], places: &Places, findings: &mut Findings) {
    let mut checker = Checker { config, kinds, places, findings };
    connections::check(&mut checker);
    running::check_process(&mut checker);
    if config.syncs.is_empty() {
        let remedy = "Add `source`, `target` and `sync_type`, or a list of `syncs`.";
        checker.say("/syncs", Diagnostic::error(Code::ConfigMissing, "no sync is configured").instead(remedy));
    }
    for (index, sync) in config.syncs.iter().enumerate() {
        let names = member_names(config, sync);
        let subject = Subject { sync, at: format!("/syncs/{index}"), names: &names };
        members::check(&mut checker, &subject);
        fields::check(&mut checker, &subject);
        rules::check(&mut checker, &subject);
        policies::check(&mut checker, &subject);
        running::check(&mut checker, &subject);
    }
    overlaps::check(&mut checker);
}

/// What every check needs.
struct Checker<'a> {
    config: &'a Config,
    kinds: &'a [ConnectorKind],
    places: &'a Places,
    findings: &'a mut Findings,
}

/// The sync that is checked, its pointer and its members' names.
struct Subject<'a> {
    sync: &'a SyncConfig,
    at: String,
    names: &'a [MemberName],
}

impl Checker<'_> {
    /// Adds a finding about the setting at a pointer.
    fn say(&mut self, pointer: &str, finding: Diagnostic) {
        let finding = finding.about(pointer);
        match self.places.nearest(pointer) {
            Some(place) => self.findings.add(place, finding),
            None => self.findings.add_placed(finding),
        }
    }

    fn error(&mut self, code: Code, pointer: &str, message: impl Into<String>) {
        self.say(pointer, Diagnostic::error(code, message));
    }

    /// Warns that a setting was written and does nothing.
    fn idle(&mut self, pointer: &str, message: impl Into<String>) {
        if self.places.written(pointer) {
            self.say(pointer, Diagnostic::warning(Code::ConfigNoEffect, message));
        }
    }
}

/// Compiles an expression without running it.
fn expression_error(text: &str) -> Option<String> {
    if text.trim().is_empty() {
        return Some("it is empty".to_owned());
    }
    minijinja::Environment::new().compile_expression(text).err().map(|error| match error.detail() {
        Some(detail) => detail.to_owned(),
        None => error.kind().to_string(),
    })
}

/// Whether a strftime pattern can be used.
fn time_pattern_error(pattern: &str) -> Option<String> {
    if !pattern.contains('%') {
        return Some(format!("`{pattern}` is neither `iso8601`, `epoch_seconds`, `epoch_millis` nor a pattern with `%`"));
    }
    let moment = jiff::Timestamp::UNIX_EPOCH.to_zoned(jiff::tz::TimeZone::UTC);
    jiff::fmt::strtime::format(pattern, &moment).err().map(|error| error.to_string())
}

/// Whether a text is a region as ISO 3166 writes it.
fn is_region(text: &str) -> bool {
    text.len() == 2 && text.chars().all(|letter| letter.is_ascii_uppercase())
}
