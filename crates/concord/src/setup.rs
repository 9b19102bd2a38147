//! From files to what a command works with: the configuration, the store, the connected systems, the syncs as the engine
//! runs them. Every command takes the steps it needs, in this order; findings are collected, never stopped at the first.

use crate::absent;
use crate::answers::description::{self, Description};
use crate::approval;
use crate::keeping::Kept;
use crate::remarks;
use crate::secrets;
use crate::terminal::Notice;
use concord_connectors::keeping::Keep;
use concord_connectors::settings::{Asked, AskedChanges};
use concord_engine::config::{self, Config, ConfigHash, Diagnostic, Metric, Places, Severity, SyncConfig};
use concord_engine::connector::{self, Connector, Finding, Involved};
use concord_engine::error::{Class, Code, Error, Result};
use concord_engine::mirror::{self, Candidate, Choice, Mode, Neighbour};
use concord_engine::offer::Known;
use concord_engine::overlap;
use concord_engine::plan::{self, MemberFacts, MissingIndex, Referred, Subject};
use concord_engine::record::{ObjectName, SyncName, SystemName};
use concord_engine::rules::SyncRules;
use concord_engine::runtime::status::{Status, SyncStatus};
use concord_engine::store::Store;
use concord_engine::store::sqlite::{SqliteStore, StoreOptions};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// How long a system may take to tell of its objects.
const FACTS_WAIT_MAX: Duration = Duration::from_secs(30);

/// A configuration without an error.
pub struct Written {
    /// What was written.
    pub config: Config,
    /// Where.
    pub places: Places,
    /// Warnings.
    pub notices: Vec<Notice>,
}

/// Reads files. `Err` holds every finding, of which at least one is an error.
pub fn read(paths: &[PathBuf]) -> std::result::Result<Written, Vec<Notice>> {
    let loaded = config::load(paths, concord_connectors::kinds::KINDS);
    let notices: Vec<Notice> = loaded.diagnostics.iter().map(notice).collect();
    match loaded.config {
        Some(config) => Ok(Written { config, places: loaded.places, notices }),
        None => Err(notices),
    }
}

/// A finding about a configuration as people see it.
pub fn notice(diagnostic: &Diagnostic) -> Notice {
    Notice {
        code: diagnostic.code.to_string(),
        severity: match diagnostic.severity {
            Severity::Error => "error",
            Severity::Warning => "warning",
        },
        message: diagnostic.message.clone(),
        place: diagnostic.place.clone(),
        because: None,
        remedy: diagnostic.remedy.clone(),
    }
}

/// The store's folder: as asked on the command line, else as configured, else the usual one.
pub fn store_folder(asked: Option<&Path>, config: Option<&Config>) -> PathBuf {
    match (asked, config) {
        (Some(asked), _) => asked.to_path_buf(),
        (None, Some(config)) => PathBuf::from(&config.process_settings.store.path),
        (None, None) => PathBuf::from(config::StoreSettings::default().path),
    }
}

/// Opens the store to work on it, making it where there is none.
pub fn open_store(folder: &Path) -> Result<Arc<SqliteStore>> {
    SqliteStore::open(folder, &StoreOptions::default()).map(Arc::new)
}

/// What becomes of secrets that a system renews (a refresh token is good for one use).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keeping {
    /// They are kept in the store, which is ours to write.
    Renewed,
    /// They cannot be kept: nothing is renewed.
    Nothing,
}

/// The connections that the syncs use.
#[derive(Clone, Default)]
pub struct Systems {
    /// Those that are open.
    pub open: Vec<(SystemName, Arc<dyn Connector>)>,
    /// Those that cannot be opened as things are (a secret is missing, say), and why.
    pub closed: Vec<(SystemName, Error)>,
}

impl Systems {
    /// Refuses where one is closed and all are needed, or is written wrong, and where none is open.
    fn required(self, all: bool) -> Result<Systems> {
        let is_wrong = self.closed.iter().any(|(_, error)| error.class() == Class::BadInput);
        if !(all || is_wrong || self.open.is_empty()) {
            return Ok(self);
        }
        match self.closed.as_slice() {
            [] => Ok(self),
            [(_, one)] => Err(one.clone()),
            [(_, first), ..] => {
                let told = |error: &Error| error.at.iter().chain([&error.message]).cloned().collect::<Vec<_>>().join(": ");
                let all: Vec<String> = self.closed.iter().map(|(_, error)| told(error)).collect();
                Err(Error::new(first.code, all.join("; ")))
            }
        }
    }

    /// Tries again to open those that are closed.
    pub async fn try_again(&mut self, config: &Config, store: Arc<dyn Store>, folder: &Path) -> Result<()> {
        if self.closed.is_empty() {
            return Ok(());
        }
        let again = open_each(config, store, folder, Keeping::Renewed).await?;
        let was_closed = |name: &SystemName| self.closed.iter().any(|(closed, _)| closed == name);
        let opened: Vec<_> = again.open.into_iter().filter(|(name, _)| was_closed(name)).collect();
        self.open.extend(opened);
        self.closed = again.closed;
        Ok(())
    }
}

/// Opens every connection that the syncs use. Nothing is reached yet.
///
/// # Errors
/// Where one of them cannot be opened.
pub async fn open_systems(config: &Config, store: Arc<dyn Store>, folder: &Path, keeping: Keeping) -> Result<Systems> {
    open_each(config, store, folder, keeping).await?.required(true)
}

/// As [`open_systems`], where what one of them lacks is no reason to leave the others.
///
/// # Errors
/// Where none can be opened, or where what is written of one is wrong.
pub async fn open_some(config: &Config, store: Arc<dyn Store>, folder: &Path, keeping: Keeping) -> Result<Systems> {
    open_each(config, store, folder, keeping).await?.required(false)
}

/// As [`open_systems`]: those that could be opened, and why the others could not.
pub async fn open_each(config: &Config, store: Arc<dyn Store>, folder: &Path, keeping: Keeping) -> Result<Systems> {
    let installation = store.identity().await?.store;
    let kept = secrets::load(&*store, folder).await?;
    let keep: Arc<dyn Keep> = Arc::new(Kept { store, folder: folder.to_path_buf(), is_ours: keeping == Keeping::Renewed });
    let stored = |name: &str| secrets::loaded(&kept, name);
    let mut systems = Systems::default();
    for (name, connection) in &config.connections {
        if !config.syncs.iter().any(|sync| sync.systems().contains(&name)) {
            continue;
        }
        let changes = AskedChanges::of(config, name);
        let asked =
            Asked { name, connection, installation: &installation, stored: &stored, keep: Some(Arc::clone(&keep)), changes };
        match concord_connectors::open(&asked) {
            Ok(connector) => systems.open.push((name.clone(), connector)),
            Err(error) => {
                let error = if error.at.is_some() { error } else { error.at(name.as_str()) };
                systems.closed.push((name.clone(), error));
            }
        }
    }
    Ok(systems)
}

/// A sync ready to run.
pub struct PreparedSync {
    /// Its rules.
    pub rules: SyncRules,
    /// How it runs.
    pub mode: Mode,
    /// The fingerprint of its configuration.
    pub hash: ConfigHash,
    /// Whether its first run needs no approval.
    pub auto_approve: bool,
    /// The measures that a monitor is told of.
    pub metrics: Vec<Metric>,
    /// Indexes that would help.
    pub indexes: Vec<MissingIndex>,
    /// Its objects, and what it writes there.
    pub involved: Vec<(SystemName, Involved)>,
}

/// A sync that a command went on without.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct LeftOut {
    /// The sync.
    pub sync: String,
    /// The stable code of why.
    pub code: Code,
    /// Why.
    pub message: String,
}

impl LeftOut {
    /// Why a sync is left out.
    pub fn of((sync, error): &(String, Error)) -> LeftOut {
        let place = error.at.as_ref().map(|at| format!(" ({at})")).unwrap_or_default();
        LeftOut { sync: sync.clone(), code: error.code, message: format!("{}{place}", error.message) }
    }
}

/// The syncs of a configuration, as far as they could be proven against their systems.
#[derive(Default)]
pub struct Prepared {
    /// Those that can run.
    pub syncs: Vec<PreparedSync>,
    /// Every connected system.
    pub systems: Vec<(SystemName, Arc<dyn Connector>)>,
    /// Those that cannot be opened, and why.
    pub closed: Vec<(SystemName, Error)>,
    /// What was found about all of them.
    pub notices: Vec<Notice>,
    /// Those whose systems could not be asked, and why; to be tried again.
    pub waiting: Vec<(String, Error)>,
    /// Those that cannot run as they are written, and why.
    pub refused: Vec<(String, Error)>,
}

impl Prepared {
    /// The syncs that a command has to go on without, those that a person must put right before those that may come by
    /// themselves.
    pub fn left_out(&self) -> impl Iterator<Item = &(String, Error)> {
        self.refused.iter().chain(&self.waiting)
    }

    /// Leaves a sync out, with the reason: what may pass is waited for, the rest is a person's to put right.
    fn leave_out(&mut self, name: String, error: Error) {
        let is_said = self.notices.iter().any(|known| known.message == error.message && known.place == error.at);
        let is_closed = |(_, known): &(SystemName, Error)| (known.code, &known.message) == (error.code, &error.message);
        if !is_said && !self.closed.iter().any(is_closed) {
            self.notices.push(Notice::of(&error));
        }
        let list = match error.class() {
            Class::Transient | Class::Throttled => &mut self.waiting,
            _ => &mut self.refused,
        };
        list.push((name, error));
    }

    /// Takes out the syncs whose records were linked in other objects than they name now.
    ///
    /// # Errors
    /// What the store says.
    pub async fn leave_out_moved(&mut self, store: &dyn Store) -> Result<()> {
        for sync in std::mem::take(&mut self.syncs) {
            match approval::is_where_it_was(store, &sync).await {
                Ok(_) => self.syncs.push(sync),
                Err(error) if error.code == Code::SyncMoved => self.leave_out(sync.rules.name.to_string(), error),
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// The status of all of them where the process is stopped before any could begin.
    pub fn not_begun(&self) -> Status {
        let left_out = self.left_out().map(|(name, _)| name.clone());
        let names = self.syncs.iter().map(|sync| sync.rules.name.to_string()).chain(left_out);
        let syncs = names.map(|name| SyncStatus { name, stage: "not begun".to_owned(), ..SyncStatus::default() });
        Status { syncs: syncs.collect(), ..Status::default() }
    }

    /// The connector of a system.
    pub fn connector(&self, name: &SystemName) -> Result<Arc<dyn Connector>> {
        if let Some((_, error)) = self.closed.iter().find(|(closed, _)| closed == name) {
            return Err(error.clone());
        }
        let found = self.systems.iter().find(|(known, _)| known == name).map(|(_, connector)| Arc::clone(connector));
        found.ok_or_else(|| Error::new(Code::Internal, format!("the system `{name}` is not open")))
    }

    /// The connectors of a sync's members, in their order.
    pub fn connectors_of(&self, rules: &SyncRules) -> Result<Vec<Arc<dyn Connector>>> {
        rules.members.iter().map(|member| self.connector(&member.system)).collect()
    }
}

/// Proves every sync as [`prove`] does, and keeps what the commands that work without the systems need to know of them, and which
/// fields a person saw who wrote the mapping.
pub async fn prepare(written: &Written, store: &dyn Store, systems: &Systems) -> Result<Prepared> {
    let prepared = prove(written, store, systems).await?;
    for sync in &prepared.syncs {
        let left_out =
            written.config.syncs.iter().find(|own| own.name == sync.rules.name).map(|own| own.exclude_fields.as_slice());
        Known::load(store, &sync.rules).await?.leaving(left_out.unwrap_or_default()).keep(store, &sync.rules).await?;
    }
    let described = |sync: &PreparedSync| -> Result<Description> {
        let connectors = prepared.connectors_of(&sync.rules)?;
        let kinds: Vec<&str> = connectors.iter().map(|connector| connector.capabilities().kind).collect();
        Ok(Description { mode: sync.mode.describe(), ..Description::of(&sync.rules, &kinds) })
    };
    let descriptions: Vec<Description> = prepared.syncs.iter().map(described).collect::<Result<_>>()?;
    description::save(store, &descriptions).await?;
    Ok(prepared)
}

/// Proves the syncs against their systems, all of which is asked anew. A store that can only be looked at will do.
pub async fn prove(written: &Written, store: &dyn Store, systems: &Systems) -> Result<Prepared> {
    let Systems { open, closed } = systems.clone();
    let mut prepared = Prepared { systems: open, closed, ..Prepared::default() };
    // All of them, where one sync could only name one of its two.
    prepared.notices = prepared.closed.iter().map(|(_, error)| Notice::of(error)).collect();
    for (index, sync) in written.config.syncs.iter().enumerate() {
        let name = sync.name.to_string();
        let Some((source, target)) = sync.pair() else {
            let error = Error::new(Code::PlanNotAPair, format!("the sync `{name}` is not a pair, and hubs do not run yet"));
            prepared.notices.push(Notice::of(&error));
            prepared.refused.push((name, error));
            continue;
        };
        let objects = (source.object_name(), target.object_name());
        let asked = tokio::join!(facts(&prepared, &source.system, &objects.0), facts(&prepared, &target.system, &objects.1));
        let facts = match asked {
            (Ok(source), Ok(target)) => (source, target),
            (Ok(source), Err(error)) if error.code == Code::ObjectMissing => {
                let made_by = absent::made_by(&prepared, sync, &source)?;
                absent::offer(&mut prepared.notices, &error, made_by.as_deref());
                prepared.leave_out(name, error);
                continue;
            }
            (Err(error), _) | (_, Err(error)) => {
                prepared.leave_out(name, error);
                continue;
            }
        };
        let pointer = format!("/syncs/{index}");
        let id = store.sync_id(&name).await?;
        let referred = match referred(&prepared, written, store, sync).await {
            Ok(referred) => referred,
            Err(error) => {
                prepared.leave_out(name, error);
                continue;
            }
        };
        let (places, facts_of) = (&written.places, (&facts.0, &facts.1));
        let subject = Subject { sync, pointer: &pointer, places, facts: facts_of, id, referred: &referred };
        let mut compiled = plan::compile(&subject);
        prepared.notices.extend(compiled.findings.iter().map(notice));
        for index in &mut compiled.indexes {
            let schema = if index.object == facts.0.schema.object && index.system == source.system { &facts.0 } else { &facts.1 };
            index.statement = prepared.connector(&index.system)?.index_statement(&schema.schema, &index.fields);
            prepared.notices.push(notice(&plan::index_advice(&subject, index)));
        }
        match compiled.rules {
            Some(mut rules) => {
                rules.layout = plan::layout_of(store, &rules).await?;
                let (hash, indexes) = (written.config.sync_hash(sync), compiled.indexes);
                let mode = Mode::Reconcile(None);
                let (auto_approve, metrics) = (sync.auto_approve, sync.monitoring.metrics.clone());
                let involved = involved(sync).collect();
                prepared.syncs.push(PreparedSync { rules, mode, hash, auto_approve, metrics, indexes, involved });
            }
            None => {
                let first = compiled.findings.iter().find(|finding| finding.severity == Severity::Error);
                let code = first.map_or(Code::Internal, |finding| finding.code);
                let message = first.map_or_else(String::new, |finding| finding.message.clone());
                prepared.refused.push((name, Error::new(code, message)));
            }
        }
    }
    prepared.notices.extend(overlaps(&prepared.syncs, written));
    choose_modes(&mut prepared, written, store).await?;
    let remarks = remarks::of(&prepared, written, store).await?;
    prepared.notices.extend(remarks);
    Ok(prepared)
}

/// Fields that several syncs write, which only real schemas tell: what the documents tell of it was said before.
fn overlaps(syncs: &[PreparedSync], written: &Written) -> Vec<Notice> {
    let flows: Vec<overlap::Flow> = syncs.iter().flat_map(|sync| overlap::of_rules(&sync.rules)).collect();
    let told: BTreeSet<_> = config::overlaps(&written.config).into_iter().map(|known| (known.kind, known.syncs)).collect();
    let mut found = overlap::find(&flows);
    found.retain(|overlap| !told.contains(&(overlap.kind, overlap.syncs.clone())));
    let placed = |overlap: &overlap::Overlap| {
        let last = written.config.syncs.iter().rposition(|sync| overlap.syncs.contains(&sync.name)).unwrap_or_default();
        let warning = overlap.warning();
        match written.places.at(&format!("/syncs/{last}")) {
            Some(place) => notice(&warning.at(place)),
            None => notice(&warning),
        }
    };
    found.iter().map(placed).collect()
}

/// Which syncs are mirrored. One whose systems cannot be asked waits for them, but what it is written to do counts: the
/// choice must be the same once it runs.
async fn choose_modes(prepared: &mut Prepared, written: &Written, store: &dyn Store) -> Result<()> {
    let all = neighbours(prepared, written, store).await?;
    let syncs = std::mem::take(&mut prepared.syncs);
    let all = match all {
        Ok(all) => all,
        Err(error) => {
            syncs.iter().for_each(|sync| prepared.leave_out(sync.rules.name.to_string(), error.clone()));
            return Ok(());
        }
    };
    let rules: Vec<Arc<SyncRules>> = syncs.iter().map(|sync| Arc::new(sync.rules.clone())).collect();
    let connectors = rules.iter().map(|rules| prepared.connectors_of(rules)).collect::<Result<Vec<_>>>()?;
    // The others have another number of members than two.
    let pairs = rules.iter().zip(&connectors).map(|(rules, connectors)| match connectors.as_slice() {
        [source, target] => Some(Candidate { rules, ends: (source.as_ref(), target.as_ref()) }),
        _ => None,
    });
    let candidates: Vec<Candidate<'_>> = pairs.flatten().collect();
    let mut choices = mirror::choose_all(&candidates, &all, store).await.into_iter();
    for mut sync in syncs {
        let choice = if sync.rules.members.len() == 2 { choices.next() } else { None };
        match choice {
            None => prepared.syncs.push(sync),
            Some(Ok(Choice { mode, kin })) => {
                (sync.mode, sync.rules.kin) = (mode, kin);
                prepared.syncs.push(sync);
            }
            Some(Err(error)) if error.code == Code::StoreFailed => return Err(error),
            Some(Err(error)) => prepared.leave_out(sync.rules.name.to_string(), error),
        }
    }
    Ok(())
}

/// Every sync of the configuration as the others see it. The inner error: a system that answered before does not answer now.
async fn neighbours(prepared: &Prepared, written: &Written, store: &dyn Store) -> Result<Result<Vec<Neighbour>>> {
    let mut all = Vec::new();
    for sync in &written.config.syncs {
        let proven = prepared.syncs.iter().find(|proven| proven.rules.name == sync.name);
        let mut members = Vec::new();
        match proven {
            Some(proven) => {
                members.extend(proven.rules.members.iter().map(|member| (member.system.clone(), member.object.clone())));
            }
            None => {
                for member in sync.source.iter().chain(&sync.target) {
                    match known_as(prepared, &member.system, member.object_name()).await {
                        Ok(object) => members.push((member.system.clone(), object)),
                        Err(error) => return Ok(Err(error)),
                    }
                }
            }
        }
        let refers_to = sync.field_mappings.iter().filter_map(|mapping| mapping.reference.as_deref()).map(SyncName::from);
        let id = store.sync_id(sync.name.as_str()).await?;
        all.push(Neighbour { id, name: sync.name.clone(), members, refers_to: refers_to.collect() });
    }
    Ok(Ok(all))
}

/// The name that a system gives an object, where a sync into it is proven: only there does it matter. One that it does not
/// know is called as it is written.
async fn known_as(prepared: &Prepared, system: &SystemName, object: ObjectName) -> Result<ObjectName> {
    let is_written_to =
        |sync: &PreparedSync| sync.rules.members.iter().skip(1).any(|member| member.inward && member.system == *system);
    if !prepared.syncs.iter().any(is_written_to) {
        return Ok(object);
    }
    match facts(prepared, system, &object).await {
        Ok(facts) => Ok(facts.schema.object),
        Err(error) if matches!(error.class(), Class::Transient | Class::Throttled) => Err(error),
        Err(_) => Ok(object),
    }
}

/// What the systems say of the syncs whose records a sync's fields name.
async fn referred(prepared: &Prepared, written: &Written, store: &dyn Store, sync: &SyncConfig) -> Result<Vec<Referred>> {
    let mut found: Vec<Referred> = Vec::new();
    for name in sync.field_mappings.iter().filter_map(|mapping| mapping.reference.as_deref()) {
        let other = written.config.syncs.iter().find(|other| other.name.as_str() == name);
        let Some((other, (source, target))) = other.and_then(|other| Some((other, other.pair()?))) else { continue };
        if found.iter().any(|known| known.name == other.name) {
            continue;
        }
        let mut members = Vec::with_capacity(2);
        for member in [source, target] {
            let facts = facts(prepared, &member.system, &member.object_name()).await?;
            members.push((member.system.clone(), facts.schema));
        }
        found.push(Referred { name: other.name.clone(), id: store.sync_id(name).await?, members });
    }
    Ok(found)
}

/// What each system says of the objects that take part: reach, privileges, settings, keys. Nothing is changed.
pub async fn ask_systems(config: &Config, systems: &[(SystemName, Arc<dyn Connector>)]) -> Vec<Notice> {
    let mut notices = Vec::new();
    for (name, connector) in systems {
        match look_at(&**connector, &objects_of(config, name)).await {
            Ok(findings) => notices.extend(findings.iter().map(|finding| of_finding(name.as_str(), finding))),
            Err(error) => notices.push(Notice::of(&if error.at.is_some() { error } else { error.at(name.as_str()) })),
        }
    }
    notices
}

/// What a system says of these objects, and of what is to be written to them.
pub async fn look_at(connector: &dyn Connector, objects: &[Involved]) -> Result<Vec<Finding>> {
    let names: Vec<ObjectName> = objects.iter().map(|involved| involved.object.clone()).collect();
    let mut findings = connector.check(&names).await?;
    // What cannot be reached has been said.
    let known = |found: &Finding| {
        findings.iter().any(|known| known.code == found.code && known.about == found.about && known.message == found.message)
    };
    let more: Vec<Finding> = connector.check_writes(objects).await?.into_iter().filter(|found| !known(found)).collect();
    findings.extend(more);
    Ok(findings)
}

/// The objects of a sync, and what it does there.
fn involved(sync: &SyncConfig) -> impl Iterator<Item = (SystemName, Involved)> {
    let (at_source, at_target) = plan::writes(sync);
    let source = sync.source.iter().map(move |member| (member, at_source));
    let members = source.chain(sync.target.iter().map(move |member| (member, at_target)));
    members.map(|(member, writes)| (member.system.clone(), Involved { object: member.object_name(), writes }))
}

/// The objects of a system that take part, and what the syncs do there.
pub fn objects_of(config: &Config, system: &SystemName) -> Vec<Involved> {
    let mut all: Vec<Involved> = Vec::new();
    for (_, involved) in config.syncs.iter().flat_map(involved).filter(|(of, _)| of == system) {
        match all.iter_mut().find(|known| known.object == involved.object) {
            Some(known) => known.writes = known.writes.or(involved.writes),
            None => all.push(involved),
        }
    }
    all
}

/// Adds notices, but for those of a lack that a system has been found to have: it is named with its remedy already.
pub fn add_unknown(notices: &mut Vec<Notice>, more: Vec<Notice>) {
    absent::hand_over(notices, &more);
    let named: Vec<Notice> = notices.iter().filter(|notice| notice.severity == "error").cloned().collect();
    let is_known = |notice: &Notice| {
        let is_same =
            |known: &Notice| known.message == notice.message || (known.code == notice.code && known.place == notice.place);
        named.iter().any(is_same)
    };
    notices.extend(more.into_iter().filter(|notice| !is_known(notice)));
}

/// A connector's finding as people see it.
pub fn of_finding(system: &str, finding: &Finding) -> Notice {
    let about = if finding.about == system { system.to_string() } else { format!("{system}, {}", finding.about) };
    Notice {
        code: finding.code.map_or(String::new(), |code| code.to_string()),
        severity: match finding.severity {
            connector::Severity::Fine => "fine",
            connector::Severity::Advice => "advice",
            connector::Severity::Warning => "warning",
            connector::Severity::Problem => "error",
        },
        message: finding.message.clone(),
        place: Some(about),
        because: None,
        remedy: finding.remedy.clone(),
    }
}

async fn facts(prepared: &Prepared, system: &SystemName, object: &ObjectName) -> Result<MemberFacts> {
    let connector = prepared.connector(system)?;
    let ask = async {
        let schema = connector.schema(object).await?;
        let count = connector.count(&schema.object).await?;
        Ok(MemberFacts { schema, capabilities: connector.capabilities().clone(), count: Some(count) })
    };
    let answered = tokio::time::timeout(FACTS_WAIT_MAX, ask).await;
    let late =
        |_| Error::new(Code::Unreachable, format!("`{system}` did not answer within {} seconds", FACTS_WAIT_MAX.as_secs()));
    let located = |error: Error| if error.at.is_some() { error } else { error.at(format!("{system}, {object}")) };
    answered.map_err(late).and_then(|answer| answer).map_err(located)
}
