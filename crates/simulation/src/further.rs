//! Dimensions of a world beyond the first ones, each drawn from a stream of its own: one more leaves every other world as
//! it was. What a dimension does is said where it is done; here is only which worlds have it.

use crate::random::Random;
use crate::world::World;

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
}

impl Further {
    /// Whether users do nothing but what they do in every world.
    pub fn is_plain_for_users(&self) -> bool {
        !(self.kills_at_writes || self.twins || self.doubles)
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
    world.further.kills_at_writes = on("kills at writes", 20);
    if world.further.kills_at_writes {
        world.kills = stream("number of kills").between(2, 5);
    }
    world.further.twins = world.matched && world.inserts && on("twins", 20);
    world.further.doubles = world.matched && world.inserts && on("doubles", 10);
    for (place, member) in world.members.iter_mut().enumerate() {
        let on = |name: &str, percent: u64| Random::fork(seed, &format!("{name} {place}")).percent(percent);
        member.profile.partial_inserts = on("partial inserts", 25);
        if on("vague", 15) {
            member.profile.vague_reads = true;
            member.profile.vague_by = 1 + Random::fork(seed, &format!("vague by {place}")).below(4);
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
}
