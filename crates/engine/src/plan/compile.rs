//! One sync of a configuration and the schemas of its members, made into what the engine runs. Pure. All findings of a
//! sync are collected; rules come out only if none of them is an error.

use super::fields::Drafts;
use super::indexes::{MissingIndex, missing};
use super::notes::Notes;
use super::{fields, pairing, policies};
use crate::config::{Diagnostic, Places, SyncConfig};
use crate::connector::Capabilities;
use crate::error::Code;
use crate::link::SyncId;
use crate::record::{FieldName, SyncName, SystemName};
use crate::rules::{Kin, MemberRules, SyncRules, TargetEdits};
use crate::schema::{Schema, Selection};
use std::time::Duration;

/// How long a conflict whose time is only estimated waits for the feed to tell the real one.
const ESTIMATE_WAIT: Duration = Duration::from_secs(10);
/// How long a deleted record's tombstone is kept.
const TOMBSTONES: Duration = Duration::from_secs(30 * 24 * 3600);

/// What a system says of its member.
#[derive(Clone, Debug)]
pub struct MemberFacts {
    /// The object's schema.
    pub schema: Schema,
    /// What the connector can do.
    pub capabilities: Capabilities,
    /// About how many records the object holds; `None`: not asked.
    pub count: Option<u64>,
}

/// What is compiled.
#[derive(Clone, Copy, Debug)]
pub struct Subject<'a> {
    /// The sync as it was written; a pair.
    pub sync: &'a SyncConfig,
    /// Its place in the configuration (`/syncs/0`).
    pub pointer: &'a str,
    /// Where everything was written.
    pub places: &'a Places,
    /// What the systems say of source and target.
    pub facts: (&'a MemberFacts, &'a MemberFacts),
    /// The sync's number in the store.
    pub id: SyncId,
    /// The syncs whose records its fields name.
    pub referred: &'a [Referred],
}

/// A sync whose records are named by the fields of another.
#[derive(Clone, Debug)]
pub struct Referred {
    /// Its name.
    pub name: SyncName,
    /// Its number in the store.
    pub id: SyncId,
    /// Its members' systems and objects, in their order.
    pub members: Vec<(SystemName, Schema)>,
}

impl Subject<'_> {
    /// The name of a member's system, for messages.
    pub(super) fn system_name(&self, member: usize) -> &str {
        let member = if member == 0 { &self.sync.source } else { &self.sync.target };
        member.as_ref().map_or("", |member| member.system.as_str())
    }

    /// The schema of a member.
    pub(super) fn schema(&self, member: usize) -> &Schema {
        if member == 0 { &self.facts.0.schema } else { &self.facts.1.schema }
    }

    /// The member that rules call so: a system, a role, `source` or `target`.
    pub(super) fn member_called(&self, name: &str) -> Option<usize> {
        let (source, target) = self.sync.pair()?;
        let by_system = [source, target].iter().position(|member| member.system.as_str() == name);
        if let Some(found) = by_system.filter(|_| source.system != target.system) {
            return Some(found);
        }
        let by_role = [source, target].iter().position(|member| member.role.as_deref() == Some(name));
        by_role.or(match name {
            "source" => Some(0),
            "target" => Some(1),
            _ => None,
        })
    }
}

/// What came of compiling a sync.
#[derive(Clone, Debug)]
pub struct Compiled {
    /// The rules, if nothing was found that stops the sync. Their `layout` is 0: [`super::layout_of`] tells the real one.
    pub rules: Option<SyncRules>,
    /// Everything that was found.
    pub findings: Vec<Diagnostic>,
    /// Indexes that would help, where the configuration asks for that advice. The connectors phrase their statements, and
    /// [`super::index_advice`] makes findings of them.
    pub indexes: Vec<MissingIndex>,
}

/// Compiles one sync.
pub fn compile(subject: &Subject<'_>) -> Compiled {
    let mut notes = Notes::new(subject);
    let rules = rules(subject, &mut notes);
    let indexes = match &rules {
        Some(rules) if subject.sync.performance_settings.index_recommendation => missing(rules),
        _ => Vec::new(),
    };
    let rules = if notes.has_errors() { None } else { rules };
    Compiled { rules, findings: notes.all, indexes }
}

fn rules(subject: &Subject<'_>, notes: &mut Notes<'_>) -> Option<SyncRules> {
    let sync = subject.sync;
    if sync.pair().is_none() {
        let message = format!("the sync `{}` is not a pair, and hubs do not run yet", sync.name);
        notes.error("", Code::PlanNotAPair, message, "Write one sync per pair of systems, each with `source` and `target`.");
        return None;
    }
    let appends = appends(subject);
    for member in 0..2 {
        // Whether it can be mirrored is seen when the mode is chosen.
        if subject.schema(member).key.is_empty() && !appends {
            let path = if member == 0 { "/source/object" } else { "/target/object" };
            let message = format!("`{}` of `{}` has no key", subject.schema(member).object, subject.system_name(member));
            notes.error(path, Code::KeyMissing, message, Code::KeyMissing.remedy());
        }
    }
    let pairs = pairing::pairs(subject, notes);
    let drafts = fields::draft(subject, &pairs, notes);
    let groups = policies::groups(subject, &drafts, notes);
    let match_on = if appends { Vec::new() } else { policies::match_on(subject, &drafts, notes) };
    let validation = policies::validation(subject, &drafts, notes);
    let members: Vec<MemberRules> = (0..2).map(|member| member_rules(subject, member, &drafts, notes)).collect();
    policies::tells_since(subject, &members, notes);
    let filter = super::filters::filter(subject, notes);
    if notes.has_errors() {
        return None;
    }
    incomplete_creates(subject, &drafts, notes);
    Some(SyncRules {
        id: subject.id,
        name: sync.name.clone(),
        members,
        groups: groups.rules,
        fields: drafts.into_rules(&groups.of_field),
        layout: 0,
        match_on,
        validation,
        deletes: policies::deletes(sync),
        initial: policies::initial(subject, notes)?,
        loops: policies::loops(sync),
        guard: policies::guard(sync),
        retry: policies::retry(sync),
        fallback: policies::fallback(sync),
        target_edits: policies::target_edits(sync),
        batch_size: batch_size(subject),
        parallelism: usize::try_from(sync.performance_settings.parallelism).unwrap_or(1).max(1),
        estimate_wait: ESTIMATE_WAIT,
        tombstones: TOMBSTONES,
        carrying: policies::carrying(sync),
        filter,
        kin: Kin::default(),
    })
}

/// What was asked, but no more than the systems take at once; of the one that takes less, each flight is as large as it may.
fn batch_size(subject: &Subject<'_>) -> usize {
    let asked = usize::try_from(subject.sync.performance_settings.batch_size).unwrap_or(1);
    let (source, target) = subject.facts;
    asked.min(source.capabilities.max_batch.max(target.capabilities.max_batch)).max(1)
}

/// Whether records without a key are only ever appended: one way, and the source owns the fields.
fn appends(subject: &Subject<'_>) -> bool {
    let one_way = fields::flows(subject.sync) == (true, false);
    subject.schema(0).key.is_empty() && one_way && policies::target_edits(subject.sync) == TargetEdits::Overwrite
}

fn member_rules(subject: &Subject<'_>, member: usize, drafts: &Drafts, notes: &mut Notes<'_>) -> MemberRules {
    let sync = subject.sync;
    let schema = subject.schema(member);
    let written = if member == 0 { sync.source.as_ref() } else { sync.target.as_ref() };
    let (to_target, to_source) = fields::flows(sync);
    let edit_time_field = edit_time_field(subject, member, drafts);
    let soft_delete_field = sync.soft_delete_field.clone().filter(|field| schema.field(field.as_str()).is_some());
    if let Some(field) = &sync.soft_delete_field {
        let receives = if member == 0 { to_source } else { to_target };
        if soft_delete_field.is_none() && receives {
            notes.field_missing("/soft_delete_field", field.as_str(), subject.system_name(member), schema);
        }
    }
    let mut wanted: Vec<FieldName> = drafts.names_of(member);
    wanted.extend(schema.key.iter().cloned());
    wanted.extend(edit_time_field.iter().chain(&soft_delete_field).cloned());
    if member == 0 {
        wanted.extend(super::filters::fields(subject));
    }
    let fields = schema.fields.iter().map(|field| &field.name).filter(|name| wanted.contains(name)).cloned().collect();
    MemberRules {
        system: written.map(|member| member.system.clone()).unwrap_or_else(|| "".into()),
        object: schema.object.clone(),
        role: written.and_then(|member| member.role.clone()),
        selection: Selection { object: schema.object.clone(), fields },
        schema: schema.clone(),
        outward: if member == 0 { to_target } else { to_source },
        inward: if member == 0 { to_source } else { to_target },
        edit_time_field,
        soft_delete_field,
    }
}

/// The member's own field of that name, or the one that corresponds to the other side's.
fn edit_time_field(subject: &Subject<'_>, member: usize, drafts: &Drafts) -> Option<FieldName> {
    let asked = subject.sync.conflict_resolution.timestamp_field.as_ref()?;
    if subject.schema(member).field(asked.as_str()).is_some() {
        return Some(asked.clone());
    }
    drafts.counterpart(member, asked)
}

/// Warns where a create would leave out a field that the system insists on.
fn incomplete_creates(subject: &Subject<'_>, drafts: &Drafts, notes: &mut Notes<'_>) {
    let (to_target, to_source) = fields::flows(subject.sync);
    for (member, receives) in [(0, to_source), (1, to_target)] {
        let given = drafts.inward_names_of(member);
        let schema = subject.schema(member);
        let needed = schema.fields.iter().filter(|field| !field.nullable && !field.has_default && field.creatable);
        for field in needed.filter(|field| receives && !given.contains(&field.name)) {
            let system = subject.system_name(member);
            let message = format!(
                "`{}` of `{system}` must have a value in `{}`, and nothing is carried into it",
                field.name, schema.object
            );
            let remedy = format!(
                "Map a field to `{}`, or give it a default in `{system}`: without that, creates there go to review.",
                field.name
            );
            notes.warning("/field_mappings", Code::PlanCreateIncomplete, message, remedy);
        }
    }
}
