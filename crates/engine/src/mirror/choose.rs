//! Which of the two modes a sync runs in. The configuration decides, never a switch: a one-way sync whose source owns the
//! fields is mirrored, and what mirror mode cannot do yet runs in reconcile mode, with the reason in plan and status.

use super::bulk::Bonds;
use super::carry::{Carrier, SOURCE, TARGET};
use super::family::{Bond, Member, Own, bind};
use crate::connector::Connector;
use crate::error::{Code, Error, Result};
use crate::link::SyncId;
use crate::record::{ObjectName, SyncName, SystemName};
use crate::rules::{Carrying, Fallback, InitialStrategy, Kin, OnDelete, SyncRules, TargetEdits};
use crate::schema::ForeignKeys;
use crate::store::Store;
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// How a sync runs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// Without a memory of its records: progress is kept in the target.
    Mirror,
    /// With a link and a base per record; why, where the configuration would let it be mirrored.
    Reconcile(Option<String>),
}

impl Mode {
    /// In words.
    pub fn describe(&self) -> String {
        match self {
            Mode::Mirror => "mirror".to_owned(),
            Mode::Reconcile(None) => "reconcile".to_owned(),
            Mode::Reconcile(Some(why)) => format!("reconcile: {why}"),
        }
    }
}

/// The setting that says that a sync has begun in mirror mode.
pub(super) fn begun_setting(sync: SyncId) -> String {
    format!("mirror/{}", sync.0)
}

/// Whether a sync has begun in mirror mode.
///
/// # Errors
/// What the store says.
pub async fn has_begun(store: &dyn Store, sync: SyncId) -> Result<bool> {
    Ok(store.setting(&begun_setting(sync)).await?.is_some())
}

/// What the names of all syncs of this store begin with in their targets.
///
/// # Errors
/// What the store says.
pub async fn names_of_all(store: &dyn Store) -> Result<String> {
    Ok(format!("{}:", store.identity().await?.store))
}

/// The name that a sync has in its target.
///
/// # Errors
/// What the store says.
pub async fn name_of(store: &dyn Store, sync: SyncId) -> Result<String> {
    Ok(format!("{}{}", names_of_all(store).await?, sync.0))
}

/// The indexes of the target that the first load of a sync does without, for a plan.
///
/// # Errors
/// What the target says.
pub async fn spare_indexes(rules: &Arc<SyncRules>, target: &dyn Connector) -> Result<Vec<String>> {
    let (Ok(carrier), Some(mirror), Some(member)) = (Carrier::new(rules), target.mirror_target(), rules.members.get(TARGET))
    else {
        return Ok(Vec::new());
    };
    match rules.initial.rebuild_indexes {
        true => mirror.spare_indexes(&member.object, &carrier.set_aside(carrier.as_it_is().is_some())).await,
        false => Ok(Vec::new()),
    }
}

/// What the store keeps of a mirrored sync, to be forgotten with it.
pub fn settings(sync: SyncId) -> Vec<String> {
    let of_people = ["verdict", "verdict_empties", "asked", "anew"].map(|name| super::people::setting(sync, name));
    [begun_setting(sync), crate::offer::setting(sync)].into_iter().chain(of_people).collect()
}

/// A sync of the configuration, as far as it bears on how another one runs: as it is written, for what its systems say of it
/// may not be known yet, and the choice is the same before and after.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Neighbour {
    /// Its number in the store.
    pub id: SyncId,
    /// Its name.
    pub name: SyncName,
    /// The objects that take part in it, by the names that their systems give them.
    pub members: Vec<(SystemName, ObjectName)>,
    /// The syncs that its fields refer to.
    pub refers_to: Vec<SyncName>,
}

/// A sync whose mode is to be chosen.
pub struct Candidate<'a> {
    /// Its rules.
    pub rules: &'a Arc<SyncRules>,
    /// The connectors of its source and its target.
    pub ends: (&'a dyn Connector, &'a dyn Connector),
}

/// How a sync runs, and what binds it to others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Choice {
    /// How.
    pub mode: Mode,
    /// What its rules are to say of that.
    pub kin: Kin,
}

/// Chooses for one sync that has no others beside it, as [`choose_all`] does.
///
/// # Errors
/// As [`choose_all`].
pub async fn choose(
    rules: &Arc<SyncRules>,
    all: &[Neighbour],
    store: &dyn Store,
    ends: (&dyn Connector, &dyn Connector),
) -> Result<Mode> {
    let chosen = choose_all(&[Candidate { rules, ends }], all, store).await.into_iter().next();
    chosen.ok_or_else(|| Error::new(Code::Internal, "nothing was chosen"))?.map(|choice| choice.mode)
}

/// Chooses for the syncs of a configuration, in their order. `all` are those that could not be looked at as well.
///
/// # Errors
/// Of each: what the store and the target say; `PlanStale` where a sync that was mirrored cannot be mirrored any more; `KeyMissing` where
/// records without a key are not mirrored; `FilterNotBuilt` where some of its records are left out, which only mirror mode can do;
/// `Busy` where it depends on a sync that could not be looked at.
pub async fn choose_all(candidates: &[Candidate<'_>], all: &[Neighbour], store: &dyn Store) -> Vec<Result<Choice>> {
    let mut looks = Vec::with_capacity(candidates.len());
    for candidate in candidates {
        looks.push(look(candidate, all, store).await);
    }
    let members = candidates.iter().zip(&looks).map(|(candidate, look)| Member {
        rules: candidate.rules,
        own: look.as_ref().ok().and_then(|look| look.own.as_ref().ok()),
        is_known: look.is_ok(),
    });
    let bonds = bind(&members.collect::<Vec<Member<'_>>>(), all);
    let looks = candidates.iter().zip(looks).zip(bonds);
    looks.map(|((candidate, look), bond)| settled(candidate.rules, look?, bond)).collect()
}

/// What there is to say of a sync by itself.
struct Look {
    was_mirrored: bool,
    /// What is to be known of it to mirror it; else why it is reconciled, where the configuration would let it be mirrored.
    own: std::result::Result<Own, Option<String>>,
}

async fn look(candidate: &Candidate<'_>, all: &[Neighbour], store: &dyn Store) -> Result<Look> {
    let rules = candidate.rules;
    let was_mirrored = has_begun(store, rules.id).await?;
    if !is_asked_for(rules) && !was_mirrored {
        return Ok(Look { was_mirrored, own: Err(None) });
    }
    let begun = store.setting(&format!("begun/{}", rules.id.0)).await?.is_some();
    if begun && !was_mirrored {
        let why = "it began with a memory of its records and goes on so";
        return Ok(Look { was_mirrored, own: Err(Some(why.to_owned())) });
    }
    let other_kind =
        (!is_asked_for(rules)).then(|| "its records no longer flow one way, or are not to overwrite any more".to_owned());
    if let Some(why) = other_kind.or_else(|| objection(rules, all)) {
        return Ok(Look { was_mirrored, own: Err(Some(why)) });
    }
    let own = match Carrier::new(rules) {
        Ok(carrier) => match of_the_systems(rules, candidate.ends).await? {
            None => Ok(bonds(rules, carrier, candidate.ends).await?),
            Some(why) => Err(Some(why)),
        },
        Err(why) => Err(Some(why)),
    };
    Ok(Look { was_mirrored, own })
}

/// What the systems say of the foreign keys of a sync's objects.
async fn bonds(rules: &SyncRules, carrier: Carrier, (source, target): (&dyn Connector, &dyn Connector)) -> Result<Own> {
    let unbound = |carrier| Own { carrier, at_target: ForeignKeys::default(), hindrance: None, at_source: Vec::new() };
    let ([from, to], Some(mirror)) = (rules.members.as_slice(), target.mirror_target()) else { return Ok(unbound(carrier)) };
    let Bonds { keys, hindrance } = mirror.bonds(&to.object).await?;
    let at_source = match source.bulk_source().filter(|_| !keys.own.is_empty()) {
        Some(source) => source.keeps(&from.object).await?,
        None => Vec::new(),
    };
    Ok(Own { carrier, at_target: keys, hindrance, at_source })
}

/// How a sync runs after all.
fn settled(rules: &SyncRules, look: Look, bond: Bond) -> Result<Choice> {
    let (why, kin) = match (look.own, bond) {
        (Err(None), _) => (None, Kin::default()),
        (Err(Some(why)), _) | (Ok(_), Bond::Never(why)) => (Some(why), Kin::default()),
        (Ok(_), Bond::NotYet(what)) => return Err(Error::new(Code::Busy, what)),
        (Ok(_), Bond::Kin(kin)) => return Ok(Choice { mode: Mode::Mirror, kin }),
    };
    if let Some(why) = why.as_ref().filter(|_| look.was_mirrored) {
        let message =
            format!("`{}` was mirrored, which it cannot be any more: {why}; release it and let it begin anew", rules.name);
        return Err(Error::new(Code::PlanStale, message));
    }
    if rules.filter.is_some() {
        let why = why.as_ref().map(|why| format!(": {why}")).unwrap_or_default();
        let message = format!("`{}` has a filter, which only a mirrored sync carries out, and is not mirrored{why}", rules.name);
        return Err(Error::new(Code::FilterNotBuilt, message));
    }
    if let Some(member) = rules.members.iter().find(|member| member.schema.key.is_empty()) {
        let why = why.map(|why| format!(", and cannot be mirrored: {why}")).unwrap_or_default();
        return Err(Error::new(Code::KeyMissing, format!("`{}` of `{}` has no key{why}", member.object, member.system)));
    }
    Ok(Choice { mode: Mode::Reconcile(why), kin })
}

/// Whether the configuration asks for it: one way, and the source owns the fields.
fn is_asked_for(rules: &SyncRules) -> bool {
    let [source, target] = rules.members.as_slice() else { return false };
    source.outward && target.inward && !target.outward && rules.target_edits == TargetEdits::Overwrite
}

/// What in the configuration stands in the way.
fn objection(rules: &SyncRules, all: &[Neighbour]) -> Option<String> {
    let target = rules.members.get(TARGET)?;
    if rules.initial.strategy != InitialStrategy::FullLoad {
        return Some("mirror mode begins with a full load".to_owned());
    }
    if rules.carrying != Carrying::AtOnce {
        return Some("mirror mode carries changes as they happen".to_owned());
    }
    if rules.deletes.on_delete != OnDelete::Propagate {
        return Some("mirror mode carries deletes as deletes".to_owned());
    }
    if rules.fallback != Fallback::Review {
        return Some("what is refused waits for a person in mirror mode".to_owned());
    }
    if rules.fields.iter().flat_map(|field| field.members.iter().flatten()).any(|at| at.write_back) {
        return Some("`write_back` writes to the source".to_owned());
    }
    if rules.validation.iter().any(crate::validate::Rule::needs_lookup) {
        return Some("the rule `unique` needs a memory of the records".to_owned());
    }
    if let Some((_, reference)) = rules.references().next() {
        return Some(format!("its records refer to those of `{}`, which needs a memory of the records", reference.name));
    }
    if let Some(other) = all.iter().find(|other| other.refers_to.contains(&rules.name)) {
        return Some(format!("`{}` refers to its records, which needs a memory of them", other.name));
    }
    let there = |(system, object): &(SystemName, ObjectName)| *system == target.system && *object == target.object;
    if let Some(other) = all.iter().find(|other| other.id != rules.id && other.members.iter().any(there)) {
        return Some(format!("`{}` takes part in the same object, and its writes must be told from edits", other.name));
    }
    let (source, target) = (rules.members.get(SOURCE)?, target);
    (source.system == target.system && source.object == target.object).then(|| "source and target are the same object".to_owned())
}

/// What in the systems stands in the way.
async fn of_the_systems(rules: &SyncRules, (source, target): (&dyn Connector, &dyn Connector)) -> Result<Option<String>> {
    let [from, to] = rules.members.as_slice() else { return Ok(None) };
    if source.for_one_sync("probe").is_none_or(|own| own.bulk_source().is_none()) {
        return Ok(Some(format!("`{}` has no feed that one sync could have for itself", from.system)));
    }
    match target.mirror_target() {
        Some(mirror) if from.schema.key.is_empty() && !mirror.appends() => {
            Ok(Some(format!("`{}` does not take records without a key", to.system)))
        }
        Some(mirror) => mirror.objection(&to.object).await,
        None => Ok(Some(format!("`{}` cannot keep the progress beside the data yet", to.system))),
    }
}
