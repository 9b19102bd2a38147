//! What is wrong with a configuration, said so that a person can put it right: code, place, message, remedy.
//! All findings of one run are collected; nothing here stops at the first.

use super::node::Place;
use crate::error::Code;
use serde::Serialize;
use std::fmt;

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// The configuration cannot be used.
    Error,
    /// It can be used; something about it may surprise.
    Warning,
}

/// One finding about a configuration.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Diagnostic {
    /// The stable code.
    pub code: Code,
    /// How bad it is.
    pub severity: Severity,
    /// What is wrong, in one sentence. Never a secret.
    pub message: String,
    /// Where it was written: `file:line:column`.
    pub place: Option<String>,
    /// The JSON pointer of the setting in the canonical form.
    pub pointer: Option<String>,
    /// What to write instead, or the code's general remedy.
    pub remedy: String,
}

impl Diagnostic {
    /// An error with the code's general remedy.
    pub fn error(code: Code, message: impl Into<String>) -> Diagnostic {
        Diagnostic {
            code,
            severity: Severity::Error,
            message: message.into(),
            place: None,
            pointer: None,
            remedy: code.remedy().to_owned(),
        }
    }

    /// A warning with the code's general remedy.
    pub fn warning(code: Code, message: impl Into<String>) -> Diagnostic {
        Diagnostic { severity: Severity::Warning, ..Diagnostic::error(code, message) }
    }

    /// Says where it was written.
    #[must_use]
    pub fn at(mut self, place: impl fmt::Display) -> Diagnostic {
        self.place = Some(place.to_string());
        self
    }

    /// Says which setting it is about.
    #[must_use]
    pub fn about(mut self, pointer: impl Into<String>) -> Diagnostic {
        self.pointer = Some(pointer.into());
        self
    }

    /// Says what to write instead.
    #[must_use]
    pub fn instead(mut self, remedy: impl Into<String>) -> Diagnostic {
        self.remedy = remedy.into();
        self
    }
}

impl fmt::Display for Diagnostic {
    /// `accounts.json:3:14: error CON-1003: message`, then the remedy on a line of its own.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(place) = &self.place {
            write!(f, "{place}: ")?;
        }
        let severity = match self.severity {
            Severity::Error => "error",
            Severity::Warning => "warning",
        };
        write!(f, "{severity} {}: {}\n  {}", self.code, self.message, self.remedy)
    }
}

/// Collects findings.
#[derive(Debug, Default)]
pub(crate) struct Findings {
    pub(crate) all: Vec<(Option<Place>, Diagnostic)>,
}

impl Findings {
    /// Adds a finding at the place where its subject was written.
    pub(crate) fn add(&mut self, place: &Place, diagnostic: Diagnostic) {
        self.all.push((Some(place.clone()), diagnostic.at(place)));
    }

    /// Adds a finding that has no place, or has it already.
    pub(crate) fn add_placed(&mut self, diagnostic: Diagnostic) {
        self.all.push((None, diagnostic));
    }

    pub(crate) fn has_errors(&self) -> bool {
        self.all.iter().any(|(_, finding)| finding.severity == Severity::Error)
    }
}

/// The candidate that is most like what was written, if any is like it at all: few slips apart, or with the same
/// beginning.
pub fn nearest<'a>(written: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let written = plain(written);
    let candidates: Vec<(&str, String)> = candidates.into_iter().map(|candidate| (candidate, plain(candidate))).collect();
    let slips = |candidate: &str| strsim::damerau_levenshtein(&written, candidate);
    let few = |candidate: &str| {
        let longest = written.chars().count().max(candidate.chars().count());
        slips(candidate) <= (longest / 3).max(1) && slips(candidate) < longest
    };
    let by_slips = candidates.iter().filter(|(_, plain)| few(plain)).min_by_key(|(_, plain)| slips(plain));
    let likeness = |candidate: &str| strsim::jaro_winkler(&written, candidate);
    let by_beginning = || {
        let alike = candidates.iter().filter(|(_, plain)| likeness(plain) >= 0.9);
        alike.max_by(|(_, a), (_, b)| likeness(a).total_cmp(&likeness(b)))
    };
    by_slips.or_else(by_beginning).map(|(candidate, _)| *candidate)
}

/// Case and punctuation are the first things that people confuse, and count for nothing here.
fn plain(text: &str) -> String {
    text.chars().filter(|character| character.is_alphanumeric()).flat_map(char::to_lowercase).take(100).collect()
}

/// "; did you mean `x`?", or nothing.
pub(crate) fn did_you_mean<'a>(written: &str, candidates: impl IntoIterator<Item = &'a str>) -> String {
    match nearest(written, candidates) {
        Some(candidate) => format!("; did you mean `{candidate}`?"),
        None => String::new(),
    }
}

/// `a`, `b` or `c`.
pub(crate) fn one_of<'a>(values: impl IntoIterator<Item = &'a str>) -> String {
    let quoted: Vec<String> = values.into_iter().map(|value| format!("`{value}`")).collect();
    match quoted.split_last() {
        Some((last, rest)) if !rest.is_empty() => format!("{} or {last}", rest.join(", ")),
        Some((only, _)) => only.clone(),
        None => "nothing".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_name_ignores_case_and_punctuation() {
        assert_eq!(nearest("syncType", ["name", "sync_type", "on_delete"]), Some("sync_type"));
        assert_eq!(nearest("transfrom", ["target", "transformation"]), Some("transformation"));
        assert_eq!(nearest("fild_mappings", ["field_mappings", "mapping_options"]), Some("field_mappings"));
    }

    #[test]
    fn nothing_is_proposed_that_is_not_alike() {
        assert_eq!(nearest("colour", ["name", "sync_type"]), None);
        assert_eq!(nearest("a", ["b"]), None);
        assert_eq!(nearest("x", []), None);
    }
}
