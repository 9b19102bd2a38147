//! Schemas that change while a feed runs: taken over where every mapped field is as it was; otherwise the object's syncs
//! stop, with their observations kept, and are read again before they go on.

use crate::connector::Connector;
use crate::error::{Code, Error, Result};
use crate::link::{Link, LinkId, MemberIndex, NO_LONGER_SHOWN, Pending, Shown};
use crate::offer::Known;
use crate::record::{FieldName, SystemName};
use crate::rules::SyncRules;
use crate::runtime::bounds::STEP;
use crate::runtime::core::Core;
use crate::schema::{Field, Schema, Type};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Fields that were gone from a member for a while, by their canonical names: what comes back under the name may be another
/// field, of which nothing is known.
pub(crate) type Lost = BTreeSet<(MemberIndex, String)>;

/// The setting that says that changes of a sync went by in a schema that could not tell them.
pub(crate) fn drift_setting(sync: u32) -> String {
    format!("drifted/{sync}")
}

/// A mapped field of a member: its canonical name, its name there, and what tells it from others of that name.
type Origin = (MemberIndex, String, String, Option<u32>);

/// The setting that holds which fields of its members a sync's records were read by.
fn origins_setting(sync: u32) -> String {
    format!("origins/{sync}")
}

/// What about a new schema breaks a member's mapping, if anything does.
pub(crate) fn drift(rules: &SyncRules, member: MemberIndex, schema: &Schema) -> Option<String> {
    let known = &rules.members.get(member)?.schema;
    if schema.fields.is_empty() {
        return Some(format!("{} is gone, or has another name", schema.object));
    }
    if known.key != schema.key {
        return Some(format!("the key of {} is now ({})", schema.object, join(&schema.key)));
    }
    let mapped = rules.fields.iter().filter_map(|field| field.members.get(member)?.as_ref()).find_map(|at| {
        match schema.field(at.name.as_str()) {
            None => Some(format!("the mapped field {} of {} is gone or renamed", at.name, schema.object)),
            Some(field) => match (&at.ty, &field.ty) {
                (Type::Enum { .. }, Type::Enum { .. }) => None,
                (old, new) if old == new => None,
                _ => Some(format!(
                    "the mapped field {} of {} was {} and is now {}",
                    at.name, schema.object, at.native_type, field.native_type
                )),
            },
        }
    });
    mapped.or_else(|| filtered(rules, known, member, schema))
}

/// The same of the fields by which the source's records are left out.
fn filtered(rules: &SyncRules, known: &Schema, member: MemberIndex, schema: &Schema) -> Option<String> {
    let filter = rules.filter.as_ref().filter(|_| member == 0)?;
    filter.fields().iter().find_map(|name| {
        let (before, now) = (known.field(name.as_str())?, schema.field(name.as_str()));
        match now {
            None => Some(format!("the field {name} of {}, which the filter looks at, is gone or renamed", schema.object)),
            Some(now) if now.ty == before.ty => None,
            Some(now) => Some(format!(
                "the field {name} of {}, which the filter looks at, was {} and is now {}",
                schema.object, before.native_type, now.native_type
            )),
        }
    })
}

/// A mapped field of a member that is another one now than the one that its records were read by.
fn another(rules: &SyncRules, member: MemberIndex, schema: &Schema) -> Option<String> {
    let known = &rules.members.get(member)?.schema;
    let mapped = rules.fields.iter().filter_map(|field| field.members.get(member)?.as_ref());
    let origin = |schema: &Schema, name: &FieldName| schema.field(name.as_str()).and_then(|field| field.origin);
    let found = mapped.map(|at| &at.name).find(|name| is_another(origin(known, name), origin(schema, name)))?;
    Some(format!("the mapped field {found} of {} was dropped, and another one has its name now", schema.object))
}

/// Whether a field is another one than before, as far as the system can tell.
fn is_another(before: Option<u32>, now: Option<u32>) -> bool {
    matches!((before, now), (Some(before), Some(now)) if before != now)
}

/// The mapped fields of a member that a new schema lacks or has anew.
fn lost(rules: &SyncRules, member: MemberIndex, schema: &Schema) -> Lost {
    let known = rules.members.get(member).map(|member| &member.schema);
    let is_lost = |name: &FieldName| {
        let before = known.and_then(|known| known.field(name.as_str())).and_then(|field| field.origin);
        schema.field(name.as_str()).is_none_or(|now| is_another(before, now.origin))
    };
    let mapped = rules.fields.iter().filter_map(|field| Some((field, field.members.get(member)?.as_ref()?)));
    mapped.filter(|(_, at)| is_lost(&at.name)).map(|(field, _)| (member, field.name.to_string())).collect()
}

pub(super) fn adopt_schema(rules: &mut SyncRules, member: MemberIndex, schema: &Schema) {
    for field in &mut rules.fields {
        let Some(Some(at)) = field.members.get_mut(member) else { continue };
        if let Some(new) = schema.field(at.name.as_str()) {
            at.ty = new.ty.clone();
        }
    }
    if let Some(member) = rules.members.get_mut(member) {
        member.schema = schema.clone();
    }
}

/// What gives a member a field like one of another member.
fn statement<'a>(
    systems: &'a BTreeMap<SystemName, Arc<dyn Connector>>,
    rules: &'a SyncRules,
    from: MemberIndex,
) -> impl Fn(MemberIndex, &Field) -> Option<String> + use<'a> {
    move |to, field| {
        let connector = |member: MemberIndex| systems.get(&rules.members.get(member)?.system);
        let kind = connector(from)?.capabilities().kind;
        connector(to)?.field_statement(&rules.members.get(to)?.object, field, kind)
    }
}

pub(super) fn join(names: &[FieldName]) -> String {
    names.iter().map(FieldName::as_str).collect::<Vec<_>>().join(", ")
}

impl Core {
    /// A new schema of an object: taken over where every mapped field is as it was; otherwise the object's syncs stop,
    /// with their observations kept.
    pub(super) fn schema_changed(&mut self, system: &SystemName, schema: &Schema) {
        let systems = &self.systems;
        for sync in &mut self.syncs {
            for member in 0..sync.rules.members.len() {
                let concerned =
                    sync.rules.members.get(member).is_some_and(|rules| rules.system == *system && rules.object == schema.object);
                if !concerned {
                    continue;
                }
                match drift(&sync.rules, member, schema).or_else(|| another(&sync.rules, member, schema)) {
                    Some(what) => {
                        let error = Error::new(Code::SchemaDrift, what).at(format!("{system} {}", schema.object));
                        tracing::warn!(sync = sync.rules.name.as_str(), %error, "schema drift");
                        sync.stopped.get_or_insert(error);
                        let all = sync.drifted.get_or_insert_default();
                        all.extend(lost(&sync.rules, member, schema));
                        self.transaction.settings.push((drift_setting(sync.rules.id.0), postcard::to_stdvec(&*all).ok()));
                    }
                    None => {
                        sync.offers.look(&sync.rules, member, schema, statement(systems, &sync.rules, member));
                        adopt_schema(Arc::make_mut(&mut sync.rules), member, schema);
                    }
                }
            }
        }
    }

    /// What is offered of fields that came before the engine was started, and after the mapping was written.
    pub(crate) async fn restore_offers(&mut self, sync: usize) -> Result<()> {
        let Some(rules) = self.rules(sync) else { return Ok(()) };
        let known = Known::load(&*self.store, &rules).await?;
        let Some(state) = self.syncs.get_mut(sync) else { return Ok(()) };
        state.offers.begin(known);
        for (member, member_rules) in rules.members.iter().enumerate() {
            state.offers.look(&rules, member, &member_rules.schema, statement(&self.systems, &rules, member));
        }
        Ok(())
    }

    /// Lets a sync whose schemas drifted go on, where what is mapped is there again: it is followed, and read again. Nothing
    /// where none drifted.
    ///
    /// # Errors
    /// `SchemaDrift` says what is still missing; what the systems say.
    pub(crate) async fn go_on_behind_drift(&mut self, sync: usize) -> Result<()> {
        if self.syncs.get(sync).is_none_or(|state| state.drifted.is_none()) {
            return Ok(());
        }
        self.take_over_schemas(sync).await?;
        self.follow_again(sync);
        let drifted = self.syncs.get(sync).and_then(|state| state.drifted.clone());
        self.make_up_for_drift(sync, drifted).await
    }

    /// Asks the systems of a sync for its schemas, and takes them over where what is mapped is there again.
    async fn take_over_schemas(&mut self, sync: usize) -> Result<()> {
        let Some(rules) = self.rules(sync) else { return Ok(()) };
        let mut schemas = Vec::with_capacity(rules.members.len());
        for (member, member_rules) in rules.members.iter().enumerate() {
            let Some(connector) = self.connector(sync, member) else { continue };
            let asked = tokio::time::timeout(self.options.read_timeout, connector.schema(&member_rules.object)).await;
            let late = |_| Error::new(Code::Unreachable, format!("`{}` did not answer in time", member_rules.system));
            let schema = asked.map_err(late).and_then(|answer| answer)?;
            let missing = lost(&rules, member, &schema).into_iter().find(|(_, field)| {
                let at =
                    rules.fields.iter().find(|known| known.name.as_str() == field).and_then(|field| field.members.get(member));
                at.and_then(Option::as_ref).is_some_and(|at| schema.field(at.name.as_str()).is_none())
            });
            if schema.key != member_rules.schema.key || missing.is_some() {
                let what = drift(&rules, member, &schema).unwrap_or_default();
                return Err(Error::new(Code::SchemaDrift, what).at(format!("{} {}", member_rules.system, schema.object)));
            }
            schemas.push((member, schema));
        }
        for (member, schema) in schemas {
            let Some(state) = self.syncs.get_mut(sync) else { continue };
            if let Some(drifted) = &mut state.drifted {
                drifted.extend(lost(&state.rules, member, &schema));
                let rules = &state.rules;
                drifted.retain(|(of, field)| *of != member || !is_the_same(rules, member, field, &schema));
            }
            adopt_schema(Arc::make_mut(&mut state.rules), member, &schema);
        }
        Ok(())
    }

    /// Changes that went by while a key or a mapped field was gone could not be told: the records are read again before
    /// the sync goes on (invariant 1), also where a restart lies between. Of a field that is another one now nothing is known:
    /// what it shows is no edit of what the one before it showed.
    async fn make_up_for_drift(&mut self, sync: usize, drifted: Option<Lost>) -> Result<()> {
        let (Some(drifted), Some(rules)) = (drifted, self.rules(sync)) else { return Ok(()) };
        self.commit();
        self.forget_fields(sync, &drifted).await?;
        if let Some(state) = self.syncs.get_mut(sync) {
            state.drifted = None;
        }
        self.transaction.settings.push((drift_setting(rules.id.0), None));
        self.keep_origins(sync);
        self.reread(sync);
        Ok(())
    }

    /// What happened to a sync's schemas before the engine was started: fields that were gone when it last ran, and fields
    /// that are others now.
    pub(crate) async fn restore_drift(&mut self, sync: usize) -> Result<()> {
        let Some((rules, begun)) = self.syncs.get(sync).map(|state| (Arc::clone(&state.rules), state.begun)) else {
            return Ok(());
        };
        let stored = self.store.setting(&origins_setting(rules.id.0)).await?;
        let before: Vec<Origin> = stored.and_then(|bytes| postcard::from_bytes(&bytes).ok()).unwrap_or_default();
        let now = origins(&rules);
        let find = |member: MemberIndex, field: &str| {
            let of = |all: &[Origin]| {
                all.iter()
                    .find(|(of, name, ..)| *of == member && name == field)
                    .map(|(.., column, origin)| (column.clone(), *origin))
            };
            // Of a field that is mapped to another column now the mapping tells.
            match (of(&before), of(&now)) {
                (Some((before, was)), Some((now, is))) if before == now => (was, is),
                _ => (None, None),
            }
        };
        let kept = self.store.setting(&drift_setting(rules.id.0)).await?;
        let mut drifted = kept.map(|bytes| postcard::from_bytes::<Lost>(&bytes).unwrap_or_default());
        if let Some(drifted) = &mut drifted {
            drifted.retain(|(member, field)| !matches!(find(*member, field), (Some(before), Some(now)) if before == now));
        }
        for (member, field, ..) in &now {
            let (before, now) = find(*member, field);
            if begun && is_another(before, now) {
                tracing::warn!(sync = %rules.name, field, "the field was dropped, and another one has its name now: everything is read again");
                drifted.get_or_insert_default().insert((*member, field.clone()));
            }
        }
        if drifted.is_none() && before != now {
            self.keep_origins(sync);
        }
        self.make_up_for_drift(sync, drifted).await
    }

    /// What tells fields from others of their names means nothing in another life of their system.
    pub(super) fn forget_origins(&mut self, system: &SystemName) {
        for state in &mut self.syncs {
            if !state.rules.members.iter().any(|member| member.system == *system) {
                continue;
            }
            self.transaction.settings.push((origins_setting(state.rules.id.0), None));
            for member in Arc::make_mut(&mut state.rules).members.iter_mut().filter(|member| member.system == *system) {
                member.schema.fields.iter_mut().for_each(|field| field.origin = None);
            }
        }
    }

    fn keep_origins(&mut self, sync: usize) {
        let Some(rules) = self.rules(sync) else { return };
        self.transaction.settings.push((origins_setting(rules.id.0), postcard::to_stdvec(&origins(&rules)).ok()));
    }

    /// Forgets what fields of members last showed: they are met as at first sight. Begun again from the start after a crash.
    async fn forget_fields(&mut self, sync: usize, lost: &Lost) -> Result<()> {
        let Some(rules) = self.rules(sync) else { return Ok(()) };
        let place = |name: &String| rules.fields.iter().position(|field| field.name.as_str() == name);
        let places: Vec<(MemberIndex, usize)> =
            lost.iter().filter_map(|(member, field)| Some((*member, place(field)?))).collect();
        if places.is_empty() || crate::mutants::active("emptiness_is_an_edit") {
            return Ok(());
        }
        let mut after = LinkId(0);
        loop {
            let links = self.store.scan_links(rules.id, after, STEP).await?;
            let Some(last) = links.last() else { break };
            after = last.id;
            for mut link in links {
                for (member, field) in &places {
                    if let Some(cell) = link.sides.get_mut(*member).and_then(|side| side.base.get_mut(*field)) {
                        *cell = None;
                    }
                    forget_in_groups(&rules, &mut link, *member, *field);
                }
                self.transaction.links.push(Arc::new(link));
            }
            self.commit();
        }
        // What was seen and had not been taken into account went with the field. Taken into account now, it would make the
        // emptiness of the one that has its name look like an edit.
        let mut after = None;
        loop {
            let rows = self.store.scan_pending(rules.id, after.clone(), STEP).await?;
            let Some((last, _)) = rows.last() else { return Ok(()) };
            after = Some(last.clone());
            for (address, mut pending) in rows.into_iter().filter(|(_, pending)| pending.layout == rules.layout) {
                if hide(&mut pending, &places) {
                    self.transaction.pending.push((address, Some(pending)));
                }
            }
            self.commit();
        }
    }
}

/// What was decided of a field that a member does not show any more stands, and what it contended with there went with it.
fn forget_in_groups(rules: &SyncRules, link: &mut Link, member: MemberIndex, field: usize) {
    let bases = link.sides.get(member).map(|side| side.base.as_slice()).unwrap_or_default();
    let with_it = link.groups.iter_mut().enumerate().filter(|(group, _)| rules.group_fields(*group).contains(&field));
    for (group, state) in with_it {
        if let Some(agreed) = state.agreed.as_mut().filter(|agreed| agreed.from == member) {
            agreed.from = NO_LONGER_SHOWN;
        }
        // Held in its name, the emptiness of the new column would be taken for what a person has put in the place of a value.
        let is_known = |field: &usize| bases.get(*field).is_some_and(Option::is_some);
        if let Some(held) = state.held.as_mut().filter(|_| !rules.group_fields(group).iter().any(is_known)) {
            held.contenders.retain(|(other, ..)| *other != member);
        }
    }
}

/// Takes fields of members out of what is pending; says whether any of them was shown there.
fn hide(pending: &mut Pending, places: &[(MemberIndex, usize)]) -> bool {
    let Shown::Present { cells, times, full, .. } = &mut pending.shown else { return false };
    let mut hidden = false;
    for (_, field) in places.iter().filter(|(member, _)| *member == pending.member) {
        if let Some(cell) = cells.get_mut(*field) {
            hidden |= cell.take().is_some();
        }
        if let Some(time) = times.get_mut(*field) {
            *time = None;
        }
    }
    *full &= !hidden;
    hidden
}

/// Whether a member's field is the one that it was.
fn is_the_same(rules: &SyncRules, member: MemberIndex, field: &str, schema: &Schema) -> bool {
    let at = rules.fields.iter().find(|known| known.name.as_str() == field).and_then(|field| field.members.get(member)?.as_ref());
    let Some(name) = at.map(|at| at.name.as_str()) else { return false };
    let before = rules.members.get(member).and_then(|member| member.schema.field(name)).and_then(|field| field.origin);
    before.is_some() && before == schema.field(name).and_then(|field| field.origin)
}

/// What tells each mapped field of each member from others of its name.
fn origins(rules: &SyncRules) -> Vec<Origin> {
    let mut all = Vec::new();
    for field in &rules.fields {
        for (member, at) in field.members.iter().enumerate() {
            let Some(at) = at else { continue };
            let schema = rules.members.get(member).map(|member| &member.schema);
            let origin = schema.and_then(|schema| schema.field(at.name.as_str())).and_then(|field| field.origin);
            all.push((member, field.name.to_string(), at.name.to_string(), origin));
        }
    }
    all
}
