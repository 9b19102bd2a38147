//! Dimensions of a world beyond the first ones, each drawn from a stream of its own: one more leaves every other world as
//! it was. What a dimension does is said where it is done; here is only which worlds have it.

use crate::database::KeyKind;
use crate::drift::Drifts;
use crate::random::Random;
use crate::world::{AgainstFlow, Decide, DeleteRule, Flow, Purpose, World};

/// Worlds of lower seeds have none of these dimensions.
pub const FURTHER_FROM: u64 = 10_000;

/// Which further dimensions a world has.
#[derive(Clone, Debug, Default)]
pub struct Further {
    /// Kills come just after a write of the engine's has taken effect, and users put values back around them.
    pub kills_at_writes: bool,
    /// Users make the same record at two members at once.
    pub twins: bool,
    /// Users make a record that their own member has already.
    pub doubles: bool,
    /// Many records go at once, under a guard that lets few go unasked.
    pub wipes: bool,
    /// Names are validated, and users write some that are refused.
    pub rejects: bool,
    /// Some member refuses some values.
    pub poisoned: bool,
    /// A person answers what waits for one.
    pub person: bool,
    /// A person pauses the sync at times.
    pub pauses: bool,
    /// Slots are dropped, and a person accepts the gap.
    pub gaps: bool,
    /// Records flow from the first member alone, and this becomes of what users do elsewhere.
    pub one_way: Option<AgainstFlow>,
    /// How conflicts are decided from the engine's second start on.
    pub new_policies: Option<Vec<Decide>>,
    /// What becomes of a member's columns.
    pub drifts: Option<Drifts>,
    /// The field that a sync of its own keeps equal, on the same records: for tests written by hand.
    pub apart: Option<&'static str>,
}

impl Further {
    /// Whether a person answers what waits for one while users work.
    pub fn answers(&self) -> bool {
        self.person || self.pauses || self.gaps
    }

    /// Whether users do nothing but what they do in every world.
    pub fn is_plain_for_users(&self) -> bool {
        let special = [self.kills_at_writes, self.twins, self.doubles, self.wipes, self.rejects, self.poisoned];
        !special.contains(&true)
    }
}

/// Draws the further dimensions of a world.
pub fn draw(world: &mut World) {
    if world.seed < FURTHER_FROM {
        return;
    }
    let seed = world.seed;
    let stream = |name: &str| Random::fork(seed, name);
    let on = |name: &str, percent: u64| stream(name).percent(percent);
    if on("large batches", 11) {
        draw_large_batches(world);
    }
    world.further.kills_at_writes = on("kills at writes", 20);
    if world.further.kills_at_writes {
        world.kills = stream("number of kills").between(2, 5);
    }
    world.further.twins = world.matched && world.inserts && on("twins", 20);
    world.further.doubles = world.matched && world.inserts && on("doubles", 10);
    if world.deletes && on("soft delete", 8) {
        world.on_delete = DeleteRule::Soft;
        world.members.iter_mut().for_each(|member| member.unique = false);
    }
    let keys_elsewhere = world.fields.iter().any(|field| matches!(field.purpose, Purpose::KeyOf(member) if member != 0));
    if !keys_elsewhere && on("one way", 10) {
        let kinds = [AgainstFlow::Overwrite, AgainstFlow::Keep, AgainstFlow::Review];
        world.further.one_way = stream("against the flow").pick(&kinds).copied();
        world.fields.iter_mut().for_each(|field| field.flow = Flow::From(0));
        world.members.iter_mut().for_each(|member| member.triggers.clear());
        world.further.doubles = false;
    }
    world.further.wipes = world.deletes && on("wipes", 12);
    if world.further.wipes {
        world.max_deletes = stream("most deletes").between(1, 4);
    }
    world.further.rejects = on("rejects", 12);
    world.further.person = on("person", 35);
    world.further.pauses = on("pauses", 10);
    world.further.gaps = on("gaps", 8);
    if on("new policies", 12) && world.kills > 0 {
        let mut random = stream("which policies");
        let members = world.members.len();
        let mut draw = |old: &Decide| match random.below(4) {
            0 => Decide::Latest,
            1 => Decide::Priority(vec![random.place(members)]),
            2 => Decide::Person,
            _ => old.clone(),
        };
        let groups = world.groups.iter().enumerate().map(|(group, old)| if group == 0 { old.clone() } else { draw(old) });
        world.further.new_policies = Some(groups.collect());
    }
    if on("poison", 12) {
        let place = stream("poisoned member").place(world.members.len());
        if let Some(member) = world.members.get_mut(place) {
            member.profile.poison = Some(crate::users::POISON.to_owned());
            world.further.poisoned = true;
        }
    }
    for (place, member) in world.members.iter_mut().enumerate() {
        let on = |name: &str, percent: u64| Random::fork(seed, &format!("{name} {place}")).percent(percent);
        member.profile.partial_inserts = on("partial inserts", 25);
        member.profile.guarded = !on("no guards", 15);
        member.profile.looks_ahead = if on("looks ahead", 8) { 30 } else { 0 };
        if on("vague", 15) {
            member.profile.vague_reads = true;
            member.profile.vague_by = 1 + Random::fork(seed, &format!("vague by {place}")).below(4);
        }
        if on("skew", 12) {
            let seconds = Random::fork(seed, &format!("skew by {place}")).pick(&[-600, -5, 1, 600]).copied().unwrap_or(0);
            member.profile.skew_micros = seconds * 1_000_000;
        }
        if on("slow calls", 15) {
            member.profile.call_ms_max = 400;
            member.profile.feed_delay_ms_max = member.profile.feed_delay_ms_max.min(30);
        }
    }
    if on("early users", 15) {
        world.users_wait = false;
        world.span = world.span.min(std::time::Duration::from_secs(3));
    }
    world.further.drifts = crate::drift::draw(world);
}

/// Members that are best loaded by batches of their own, which are larger than those of the sync, and a reading in small chunks:
/// what is read waits for what is written. Mostly of records that nothing tells to be the same: no match is looked for then.
fn draw_large_batches(world: &mut World) {
    let seed = world.seed;
    world.chunk = Random::fork(seed, "size of chunks").pick(&[1, 2, 3]).copied().unwrap_or(1);
    world.batch_size = world.batch_size.min(2);
    for (place, member) in world.members.iter_mut().enumerate() {
        let mut random = Random::fork(seed, &format!("load batch {place}"));
        member.profile.load_batch = random.pick(&[None, Some(3), Some(5)]).copied().flatten();
    }
    let all_serial = world.members.iter().all(|member| member.keys == KeyKind::Serial);
    if !all_serial || Random::fork(seed, "without a match").percent(30) {
        return;
    }
    world.matched = false;
    // Without marks and without a match field an echo that comes before its answer cannot be told from a stranger.
    world.members.iter_mut().for_each(|member| member.profile.marks = true);
    let only = Random::fork(seed, "where they are").place(world.members.len());
    for one in &mut world.contents {
        for (place, at) in one.at.iter_mut().enumerate() {
            *at = (place == only).then(String::new);
        }
    }
}
