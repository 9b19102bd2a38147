//! What a field means that names a record of another sync: which link the record under a key belongs to, and under which
//! key that link's record stands at another member. A canonical reference is the number of the link, so that it is the same
//! wherever the record stands. Everything here is decided from a snapshot that was taken before: nothing is looked up.

use crate::error::{Code, Error, Result};
use crate::ledger::Rule;
use crate::link::{FieldIndex, Life, Link, LinkId, MemberIndex, Side, Standing, SyncId};
use crate::record::{Key, SyncName};
use crate::rules::{MemberField, SyncRules};
use crate::schema::Type;
use crate::store::Address;
use crate::value::{Fit, Value, fit};
use std::collections::{BTreeMap, BTreeSet};

/// The sync whose records a field refers to.
#[derive(Clone, Debug, PartialEq)]
pub struct Reference {
    /// Its number in the store.
    pub sync: SyncId,
    /// Its name.
    pub name: SyncName,
    /// Where each member of the referring sync finds the records that its field names; in the order of the members.
    pub members: Vec<Option<ReferredMember>>,
}

/// The records that a member's field names: those of a member of the other sync, in the same system.
#[derive(Clone, Debug, PartialEq)]
pub struct ReferredMember {
    /// The member of the other sync.
    pub member: MemberIndex,
    /// The type of its key, which is a single field.
    pub key: Type,
}

/// A record of which no link knows.
#[derive(Clone, Debug, PartialEq)]
pub struct Unknown {
    /// Where its link would be found.
    pub address: Address,
    /// Its key.
    pub key: Key,
}

/// What a record waits for.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Awaited {
    /// That the record under this key gets a link.
    Key(Address),
    /// That the record of this link comes to stand where it is referred to.
    Record(LinkId),
}

impl Awaited {
    /// As bytes: what the store's index is made of. No two are the same.
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(16);
        match self {
            Awaited::Key(address) => {
                bytes.push(0);
                bytes.extend_from_slice(&address.sync.0.to_be_bytes());
                bytes.extend_from_slice(&u64::try_from(address.member).unwrap_or(u64::MAX).to_be_bytes());
                bytes.extend_from_slice(&address.key);
            }
            Awaited::Record(link) => {
                bytes.push(1);
                bytes.extend_from_slice(&link.0.to_be_bytes());
            }
        }
        bytes
    }
}

impl Awaited {
    /// What these bytes say; `None` where they say nothing that is known.
    pub fn decode(bytes: &[u8]) -> Option<Awaited> {
        let (kind, rest) = bytes.split_first()?;
        match kind {
            0 => {
                let (sync, rest) = rest.split_first_chunk::<4>()?;
                let (member, key) = rest.split_first_chunk::<8>()?;
                let member = usize::try_from(u64::from_be_bytes(*member)).ok()?;
                Some(Awaited::Key(Address { sync: SyncId(u32::from_be_bytes(*sync)), member, key: key.to_vec() }))
            }
            1 => Some(Awaited::Record(LinkId(u64::from_be_bytes(rest.try_into().ok()?)))),
            _ => None,
        }
    }
}

/// What a member's value means.
#[derive(Clone, Debug, PartialEq)]
pub enum Meaning {
    /// It names nothing.
    Nothing,
    /// The record of this link.
    Record(LinkId),
    /// A record of which no link knows.
    Unknown(Unknown),
}

/// Where the record of a link stands, as seen from a member that is to refer to it.
#[derive(Clone, Debug, PartialEq)]
enum Place {
    /// There, under this key.
    There(Key),
    /// Not there yet.
    Coming,
    /// Not there, and nothing will bring it there.
    Never(&'static str),
}

/// What is known of the records that one link refers to.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct References {
    links: BTreeMap<Address, LinkId>,
    left: BTreeSet<Address>,
    places: BTreeMap<LinkId, Vec<Place>>,
    deleted: BTreeSet<LinkId>,
    refused: BTreeSet<Address>,
    circles: BTreeSet<(MemberIndex, LinkId)>,
    knots: BTreeSet<(MemberIndex, LinkId)>,
}

/// Of a link that refers to nothing.
pub static NONE: References = References {
    links: BTreeMap::new(),
    left: BTreeSet::new(),
    places: BTreeMap::new(),
    deleted: BTreeSet::new(),
    refused: BTreeSet::new(),
    circles: BTreeSet::new(),
    knots: BTreeSet::new(),
};

/// What a canonical reference begins with, so that none is taken for a key as a system writes it.
const PREFIX: &str = "link/";

/// The canonical value that refers to a link.
pub fn canonical(link: LinkId) -> Value {
    Value::Reference(format!("{PREFIX}{}", link.0))
}

/// The link that a canonical value refers to.
pub fn referred(value: &Value) -> Option<LinkId> {
    match value {
        Value::Reference(text) => text.strip_prefix(PREFIX)?.parse().ok().map(LinkId),
        _ => None,
    }
}

impl Reference {
    /// The record that a value of a member names.
    ///
    /// # Errors
    /// `ReferenceUnknown` where the value cannot be a key of such a record.
    pub fn named(&self, member: MemberIndex, value: &Value) -> Result<Unknown> {
        let there = self.members.get(member).and_then(Option::as_ref);
        let there = there.ok_or_else(|| unknown(format!("the records of {} are not kept there", self.name)))?;
        let value = match fit(value, &there.key) {
            Fit::Exact => value.clone(),
            Fit::Lossless(value) => value,
            // A reference is often a text, whatever the key is that it holds.
            Fit::Lossy { .. } | Fit::Impossible(_) => {
                let written = value.as_text().and_then(|text| Value::parse_as(text, &there.key));
                written.ok_or_else(|| unknown(format!("{value} cannot be the key of a record of {}", self.name)))?
            }
        };
        let key = Key(vec![value]);
        Ok(Unknown { address: Address { sync: self.sync, member: there.member, key: key.encode() }, key })
    }
}

fn unknown(message: String) -> Error {
    Error::new(Code::ReferenceUnknown, message)
}

impl References {
    /// Adds that the record at an address belongs to a link.
    pub fn learn(&mut self, address: Address, link: LinkId) {
        self.links.insert(address, link);
    }

    /// Adds that the link known under an address is of a record that was deleted, or has left that key: what is told of the
    /// address from now on is about another one.
    pub fn leave(&mut self, address: Address) {
        self.left.insert(address);
    }

    /// Adds where the record of a link stands.
    pub fn meet(&mut self, link: &Link) {
        self.places.insert(link.id, link.sides.iter().map(|side| place(link, side)).collect());
        match link.life {
            Life::Deleted { .. } => self.deleted.insert(link.id),
            Life::Live | Life::Detached { .. } => self.deleted.remove(&link.id),
        };
    }

    /// Whether a member's value names a record that has been deleted.
    pub fn names_a_deleted_record(&self, reference: &Reference, member: MemberIndex, value: &Value) -> bool {
        matches!(self.meaning(reference, member, value), Ok(Meaning::Record(link)) if self.deleted.contains(&link))
    }

    /// Adds that the record at an address will not get a link: it was looked for, and is not there.
    pub fn refuse(&mut self, address: Address) {
        self.refused.insert(address);
    }

    /// Adds that a link waits, at a member, for one that waits for it: whoever can do without goes first.
    pub fn close_circle(&mut self, member: MemberIndex, link: LinkId) {
        self.circles.insert((member, link));
    }

    /// Adds that nobody in such a circle can do without.
    pub fn tie_knot(&mut self, member: MemberIndex, link: LinkId) {
        self.knots.insert((member, link));
    }

    /// Whether the record at an address will get no link.
    pub fn is_refused(&self, address: &Address) -> bool {
        self.refused.contains(address)
    }

    /// Whether what a member is to be sent waits for a record that waits for it.
    pub fn is_in_circle(&self, member: MemberIndex, link: LinkId) -> bool {
        self.circles.contains(&(member, link))
    }

    /// What a member's value means.
    ///
    /// # Errors
    /// `ReferenceUnknown` where it cannot be a key.
    pub fn meaning(&self, reference: &Reference, member: MemberIndex, value: &Value) -> Result<Meaning> {
        if value.is_null() {
            return Ok(Meaning::Nothing);
        }
        let named = reference.named(member, value)?;
        Ok(match self.links.get(&named.address) {
            Some(link) => Meaning::Record(*link),
            None => Meaning::Unknown(named),
        })
    }

    /// What a member's value means that has only now been given: a record that stands under that key, or is to.
    ///
    /// # Errors
    /// As [`References::meaning`].
    pub fn meaning_of_news(&self, reference: &Reference, member: MemberIndex, value: &Value) -> Result<Meaning> {
        let meaning = self.meaning(reference, member, value)?;
        if !matches!(meaning, Meaning::Record(_)) {
            return Ok(meaning);
        }
        let named = reference.named(member, value)?;
        Ok(if self.left.contains(&named.address) { Meaning::Unknown(named) } else { meaning })
    }

    /// The key under which a member refers to the record that a canonical value means.
    ///
    /// # Errors
    /// `ReferenceWaits` while the record is not there yet, `ReferenceNotKept` where it will not be, `ReferenceKnot` where
    /// two records need each other before either can be made.
    pub fn key_at(&self, reference: &Reference, member: MemberIndex, value: &Value) -> Result<Value> {
        let not_kept = |why: &str| Err(Error::new(Code::ReferenceNotKept, format!("the record of {} {why}", reference.name)));
        let Some(link) = referred(value) else { return not_kept("that it refers to is none that is known") };
        let there = reference.members.get(member).and_then(Option::as_ref);
        let place = there.and_then(|there| self.places.get(&link)?.get(there.member));
        match place {
            Some(Place::There(key)) => match key.0.as_slice() {
                [value] => Ok(value.clone()),
                _ => not_kept("has a key of several fields"),
            },
            Some(Place::Coming) if self.knots.contains(&(member, link)) => {
                let message = format!("it needs the record of {} that it refers to, and that one needs it", reference.name);
                Err(Error::new(Code::ReferenceKnot, message))
            }
            Some(Place::Coming) => Err(Error::new(
                Code::ReferenceWaits,
                format!("the record of {} that it refers to is not there yet", reference.name),
            )),
            Some(Place::Never(why)) => not_kept(why),
            None => not_kept("that it refers to is no longer known"),
        }
    }

    /// Whether a member's value means what a canonical value does.
    pub fn means(&self, reference: &Reference, member: MemberIndex, shown: &Value, value: &Value) -> bool {
        match self.meaning(reference, member, shown) {
            Ok(Meaning::Nothing) => value.is_null(),
            Ok(Meaning::Record(link)) => referred(value) == Some(link),
            Ok(Meaning::Unknown(_)) | Err(_) => false,
        }
    }
}

/// Where a link's record stands at one of its members.
fn place(link: &Link, side: &Side) -> Place {
    match (&link.life, side.standing, &side.key) {
        (Life::Live | Life::Detached { .. }, Standing::Present, Some(key)) => Place::There(key.clone()),
        (Life::Live, Standing::Marked, Some(key)) => Place::There(key.clone()),
        (Life::Live, Standing::LeftAlone, _) => Place::Never("that it refers to was deleted there, and is left so"),
        (Life::Live, ..) if is_left_refused(link) => Place::Never("that it refers to was refused, and is left so"),
        (Life::Live, ..) if side.owes_life || !is_decided(link) => Place::Coming,
        (Life::Live, ..) => Place::Never("that it refers to is not kept there"),
        (Life::Deleted { .. }, ..) => Place::Never("that it refers to was deleted"),
        (Life::Detached { .. }, ..) => Place::Never("that it refers to is no longer kept equal"),
    }
}

/// Whether a record is made nowhere: something of it was refused, and a person left it at that.
fn is_left_refused(link: &Link) -> bool {
    link.groups.iter().any(|group| group.agreed.as_ref().is_some_and(|agreed| agreed.rule == Rule::LeftRefused))
}

/// Whether a member is given a field of a record: where it flows to, and where the record is made anew, which gets the member's
/// own fields back.
pub(crate) fn is_given(at: &MemberField, side: &Side) -> bool {
    at.inward || (side.owes_life && side.standing == Standing::Gone && at.creatable)
}

/// Whether it has been decided where a record is to stand: not before anything is agreed about it, nor while it is held.
fn is_decided(link: &Link) -> bool {
    link.held.is_none() && link.groups.iter().any(|group| group.agreed.is_some() && group.held.is_none())
}

impl SyncRules {
    /// Whether any of its fields names a record of another sync.
    pub fn refers(&self) -> bool {
        self.fields.iter().any(|field| field.reference.is_some())
    }

    /// The fields that name records, and of which sync.
    pub fn references(&self) -> impl Iterator<Item = (usize, &Reference)> {
        self.fields.iter().enumerate().filter_map(|(field, rules)| Some((field, rules.reference.as_ref()?)))
    }

    /// The agreed value of a field of a link.
    pub fn agreed<'a>(&self, link: &'a Link, field: usize) -> Option<&'a Value> {
        let group = self.fields.get(field)?.group;
        let place = self.group_fields(group).iter().position(|other| *other == field)?;
        link.groups.get(group)?.agreed.as_ref()?.values.get(place)
    }
}

/// What a link waits for as it stands: records that are to stand where it is to be written, and records that are to be known
/// before what is held about it can be decided.
pub fn awaited(rules: &SyncRules, link: &Link, references: &References) -> Vec<Awaited> {
    let mut awaited = BTreeSet::new();
    for (field, reference) in rules.references() {
        let Some(group) = rules.fields.get(field).map(|field| field.group) else { continue };
        for (member, side) in link.sides.iter().enumerate() {
            let owes = side.flight.is_none() && (side.owes_life || side.owes.contains(&group)) && link.life == Life::Live;
            let is_written = rules.at(member, field).is_some_and(|at| is_given(at, side));
            let Some(value) = rules.agreed(link, field).filter(|value| owes && is_written && !value.is_null()) else { continue };
            if let (Err(_), Some(record)) = (references.key_at(reference, member, value), referred(value)) {
                awaited.insert(Awaited::Record(record));
                // Where it was deleted, another one may come under its key.
                let named = agreed_as(rules, link, field).filter(|_| references.deleted.contains(&record));
                let named = named.and_then(|(from, shown)| reference.named(from, shown).ok());
                awaited.extend(named.map(|named| Awaited::Key(named.address)));
            }
        }
        for (member, value) in held(rules, link, field) {
            if let Ok(Meaning::Unknown(unknown)) = references.meaning_of_news(reference, member, value) {
                awaited.extend(references.links.get(&unknown.address).copied().map(Awaited::Record));
                awaited.insert(Awaited::Key(unknown.address));
            }
        }
    }
    awaited.into_iter().collect()
}

/// Whether something is held because a record was not known that is known by now.
pub fn frees_what_is_held(rules: &SyncRules, link: &Link, references: &References) -> bool {
    rules.references().any(|(field, reference)| {
        let mut values = held(rules, link, field).filter(|(_, value)| !value.is_null()).peekable();
        values.peek().is_some()
            && values
                .all(|(member, value)| matches!(references.meaning_of_news(reference, member, value), Ok(Meaning::Record(_))))
    })
}

/// Whether a field was agreed to name a record that has been deleted since, and names another one by now, which came under its
/// key.
pub fn names_another(rules: &SyncRules, link: &Link, field: FieldIndex, references: &References) -> bool {
    let reference = rules.fields.get(field).and_then(|field| field.reference.as_ref());
    let agreed = rules.agreed(link, field).and_then(referred).filter(|record| references.deleted.contains(record));
    let (Some(reference), Some(agreed), Some((from, shown))) = (reference, agreed, agreed_as(rules, link, field)) else {
        return false;
    };
    let meaning = references.meaning_of_news(reference, from, shown);
    link.life == Life::Live && matches!(meaning, Ok(Meaning::Record(record)) if record != agreed)
}

/// The member that the agreed value of a field came from, and what it shows; nothing where a person has the last word.
fn agreed_as<'a>(rules: &SyncRules, link: &'a Link, field: FieldIndex) -> Option<(MemberIndex, &'a Value)> {
    let group = link.groups.get(rules.fields.get(field)?.group).filter(|group| group.held.is_none())?;
    let from = group.agreed.as_ref().filter(|agreed| !agreed.rule.is_left())?.from;
    let shown = link.sides.get(from)?.base.get(field)?.as_ref()?;
    rules.flows_from(from, field).then_some((from, shown))
}

/// What members show for a field whose group waits for a person because it cannot be carried.
fn held<'a>(rules: &'a SyncRules, link: &'a Link, field: usize) -> impl Iterator<Item = (MemberIndex, &'a Value)> {
    let group = rules.fields.get(field).and_then(|field| link.groups.get(field.group));
    let held = group.and_then(|group| group.held.as_ref()).filter(|held| held.rejects && link.life == Life::Live);
    let members = held.into_iter().flat_map(|held| held.contenders.iter().map(|(member, ..)| *member));
    members
        .filter(move |member| rules.flows_from(*member, field))
        .filter_map(move |member| Some((member, link.sides.get(member)?.base.get(field)?.as_ref()?)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::link::Agreed;

    fn reference() -> Reference {
        let key = [Type::Int { bits: 32, unsigned: false }, Type::Uuid];
        let member = |(member, key): (usize, Type)| Some(ReferredMember { member, key });
        Reference { sync: SyncId(2), name: "accounts".into(), members: key.into_iter().enumerate().map(member).collect() }
    }

    fn record(id: u64) -> Link {
        Link::new(LinkId(id), SyncId(2), 1, 2, 1, 1)
    }

    fn decided(mut link: Link) -> Link {
        let time = crate::change::EditTime { at: crate::clock::Moment(1), granularity_micros: 1, estimated: false };
        let values = vec![Value::text("acme")];
        link.groups[0].agreed = Some(Agreed { values, from: 0, time, decision: 1, hops: 0, rule: Rule::OnlyChange });
        link
    }

    fn standing(mut link: Link, standing: Standing, key: Option<i64>) -> Link {
        link.sides[0].standing = standing;
        link.sides[0].key = key.map(|key| Key(vec![Value::Int(key)]));
        link
    }

    fn code_at(link: &Link) -> std::result::Result<Value, Code> {
        let mut known = References::default();
        known.meet(link);
        known.key_at(&reference(), 0, &canonical(link.id)).map_err(|error| error.code)
    }

    #[test]
    fn a_value_means_the_record_under_that_key_in_whatever_type_the_key_is_written() {
        let mut known = References::default();
        let five = reference().named(0, &Value::Int(5)).unwrap();
        known.learn(five.address.clone(), LinkId(7));
        for value in [Value::Int(5), Value::UInt(5), Value::text("5"), Value::Reference("5".into())] {
            let meaning = known.meaning(&reference(), 0, &value);
            assert_eq!(meaning.unwrap(), Meaning::Record(LinkId(7)), "{value}");
        }
        assert_eq!(known.meaning(&reference(), 0, &Value::Null).unwrap(), Meaning::Nothing);
        assert!(
            matches!(known.meaning(&reference(), 0, &Value::Int(6)), Ok(Meaning::Unknown(unknown)) if unknown.key.to_string() == "6")
        );
        let unfit = known.meaning(&reference(), 0, &Value::text("many")).unwrap_err();
        assert_eq!(unfit.code, Code::ReferenceUnknown);
        // Another member's key is another key.
        assert!(known.meaning(&reference(), 1, &Value::Int(5)).is_err());
    }

    #[test]
    fn a_record_is_referred_to_where_it_stands_awaited_where_it_comes_and_refused_where_it_never_will() {
        let new = record(1);
        assert_eq!(code_at(&standing(new.clone(), Standing::Present, Some(5))), Ok(Value::Int(5)));
        assert_eq!(code_at(&standing(new.clone(), Standing::Marked, Some(5))), Ok(Value::Int(5)));
        // Nothing is decided about it yet, or its create is owed.
        assert_eq!(code_at(&new), Err(Code::ReferenceWaits));
        let mut owed = decided(new.clone());
        owed.sides[0].owes_life = true;
        assert_eq!(code_at(&owed), Err(Code::ReferenceWaits));
        // A key that it had is not where it stands.
        let mut anew = standing(decided(new.clone()), Standing::Gone, Some(5));
        anew.sides[0].owes_life = true;
        assert_eq!(code_at(&anew), Err(Code::ReferenceWaits));
        assert_eq!(code_at(&decided(new.clone())), Err(Code::ReferenceNotKept));
        // Nor does one come that was refused, and that a person left at that, though a create of it is owed.
        let mut refused = owed.clone();
        refused.groups[0].agreed.as_mut().unwrap().rule = Rule::LeftRefused;
        assert_eq!(code_at(&refused), Err(Code::ReferenceNotKept));
        assert_eq!(code_at(&standing(decided(new.clone()), Standing::LeftAlone, Some(5))), Err(Code::ReferenceNotKept));
        let mut deleted = standing(new.clone(), Standing::Present, Some(5));
        deleted.life = Life::Deleted { by: 1, at: crate::clock::Moment(1) };
        assert_eq!(code_at(&deleted), Err(Code::ReferenceNotKept));
        let nobody = References::default().key_at(&reference(), 0, &canonical(LinkId(9))).unwrap_err();
        assert_eq!(nobody.code, Code::ReferenceNotKept);
    }

    #[test]
    fn nobody_waits_in_a_circle_in_which_everybody_needs_the_other() {
        let mut known = References::default();
        known.meet(&record(1));
        known.tie_knot(0, LinkId(1));
        assert_eq!(known.key_at(&reference(), 0, &canonical(LinkId(1))).unwrap_err().code, Code::ReferenceKnot);
    }

    #[test]
    fn what_is_awaited_is_told_apart_and_read_back() {
        let key =
            |sync: u32, member: MemberIndex, key: &[u8]| Awaited::Key(Address { sync: SyncId(sync), member, key: key.to_vec() });
        let all = [
            key(1, 0, b"a"),
            key(1, 0, b"ab"),
            key(1, 1, b"a"),
            key(2, 0, b"a"),
            Awaited::Record(LinkId(1)),
            Awaited::Record(LinkId(256)),
        ];
        let encoded: BTreeSet<Vec<u8>> = all.iter().map(Awaited::encode).collect();
        assert_eq!(encoded.len(), all.len());
        for awaited in all {
            assert_eq!(Awaited::decode(&awaited.encode()), Some(awaited));
        }
        assert_eq!(Awaited::decode(b""), None);
        assert_eq!(Awaited::decode(&[1, 2, 3]), None);
    }
}
