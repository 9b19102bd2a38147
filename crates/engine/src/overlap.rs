//! Fields that several syncs write: those that one of them writes over, whatever another one brought, and those that are
//! passed round in a ring. Plain functions over the flows of fields, wherever their names come from; never reads a record.

use crate::config::Diagnostic;
use crate::error::Code;
use crate::record::{FieldName, ObjectName, SyncName, SystemName};
use crate::rules::SyncRules;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt;

/// A field of an object.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// The system.
    pub system: SystemName,
    /// The object.
    pub object: ObjectName,
    /// The field.
    pub field: FieldName,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.system, self.object, self.field)
    }
}

/// Edits of one field that a sync carries to another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Flow {
    /// The sync.
    pub sync: SyncName,
    /// Where the edits are made.
    pub from: Place,
    /// Where they are carried to.
    pub to: Place,
}

/// How several syncs get in each other's way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// An edit that goes through all of them comes back to where it was made.
    Ring,
    /// Each writes the same field, and one of them takes no edits of it.
    Owners,
}

/// Syncs that write the same fields.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Overlap {
    /// How.
    pub kind: Kind,
    /// The syncs.
    pub syncs: BTreeSet<SyncName>,
    /// The flows of one such field, in the order in which an edit goes through them.
    pub example: Vec<Flow>,
    /// How many other fields it happens to.
    pub others: usize,
}

impl Overlap {
    /// As a warning.
    pub fn warning(&self) -> Diagnostic {
        let names: Vec<String> = self.syncs.iter().map(|name| format!("`{name}`")).collect();
        let others = match self.others {
            0 => String::new(),
            1 => ", and one more field".to_owned(),
            others => format!(", and {others} more fields"),
        };
        let names = listed(&names);
        match (self.kind, self.example.as_slice()) {
            (Kind::Ring, flows) => {
                let begins = flows.first().map_or_else(String::new, |flow| flow.from.to_string());
                let steps: String = flows.iter().map(|flow| format!(" → {} (`{}`)", flow.to, flow.sync)).collect();
                let message = format!("the syncs {names} pass a field round: {begins}{steps}{others}");
                Diagnostic::warning(Code::FieldsInRing, message)
            }
            (Kind::Owners, flows) => {
                let place = flows.first().map_or_else(String::new, |flow| flow.to.to_string());
                let sources: Vec<String> = flows.iter().map(|flow| format!("{} (`{}`)", flow.from, flow.sync)).collect();
                let message = format!(
                    "the syncs {names} all write {place}, each over what the other wrote: from {}{others}",
                    listed(&sources)
                );
                Diagnostic::warning(Code::FieldsOwnedTwice, message)
            }
        }
    }
}

/// `a`, `b` and `c`.
fn listed(names: &[String]) -> String {
    match names {
        [] => String::new(),
        [one] => one.clone(),
        [first @ .., last] => format!("{} and {last}", first.join(", ")),
    }
}

/// The flows of a sync whose names are resolved.
pub fn of_rules(rules: &SyncRules) -> Vec<Flow> {
    let place = |member: usize, field: &FieldName| {
        let member = rules.members.get(member)?;
        Some(Place { system: member.system.clone(), object: member.object.clone(), field: field.clone() })
    };
    let mut flows = Vec::new();
    for (index, field) in rules.fields.iter().enumerate() {
        for (from, here) in field.members.iter().enumerate().filter(|(from, _)| rules.flows_from(*from, index)) {
            for (to, there) in field.members.iter().enumerate().filter(|(to, _)| *to != from) {
                let (Some(here), Some(there)) = (here, there.as_ref().filter(|there| there.inward)) else { continue };
                let (Some(from), Some(to)) = (place(from, &here.name), place(to, &there.name)) else { continue };
                flows.push(Flow { sync: rules.name.clone(), from, to });
            }
        }
    }
    flows
}

/// What is to be said of these flows, rings first; of each group of syncs once.
pub fn find(flows: &[Flow]) -> Vec<Overlap> {
    let mut found = rings(flows);
    found.extend(owners(flows));
    found
}

fn rings(flows: &[Flow]) -> Vec<Overlap> {
    let mut leaving: BTreeMap<&Place, Vec<&Flow>> = BTreeMap::new();
    for flow in flows {
        leaving.entry(&flow.from).or_default().push(flow);
    }
    let mut known: BTreeSet<BTreeSet<&Place>> = BTreeSet::new();
    let mut found: BTreeMap<BTreeSet<SyncName>, Overlap> = BTreeMap::new();
    for flow in flows {
        let Some(back) = way_back(&leaving, flow) else { continue };
        let ring: Vec<&Flow> = std::iter::once(flow).chain(back).collect();
        // It is found again from each of its fields.
        if known.insert(ring.iter().map(|flow| &flow.from).collect()) {
            add(&mut found, Kind::Ring, ring);
        }
    }
    found.into_values().collect()
}

/// The shortest way on which an edit that one flow carried comes back to where it was made, without that flow's own sync: what
/// a sync carries back by itself is no ring.
fn way_back<'a>(leaving: &BTreeMap<&'a Place, Vec<&'a Flow>>, flow: &'a Flow) -> Option<Vec<&'a Flow>> {
    let mut reached: BTreeMap<&Place, Option<&'a Flow>> = BTreeMap::from([(&flow.to, None)]);
    let mut queue = VecDeque::from([&flow.to]);
    while let Some(place) = queue.pop_front() {
        if *place == flow.from {
            break;
        }
        for next in leaving.get(place).into_iter().flatten().copied().filter(|next| next.sync != flow.sync) {
            reached.entry(&next.to).or_insert_with(|| {
                queue.push_back(&next.to);
                Some(next)
            });
        }
    }
    let mut way = Vec::new();
    let mut step = (*reached.get(&flow.from)?)?;
    loop {
        way.push(step);
        match reached.get(&step.from).copied().flatten() {
            Some(before) => step = before,
            None => break,
        }
    }
    way.reverse();
    Some(way)
}

fn owners(flows: &[Flow]) -> Vec<Overlap> {
    let taken: BTreeSet<(&SyncName, &Place)> = flows.iter().map(|flow| (&flow.sync, &flow.from)).collect();
    let mut writers: BTreeMap<&Place, BTreeMap<&SyncName, &Flow>> = BTreeMap::new();
    for flow in flows {
        writers.entry(&flow.to).or_default().entry(&flow.sync).or_insert(flow);
    }
    let mut found = BTreeMap::new();
    for (place, writers) in writers.into_iter().filter(|(_, writers)| writers.len() > 1) {
        // Syncs that all carry edits of the field away as well keep it equal together.
        if writers.keys().any(|sync| !taken.contains(&(sync, place))) {
            add(&mut found, Kind::Owners, writers.into_values().collect());
        }
    }
    found.into_values().collect()
}

fn add(found: &mut BTreeMap<BTreeSet<SyncName>, Overlap>, kind: Kind, flows: Vec<&Flow>) {
    let syncs: BTreeSet<SyncName> = flows.iter().map(|flow| flow.sync.clone()).collect();
    found.entry(syncs.clone()).and_modify(|known| known.others += 1).or_insert_with(|| Overlap {
        kind,
        syncs,
        example: flows.into_iter().cloned().collect(),
        others: 0,
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(text: &str) -> Place {
        let mut parts = text.split('.');
        let mut next = || parts.next().unwrap_or_default();
        Place { system: next().into(), object: next().into(), field: next().into() }
    }

    /// `a: crm.accounts.name > erp.customers.company`, or `=` for both ways.
    fn flows(text: &str) -> Vec<Flow> {
        let mut flows = Vec::new();
        for line in text.lines().map(str::trim).filter(|line| !line.is_empty()) {
            let (sync, rest) = line.split_once(": ").unwrap();
            let (one, other) = rest.split_once(" > ").or(rest.split_once(" = ")).unwrap();
            flows.push(Flow { sync: sync.into(), from: place(one), to: place(other) });
            if rest.contains(" = ") {
                flows.push(Flow { sync: sync.into(), from: place(other), to: place(one) });
            }
        }
        flows
    }

    fn said(text: &str) -> Vec<String> {
        find(&flows(text)).iter().map(|overlap| overlap.warning().message).collect()
    }

    #[test]
    fn three_syncs_that_pass_a_field_round_are_a_ring() {
        assert_eq!(
            said("first: a.x.n > b.x.n\nsecond: b.x.n > c.x.n\nthird: c.x.n > a.x.n"),
            [
                "the syncs `first`, `second` and `third` pass a field round: a.x.n → b.x.n (`first`) → c.x.n (`second`) → a.x.n (`third`)"
            ]
        );
        let both_ways = said("first: a.x.n = b.x.n\nsecond: b.x.n = c.x.n\nthird: c.x.n = a.x.n");
        assert!(
            both_ways.len() == 1 && both_ways[0].starts_with("the syncs `first`, `second` and `third` pass a field round"),
            "{both_ways:?}"
        );
    }

    #[test]
    fn fields_that_go_the_same_way_round_are_counted_and_said_once() {
        let one = "first: a.x.N > b.x.N\nsecond: b.x.N > a.x.N\n";
        let of = |names: &[&str]| said(&names.iter().map(|name| one.replace('N', name)).collect::<String>());
        assert_eq!(
            of(&["m", "n", "o"]),
            ["the syncs `first` and `second` pass a field round: a.x.m → b.x.m (`first`) → a.x.m (`second`), and 2 more fields"]
        );
        assert!(of(&["m", "n"])[0].ends_with(", and one more field"));
    }

    #[test]
    fn a_sync_both_ways_and_a_chain_of_them_are_no_ring_and_own_nothing() {
        assert_eq!(said("first: a.x.n = b.x.n"), [""; 0]);
        assert_eq!(said("first: a.x.n = b.x.n\nsecond: b.x.n = c.x.n\nthird: b.x.n = d.x.n"), [""; 0]);
        // Along the chain edits flow on, and nobody else writes.
        assert_eq!(said("first: a.x.n > b.x.n\nsecond: b.x.n > c.x.n"), [""; 0]);
        // Another field, another object, another system: nothing is passed on.
        assert_eq!(said("first: a.x.n > b.x.n\nsecond: b.x.m > a.x.n\nthird: b.y.n > a.x.m"), [""; 0]);
    }

    #[test]
    fn two_sources_of_one_field_are_said_unless_both_take_its_edits() {
        assert_eq!(
            said("first: a.x.n > c.x.n\nsecond: b.x.n > c.x.n"),
            [
                "the syncs `first` and `second` all write c.x.n, each over what the other wrote: from a.x.n (`first`) and b.x.n (`second`)"
            ]
        );
        let one_of_them = said("first: a.x.n = c.x.n\nsecond: b.x.n > c.x.n\nfirst: a.x.m = c.x.m\nsecond: b.x.m > c.x.m");
        assert!(one_of_them.len() == 1 && one_of_them[0].contains("and one more field"), "{one_of_them:?}");
        assert_eq!(said("first: a.x.n = c.x.n\nsecond: b.x.n = c.x.n"), [""; 0]);
    }
}
