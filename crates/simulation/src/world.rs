//! A world: which systems there are, what is kept equal between them and by which rules, all drawn from a seed or set by
//! hand in a test. Said in the simulation's own words; `rules` puts them into the engine's.

use crate::database::{KeyKind, Trigger};
use crate::further::Further;
use crate::random::Random;
use crate::system::Profile;
use concord_engine::record::FieldName;
use concord_engine::rules::Fallback;
use std::time::Duration;

/// A field's type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FieldKind {
    /// Text.
    Text,
    /// A whole number.
    Number,
}

/// Which way a field flows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flow {
    /// From every member to every other.
    Both,
    /// From this member to the others; edits there are written over.
    From(usize),
}

/// What a field is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// Tells which record this is, to the checker and to `match_on`. Nobody edits it.
    Tag,
    /// A natural key at the members that have one, a plain field at the others.
    Code,
    /// The generated key of a member, written back to the others.
    KeyOf(usize),
    /// What users work with.
    Plain,
}

/// A canonical field.
#[derive(Clone, Debug)]
pub struct WorldField {
    /// Its canonical name.
    pub name: &'static str,
    /// Its type.
    pub kind: FieldKind,
    /// Which way it flows.
    pub flow: Flow,
    /// What it is for.
    pub purpose: Purpose,
    /// Its group: fields of the same number change hands together.
    pub group: usize,
    /// The member that keeps only so many characters, under a declared lossy rule.
    pub short_at: Option<(usize, usize)>,
}

/// How conflicts are decided.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decide {
    /// The latest edit wins.
    Latest,
    /// The first of these that edited; else the latest edit.
    Priority(Vec<usize>),
    /// A person.
    Person,
}

/// What a delete does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeleteRule {
    /// It is followed everywhere.
    Propagate,
    /// The records go their own ways.
    Detach,
    /// The record stays gone where it was deleted, and only there.
    Ignore,
    /// It is marked as gone everywhere else.
    Soft,
}

/// What becomes of edits at a member to which records only flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AgainstFlow {
    /// They are written over.
    Overwrite,
    /// They stay until the source next changes the field.
    Keep,
    /// A person is asked.
    Review,
}

/// What a delete does against an edit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EditRule {
    /// The record is made anew.
    UpdateWins,
    /// The record is deleted everywhere.
    DeleteWins,
    /// A person decides.
    Person,
}

/// Who wins where matched records differ at the start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// This member.
    Member(usize),
    /// The conflict rules.
    Policy,
    /// A person.
    Person,
}

/// One member.
#[derive(Clone, Debug)]
pub struct WorldMember {
    /// The system's name.
    pub name: &'static str,
    /// How keys come about.
    pub keys: KeyKind,
    /// How the system behaves.
    pub profile: Profile,
    /// Its triggers.
    pub triggers: Vec<Trigger>,
    /// Whether the tag is unique there.
    pub unique: bool,
    /// Users at work there.
    pub users: u64,
}

/// A record at the start: its tag, and per member whether it is there.
#[derive(Clone, Debug)]
pub struct Seeded {
    /// The tag.
    pub tag: String,
    /// Per member: `None` = not there, else what its values end with.
    pub at: Vec<Option<String>>,
}

/// A world.
#[derive(Clone, Debug)]
pub struct World {
    /// The seed that delays, faults and users are drawn from.
    pub seed: u64,
    /// The members, in the order of the configuration.
    pub members: Vec<WorldMember>,
    /// The canonical fields.
    pub fields: Vec<WorldField>,
    /// How conflicts are decided, per group.
    pub groups: Vec<Decide>,
    /// Whether records are matched by their tag.
    pub matched: bool,
    /// Deletes.
    pub on_delete: DeleteRule,
    /// Deletes against edits.
    pub against_edit: EditRule,
    /// The first run.
    pub start: Start,
    /// Contents at the start.
    pub contents: Vec<Seeded>,
    /// The most writes in one flight.
    pub batch_size: usize,
    /// The most flights to one member.
    pub parallelism: usize,
    /// Operations of each user.
    pub operations: u64,
    /// Whether users wait for the first level before they begin.
    pub users_wait: bool,
    /// How many times the engine is killed.
    pub kills: u64,
    /// Whether systems fail.
    pub faults: bool,
    /// How long users are at work, at most.
    pub span: Duration,
    /// The longest fsync of the store, in milliseconds.
    pub fsync_ms_max: u64,
    /// Whether users change natural keys.
    pub key_changes: bool,
    /// The most deletes of one member within a minute that are followed without asking.
    pub max_deletes: u64,
    /// How many strangers wait in memory before a snapshot pauses; twice as many, and the others wait in the store.
    pub max_unidentified: usize,
    /// How many records a snapshot reads at once, where a batch is no larger.
    pub chunk: usize,
    /// Whether users delete.
    pub deletes: bool,
    /// Whether users insert.
    pub inserts: bool,
    /// How many times a write is tried.
    pub attempts: u32,
    /// What becomes of a write that failed for good.
    pub fallback: Fallback,
    /// Dimensions that are drawn from streams of their own.
    pub further: Further,
}

/// The names of the systems.
pub const NAMES: [&str; 3] = ["alpha", "beta", "gamma"];
/// The field that says that a record is gone, where deletes are soft.
pub const GONE: &str = "gone";
/// The one object of every system.
pub const OBJECT: &str = "people";

impl WorldMember {
    /// A quick and well-behaved member.
    pub fn plain(place: usize) -> WorldMember {
        WorldMember {
            name: NAMES.get(place).copied().unwrap_or("delta"),
            keys: KeyKind::Serial,
            profile: Profile::plain(),
            triggers: Vec::new(),
            unique: false,
            users: 1,
        }
    }
}

pub(crate) fn field(name: &'static str, kind: FieldKind, purpose: Purpose, group: usize) -> WorldField {
    WorldField { name, kind, flow: Flow::Both, purpose, group, short_at: None }
}

impl World {
    /// So many members kept equal both ways by their tag, without faults, users or contents: what scripted tests begin
    /// with.
    pub fn plain(members: usize) -> World {
        World {
            seed: 0,
            members: (0..members).map(WorldMember::plain).collect(),
            fields: vec![
                field("tag", FieldKind::Text, Purpose::Tag, 0),
                field("name", FieldKind::Text, Purpose::Plain, 1),
                field("amount", FieldKind::Number, Purpose::Plain, 2),
            ],
            groups: vec![Decide::Latest; 3],
            matched: true,
            on_delete: DeleteRule::Propagate,
            against_edit: EditRule::UpdateWins,
            start: Start::Policy,
            contents: Vec::new(),
            batch_size: 20,
            parallelism: 2,
            operations: 0,
            users_wait: true,
            kills: 0,
            faults: false,
            span: Duration::from_secs(20),
            fsync_ms_max: 1,
            key_changes: false,
            max_deletes: 1_000,
            max_unidentified: 20_000,
            chunk: 1_000,
            deletes: true,
            inserts: true,
            attempts: 40,
            fallback: Fallback::Review,
            further: Further::default(),
        }
    }

    /// The world of a seed.
    pub fn from_seed(seed: u64) -> World {
        let mut random = Random::fork(seed, "world");
        let count = if random.percent(60) { 2 } else { 3 };
        let mut world = World::plain(count);
        world.seed = seed;
        world.draw_members(&mut random);
        world.draw_fields(&mut random);
        world.draw_rules(&mut random);
        world.draw_triggers(&mut random);
        world.draw_contents(&mut random);
        crate::further::draw(&mut world);
        world
    }

    /// The same world with some of its fields alone, and their groups.
    #[must_use]
    pub fn only(&self, is_kept: impl Fn(&WorldField) -> bool) -> World {
        let mut part = self.clone();
        part.fields.retain(is_kept);
        let mut kept: Vec<usize> = part.fields.iter().map(|field| field.group).collect();
        kept.sort_unstable();
        kept.dedup();
        part.groups = kept.iter().filter_map(|group| self.groups.get(*group).cloned()).collect();
        for field in &mut part.fields {
            field.group = kept.iter().position(|group| *group == field.group).unwrap_or_default();
        }
        part
    }

    /// A field's place by its canonical name.
    pub fn field(&self, name: &str) -> Option<usize> {
        self.fields.iter().position(|field| field.name == name)
    }

    /// The name of a canonical field at a member.
    pub fn native(&self, member: usize, field: usize) -> FieldName {
        native(&self.fields, &self.members, member, field)
    }

    /// The name of the key field at a member.
    pub fn key_field(&self, member: usize) -> FieldName {
        match self.members.get(member).map(|member| member.keys) {
            Some(KeyKind::Natural) => FieldName::from("code"),
            _ => FieldName::from("id"),
        }
    }

    /// Whether a field's edits at a member flow to the others.
    pub fn flows_from(&self, member: usize, field: usize) -> bool {
        self.fields.get(field).is_some_and(|field| match field.flow {
            Flow::Both => true,
            Flow::From(owner) => owner == member,
        })
    }

    /// How conflicts over a group may have been decided, at one time or another.
    pub fn decides(&self, group: usize) -> impl Iterator<Item = &Decide> {
        let later = self.further.new_policies.as_ref().and_then(move |groups| groups.get(group));
        self.groups.get(group).into_iter().chain(later)
    }

    /// Whether anything but users and the engine changes this field.
    pub fn is_triggered(&self, field: usize) -> bool {
        let names = |trigger: &Trigger| match trigger {
            Trigger::Uppercase(name) | Trigger::Trim(name) | Trigger::Truncate(name, _) | Trigger::RewriteOnce(name) => {
                vec![name.clone()]
            }
            Trigger::Derive { source, target } | Trigger::Follow { source, target } | Trigger::Workflow { source, target } => {
                vec![source.clone(), target.clone()]
            }
        };
        self.members.iter().enumerate().any(|(place, member)| {
            member.triggers.iter().flat_map(names).any(|name| {
                let group = self.fields.get(field).map(|field| field.group);
                let touched = (0..self.fields.len()).filter(|other| self.native(place, *other) == name);
                touched.into_iter().any(|other| self.fields.get(other).map(|field| field.group) == group)
            })
        })
    }
}

pub(crate) fn native(fields: &[WorldField], members: &[WorldMember], member: usize, field: usize) -> FieldName {
    let Some(field) = fields.get(field) else { return FieldName::from("") };
    let natural = members.get(member).is_some_and(|member| member.keys == KeyKind::Natural);
    match field.purpose {
        Purpose::KeyOf(owner) if owner == member => FieldName::from("id"),
        Purpose::Code if natural => FieldName::from("code"),
        _ => FieldName::from(format!("{}_{}", field.name, NAMES.get(member).and_then(|name| name.get(..1)).unwrap_or("x"))),
    }
}
