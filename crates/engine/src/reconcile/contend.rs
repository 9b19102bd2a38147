//! Who wins where several values contend for one field group.

use crate::change::EditTime;
use crate::clock::Moment;
use crate::ledger::Rule;
use crate::link::MemberIndex;
use crate::rules::Policy;
use crate::value::Value;

/// One value that contends.
#[derive(Clone, Debug)]
pub(super) struct Contender {
    pub member: MemberIndex,
    pub values: Vec<Value>,
    pub time: EditTime,
    pub hops: u32,
}

/// How a contest ended.
pub(super) enum Verdict {
    /// The contender at this place wins, by this rule.
    Won(usize, Rule),
    /// A person decides.
    Manual,
    /// The latest edit wins, and not all times are known yet.
    TimesUnknown,
}

/// Decides between at least two different values. `patient`: whether an estimated time is worth waiting for.
pub(super) fn judge(policy: &Policy, contenders: &[Contender], patient: bool) -> Verdict {
    match policy {
        Policy::Manual => Verdict::Manual,
        Policy::Priority(order) => {
            let find = |member: &MemberIndex| contenders.iter().position(|contender| contender.member == *member);
            let reversed = crate::mutants::active("priority_reversed");
            let named = if reversed { order.iter().rev().find_map(find) } else { order.iter().find_map(find) };
            match named {
                Some(place) => Verdict::Won(place, Rule::Priority),
                None => latest(contenders, patient),
            }
        }
        Policy::LastWriteWins => latest(contenders, patient),
    }
}

/// The latest edit, all stamps compared at the coarsest granularity among them (pairwise comparison is not transitive);
/// a tie goes to the member of lower rank.
fn latest(contenders: &[Contender], patient: bool) -> Verdict {
    if patient && contenders.iter().any(|contender| contender.time.estimated) {
        return Verdict::TimesUnknown;
    }
    if crate::mutants::active("first_write_wins") {
        let place = contenders.iter().enumerate().min_by_key(|(_, contender)| contender.time.at).map(|(place, _)| place);
        return place.map_or(Verdict::Manual, |place| Verdict::Won(place, Rule::LastWriteWins));
    }
    let grain = contenders.iter().map(|contender| contender.time.granularity_micros.max(1)).max().unwrap_or(1);
    let place = contenders
        .iter()
        .enumerate()
        .min_by_key(|(_, contender)| (std::cmp::Reverse(floored(contender.time.at, grain)), contender.member))
        .map(|(place, _)| place);
    place.map_or(Verdict::Manual, |place| Verdict::Won(place, Rule::LastWriteWins))
}

fn floored(at: Moment, grain: u32) -> i64 {
    at.micros().div_euclid(i64::from(grain))
}
