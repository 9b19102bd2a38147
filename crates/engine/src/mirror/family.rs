//! Mirrored syncs whose targets' objects are bound by foreign keys: which of them can be mirrored, and who stays behind whom. They
//! are mirrored together or not at all, for what one of them carries is no longer held against those keys at the target: what they ask for
//! has to be kept by the source, carried as it is, and by nobody else. Pure; the systems were asked before.

use super::carry::{Carrier, SOURCE, TARGET};
use super::choose::Neighbour;
use crate::record::{FieldName, ObjectName, SyncName};
use crate::rules::{Kin, SyncRules};
use crate::schema::{ForeignKey, ForeignKeys};
use std::collections::{BTreeMap, BTreeSet};

/// What there is to know of a sync that could be mirrored by itself.
pub(super) struct Own {
    pub carrier: Carrier,
    /// The foreign keys of the target's object.
    pub at_target: ForeignKeys,
    /// Why those cannot be left to the source, where that is so.
    pub hindrance: Option<String>,
    /// The foreign keys of the source's object.
    pub at_source: Vec<ForeignKey>,
}

/// A sync among the others.
pub(super) struct Member<'a> {
    pub rules: &'a SyncRules,
    /// `None`: it is not mirrored, whatever the others are; or that is not known.
    pub own: Option<&'a Own>,
    /// Whether it could be looked at.
    pub is_known: bool,
}

/// What foreign keys mean for a sync.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Bond {
    /// It can be mirrored, bound so.
    Kin(Kin),
    /// It cannot.
    Never(String),
    /// That is not to be said yet: a sync that it depends on could not be looked at.
    NotYet(String),
}

/// Says of each of some syncs what its foreign keys mean for it. `all` are the syncs of the configuration.
pub(super) fn bind(members: &[Member<'_>], all: &[Neighbour]) -> Vec<Bond> {
    let apart = |member: &Member<'_>| {
        member.own.is_none().then(|| match member.is_known {
            true => Bond::Never("it is not mirrored".to_owned()),
            false => Bond::NotYet("it cannot be looked at now".to_owned()),
        })
    };
    let mut out: BTreeMap<usize, Bond> =
        members.iter().enumerate().filter_map(|(place, member)| Some((place, apart(member)?))).collect();
    // Each that cannot takes those with it that it is bound to.
    loop {
        let family = Family { members, all, out: &out };
        let mut found = family.refused();
        if found.is_empty() {
            found = family.in_circles();
        }
        if found.is_empty() {
            let bond = |(place, member)| out.get(&place).cloned().unwrap_or_else(|| Bond::Kin(family.kin(member)));
            return members.iter().enumerate().map(bond).collect();
        }
        out.extend(found);
    }
}

/// Those that are in so far: all but `out`.
struct Family<'a> {
    members: &'a [Member<'a>],
    all: &'a [Neighbour],
    out: &'a BTreeMap<usize, Bond>,
}

/// Which sync carries an object of the same target from the same source.
enum Carried<'a> {
    By(usize, &'a Member<'a>),
    /// One that is not mirrored.
    Otherwise(&'a SyncName),
    /// One that could not be looked at.
    NotYet(&'a SyncName),
    ByNone,
}

impl<'a> Family<'a> {
    fn present(&self) -> impl Iterator<Item = (usize, &'a Member<'a>, &'a Own)> {
        let members = self.members.iter().enumerate().filter(|(place, _)| !self.out.contains_key(place));
        members.filter_map(|(place, member)| Some((place, member, member.own?)))
    }

    fn refused(&self) -> Vec<(usize, Bond)> {
        self.present().filter_map(|(place, member, own)| Some((place, self.refusal(member, own)?))).collect()
    }

    /// Why one cannot be mirrored, if it cannot.
    fn refusal(&self, member: &Member<'_>, own: &Own) -> Option<Bond> {
        let target = member.rules.members.get(TARGET)?;
        let object = &target.object;
        if own.at_target.is_empty() {
            return None;
        }
        if let Some(why) = &own.hindrance {
            return Some(Bond::Never(why.clone()));
        }
        if member.rules.filter.is_some() {
            let why =
                format!("{object} has foreign keys or is named by some, and records that the filter leaves out may be named");
            return Some(Bond::Never(why));
        }
        if own.carrier.may_warn() || !own.carrier.takes_parts() {
            let why = format!(
                "{object} has foreign keys or is named by some, and its records are not carried as the source has them \
                 (validation rules, transformations that look at other fields, no key)"
            );
            return Some(Bond::Never(why));
        }
        own.at_target.own.iter().find_map(|key| self.refusal_of(member, own, key)).or_else(|| {
            let carried = |other: &ObjectName| match self.carrying(member.rules, other) {
                Carried::By(..) => None,
                Carried::NotYet(sync) => Some(not_yet(object, sync)),
                Carried::Otherwise(sync) => {
                    Some(Bond::Never(format!("foreign keys of {other} name records of {object}, and `{sync}` is not mirrored")))
                }
                Carried::ByNone => Some(Bond::Never(format!(
                    "foreign keys of {other} name records of {object}, and nothing carries that one from `{}`",
                    member.rules.members.get(SOURCE).map(|source| source.system.as_str()).unwrap_or_default()
                ))),
            };
            own.at_target.of.iter().find_map(carried)
        })
    }

    /// Why one of its foreign keys cannot be left to the source, if it cannot.
    fn refusal_of(&self, member: &Member<'_>, own: &Own, key: &ForeignKey) -> Option<Bond> {
        let [source, target] = member.rules.members.as_slice() else { return None };
        let (object, named) = (&target.object, &key.object);
        let kept = match self.carrying(member.rules, &key.object) {
            Carried::By(_, parent) => kept_by(own, key, parent).is_some(),
            Carried::NotYet(sync) => return Some(not_yet(object, sync)),
            Carried::Otherwise(sync) => {
                return Some(Bond::Never(format!(
                    "foreign keys of {object} name records of {named}, and `{sync}` is not mirrored"
                )));
            }
            Carried::ByNone => {
                return Some(Bond::Never(format!(
                    "foreign keys of {object} name records of {named}, and nothing carries that one from `{}`",
                    source.system
                )));
            }
        };
        let fields: Vec<&str> = key.fields.iter().map(|(field, _)| field.as_str()).collect();
        let why = || {
            format!(
                "nothing at `{}` keeps what foreign keys of {object} ask for: no enabled and validated one of {} over the fields that are \
                 carried as they are into ({}) of {object} names the same fields of what {named} is carried from",
                source.system,
                source.object,
                fields.join(", ")
            )
        };
        (!kept).then(|| Bond::Never(why()))
    }

    fn carrying(&self, rules: &SyncRules, object: &ObjectName) -> Carried<'a> {
        let [source, target] = rules.members.as_slice() else { return Carried::ByNone };
        let is_it = |other: &SyncRules| {
            matches!(other.members.as_slice(), [from, to]
                if from.system == source.system && to.system == target.system && to.object == *object)
        };
        if let Some((place, member)) = self.members.iter().enumerate().find(|(_, member)| is_it(member.rules)) {
            return match self.out.get(&place) {
                // Itself, too.
                None => Carried::By(place, member),
                Some(Bond::NotYet(_)) => Carried::NotYet(&member.rules.name),
                Some(_) => Carried::Otherwise(&member.rules.name),
            };
        }
        let is_unknown = |other: &&Neighbour| {
            !self.members.iter().any(|member| member.rules.id == other.id)
                && matches!(other.members.as_slice(), [(from, _), (to, own)]
                    if *from == source.system && *to == target.system && own == object)
        };
        self.all.iter().find(is_unknown).map_or(Carried::ByNone, |other| Carried::NotYet(&other.name))
    }

    /// Those that one stays behind: their places.
    fn behind(&self, member: &Member<'_>, own: &Own) -> BTreeSet<usize> {
        let place = |key: &ForeignKey| match self.carrying(member.rules, &key.object) {
            Carried::By(place, parent) if parent.rules.id != member.rules.id => Some(place),
            _ => None,
        };
        own.at_target.own.iter().filter_map(place).collect()
    }

    /// Those that would have to stay behind themselves.
    fn in_circles(&self) -> Vec<(usize, Bond)> {
        let behind: BTreeMap<usize, BTreeSet<usize>> =
            self.present().map(|(place, member, own)| (place, self.behind(member, own))).collect();
        let leads_back = |place: usize| {
            let mut seen = BTreeSet::new();
            let mut next: Vec<usize> = vec![place];
            while let Some(at) = next.pop() {
                for to in behind.get(&at).into_iter().flatten() {
                    if seen.insert(*to) {
                        next.push(*to);
                    }
                }
            }
            seen.contains(&place)
        };
        let circle = |(place, member, _): (usize, &Member<'_>, &Own)| {
            let object = member.rules.members.get(TARGET).map(|target| &target.object)?;
            let why = format!(
                "foreign keys lead from {object} to others and back to it: none of them is to be carried before the others"
            );
            leads_back(place).then_some((place, Bond::Never(why)))
        };
        self.present().filter_map(circle).collect()
    }

    /// What binds one that is in.
    fn kin(&self, member: &Member<'_>) -> Kin {
        let Some(own) = member.own else { return Kin::default() };
        let name = |place: usize| self.members.get(place).map(|member| member.rules.name.clone());
        let kept = |key: &ForeignKey| match self.carrying(member.rules, &key.object) {
            Carried::By(_, parent) => kept_by(own, key, parent).cloned(),
            _ => None,
        };
        let carrier = |object: &ObjectName| match self.carrying(member.rules, object) {
            Carried::By(place, _) => name(place),
            _ => None,
        };
        Kin {
            at_target: own.at_target.clone(),
            at_source: own.at_target.own.iter().filter_map(kept).collect(),
            behind: self.behind(member, own).into_iter().filter_map(name).collect(),
            ahead_of: own.at_target.of.iter().filter_map(carrier).collect(),
        }
    }
}

fn not_yet(object: &ObjectName, sync: &SyncName) -> Bond {
    Bond::NotYet(format!("{object} is bound by foreign keys to what `{sync}` carries, which cannot be looked at now"))
}

/// The source's foreign key by which it keeps what one of the target's asks for.
fn kept_by<'a>(own: &'a Own, key: &ForeignKey, parent: &Member<'_>) -> Option<&'a ForeignKey> {
    let from = parent.rules.members.get(SOURCE)?;
    let their = &parent.own?.carrier;
    let pair = |(field, named): &(FieldName, FieldName)| Some((own.carrier.as_it_is_from(field)?, their.as_it_is_from(named)?));
    let mut wanted = key.fields.iter().map(pair).collect::<Option<Vec<(&FieldName, &FieldName)>>>()?;
    wanted.sort_unstable();
    own.at_source.iter().find(|kept| {
        let mut fields: Vec<(&FieldName, &FieldName)> = kept.fields.iter().map(|(field, named)| (field, named)).collect();
        fields.sort_unstable();
        kept.kept && kept.object == from.object && (kept.all_or_none || !key.all_or_none) && fields == wanted
    })
}
