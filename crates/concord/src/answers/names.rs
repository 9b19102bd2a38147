//! References in words: the record that a field names is told by the keys that it has in its systems, and found by one.

use super::Answerer;
use super::description::Description;
use super::explain::named_key;
use concord_engine::error::{Code, Error, Result};
use concord_engine::link::{Link, LinkId, Shown, Standing, SyncId};
use concord_engine::references::{Awaited, referred};
use concord_engine::store::LinkState;
use concord_engine::value::Value;
use std::collections::BTreeMap;

/// The most links that are looked through for a key.
const LIMIT: usize = 100;

/// What records are called that values refer to.
#[derive(Default)]
pub(super) struct Names(BTreeMap<LinkId, String>);

impl Names {
    /// A value in words.
    pub(super) fn of(&self, value: &Value) -> String {
        let name = referred(value).and_then(|link| self.0.get(&link));
        name.cloned().unwrap_or_else(|| value.to_string())
    }
}

impl Answerer {
    /// What these records are called.
    pub(super) async fn names_of(&self, mut ids: Vec<LinkId>) -> Result<Names> {
        ids.sort_unstable();
        ids.dedup();
        let mut names = Names::default();
        for state in self.store.links(ids).await? {
            if let Some(sync) = self.sync_of(state.link.sync) {
                names.0.insert(state.link.id, name(sync, &state.link));
            }
        }
        Ok(names)
    }

    /// The record of a sync that has this key in one of its systems.
    pub(super) async fn record_called(&self, sync: &Description, key: &str) -> Result<LinkId> {
        let (member, key) = named_key(sync, key);
        let mut found = self.links_called(SyncId(sync.id), key, LIMIT).await?;
        found.retain(|(at, _)| member.is_none_or(|member| member == *at));
        let mut links: Vec<LinkId> = found.iter().map(|(_, link)| *link).collect();
        links.sort_unstable();
        links.dedup();
        match links.as_slice() {
            [one] => Ok(*one),
            [] => Err(Error::new(Code::RecordUnknown, format!("`{}` knows no record with the key `{key}`", sync.name))),
            _ => {
                let ways: Vec<String> = found.iter().map(|(at, _)| format!("{}:{key}", sync.member(*at))).collect();
                let message = format!("several records of `{}` have the key `{key}`: write {}", sync.name, ways.join(" or "));
                Err(Error::new(Code::ArgumentWrong, message))
            }
        }
    }

    /// What a record waits for, a line each.
    pub(super) async fn waits_for(&self, sync: &Description, state: &LinkState) -> Result<Vec<String>> {
        let mut lines = Vec::new();
        for awaited in self.store.waits_of(SyncId(sync.id), state.link.id).await? {
            match awaited {
                Awaited::Key(address) => {
                    let Some(other) = self.sync_of(address.sync) else { continue };
                    let member = other.member(address.member);
                    let key = named_by(sync, state, other, address.member);
                    let known = self.store.lookup(vec![address]).await?.into_iter().next().unwrap_or_default();
                    let why = match known.pending {
                        Some(_) => "which was seen, and waits to be matched: see `concord review list`",
                        None => "which is not known yet",
                    };
                    lines.push(format!("the record {key} of {} in {member}, {why} ({})", other.name, Code::ReferenceWaits));
                }
                Awaited::Record(link) => {
                    let found = self.store.links(vec![link]).await?.into_iter().next();
                    let other = found.as_ref().and_then(|found| self.sync_of(found.link.sync));
                    lines.push(match found.as_ref().zip(other) {
                        Some((found, other)) => format!("{} ({})", where_it_stands(other, &found.link), Code::ReferenceWaits),
                        None => format!("a record that is no longer known ({})", Code::ReferenceNotKept),
                    });
                }
            }
        }
        Ok(lines)
    }
}

fn name(sync: &Description, link: &Link) -> String {
    let keys: Vec<String> = link
        .sides
        .iter()
        .enumerate()
        .filter_map(|(member, side)| Some(format!("{}:{}", sync.member(member), side.key.as_ref()?)))
        .collect();
    format!("{} {}", sync.name, if keys.is_empty() { format!("record {}", link.id.0) } else { keys.join(" = ") })
}

/// A record with what keeps it from where it is to stand.
fn where_it_stands(sync: &Description, link: &Link) -> String {
    let missing: Vec<String> = link
        .sides
        .iter()
        .enumerate()
        .filter(|(_, side)| side.standing != Standing::Present)
        .map(|(member, side)| {
            let review = side.blocked.or(link.held.map(|hold| hold.review));
            let review = review.or(link.groups.iter().find_map(|group| group.held.as_ref().map(|held| held.review)));
            let why = review.map_or(String::new(), |review| format!(" (review {})", review.0));
            format!("{}{why}", sync.member(member))
        })
        .collect();
    let name = name(sync, link);
    if missing.is_empty() { name } else { format!("{name}, which is not in {} yet", missing.join(", ")) }
}

/// The keys by which a record names those of another sync that it waits for, as its member in the same system shows them.
fn named_by(sync: &Description, state: &LinkState, other: &Description, member: usize) -> String {
    let system = other.members.get(member).map(|member| member.system.as_str());
    let mut keys = Vec::new();
    let fields = sync.fields.iter().enumerate().filter(|(_, field)| sync.refers_to(field) == Some(other.id));
    let places: Vec<usize> = fields.map(|(place, _)| place).collect();
    for at in (0..sync.members.len()).filter(|at| sync.members.get(*at).map(|member| member.system.as_str()) == system) {
        for &place in &places {
            let pending = state.pending.get(at).and_then(Option::as_ref).and_then(|pending| match &pending.shown {
                Shown::Present { cells, .. } => cells.get(place)?.as_ref(),
                Shown::Gone { .. } => None,
            });
            let base = state.link.sides.get(at).and_then(|side| side.base.get(place)?.as_ref());
            keys.extend(pending.or(base).filter(|value| !value.is_null()).map(ToString::to_string));
        }
    }
    keys.sort();
    keys.dedup();
    keys.join(" or ")
}
