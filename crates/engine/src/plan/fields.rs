//! Pairs of fields made into canonical ones: names, directions, types that fit, the way of a value and its way back.
//! The canonical names are the source's; where one source field becomes several, the target's.

use super::compile::Subject;
use super::notes::Notes;
use super::pairing::{Pair, makes_up_key};
use super::steps::{Steps, Way};
use crate::config::{Direction, FieldMapping, SyncConfig};
use crate::error::Code;
use crate::link::{GroupIndex, MemberIndex};
use crate::map::Mapping;
use crate::record::FieldName;
use crate::references::{Reference, ReferredMember};
use crate::rules::{FieldRules, MemberField};
use crate::schema::{Field, Type};
use crate::transform::Pipeline;
use crate::value::{TypeFit, type_fit};

/// The canonical fields before they are put in groups.
pub(super) struct Drafts {
    pub all: Vec<Draft>,
}

/// One canonical field before it is put in a group.
pub(super) struct Draft {
    pub name: String,
    /// The group that was asked for, or that a joined field makes by itself.
    pub group: Option<String>,
    pub owner: Option<MemberIndex>,
    pub members: Vec<Option<MemberField>>,
    /// The sync whose records it names.
    pub reference: Option<Reference>,
    /// Whether a record without a value here is refused.
    pub required: bool,
    /// The place of what was written about it, below the sync.
    pub path: String,
    /// Whether it is one of several fields that are one on the other side.
    pub is_part: bool,
}

impl Drafts {
    /// The place of the canonical field that somebody calls so: by its canonical name, or by a member's.
    pub fn called(&self, name: &str) -> Option<usize> {
        let by = |matches: &dyn Fn(&Draft) -> bool| self.all.iter().position(matches);
        by(&|draft| draft.name == name).or_else(|| by(&|draft| draft.members.iter().flatten().any(|at| at.name.as_str() == name)))
    }

    /// The member's names of all fields.
    pub fn names_of(&self, member: MemberIndex) -> Vec<FieldName> {
        self.at(member).map(|at| at.name.clone()).collect()
    }

    /// The member's names of the fields that are written there.
    pub fn inward_names_of(&self, member: MemberIndex) -> Vec<FieldName> {
        self.at(member).filter(|at| at.inward).map(|at| at.name.clone()).collect()
    }

    fn at(&self, member: MemberIndex) -> impl Iterator<Item = &MemberField> {
        self.all.iter().filter_map(move |draft| draft.members.get(member)?.as_ref())
    }

    /// The member's field that corresponds to a field of another member.
    pub fn counterpart(&self, member: MemberIndex, name: &FieldName) -> Option<FieldName> {
        let draft = self.all.get(self.called(name.as_str())?)?;
        draft.members.get(member)?.as_ref().map(|at| at.name.clone())
    }

    /// The canonical fields, each in its group.
    pub fn into_rules(self, group_of: &[GroupIndex]) -> Vec<FieldRules> {
        let groups = group_of.iter().copied();
        let rule = |(draft, group): (Draft, GroupIndex)| FieldRules {
            name: draft.name,
            group,
            owner: draft.owner,
            reference: draft.reference,
            members: draft.members,
        };
        self.all.into_iter().zip(groups).map(rule).collect()
    }
}

/// Whether records flow to the target, and to the source, as sync and members say.
pub(super) fn flows(sync: &SyncConfig) -> (bool, bool) {
    let narrow = sync.source.iter().chain(&sync.target).map(|member| member.direction);
    let (mut to_target, mut to_source) = (sync.flows_to_target(), sync.flows_to_source());
    for direction in narrow {
        to_target &= direction.to_target();
        to_source &= direction.to_source();
    }
    (to_target, to_source)
}

/// Makes canonical fields of pairs.
pub(super) fn draft(subject: &Subject<'_>, pairs: &[Pair<'_>], notes: &mut Notes<'_>) -> Drafts {
    let mut drafts = Drafts { all: Vec::with_capacity(pairs.len()) };
    for pair in pairs {
        let pieces = pieces(pair);
        let names: Vec<String> = pieces.iter().map(|piece| canonical_name(piece, &drafts)).collect();
        for (piece, name) in pieces.iter().zip(&names) {
            let Some(steps) = steps_of(subject, pair, piece, &names, notes) else { continue };
            if let Some(draft) = one(subject, pair, piece, (name, steps), &drafts, notes) {
                drafts.all.push(draft);
            }
        }
    }
    drafts
}

/// One source field with one target field. A field that is joined from several, or split into several, is one piece
/// for each of them, all in one group: they change hands together. The side that has one field shows it in every piece.
struct Piece<'a> {
    source: &'a Field,
    target: &'a Field,
    /// Which of the several fields on one side this is, and how many there are.
    part: Option<Part>,
}

#[derive(Clone, Copy, Debug)]
struct Part {
    number: usize,
    joined: bool,
}

fn pieces<'a>(pair: &Pair<'a>) -> Vec<Piece<'a>> {
    match (pair.source.as_slice(), pair.target.as_slice()) {
        ([source], [target]) => vec![Piece { source, target, part: None }],
        (sources, [target]) => sources
            .iter()
            .enumerate()
            .map(|(number, source)| Piece { source, target, part: Some(Part { number, joined: true }) })
            .collect(),
        ([source], targets) => targets
            .iter()
            .enumerate()
            .map(|(number, target)| Piece { source, target, part: Some(Part { number, joined: false }) })
            .collect(),
        _ => Vec::new(),
    }
}

fn one(
    subject: &Subject<'_>,
    pair: &Pair<'_>,
    piece: &Piece<'_>,
    (name, steps): (&str, Steps),
    earlier: &Drafts,
    notes: &mut Notes<'_>,
) -> Option<Draft> {
    let mapping = pair.mapping;
    let mut way = directions(subject, pair, piece, earlier, notes);
    if let (true, Some(reason)) = (way.to_source, &steps.one_way) {
        way.to_source = false;
        let message = format!("`{name}` flows to the target only: {reason}");
        notes.warning(
            &pair.path,
            Code::PlanOneWayField,
            message,
            "Nothing to do if that is meant; otherwise use a transformation with an inverse.",
        );
    }
    if !way.to_target && !way.to_source {
        let message = format!("`{}` and `{}` flow neither way", piece.source.name, piece.target.name);
        notes.error(
            &pair.path,
            Code::PlanReadOnly,
            message,
            "Remove the mapping, or let it flow in a direction that both systems allow.",
        );
        return None;
    }
    let is_plain = matches!((&steps.forth, &steps.back), (Way::AsItIs, Way::AsItIs));
    let reference = match mapping.and_then(|mapping| mapping.reference.as_deref()) {
        Some(name) => Some(reference(subject, name, piece, &pair.path, notes)?),
        None => None,
    };
    if is_plain && reference.is_none() {
        types_fit(subject, piece, way, &pair.path, notes);
    }
    let write_back = mapping.is_some_and(|mapping| mapping.write_back);
    let nulls = super::steps::nulls(subject.sync, mapping, &piece.source.ty, &format!("{}/default", pair.path), notes);
    let member = |field: &Field, mapping: Mapping, outward: bool, inward: bool| MemberField {
        name: field.name.clone(),
        ty: field.ty.clone(),
        native_type: field.native_type.clone(),
        mapping,
        outward,
        inward,
        creatable: field.creatable,
        updatable: field.updatable,
        write_back,
        lossy: steps.lossy,
    };
    let Steps { forth, back, at_source, .. } = steps;
    // A form that is brought back to where the value came from is that of both sides.
    let is_brought_back = write_back && piece.part.is_none() && matches!((&forth, &back), (Way::Through(_), Way::AsItIs));
    let at_source = at_source || is_brought_back;
    let (source_mapping, target_mapping) = if at_source {
        // Canonical terms are the target's: the source does the converting.
        (
            Mapping { to: pipeline(forth), from: pipeline(back), nulls: nulls.clone(), ..Mapping::identity() },
            Mapping { nulls, ..Mapping::identity() },
        )
    } else {
        (
            Mapping { nulls: nulls.clone(), ..Mapping::identity() },
            Mapping { to: pipeline(back), from: pipeline(forth), nulls, ..Mapping::identity() },
        )
    };
    Some(Draft {
        group: mapping.and_then(|mapping| mapping.group.clone()).or_else(|| piece.part.map(|part| joined_group(pair, part))),
        owner: mapping.and_then(|mapping| owner(subject, mapping, &pair.path, notes)),
        members: vec![
            Some(member(piece.source, source_mapping, way.to_target, way.to_source)),
            Some(member(piece.target, target_mapping, way.to_source, way.to_target)),
        ],
        reference,
        required: mapping.is_some_and(|mapping| mapping.required),
        path: pair.path.clone(),
        is_part: piece.part.is_some(),
        name: name.to_owned(),
    })
}

/// The sync whose records a field names, and where each member finds them.
fn reference(subject: &Subject<'_>, name: &str, piece: &Piece<'_>, path: &str, notes: &mut Notes<'_>) -> Option<Reference> {
    let path = format!("{path}/reference");
    let mut refuse = |message: String| {
        notes.error(&path, Code::PlanReferenceUnusable, message, Code::PlanReferenceUnusable.remedy());
        None
    };
    let Some(referred) = subject.referred.iter().find(|referred| referred.name.as_str() == name) else {
        return refuse(format!("nothing is known of the records of `{name}`"));
    };
    let mut members = Vec::with_capacity(2);
    for (member, field) in [(0, piece.source), (1, piece.target)] {
        let system = subject.system_name(member);
        let of_system = |place: &usize| referred.members.get(*place).is_some_and(|(other, _)| other.as_str() == system);
        // Both of them in one system: source to source, target to target.
        let there = [member, 1 - member].into_iter().find(of_system);
        let Some((place, (_, schema))) = there.and_then(|place| Some((place, referred.members.get(place)?))) else {
            return refuse(format!(
                "`{}` of `{system}` cannot name a record of `{name}`, which does not keep records there",
                field.name
            ));
        };
        let key = match schema.key.as_slice() {
            [one] => schema.field(one.as_str()),
            _ => None,
        };
        let Some(key) = key else {
            return refuse(format!(
                "`{}` of `{system}` has no key of a single field that `{}` could hold",
                schema.object, field.name
            ));
        };
        let is_reference = matches!(field.ty, Type::Reference { .. });
        if let (TypeFit::Never(why), false) = (type_fit(&field.ty, &key.ty), is_reference) {
            let (of, its) = (&field.native_type, &key.native_type);
            return refuse(format!(
                "`{}` of `{system}` ({of}) cannot hold the key `{}` of `{}` ({its}): {why}",
                field.name, key.name, schema.object
            ));
        }
        members.push(Some(ReferredMember { member: place, key: key.ty.clone() }));
    }
    Some(Reference { sync: referred.id, name: referred.name.clone(), members })
}

fn pipeline(way: Way) -> Option<Pipeline> {
    match way {
        Way::Through(pipeline) => Some(pipeline),
        Way::AsItIs | Way::None => None,
    }
}

/// The source's name, or the target's for a part of a split field; made unique by the other side's where it is taken.
fn canonical_name(piece: &Piece<'_>, earlier: &Drafts) -> String {
    let of_target = piece.part.is_some_and(|part| !part.joined);
    let (own, other) = if of_target { (piece.target, piece.source) } else { (piece.source, piece.target) };
    let is_taken = |name: &str| earlier.all.iter().any(|draft| draft.name == name);
    if is_taken(own.name.as_str()) { format!("{}.{}", own.name, other.name) } else { own.name.to_string() }
}

/// The group of the parts of a joined or split field: named for the whole.
fn joined_group(pair: &Pair<'_>, part: Part) -> String {
    let whole = if part.joined { pair.target.first() } else { pair.source.first() };
    whole.map_or(String::new(), |field| field.name.to_string())
}

fn owner(subject: &Subject<'_>, mapping: &FieldMapping, path: &str, notes: &mut Notes<'_>) -> Option<MemberIndex> {
    let name = mapping.owner.as_deref()?;
    let found = subject.member_called(name);
    if found.is_none() {
        let message = format!("`owner` names `{name}`, which is neither member of the sync");
        notes.error(&format!("{path}/owner"), Code::PlanNameUnknown, message, Code::PlanNameUnknown.remedy());
    }
    found
}

fn steps_of(subject: &Subject<'_>, pair: &Pair<'_>, piece: &Piece<'_>, names: &[String], notes: &mut Notes<'_>) -> Option<Steps> {
    let written = pair.mapping.map_or(&[][..], |mapping| mapping.transformation.as_slice());
    let format = &subject.sync.mapping_options.timestamp_format;
    let made = match piece.part {
        None => super::steps::single(written, &piece.source.ty, &piece.target.ty, format),
        Some(part) if part.joined => super::steps::joined(written, names, part.number),
        Some(part) => super::steps::split(written, names, part.number),
    };
    match made {
        Ok(steps) => Some(steps),
        Err(reason) => {
            let message = format!("the transformation of `{}` cannot be used: {reason}", piece.source.name);
            let path = format!("{}/transformation", pair.path);
            notes.error(&path, Code::PlanTransformationUnusable, message, Code::PlanTransformationUnusable.remedy());
            None
        }
    }
}

#[derive(Clone, Copy)]
struct Directions {
    to_target: bool,
    to_source: bool,
}

/// Which ways a field flows: as sync, members and mapping say, and as the systems allow.
fn directions(subject: &Subject<'_>, pair: &Pair<'_>, piece: &Piece<'_>, earlier: &Drafts, notes: &mut Notes<'_>) -> Directions {
    let direction = pair.mapping.map_or(Direction::Both, |mapping| mapping.direction);
    let (to_target, to_source) = flows(subject.sync);
    let wanted = Directions { to_target: to_target && direction.to_target(), to_source: to_source && direction.to_source() };
    let can = |member: usize, field: &Field, other: &Field| {
        let generated = makes_up_key(subject.schema(member), field);
        let other_is_key = subject.schema(1 - member).key.contains(&other.name);
        (field.creatable || field.updatable) && (!generated || (other_is_key && field.creatable))
    };
    let is_first = !earlier.at(0).any(|at| at.name == piece.source.name && at.inward) || piece.part.is_some();
    let can_source = can(0, piece.source, piece.target);
    let allowed = Directions {
        to_target: wanted.to_target && can(1, piece.target, piece.source),
        to_source: wanted.to_source && can_source && is_first,
    };
    let mut tell = |is_shut: bool, field: &Field, member: usize, why: &str| {
        if is_shut {
            let message = format!("`{}` of `{}` {why}: it is never written there", field.name, subject.system_name(member));
            notes.warning(&pair.path, Code::PlanReadOnly, message, Code::PlanReadOnly.remedy());
        }
    };
    // A key that the system makes up flowing out alone is what everybody means: no warning.
    if !makes_up_key(subject.schema(1), piece.target) {
        tell(wanted.to_target && !allowed.to_target, piece.target, 1, "is read-only");
    }
    if !makes_up_key(subject.schema(0), piece.source) {
        let why = if can_source { "is mapped twice" } else { "is read-only" };
        tell(wanted.to_source && !allowed.to_source, piece.source, 0, why);
    }
    allowed
}

/// Finds what the types of the two sides cannot carry over, where nothing converts between them.
fn types_fit(subject: &Subject<'_>, piece: &Piece<'_>, way: Directions, path: &str, notes: &mut Notes<'_>) {
    let sides = [(way.to_target, piece.source, piece.target, 1), (way.to_source, piece.target, piece.source, 0)];
    for (_, from, to, member) in sides.into_iter().filter(|(flows, ..)| *flows) {
        let system = subject.system_name(member);
        let names = format!("`{}` ({}) to `{}` of `{system}` ({})", from.name, from.native_type, to.name, to.native_type);
        match type_fit(&from.ty, &to.ty) {
            TypeFit::Always => {}
            TypeFit::Sometimes(what) => {
                let message = format!("not every value fits from {names}: {what}");
                notes.warning(path, Code::PlanMayNotFit, message, Code::PlanMayNotFit.remedy());
            }
            TypeFit::Never(why) => {
                let message = format!("nothing can be carried from {names}: {why}");
                notes.error(path, Code::PlanTypesApart, message, Code::PlanTypesApart.remedy());
            }
        }
    }
}

/// The type in which a field's canonical value is: the source's, or the target's for a part of a split field.
pub(super) fn canonical_type(draft: &Draft) -> Option<&Type> {
    draft.members.iter().flatten().next().map(|at| &at.ty)
}
