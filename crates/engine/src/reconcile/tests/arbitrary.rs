//! Totality: whatever links and observations are given, sensible or not, the merge answers and does not panic, and
//! answers the same again.

use super::laws::{VALUES, a_policy, some_rules, value};
use super::world::{key, version};
use crate::change::EditTime;
use crate::clock::Moment;
use crate::connector::Operation;
use crate::ledger::Rule;
use crate::link::{Agreed, Cells, Group, Held, Life, Link, LinkHold, LinkId, Pending, ReviewId, Shown, Side, Standing, SyncId};
use crate::reconcile::{Choice, Outcome, Patch, Ruling, Written, decide, fold, patch, refine_times, settle};
use crate::value::Value;
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use std::cmp::Ordering;

/// Mostly a member, a field or a group that is there; now and then one that is not.
fn an_index() -> impl Strategy<Value = usize> {
    prop_oneof![8 => 0..3_usize, 1 => 3..6_usize, 1 => Just(usize::MAX)]
}

fn a_value() -> impl Strategy<Value = Value> {
    prop_oneof![
        6 => prop::sample::select(VALUES.as_slice()).prop_map(value),
        1 => any::<i64>().prop_map(Value::Int),
        1 => any::<bool>().prop_map(Value::Bool),
    ]
}

fn some_cells() -> impl Strategy<Value = Cells> {
    prop_oneof![6 => vec(option::weighted(0.9, a_value()), 3), 1 => vec(option::of(a_value()), 0..6)]
}

fn a_time() -> impl Strategy<Value = EditTime> {
    let at = prop_oneof![8 => 0..200_i64, 1 => Just(i64::MIN), 1 => Just(i64::MAX)];
    (at, prop_oneof![Just(0_u32), Just(1), Just(10), Just(u32::MAX)], any::<bool>())
        .prop_map(|(at, granularity_micros, estimated)| EditTime { at: Moment(at), granularity_micros, estimated })
}

fn a_standing() -> impl Strategy<Value = Standing> {
    prop_oneof![
        4 => Just(Standing::Present),
        1 => Just(Standing::Absent),
        1 => Just(Standing::Gone),
        1 => Just(Standing::LeftAlone),
    ]
}

fn a_side() -> impl Strategy<Value = Side> {
    let key_and_standing = (option::weighted(0.9, 0..3_usize), a_standing());
    (key_and_standing, some_cells(), vec(an_index(), 0..3), any::<bool>(), option::weighted(0.2, 1..5_u64)).prop_map(
        |((number, standing), base, owes, owes_life, blocked)| Side {
            key: number.map(key),
            standing,
            base,
            owes,
            owes_life,
            blocked: blocked.map(ReviewId),
            ..Side::absent(0)
        },
    )
}

fn a_group() -> impl Strategy<Value = Group> {
    let rule = prop_oneof![Just(Rule::OnlyChange), Just(Rule::LeftAsItIs), Just(Rule::Manual)];
    let agreed = (vec(a_value(), 0..4), an_index(), a_time(), any::<u32>(), rule)
        .prop_map(|(values, from, time, hops, rule)| Agreed { values, from, time, decision: 1, hops, rule });
    let held = (1..5_u64, vec((an_index(), a_time(), any::<u32>()), 0..3), any::<bool>())
        .prop_map(|(review, contenders, rejects)| Held { review: ReviewId(review), contenders, rejects });
    (option::weighted(0.8, agreed), option::weighted(0.3, held), vec((0..200_i64, any::<u64>()), 0..3)).prop_map(
        |(agreed, held, returns)| Group {
            agreed,
            held,
            returns: returns.into_iter().map(|(at, print)| (Moment(at), print)).collect(),
        },
    )
}

fn a_link() -> impl Strategy<Value = Link> {
    let life = prop_oneof![
        4 => Just(Life::Live),
        1 => an_index().prop_map(|by| Life::Deleted { by, at: Moment(9) }),
        1 => Just(Life::Detached { at: Moment(9) }),
    ];
    let held = option::weighted(0.2, (1..5_u64, any::<bool>()));
    let decision = prop_oneof![9 => 0..9_u64, 1 => Just(u64::MAX)];
    (life, vec(a_side(), 0..5), vec(a_group(), 0..5), held, decision).prop_map(|(life, sides, groups, held, decision)| Link {
        id: LinkId(1),
        sync: SyncId(1),
        layout: 1,
        decision,
        life,
        sides,
        groups,
        held: held.map(|(review, sticky)| LinkHold { review: ReviewId(review), sticky }),
    })
}

fn a_pending() -> impl Strategy<Value = Pending> {
    let present = (some_cells(), vec(option::of(a_time()), 0..5), any::<bool>(), any::<bool>())
        .prop_map(|(cells, times, full, anew)| Shown::Present { cells, times, full, anew });
    let shown = prop_oneof![4 => present, 1 => a_time().prop_map(|time| Shown::Gone { time })];
    (an_index(), shown, any::<u64>(), any::<u32>(), 0..200_i64).prop_map(|(member, shown, number, hops, arrived)| Pending {
        sync: SyncId(1),
        member,
        key: key(0),
        old_key: None,
        shown,
        version: version(number),
        hops,
        echo: false,
        arrived: Moment(arrived),
        layout: 1,
    })
}

fn a_ruling() -> impl Strategy<Value = Ruling> {
    let choice =
        prop_oneof![an_index().prop_map(Choice::Take), vec(a_value(), 0..4).prop_map(Choice::Give), Just(Choice::Leave),];
    prop_oneof![
        (an_index(), choice).prop_map(|(group, choice)| Ruling::Group(group, choice)),
        any::<bool>().prop_map(|keep| Ruling::Life { keep }),
        (an_index(), vec((an_index(), a_value()), 0..3)).prop_map(|(member, given)| Ruling::Amend { member, given }),
        Just(Ruling::Release),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 3000, ..ProptestConfig::default() })]

    #[test]
    fn any_link_and_any_observations_are_answered_and_answered_alike(
        rules in some_rules(),
        policy in a_policy(),
        link in a_link(),
        pending in vec(option::of(a_pending()), 0..5),
        ruling in option::weighted(0.3, a_ruling()),
        now in prop_oneof![8 => 0..400_i64, 1 => Just(i64::MIN), 1 => Just(i64::MAX)],
    ) {
        let mut rules = rules;
        rules.groups[0].policy = policy;
        rules.loops.enabled = true;
        let (mut first, mut second) = (7, 7);
        let outcome = decide(&rules, &link, &pending, ruling.as_ref(), Moment(now), &mut first);
        let again = decide(&rules, &link, &pending, ruling.as_ref(), Moment(now), &mut second);
        prop_assert_eq!(&outcome, &again);
        prop_assert_eq!(first, second);
        let after = match outcome {
            Outcome::Decided(decision) => decision.link,
            Outcome::Needs(_) => link,
        };
        for member in 0..6 {
            if let Patch::Write(operation) = patch(&rules, &after, member) {
                write(&rules, &after, member, &operation);
            }
        }
    }

    #[test]
    fn any_two_observations_fold(older in a_pending(), newer in a_pending(), rules in some_rules()) {
        for order in [None, Some(Ordering::Less), Some(Ordering::Equal), Some(Ordering::Greater)] {
            let _ = fold(&rules, Some(older.clone()), newer.clone(), order);
        }
        let mut refined = older.clone();
        let any = refine_times(&rules, &mut refined, &newer);
        prop_assert_eq!(any, refined != older);
    }
}

fn write(rules: &crate::rules::SyncRules, link: &Link, member: usize, operation: &Operation) {
    let image = match operation {
        Operation::Create { image, .. } => Some(image.clone()),
        Operation::Update { set, .. } => Some(set.clone()),
        Operation::Delete { .. } => None,
    };
    let written =
        Written { operation, key: key(0), image, times: Vec::new(), version: version(1), hops: u32::MAX, planned: link.decision };
    let (after, _, _) = settle(rules, link, member, &written, Moment(1));
    assert!(after.sides[member].owes.is_empty() && !after.sides[member].owes_life);
}
