//! The life of a record: what each member shows, what is agreed and where it came from, and the ledger's rows about it.

use super::Answerer;
use super::description::Description;
use super::names::Names;
use concord_engine::error::{Code, Error, Result};
use concord_engine::ledger::{Entry, LedgerRow};
use concord_engine::link::{Life, Link, LinkId, Standing, SyncId};
use concord_engine::mirror;
use concord_engine::references::referred;
use concord_engine::store::{LedgerQuery, LinkState};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

/// The life of a record in words.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Explanation {
    /// The sync.
    pub sync: String,
    /// The link; `None` for a record that never got one.
    pub link: Option<u64>,
    /// `live`, `deleted by … at …`, `detached since …`; empty without a link.
    pub life: String,
    /// What each member shows.
    pub members: Vec<Shown>,
    /// What is agreed.
    pub agreed: Vec<AgreedField>,
    /// The records that it waits for, which it refers to.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub waits_for: Vec<String>,
    /// What happened, newest first.
    pub history: Vec<Happened>,
    /// Other records that have this key in another system: as `SYSTEM:KEY`.
    pub others: Vec<String>,
}

/// What a member shows.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Shown {
    /// The member.
    pub member: String,
    /// The record's key there.
    pub key: Option<String>,
    /// `present`, `absent`, `gone`, `left alone`.
    pub standing: String,
    /// What is still to be written or taken into account.
    pub waiting: Vec<String>,
    /// Canonical field and the member's own value.
    pub values: Vec<(String, Option<String>)>,
}

/// What is agreed about a field.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AgreedField {
    /// The canonical field.
    pub field: String,
    /// The value.
    pub value: String,
    /// The member that it came from.
    pub from: String,
    /// When it was edited there.
    pub edited: String,
    /// The review item that holds it up.
    pub held: Option<u64>,
}

/// One row of the ledger.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Happened {
    /// When.
    pub at: String,
    /// What: `created`, `updated`, `lost` …
    pub what: String,
    /// The member that it is about.
    pub member: String,
    /// The record's key there.
    pub key: String,
    /// Field by field.
    pub fields: Vec<FieldHappened>,
}

/// One field of a ledger row.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FieldHappened {
    /// The canonical field.
    pub field: String,
    /// What was there before; `None`: not known.
    pub old: Option<String>,
    /// What was written; for a lost value, what won.
    pub new: Option<String>,
    /// Where the new value came from.
    pub from: String,
    /// When it was edited there.
    pub edited: String,
    /// The rule that decided.
    pub rule: String,
}

impl Answerer {
    pub(super) async fn explain(&self, sync: &str, key: &str, field: Option<&str>, limit: usize) -> Result<Explanation> {
        let sync = self.sync(sync)?;
        if let Some(field) = field.filter(|field| !sync.fields.iter().any(|known| known == field)) {
            let message = format!("`{field}` is no field of `{}`; fields: {}", sync.name, sync.fields.join(", "));
            return Err(Error::new(Code::ArgumentWrong, message));
        }
        let id = SyncId(sync.id);
        let (member, key) = named_key(sync, key);
        let mut found = self.links_called(id, key, limit).await?;
        found.retain(|(at, _)| member.is_none_or(|member| member == *at));
        // Two systems may well number two records alike: the first system's is told of, and the others are named.
        let link = found.first().map(|(_, link)| *link);
        let others = found.iter().filter(|(_, other)| Some(*other) != link);
        let others: Vec<String> = others.map(|(member, _)| format!("{}:{key}", sync.member(*member))).collect();
        let mut rows = match link {
            Some(link) => self.store.ledger(LedgerQuery { sync: Some(id), link: Some(link), key: None, limit }).await?,
            None => self.ledger_of(id, key, limit).await?,
        };
        if link.is_none() {
            rows.retain(|row| member.is_none_or(|member| member == row.member));
        }
        let state = match link {
            Some(link) => self.store.links(vec![link]).await?.into_iter().next(),
            None => None,
        };
        if rows.is_empty() && state.is_none() && mirror::has_begun(&*self.store, id).await? {
            let message = format!(
                "`{}` is mirrored, which keeps no memory of single records: `{key}` was never refused; `concord verify` compares it",
                sync.name
            );
            return Err(Error::new(Code::RecordUnknown, message));
        }
        if rows.is_empty() && state.is_none() {
            return Err(Error::new(Code::RecordUnknown, format!("`{}` knows no record with the key `{key}`", sync.name)));
        }
        let names = self.names_of(records_named(sync, state.as_ref(), &rows)).await?;
        let waits_for = match &state {
            Some(state) => self.waits_for(sync, state).await?,
            None => Vec::new(),
        };
        Ok(Explanation { others, waits_for, ..explanation(sync, link, state.as_ref(), &rows, field, &names) })
    }

    async fn ledger_of(&self, sync: SyncId, key: &str, limit: usize) -> Result<Vec<LedgerRow>> {
        self.store.ledger(LedgerQuery { sync: Some(sync), key: Some(key.to_string()), link: None, limit }).await
    }

    /// The links in which a member has this key, or had it by the ledger, by member. The key that a record has now comes
    /// before one that it once had.
    pub(super) async fn links_called(&self, sync: SyncId, key: &str, limit: usize) -> Result<Vec<(usize, LinkId)>> {
        let rows = self.ledger_of(sync, key, limit).await?;
        let told: BTreeSet<(usize, LinkId)> = rows.iter().filter_map(|row| Some((row.member, row.link?))).collect();
        let states = self.store.links(told.iter().map(|(_, link)| *link).collect()).await?;
        let mut found: Vec<(usize, LinkId)> = states.iter().flat_map(|state| members_called(&state.link, key)).collect();
        if found.is_empty() {
            found = self.links_by_scan(sync, key).await?;
        }
        found.extend(told.iter().filter(|(member, _)| !found.iter().any(|(known, _)| known == member)).collect::<Vec<_>>());
        found.sort_unstable();
        found.dedup();
        Ok(found)
    }

    /// Records that were linked before the ledger's oldest row are found by looking at every link.
    async fn links_by_scan(&self, sync: SyncId, key: &str) -> Result<Vec<(usize, LinkId)>> {
        const CHUNK: usize = 5_000;
        let mut after = LinkId(0);
        let mut found = Vec::new();
        loop {
            let links = self.store.scan_links(sync, after, CHUNK).await?;
            found.extend(links.iter().flat_map(|link| members_called(link, key)));
            match links.last() {
                Some(last) => after = last.id,
                None => return Ok(found),
            }
        }
    }
}

/// The records that agreed and lost values refer to.
fn records_named(sync: &Description, state: Option<&LinkState>, rows: &[LedgerRow]) -> Vec<LinkId> {
    if sync.references.is_empty() {
        return Vec::new();
    }
    let agreed = state.into_iter().flat_map(|state| &state.link.groups).filter_map(|group| group.agreed.as_ref());
    let agreed = agreed.flat_map(|agreed| &agreed.values);
    let told = rows.iter().flat_map(|row| &row.fields).flat_map(|field| field.old.iter().chain(&field.new));
    agreed.chain(told).filter_map(referred).collect()
}

/// The members in which a link's record has this key.
fn members_called(link: &Link, key: &str) -> Vec<(usize, LinkId)> {
    let sides = link.sides.iter().enumerate();
    sides.filter(|(_, side)| side.key.as_ref().is_some_and(|own| own.to_string() == key)).map(|(at, _)| (at, link.id)).collect()
}

/// A key as a person writes it: `SYSTEM:KEY` where the key alone is not enough.
pub(super) fn named_key<'a>(sync: &Description, key: &'a str) -> (Option<usize>, &'a str) {
    match key.split_once(':').map(|(system, rest)| (sync.member_called(system), rest)) {
        Some((Some(member), rest)) => (Some(member), rest),
        _ => (None, key),
    }
}

fn explanation(
    sync: &Description,
    link: Option<LinkId>,
    state: Option<&LinkState>,
    rows: &[LedgerRow],
    field: Option<&str>,
    names: &Names,
) -> Explanation {
    let wanted = |name: &str| field.is_none_or(|field| field == name);
    Explanation {
        sync: sync.name.clone(),
        link: link.map(|link| link.0),
        life: state.map_or(String::new(), |state| life(sync, &state.link.life)),
        members: state.map_or(Vec::new(), |state| members(sync, state, &wanted)),
        agreed: state.map_or(Vec::new(), |state| agreed(sync, &state.link, names, &wanted)),
        history: rows.iter().filter_map(|row| happened(sync, row, field, names)).collect(),
        waits_for: Vec::new(),
        others: Vec::new(),
    }
}

fn life(sync: &Description, life: &Life) -> String {
    match life {
        Life::Live => "live".into(),
        Life::Deleted { by, at } => format!("deleted by {} at {at}", sync.member(*by)),
        Life::Detached { at } => format!("detached since {at}"),
    }
}

fn members(sync: &Description, state: &LinkState, wanted: &dyn Fn(&str) -> bool) -> Vec<Shown> {
    let sides = state.link.sides.iter().enumerate();
    sides
        .map(|(place, side)| {
            let mut waiting = Vec::new();
            if side.flight.is_some() {
                waiting.push("a write is under way".to_string());
            } else if side.is_owing() {
                waiting.push("a write is owed".to_string());
            }
            if state.pending.get(place).is_some_and(Option::is_some) {
                waiting.push("an edit is not yet taken into account".to_string());
            }
            if let Some(review) = side.blocked {
                waiting.push(format!("waits for review {}", review.0));
            }
            let values = sync.fields.iter().zip(&side.base).filter(|(field, _)| wanted(field));
            Shown {
                member: sync.member(place),
                key: side.key.as_ref().map(ToString::to_string),
                standing: match side.standing {
                    Standing::Absent => "absent",
                    Standing::Present => "present",
                    Standing::Gone => "gone",
                    Standing::LeftAlone => "left alone",
                    Standing::Marked => "marked as deleted",
                }
                .to_string(),
                waiting,
                values: values.map(|(field, value)| (field.clone(), value.as_ref().map(ToString::to_string))).collect(),
            }
        })
        .collect()
}

fn agreed(sync: &Description, link: &Link, names: &Names, wanted: &dyn Fn(&str) -> bool) -> Vec<AgreedField> {
    let mut found = Vec::new();
    for ((_, fields), group) in sync.groups.iter().zip(&link.groups) {
        let Some(agreed) = &group.agreed else { continue };
        for (field, value) in fields.iter().zip(&agreed.values).filter(|(field, _)| wanted(field)) {
            found.push(AgreedField {
                field: field.clone(),
                value: names.of(value),
                from: sync.member(agreed.from),
                edited: agreed.time.at.to_string(),
                held: group.held.as_ref().map(|held| held.review.0),
            });
        }
    }
    found
}

fn happened(sync: &Description, row: &LedgerRow, field: Option<&str>, names: &Names) -> Option<Happened> {
    let fields: Vec<FieldHappened> = row
        .fields
        .iter()
        .filter(|entry| field.is_none_or(|field| field == entry.field))
        .map(|entry| FieldHappened {
            field: entry.field.clone(),
            old: entry.old.as_ref().map(|value| names.of(value)),
            new: entry.new.as_ref().map(|value| names.of(value)),
            from: sync.member(entry.from),
            edited: entry.edited.to_string(),
            rule: word(&entry.rule),
        })
        .collect();
    // A row that names fields but not the one asked for says nothing about it.
    if field.is_some() && fields.is_empty() && !row.fields.is_empty() {
        return None;
    }
    Some(Happened {
        at: row.at.to_string(),
        what: what(&row.entry),
        member: sync.member(row.member),
        key: row.key.clone(),
        fields,
    })
}

/// The word that a value of few has in JSON, blanks for underscores.
fn word(value: &impl Serialize) -> String {
    let value = serde_json::to_value(value).unwrap_or_default();
    value.as_str().unwrap_or_default().replace('_', " ")
}

fn what(entry: &Entry) -> String {
    match entry {
        Entry::Created => "created".into(),
        Entry::Updated => "updated".into(),
        Entry::Deleted => "deleted".into(),
        Entry::Linked => "linked".into(),
        Entry::Lost => "lost".into(),
        Entry::Skipped(why) => format!("skipped: {why}"),
        Entry::Held(why) => format!("held: {why}"),
        Entry::Rejected(why) => format!("rejected: {why}"),
        Entry::Failed(why) => format!("failed: {why}"),
        Entry::Warned(why) => format!("let through, though {why}"),
    }
}
