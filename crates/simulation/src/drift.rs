//! Schemas that change under the engine: the administrator of one system drops, renames, narrows or makes anew a column that
//! is mapped, or adds one that is not, while users work, writes are in the air or the engine is down, and brings it back; and
//! lets the sync that stopped go on. Of what is left this judges one thing alone: a sync that stands still writes nothing.
//!
//! A system shows no record by columns of which its feed has yet to tell that they are others now (`require_told`).

use crate::checker::Violation;
use crate::database::{Alteration, Database};
use crate::random::Random;
use crate::stage::Stage;
use crate::system::{State, System};
use crate::world::{FieldKind, Flow, Purpose, World};
use concord_engine::clock::Clock;
use concord_engine::error::{Code, Error, Result};
use concord_engine::link::SyncId;
use concord_engine::record::FieldName;
use concord_engine::rules::SyncRules;
use concord_engine::runtime::command::Request;
use concord_engine::schema::{Field, Type};
use std::sync::Arc;
use std::time::Duration;

/// Worlds of lower seeds have schemas that stay as they are: each of them means what it always did.
pub const DRIFTS_FROM: u64 = 200_000;

/// By then every write that was on its way has taken effect, or never will.
const LANDED: Duration = Duration::from_secs(5);
/// How long a sync that stands still is watched.
const WATCHED: Duration = Duration::from_secs(2);
/// How long an administrator waits for the sync to stop.
const PATIENCE: Duration = Duration::from_secs(30);
/// How long the sync may take to stop where the column never comes back and nothing goes wrong any more.
const STOPS_WITHIN: Duration = Duration::from_secs(300);
/// How often a person looks.
const LOOKS_EVERY: Duration = Duration::from_millis(500);

/// What becomes of a column.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Drift {
    /// It is dropped, and another one of its name is made.
    Anew,
    /// It has another name for a while.
    Renamed,
    /// It takes less for a while; what users write fits all the same.
    Narrowed,
    /// One that nothing maps comes beside it.
    Added,
    /// It is dropped for good.
    Dropped,
}

/// What becomes of one member's column of one field, in order.
#[derive(Clone, Debug)]
pub struct Drifts {
    /// The member.
    pub member: usize,
    /// The field.
    pub field: usize,
    /// What happens.
    pub kinds: Vec<Drift>,
}

impl Drifts {
    /// Whether the column is gone in the end.
    pub fn leave_it_dropped(&self) -> bool {
        self.kinds.contains(&Drift::Dropped)
    }
}

/// What becomes of the schemas of a world. Of a field that stands alone and flows both ways the design tells in every case what
/// is to come of it: a value beats the emptiness of a column that is met as at first sight.
pub fn draw(world: &World) -> Option<Drifts> {
    let further = &world.further;
    let mut random = Random::fork(world.seed, "drifts");
    let is_clear = world.users_wait && !further.gaps && !further.wipes && further.one_way.is_none();
    if world.seed < DRIFTS_FROM || !random.percent(60) || !is_clear {
        return None;
    }
    let fields: Vec<usize> = (0..world.fields.len()).filter(|field| stands_alone(world, *field)).collect();
    let field = random.pick(&fields).copied()?;
    let member = random.place(world.members.len());
    let all = [Drift::Anew, Drift::Anew, Drift::Renamed, Drift::Narrowed, Drift::Added];
    let mut kinds: Vec<Drift> = (0..random.between(1, 3)).filter_map(|_| random.pick(&all).copied()).collect();
    if !further.pauses && random.percent(15) {
        kinds.push(Drift::Dropped);
    }
    Some(Drifts { member, field, kinds })
}

fn stands_alone(world: &World, place: usize) -> bool {
    let Some(field) = world.fields.get(place) else { return false };
    let alone = world.fields.iter().filter(|other| other.group == field.group).count() == 1;
    let plain = field.purpose == Purpose::Plain && field.flow == Flow::Both && field.short_at.is_none();
    alone && plain && !world.is_triggered(place)
}

/// A system numbers its columns, so that one made anew can be told from the one before it.
pub(crate) fn number_columns(database: &mut Database) {
    for (number, field) in (1..).zip(&mut database.schema.fields) {
        field.origin = Some(number);
    }
}

/// Rules proven against the schemas as they are, as at every start.
pub(crate) fn prove(systems: &[Arc<System>], syncs: &mut [SyncRules]) {
    for rules in syncs {
        for (place, member) in rules.members.iter_mut().enumerate() {
            let Some(system) = systems.get(place) else { continue };
            member.schema = system.look(|database| database.schema.clone());
            for at in rules.fields.iter_mut().filter_map(|field| field.members.get_mut(place)?.as_mut()) {
                if let Some(field) = member.schema.field(at.name.as_str()) {
                    at.ty = field.ty.clone();
                }
            }
        }
    }
}

/// Refuses what would show a record by a column that is gone, or by another one than the feed has told of: nobody could know
/// that the emptiness of such a column is nobody's edit.
pub(crate) fn require_told(state: &State) -> Result<()> {
    require_there(&state.database)?;
    let told = state.slot.map_or(0, |slot| slot.confirmed);
    match state.database.torn_at() > told {
        true => Err(Error::new(Code::SchemaDrift, "the object has other columns than its feed has told of")),
        false => Ok(()),
    }
}

/// Refuses what names a column that is gone.
pub(crate) fn require_there(database: &Database) -> Result<()> {
    match database.absent() {
        Some(name) => Err(Error::new(Code::FieldMissing, format!("there is no column {name}"))),
        None => Ok(()),
    }
}

/// Whether a mapped column is gone at a system.
pub(crate) fn lacks_a_column(stage: &Stage) -> bool {
    stage.systems.iter().any(|system| system.look(|database| database.absent().is_some()))
}

/// Whether the engine lives and its sync stands still because of a schema.
fn has_stopped(stage: &Stage) -> bool {
    let drift = Code::SchemaDrift.to_string();
    let stopped = |stage: &str| stage.starts_with("stopped") && stage.contains(&drift);
    stage.status().is_some_and(|status| status.syncs.iter().any(|sync| stopped(&sync.stage)))
}

/// A person lets a sync go on that stopped because of a schema, where every column is there again.
pub(crate) async fn let_go_on(stage: &Stage) {
    if has_stopped(stage) && !lacks_a_column(stage) {
        let answer = stage.ask(Request::Resume(SyncId(1))).await;
        stage.trace.note("person", &format!("lets the sync go on: {:?}", answer.map_err(|error| error.to_string())));
    }
}

/// Lets it go on whenever it has stopped. Never ends.
pub(crate) async fn keep_going(stage: &Stage) {
    loop {
        tokio::time::sleep(LOOKS_EVERY).await;
        let_go_on(stage).await;
    }
}

/// The administrator's work, at moments of its own.
pub(crate) async fn alter(stage: &Stage) {
    let Some(drifts) = &stage.world.further.drifts else { return };
    let Some(system) = stage.system(drifts.member) else { return };
    let mut random = Random::fork(stage.world.seed, "administrator");
    let span = u64::try_from(stage.world.span.as_millis()).unwrap_or(1_000);
    let steps = u64::try_from(drifts.kinds.len()).unwrap_or(1).max(1);
    let name = stage.world.native(drifts.member, drifts.field);
    let mut columns = u32::try_from(system.look(|database| database.schema.fields.len())).unwrap_or(u32::MAX);
    for kind in &drifts.kinds {
        let wait = random.millis(0, span / steps);
        tokio::time::sleep(wait).await;
        columns = columns.saturating_add(1);
        let Some(column) = system.look(|database| database.schema.field(name.as_str()).cloned()) else { return };
        let (there, back) = there_and_back(&stage.world, drifts, *kind, &column, columns);
        system.alter(there);
        let Some(back) = back else { continue };
        if random.percent(40) {
            watch(stage).await;
        } else {
            let wait = random.millis(0, span / steps);
            tokio::time::sleep(wait).await;
        }
        system.alter(back);
    }
}

/// What is done to a column, and what brings it back. `number`: tells a column that is made from all others.
fn there_and_back(world: &World, drifts: &Drifts, kind: Drift, column: &Field, number: u32) -> (Alteration, Option<Alteration>) {
    let name = column.name.clone();
    let other = |name: FieldName| Field { name, origin: Some(number), ..column.clone() };
    match kind {
        Drift::Anew => (Alteration::Drop(name.clone()), Some(Alteration::Add(other(name)))),
        Drift::Dropped => (Alteration::Drop(name), None),
        Drift::Added => (Alteration::Add(other(FieldName::from(format!("extra_{number}")))), None),
        Drift::Renamed => {
            let away = FieldName::from(format!("former_{name}"));
            (Alteration::Rename(name.clone(), away.clone()), Some(Alteration::Rename(away, name)))
        }
        Drift::Narrowed => {
            let narrow = match world.fields.get(drifts.field).map(|field| field.kind) {
                Some(FieldKind::Number) => Type::Int { bits: 32, unsigned: false },
                _ => Type::Text { max_chars: Some(200), padded: false, nul: false, empty: true },
            };
            (Alteration::Retype(name.clone(), narrow), Some(Alteration::Retype(name, column.ty.clone())))
        }
    }
}

/// Waits until the sync stands still, and sees that it writes nothing then.
async fn watch(stage: &Stage) {
    let begun = stage.clock.now();
    while !has_stopped(stage) {
        if stage.clock.now().since(begun) >= PATIENCE {
            return;
        }
        tokio::time::sleep(LOOKS_EVERY).await;
    }
    let found = stands_still(stage).await;
    stage.wrong.borrow_mut().extend(found);
}

/// What is written by a sync that stood still all the while: it was not let go on, for the column is gone.
async fn stands_still(stage: &Stage) -> Option<Violation> {
    tokio::time::sleep(LANDED).await;
    let stood = has_stopped(stage) && lacks_a_column(stage);
    let before = stage.written();
    tokio::time::sleep(WATCHED).await;
    let stands = stood && has_stopped(stage) && lacks_a_column(stage);
    let written = stage.written().saturating_sub(before);
    (stands && written > 0).then(|| Violation {
        invariant: "a sync whose column is gone stands still",
        record: "all".to_owned(),
        what: format!("{written} writes while it did"),
    })
}

/// Where the column never comes back the sync stops, says why, and writes nothing more.
///
/// # Errors
/// It does not stop, or writes.
pub(crate) async fn end_stopped(stage: &Stage) -> std::result::Result<(), Violation> {
    let begun = stage.clock.now();
    // An engine that was killed since does not begin: its rules cannot be proven.
    while stage.status().is_some() && !has_stopped(stage) {
        if stage.clock.now().since(begun) >= STOPS_WITHIN {
            let what = format!("the column is gone, and the sync goes on: {:?}", stage.status());
            return Err(Violation { invariant: "a sync whose column is gone stands still", record: "all".to_owned(), what });
        }
        tokio::time::sleep(LOOKS_EVERY).await;
    }
    stands_still(stage).await.map_or(Ok(()), Err)
}
