//! From files to a [`Loaded`] configuration. [`parse`] is pure; [`load`] only reads files and hands their text to it.

use super::assemble::assemble;
use super::check;
use super::diagnostic::{Diagnostic, Findings, Severity};
use super::kinds::ConnectorKind;
use super::model::document::Config;
use super::node::{Node, Places};
use super::{json, resolve, shape, unbuilt, yaml};
use crate::error::Code;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The most bytes that one document may have.
const DOCUMENT_BYTES_MAX: u64 = 16 * 1024 * 1024;

/// A document: its name, as messages name it, and its text. A name that ends in `.yaml` or `.yml` is read as YAML.
#[derive(Clone, Copy, Debug)]
pub struct Document<'a> {
    /// The name.
    pub name: &'a str,
    /// The text.
    pub text: &'a str,
}

/// What came of reading a configuration.
#[derive(Clone, Debug, Default)]
pub struct Loaded {
    /// The configuration, if nothing about it is an error.
    pub config: Option<Config>,
    /// Everything that was found, in the order of the places.
    pub diagnostics: Vec<Diagnostic>,
    /// Where each setting was written.
    pub places: Places,
}

impl Loaded {
    /// Whether something about the configuration is an error.
    pub fn has_errors(&self) -> bool {
        self.diagnostics.iter().any(|finding| finding.severity == Severity::Error)
    }
}

/// Reads files, or every `.json`, `.jsonc`, `.yaml` and `.yml` file of a folder in the order of their names.
pub fn load(paths: &[PathBuf], kinds: &[ConnectorKind]) -> Loaded {
    let mut unreadable = Vec::new();
    let mut texts = Vec::new();
    for path in paths.iter().flat_map(|path| files_of(path, &mut unreadable)).collect::<Vec<PathBuf>>() {
        match read(&path) {
            Ok(text) => texts.push((path.display().to_string(), text)),
            Err(reason) => unreadable.push(cannot_read(&path, &reason)),
        }
    }
    let documents: Vec<Document<'_>> = texts.iter().map(|(name, text)| Document { name, text }).collect();
    let mut loaded = if documents.is_empty() && !unreadable.is_empty() { Loaded::default() } else { parse(&documents, kinds) };
    if !unreadable.is_empty() {
        loaded.config = None;
        loaded.diagnostics.splice(0..0, unreadable);
    }
    loaded
}

fn files_of(path: &Path, unreadable: &mut Vec<Diagnostic>) -> Vec<PathBuf> {
    if !path.is_dir() {
        return vec![path.to_owned()];
    }
    let entries = match std::fs::read_dir(path) {
        Ok(entries) => entries,
        Err(error) => {
            unreadable.push(cannot_read(path, &error.to_string()));
            return Vec::new();
        }
    };
    let mut files: Vec<PathBuf> = entries
        .filter_map(|entry| entry.ok().map(|entry| entry.path()))
        .filter(|path| path.is_file() && path.extension().and_then(|ending| ending.to_str()).is_some_and(is_config_ending))
        .collect();
    if files.is_empty() {
        unreadable.push(cannot_read(path, "the folder holds no .json or .yaml file"));
    }
    files.sort();
    files
}

fn is_config_ending(ending: &str) -> bool {
    ["json", "jsonc", "json5", "yaml", "yml"].contains(&ending.to_lowercase().as_str())
}

fn read(path: &Path) -> Result<String, String> {
    let size = std::fs::metadata(path).map_err(|error| error.to_string())?.len();
    if size > DOCUMENT_BYTES_MAX {
        return Err(format!("it has {size} bytes, more than the {DOCUMENT_BYTES_MAX} that a document may have"));
    }
    std::fs::read_to_string(path).map_err(|error| error.to_string())
}

fn cannot_read(path: &Path, reason: &str) -> Diagnostic {
    let name = path.display();
    Diagnostic::error(Code::ConfigUnreadable, format!("`{name}` cannot be read: {reason}")).at(name)
}

/// Makes one configuration of documents, in the order given. Pure.
pub fn parse(documents: &[Document<'_>], kinds: &[ConnectorKind]) -> Loaded {
    let mut findings = Findings::default();
    let trees = documents.iter().filter_map(|document| tree(document, &mut findings)).collect();
    let root = assemble(trees, &mut findings);
    let Some(root) = root else {
        if !findings.has_errors() {
            findings.add_placed(Diagnostic::error(Code::ConfigMissing, "nothing is configured: the documents are empty"));
        }
        return finish(None, findings, Places::default());
    };
    let places = Places::of(&root);
    let checked = shape::check(&root, &mut findings);
    unbuilt::warn(&root, kinds, &mut findings);
    let config = checked.value.and_then(|value| typed(value, &mut findings));
    let config = config.map(|mut config| {
        let mut more = Findings::default();
        resolve::resolve(&mut config, kinds);
        check::check(&config, kinds, &places, &mut more);
        more.all.retain(|(_, finding)| !is_consequence(finding, &checked.pruned) && is_apart(finding, &checked.shortened));
        findings.all.append(&mut more.all);
        config
    });
    finish(config, findings, places)
}

fn tree(document: &Document<'_>, findings: &mut Findings) -> Option<Node> {
    let name: Arc<str> = Arc::from(document.name);
    let ending = document.name.rsplit('.').next().unwrap_or_default().to_lowercase();
    let parsed = match ending.as_str() {
        "yaml" | "yml" => yaml::parse(&name, document.text),
        _ => json::parse(&name, document.text),
    };
    parsed.unwrap_or_else(|finding| {
        findings.add_placed(finding);
        None
    })
}

/// The shape was checked against the same types, so this fails only where the check could not look.
fn typed(value: serde_json::Value, findings: &mut Findings) -> Option<Config> {
    match serde_json::from_value(value) {
        Ok(config) => Some(config),
        Err(error) => {
            if !findings.has_errors() {
                findings
                    .add_placed(Diagnostic::error(Code::ConfigWrongType, format!("the configuration cannot be used: {error}")));
            }
            None
        }
    }
}

/// Whether a finding speaks of an object that something wrong was already left out of.
fn is_consequence(finding: &Diagnostic, pruned: &[String]) -> bool {
    let Some(pointer) = &finding.pointer else { return false };
    pruned.iter().any(|object| object.matches('/').count() > 2 && pointer.starts_with(object.as_str()))
}

/// Whether a finding has nothing to do with lists from which something was left out. What is said of a sync's members holds
/// whatever became of its mappings.
fn is_apart(finding: &Diagnostic, shortened: &[String]) -> bool {
    let Some(pointer) = finding.pointer.as_deref().filter(|_| finding.severity == Severity::Error) else {
        return shortened.is_empty();
    };
    shortened.iter().all(|list| {
        let of_sync = list.strip_prefix("/syncs/").and_then(|rest| rest.split('/').next());
        let scope = of_sync.map_or_else(|| list.clone(), |index| format!("/syncs/{index}"));
        match pointer.strip_prefix(scope.as_str()).filter(|rest| rest.is_empty() || rest.starts_with('/')) {
            None => true,
            Some(within) => ["/source/", "/target/"]
                .iter()
                .any(|member| within.starts_with(member) && !list.starts_with(&format!("{scope}{member}"))),
        }
    })
}

fn finish(config: Option<Config>, findings: Findings, places: Places) -> Loaded {
    let Findings { mut all } = findings;
    all.sort_by(|(a, first), (b, second)| (a, first.severity).cmp(&(b, second.severity)));
    let diagnostics: Vec<Diagnostic> = all.into_iter().map(|(_, finding)| finding).collect();
    let mut loaded = Loaded { config, diagnostics, places };
    if loaded.has_errors() {
        loaded.config = None;
    }
    loaded
}
