//! Laws over generated rules and histories: convergence, few writes, echoes, and the winner of every policy found out a
//! second time by other means. What every decision must satisfy is checked by the world at each step.

use super::support::{cut, rules};
use super::world::World;
use crate::change::EditTime;
use crate::clock::Moment;
use crate::link::{Life, Standing};
use crate::map::wanted;
use crate::reconcile::Need;
use crate::rules::{Authority, DeleteAgainstEdit, DeleteRules, GroupRules, OnDelete, Policy, SyncRules, TargetEdits};
use crate::value::Value;
use proptest::prelude::*;

/// What happens to the members from outside, and when the engine gets to do something.
#[derive(Clone, Debug)]
pub enum Step {
    Edit { member: usize, fields: Vec<(usize, &'static str)>, ago: i64, grain: u32, partial: bool },
    Delete(usize),
    Tell(usize),
    Read(usize),
    Decide,
    Pay,
    Later,
}

pub const VALUES: [&str; 5] = ["", "ada", "augusta", "augus", "byron"];

pub fn value(text: &str) -> Value {
    if text.is_empty() { Value::Null } else { Value::text(text) }
}

pub fn a_policy() -> impl Strategy<Value = Policy> {
    prop_oneof![
        3 => Just(Policy::LastWriteWins),
        1 => Just(Policy::Manual),
        1 => Just(Policy::Priority(vec![1])),
        1 => Just(Policy::Priority(vec![2, 0])),
    ]
}

fn a_delete_rule() -> impl Strategy<Value = DeleteRules> {
    let on_delete = prop_oneof![
        3 => Just(OnDelete::Propagate),
        1 => Just(OnDelete::Detach),
        1 => Just(OnDelete::Ignore),
    ];
    let against_edit =
        prop_oneof![Just(DeleteAgainstEdit::UpdateWins), Just(DeleteAgainstEdit::DeleteWins), Just(DeleteAgainstEdit::Manual)];
    (on_delete, against_edit).prop_map(|(on_delete, against_edit)| DeleteRules { on_delete, against_edit })
}

/// Rules of two or three members and three fields, two of which may form a group; owners, one-way and cutting fields.
pub fn some_rules() -> impl Strategy<Value = SyncRules> {
    let shape = (2..=3_usize, any::<bool>(), [a_policy(), a_policy(), a_policy()]);
    let owner = prop::option::weighted(0.2, 0..2_usize);
    let cuts = prop::option::weighted(0.3, (0..2_usize, 0..3_usize));
    let authority = prop_oneof![Just(Authority::Policy), Just(Authority::Member(0)), Just(Authority::Review)];
    let edits = prop_oneof![4 => Just(TargetEdits::Overwrite), 1 => Just(TargetEdits::Keep), 1 => Just(TargetEdits::Review)];
    (shape, owner, cuts, a_delete_rule(), authority, edits, any::<[bool; 2]>()).prop_map(
        |((members, together, policies), owner, cuts, deletes, authority, target_edits, [one_way, write_back])| {
            let mut rules = rules(members, &["x", "y", "z"]);
            for (group, policy) in rules.groups.iter_mut().zip(policies) {
                group.policy = policy;
            }
            if together {
                group_first_two(&mut rules);
            }
            rules.fields[2].owner = owner;
            if let Some((member, field)) = cuts {
                rules = cut(rules, member, ["x", "y", "z"][field], 5);
            }
            let last = members - 1;
            if one_way {
                let at = super::support::at(&mut rules, last, "z");
                at.outward = false;
            }
            super::support::at(&mut rules, 0, "x").write_back = write_back;
            (rules.deletes, rules.initial.authority, rules.target_edits) = (deletes, authority, target_edits);
            rules.loops.enabled = false;
            rules
        },
    )
}

fn group_first_two(rules: &mut SyncRules) {
    let policy = rules.groups[0].policy.clone();
    let last = rules.groups[2].clone();
    rules.groups = vec![GroupRules { name: "xy".to_owned(), fields: vec![0, 1], policy }, GroupRules { fields: vec![2], ..last }];
    for (field, group) in [(0, 0), (1, 0), (2, 1)] {
        rules.fields[field].group = group;
    }
}

pub fn some_steps() -> impl Strategy<Value = Vec<Step>> {
    let fields = prop::collection::vec((0..3_usize, prop::sample::select(VALUES.as_slice())), 1..3);
    let edit = (0..3_usize, fields, 0..50_i64, prop::sample::select(vec![1_u32, 1, 10]), any::<bool>())
        .prop_map(|(member, fields, ago, grain, partial)| Step::Edit { member, fields, ago, grain, partial });
    let step = prop_oneof![
        5 => edit,
        1 => (0..3_usize).prop_map(Step::Delete),
        4 => (0..3_usize).prop_map(Step::Tell),
        1 => (0..3_usize).prop_map(Step::Read),
        4 => Just(Step::Decide),
        3 => Just(Step::Pay),
        1 => Just(Step::Later),
    ];
    prop::collection::vec(step, 1..40)
}

pub fn exactly(at: i64) -> EditTime {
    EditTime { at: Moment(at), granularity_micros: 1, estimated: false }
}

/// Takes a step; steps of members that the sync does not have are nothing.
pub fn take(world: &mut World, step: &Step) {
    world.now += 1;
    let here = |member: &usize| *member < world.records.len();
    match step {
        Step::Edit { member, fields, ago, grain, partial } if here(member) => {
            let fields: Vec<(usize, Value)> = fields.iter().map(|(field, text)| (*field, value(text))).collect();
            let time = EditTime { granularity_micros: *grain, ..exactly(world.now - ago) };
            world.edit(*member, &fields, time, *partial);
        }
        Step::Delete(member) if here(member) && world.records[*member].is_some() => world.delete(*member, exactly(world.now)),
        Step::Tell(member) if here(member) => world.deliver(*member),
        Step::Read(member) if here(member) && world.standing(*member) == Standing::Present => world.read(*member),
        Step::Decide if world.pending.iter().any(Option::is_some) => {
            if let Err(Need::NewLink(member)) = super::losses::decide(world) {
                world.part(member);
            }
        }
        Step::Pay => {
            world.pay();
        }
        Step::Later => world.now += 1000,
        _ => {}
    }
}

/// Every field that flows to a member shows there what is agreed, unless a person must speak first.
fn assert_converged(world: &World) {
    if world.link.held.is_some() {
        return;
    }
    match world.link.life {
        Life::Live => {
            let holds = |member: &usize| world.records[*member].is_some();
            let anybody = (0..world.records.len()).any(|member| holds(&member));
            for member in 0..world.records.len() {
                assert_eq!(holds(&member), world.standing(member) == Standing::Present, "{:?}", world.link);
                let waits = world.link.groups.iter().any(|group| group.held.is_some());
                let must = anybody && !waits && world.standing(member) != Standing::LeftAlone;
                assert!(!must || holds(&member), "member {member} has no record: {:?}", world.link);
                assert_member_agrees(world, member);
            }
        }
        Life::Deleted { .. } => assert!(world.records.iter().all(Option::is_none), "{:?}", world.link),
        Life::Detached { .. } => {}
    }
}

fn assert_member_agrees(world: &World, member: usize) {
    let Some(record) = &world.records[member] else { return };
    for (index, group) in world.link.groups.iter().enumerate() {
        let (Some(agreed), None) = (&group.agreed, &group.held) else { continue };
        for (&field, value) in world.rules.group_fields(index).iter().zip(&agreed.values) {
            let at = world.rules.at(member, field).unwrap();
            let kept = world.rules.target_edits == TargetEdits::Keep && !world.rules.flows_from(member, field);
            if kept {
                continue;
            }
            let want = wanted(at, value, crate::record::Record::new).unwrap().unwrap();
            let shown = record[field].as_ref().unwrap();
            assert!(want.equivalent_as(shown, &at.ty), "{member} shows {shown:?} and should {want:?}: {:?}", world.link);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1500, ..ProptestConfig::default() })]

    #[test]
    fn members_come_to_agree_in_a_bounded_number_of_rounds(rules in some_rules(), steps in some_steps(), late in any::<bool>()) {
        let mut world = World::new(rules);
        world.late_echoes = late;
        for step in &steps {
            take(&mut world, step);
        }
        world.come_to_rest(12);
        assert_converged(&world);
    }

    #[test]
    fn one_edit_causes_no_more_than_a_write_per_other_member(
        members in 2..=3_usize,
        who in 0..3_usize,
        fields in prop::collection::vec((0..3_usize, prop::sample::select(VALUES.as_slice())), 1..4),
        late in any::<bool>(),
    ) {
        let who = who % members;
        let mut world = World::new(rules(members, &["x", "y", "z"]));
        world.late_echoes = late;
        world.edit(0, &[(0, Value::text("first"))], exactly(0), false);
        world.come_to_rest(8);
        world.writes.clear();
        let edits: Vec<(usize, Value)> = fields.iter().map(|(field, text)| (*field, value(text))).collect();
        world.edit(who, &edits, exactly(world.now), false);
        world.come_to_rest(8);
        prop_assert!(world.writes.len() < members, "{:?}", world.writes);
        assert_converged(&world);
    }

    #[test]
    fn an_echo_causes_no_write_and_changes_nothing_but_a_version(
        rules in some_rules(),
        fields in prop::collection::vec((0..3_usize, prop::sample::select(VALUES.as_slice())), 1..4),
    ) {
        let mut world = World::new(rules);
        world.late_echoes = true;
        let edits: Vec<(usize, Value)> = fields.iter().map(|(field, text)| (*field, value(text))).collect();
        world.edit(0, &edits, exactly(0), false);
        world.deliver(0);
        world.decide(None).unwrap();
        world.pay();
        while world.pending.iter().any(Option::is_some) {
            // What the members filled in on their creates.
            world.decide(None).unwrap();
            world.pay();
        }
        let mut echoes = 0;
        for member in 0..world.records.len() {
            while !world.feeds[member].is_empty() {
                world.deliver(member);
                let decision = world.decide(None).unwrap();
                prop_assert!(!decision.substantive && decision.ledger.is_empty() && decision.reviews.is_empty());
                prop_assert_eq!(world.pay(), 0);
                echoes += 1;
            }
        }
        prop_assert!(echoes >= world.records.len() - 1);
    }

    #[test]
    fn each_policy_has_the_winner_that_its_sentence_says(
        policy in a_policy(),
        edits in prop::collection::btree_map(0..3_usize, (0..60_i64, prop::sample::select(vec![1_u32, 10, 25])), 2..=3),
    ) {
        let mut world = World::new(rules(3, &["x"]));
        world.rules.groups[0].policy = policy.clone();
        world.now = 100;
        for member in 0..3 {
            world.edit(member, &[(0, Value::text("base"))], exactly(0), false);
            world.deliver(member);
        }
        world.decide(None).unwrap();
        for (&member, &(at, granularity_micros)) in &edits {
            let own = Value::text(format!("of {member}"));
            world.edit(member, &[(0, own)], EditTime { granularity_micros, ..exactly(at) }, false);
            world.deliver(member);
        }
        let decision = world.decide(None).unwrap();
        let group = &world.link.groups[0];
        match winner(&policy, &edits) {
            None => prop_assert!(group.held.is_some() && decision.ledger.is_empty()),
            Some(winner) => {
                prop_assert_eq!(group.agreed.as_ref().unwrap().from, winner);
                let losers: Vec<usize> = decision.ledger.iter().map(|row| row.member).collect();
                prop_assert_eq!(losers, edits.keys().copied().filter(|member| *member != winner).collect::<Vec<_>>());
            }
        }
    }
}

/// Who wins, found by sorting the contenders and not by comparing keys.
fn winner(policy: &Policy, edits: &std::collections::BTreeMap<usize, (i64, u32)>) -> Option<usize> {
    match policy {
        Policy::Manual => return None,
        Policy::Priority(order) => {
            for named in order {
                if edits.contains_key(named) {
                    return Some(*named);
                }
            }
        }
        Policy::LastWriteWins => {}
    }
    let coarsest = edits.values().map(|(_, grain)| i64::from(*grain)).max()?;
    let mut best: Option<(i64, usize)> = None;
    for (&member, &(at, _)) in edits {
        let tick = at / coarsest;
        if best.is_none_or(|(other, _)| tick > other) {
            best = Some((tick, member));
        }
    }
    best.map(|(_, member)| member)
}
