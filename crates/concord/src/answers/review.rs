//! What waits for a person, in words; and a person's decision turned into the engine's terms.

use super::description::Description;
use super::names::Names;
use super::{Answerer, Running, queue};
use crate::control::Decision;
use concord_engine::error::{Code, Error, Result};
use concord_engine::link::{Link, LinkId, ReviewId, SyncId};
use concord_engine::references::{canonical, referred};
use concord_engine::review::{Review, Subject};
use concord_engine::runtime::command::{Request, Resolution};
use concord_engine::schema::Type;
use concord_engine::value::Value;
use serde::{Deserialize, Serialize};

/// A review item in words.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Item {
    /// Its number.
    pub id: u64,
    /// The sync.
    pub sync: String,
    /// `conflict`, `delete_against_edit`, `rejected`, `ambiguous`, `duplicate`, `exhausted`, `loop`, `mass_change`,
    /// `unreadable`, `went_back`.
    pub kind: String,
    /// The stable code of why.
    pub code: String,
    /// One sentence.
    pub message: String,
    /// When it was opened.
    pub opened: String,
    /// How it was closed; `None` while it is open.
    pub closed: Option<String>,
    /// What can be looked at: a line each, label and value.
    pub details: Vec<(String, String)>,
    /// What can be done: the arguments of `concord review`.
    pub ways: Vec<String>,
}

impl Answerer {
    pub(super) async fn review_list(&self, sync: Option<&str>, all: bool, limit: usize) -> Result<Vec<Item>> {
        let sync = sync.map(|name| self.sync(name)).transpose()?.map(|sync| SyncId(sync.id));
        let reviews = self.store.reviews(sync, !all, limit).await?;
        self.items(&reviews).await
    }

    pub(super) async fn review_show(&self, id: u64) -> Result<Item> {
        let items = self.items(&[self.found(id).await?]).await?;
        items.into_iter().next().ok_or_else(|| Error::new(Code::UnknownReview, format!("there is no review item {id}")))
    }

    async fn found(&self, id: u64) -> Result<Review> {
        let review = self.store.review(ReviewId(id)).await?;
        review.ok_or_else(|| Error::new(Code::UnknownReview, format!("there is no review item {id}")))
    }

    pub(super) async fn review_decide(&self, id: u64, decision: &Decision) -> Result<String> {
        match &self.running {
            Some(running) => self.review_request(running, id, decision).await,
            None => {
                // Whether it fits is told now, not at the next start.
                let review = self.found(id).await?;
                self.resolve_names(&review, self.resolution(&review, decision)?).await?;
                queue::decide(self, id, decision).await
            }
        }
    }

    /// Hands a decision to the engine.
    pub(super) async fn review_request(&self, running: &Running, id: u64, decision: &Decision) -> Result<String> {
        let review = self.found(id).await?;
        let resolution = self.resolve_names(&review, self.resolution(&review, decision)?).await?;
        self.request(running, Request::Resolve(ReviewId(id), resolution)).await
    }

    /// A decision in the engine's terms, or why it does not fit the item.
    fn resolution(&self, review: &Review, decision: &Decision) -> Result<Resolution> {
        let wrong = |message: String| Error::new(Code::BadResolution, format!("review {}: {message}", review.id.0));
        if let Some((at, how)) = &review.closed {
            return Err(wrong(format!("it was closed at {at} ({how})")));
        }
        let none = Description::of_nothing(String::new());
        let sync = self.sync_of(review.sync).unwrap_or(&none);
        let unfit = || wrong(format!("that is no way to decide it; possible: {}", ways(sync, review).join(", ")));
        match (decision, &review.subject) {
            (Decision::Take { system }, Subject::Conflict { values, .. }) => {
                let member = sync.member_called(system).filter(|member| values.iter().any(|(at, _)| at == member));
                member.map(Resolution::Take).ok_or_else(unfit)
            }
            (Decision::Take { system }, Subject::DeleteAgainstEdit { deleted_by, edited_by }) => {
                let member = sync.member_called(system).filter(|member| member == deleted_by || edited_by.contains(member));
                member.map(Resolution::Take).ok_or_else(unfit)
            }
            (Decision::Take { system }, Subject::WentBack { .. }) => {
                sync.member_called(system).map(Resolution::Take).ok_or_else(unfit)
            }
            (_, Subject::WentBack { .. }) => Err(unfit()),
            (Decision::Give { values: given }, Subject::Conflict { fields, values, base, .. }) => {
                let like = values.iter().map(|(_, values)| values).chain(base);
                given_values(fields, &like.collect::<Vec<_>>(), given).map(Resolution::Give).map_err(wrong)
            }
            (Decision::Give { values }, Subject::Rejected { .. })
                if review.link.is_some() && review.code != Code::EditAgainstFlow.to_string() =>
            {
                repaired(&sync.fields, values).map(Resolution::Repair).map_err(wrong)
            }
            (Decision::Bind { candidate }, Subject::Ambiguous { candidates, .. }) => match candidate.checked_sub(1) {
                Some(place) if place < candidates.len() => Ok(Resolution::Bind(place)),
                _ => Err(unfit()),
            },
            (Decision::Create, Subject::Ambiguous { .. } | Subject::Duplicate { .. }) => Ok(Resolution::Create),
            (Decision::Retry, Subject::Conflict { .. } | Subject::DeleteAgainstEdit { .. }) => Err(unfit()),
            (Decision::Retry, _) => Ok(Resolution::Retry),
            (Decision::Ignore, Subject::DeleteAgainstEdit { .. }) => Err(unfit()),
            (Decision::Ignore, _) => Ok(Resolution::Ignore),
            _ => Err(unfit()),
        }
    }

    /// A person names a record that a field refers to by its key: which link that is.
    async fn resolve_names(&self, review: &Review, resolution: Resolution) -> Result<Resolution> {
        let (Resolution::Give(mut values), Subject::Conflict { fields, .. }, Some(sync)) =
            (resolution.clone(), &review.subject, self.sync_of(review.sync))
        else {
            return Ok(resolution);
        };
        for (field, value) in fields.iter().zip(&mut values) {
            let referred = sync.refers_to(field).and_then(|id| self.sync_of(SyncId(id)));
            let (Some(referred), Some(key)) = (referred, value.to_plain_text()) else { continue };
            *value = canonical(self.record_called(referred, &key).await?);
        }
        Ok(Resolution::Give(values))
    }

    /// Reviews in words, each with the keys of the record that it is about.
    async fn items(&self, reviews: &[Review]) -> Result<Vec<Item>> {
        let mut ids: Vec<LinkId> = reviews.iter().flat_map(links_of).collect();
        ids.sort_unstable();
        ids.dedup();
        let links = self.store.links(ids).await?.into_iter().map(|state| state.link).collect::<Vec<_>>();
        let names = self.names_of(reviews.iter().flat_map(records_named).collect()).await?;
        Ok(reviews.iter().map(|review| self.item(review, &links, &names)).collect())
    }

    fn item(&self, review: &Review, links: &[Link], names: &Names) -> Item {
        let none = Description::of_nothing(format!("sync {}", review.sync.0));
        let sync = self.sync_of(review.sync).unwrap_or(&none);
        Item {
            id: review.id.0,
            sync: sync.name.clone(),
            kind: kind(&review.subject).to_string(),
            code: review.code.clone(),
            message: without_code(&review.message, &review.code).to_string(),
            opened: review.opened.to_string(),
            closed: review.closed.as_ref().map(|(at, how)| format!("{at}: {how}")),
            details: [records(sync, review, links), details(sync, &review.subject, names)].concat(),
            ways: if review.closed.is_some() { Vec::new() } else { ways(sync, review) },
        }
    }
}

/// The records that the values in question refer to.
fn records_named(review: &Review) -> Vec<LinkId> {
    match &review.subject {
        Subject::Conflict { values, base, .. } => {
            values.iter().map(|(_, values)| values).chain(base).flatten().filter_map(referred).collect()
        }
        _ => Vec::new(),
    }
}

/// The records that a review is about, as far as they are known: its own link's, and the one that stands in its way.
fn links_of(review: &Review) -> Vec<LinkId> {
    let in_the_way = match &review.subject {
        Subject::Duplicate { linked, .. } => Some(*linked),
        _ => None,
    };
    review.link.into_iter().chain(in_the_way).collect()
}

/// The code stands beside the message already.
fn without_code<'a>(message: &'a str, code: &str) -> &'a str {
    message.strip_prefix(code).map_or(message, |rest| rest.trim_start_matches([' ', ':']))
}

/// Which records it is about, and how to see their life.
fn records(sync: &Description, review: &Review, links: &[Link]) -> Vec<(String, String)> {
    let mut lines = Vec::new();
    for id in links_of(review) {
        let Some(link) = links.iter().find(|link| link.id == id) else { continue };
        let keys: Vec<(String, String)> = link
            .sides
            .iter()
            .enumerate()
            .filter_map(|(member, side)| Some((side.key.as_ref()?.to_string(), sync.member(member))))
            .collect();
        let label = if review.link == Some(id) { "record" } else { "match is held by" };
        let named: Vec<String> = keys.iter().map(|(key, system)| format!("{key} of {system}")).collect();
        lines.push((label.to_string(), named.join(", ")));
        if let Some((key, system)) = keys.first() {
            lines.push(("its life".to_string(), format!("concord explain {} {system}:{key}", sync.name)));
        }
    }
    lines
}

fn kind(subject: &Subject) -> &'static str {
    match subject {
        Subject::Conflict { .. } => "conflict",
        Subject::DeleteAgainstEdit { .. } => "delete_against_edit",
        Subject::Rejected { .. } => "rejected",
        Subject::Ambiguous { .. } => "ambiguous",
        Subject::Duplicate { .. } => "duplicate",
        Subject::Exhausted { .. } => "exhausted",
        Subject::Loop { .. } => "loop",
        Subject::MassChange { .. } => "mass_change",
        Subject::Unreadable { .. } => "unreadable",
        Subject::WentBack { .. } => "went_back",
        Subject::Refused { .. } => "refused",
    }
}

fn details(sync: &Description, subject: &Subject, names: &Names) -> Vec<(String, String)> {
    let line = |label: &str, value: String| (label.to_string(), value);
    let named = |fields: &[String], values: &[Value]| {
        fields.iter().zip(values).map(|(field, value)| format!("{field} = {}", names.of(value))).collect::<Vec<_>>().join(", ")
    };
    match subject {
        Subject::Conflict { fields, base, values, .. } => {
            let mut lines = vec![line("last agreed", base.as_ref().map_or("nothing yet".into(), |base| named(fields, base)))];
            lines.extend(values.iter().map(|(member, values)| (sync.member(*member), named(fields, values))));
            lines
        }
        Subject::DeleteAgainstEdit { deleted_by, edited_by } => vec![
            line("deleted by", sync.member(*deleted_by)),
            line("edited by", edited_by.iter().map(|member| sync.member(*member)).collect::<Vec<_>>().join(", ")),
        ],
        Subject::Rejected { member, fields } => {
            let fields = (!fields.is_empty()).then(|| line("fields", fields.join(", ")));
            std::iter::once(line("refused by", sync.member(*member))).chain(fields).collect()
        }
        Subject::Ambiguous { member, key, other, candidates } => {
            let mut lines = vec![line("record", format!("{key} of {}", sync.member(*member)))];
            for (place, candidate) in candidates.iter().enumerate() {
                lines.push((format!("candidate {}", place + 1), format!("{candidate} of {}", sync.member(*other))));
            }
            lines
        }
        Subject::Duplicate { member, key, .. } => vec![line("record", format!("{key} of {}", sync.member(*member)))],
        Subject::Exhausted { member } => vec![line("refused by", sync.member(*member))],
        Subject::Loop { group } => {
            vec![line("fields", sync.groups.get(*group).map_or(String::new(), |(_, fields)| fields.join(", ")))]
        }
        Subject::MassChange { member, deletes } => {
            vec![line("system", sync.member(*member)), line("deletes", deletes.to_string())]
        }
        Subject::Unreadable { member, key } => vec![line("record", format!("{key} of {}", sync.member(*member)))],
        Subject::Refused { member, key } => {
            vec![line("record", format!("{key} of {}", sync.member(0))), line("to be put right in", sync.member(*member))]
        }
        Subject::WentBack { member, older, records, evidence } => vec![
            line("system", sync.member(*member)),
            line("earlier", format!("{older} of {records} records")),
            line("evidence", evidence.clone()),
        ],
    }
}

fn ways(sync: &Description, review: &Review) -> Vec<String> {
    let id = review.id.0;
    let take = |member: &usize| format!("resolve {id} --take {}", sync.member(*member));
    let mut ways: Vec<String> = match &review.subject {
        Subject::Conflict { fields, values, .. } => {
            let mut ways: Vec<String> = values.iter().map(|(member, _)| take(member)).collect();
            let given: Vec<String> = fields.iter().map(|field| format!("--set {field}=VALUE")).collect();
            ways.push(format!("resolve {id} {}", given.join(" ")));
            ways
        }
        // Nothing is ignored here either: the record lives, or it does not.
        Subject::DeleteAgainstEdit { deleted_by, edited_by } => {
            return std::iter::once(deleted_by).chain(edited_by).map(take).collect();
        }
        Subject::Ambiguous { candidates, .. } => {
            let mut ways: Vec<String> = (1..=candidates.len()).map(|number| format!("resolve {id} --bind {number}")).collect();
            ways.push(format!("resolve {id} --create"));
            ways.push(format!("retry {id}"));
            ways
        }
        Subject::Duplicate { .. } => vec![format!("resolve {id} --create"), format!("retry {id}")],
        // Nothing is ignored here: one of the sides is right.
        Subject::WentBack { member, .. } => {
            let others = (0..sync.members.len())
                .filter(|other| other != member)
                .map(|other| format!("{}   (what was lost is written back to {})", take(&other), sync.member(*member)));
            let restored = format!("{}   (what it shows now counts as newly edited)", take(member));
            return std::iter::once(restored).chain(others).collect();
        }
        Subject::Rejected { fields, .. } if review.link.is_some() && review.code != Code::EditAgainstFlow.to_string() => {
            let known = fields.iter().filter(|field| sync.fields.contains(field));
            let set: Vec<String> = known.map(|field| format!("--set {field}=VALUE")).collect();
            let set = if set.is_empty() { "--set FIELD=VALUE".to_owned() } else { set.join(" ") };
            vec![format!("resolve {id} {set}"), format!("retry {id}")]
        }
        Subject::Rejected { .. }
        | Subject::Exhausted { .. }
        | Subject::Loop { .. }
        | Subject::MassChange { .. }
        | Subject::Refused { .. }
        | Subject::Unreadable { .. } => {
            vec![format!("retry {id}")]
        }
    };
    ways.push(format!("ignore {id}"));
    ways
}

/// The values that a person gave in place of what was refused, as text: the engine knows the types.
fn repaired(
    fields: &[String],
    given: &[(String, serde_json::Value)],
) -> std::result::Result<Vec<(String, Option<String>)>, String> {
    if let Some((stranger, _)) = given.iter().find(|(name, _)| !fields.contains(name)) {
        return Err(format!("`{stranger}` is not one of its fields: {}", fields.join(", ")));
    }
    let text = |value: &serde_json::Value| match value {
        serde_json::Value::Null => None,
        serde_json::Value::String(text) => Some(text.clone()),
        other => Some(other.to_string()),
    };
    Ok(given.iter().map(|(name, value)| (name.clone(), text(value))).collect())
}

/// The values that a person gave, in the order of the group's fields; each in the kind of value that the contenders
/// have there.
fn given_values(
    fields: &[String],
    like: &[&Vec<Value>],
    given: &[(String, serde_json::Value)],
) -> std::result::Result<Vec<Value>, String> {
    if let Some((stranger, _)) = given.iter().find(|(name, _)| !fields.contains(name)) {
        return Err(format!("`{stranger}` is not one of its fields: {}", fields.join(", ")));
    }
    let mut values = Vec::with_capacity(fields.len());
    for (place, field) in fields.iter().enumerate() {
        let Some((_, text)) = given.iter().rev().find(|(name, _)| name == field) else {
            return Err(format!("a value for `{field}` is missing: all fields of the group are decided together"));
        };
        let example = like.iter().filter_map(|values| values.get(place)).find(|value| !value.is_null());
        values.push(value_like(example, text).ok_or_else(|| format!("the value for `{field}` is not of the field's type"))?);
    }
    Ok(values)
}

/// A value of the same kind as the example; text where there is none.
fn value_like(example: Option<&Value>, given: &serde_json::Value) -> Option<Value> {
    let text = match given {
        serde_json::Value::Null => return Some(Value::Null),
        serde_json::Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    let ty = match example {
        None | Some(Value::Text(_)) => return Some(Value::Text(text)),
        Some(Value::Bytes(_) | Value::Array(_)) => return None,
        Some(Value::Enum(_)) => return Some(Value::Enum(text)),
        Some(Value::Reference(_)) => return Some(Value::Reference(text)),
        Some(Value::Null | Value::Bool(_)) => Type::Bool,
        Some(Value::Int(_)) => Type::Int { bits: 64, unsigned: false },
        Some(Value::UInt(_)) => Type::Int { bits: 64, unsigned: true },
        Some(Value::Decimal(_)) => Type::Decimal { precision: None, scale: None, special: true },
        Some(Value::Float(_)) => Type::Float { bits: 64 },
        Some(Value::Date(_)) => Type::Date,
        Some(Value::Time(time)) => Type::Time { fraction_digits: 9, zone: time.offset_seconds.is_some() },
        Some(Value::Timestamp(_)) => Type::Timestamp { fraction_digits: 9 },
        Some(Value::TimestampTz(_)) => Type::TimestampTz { fraction_digits: 9 },
        Some(Value::Interval(_)) => Type::Interval { fraction_digits: 9 },
        Some(Value::Uuid(_)) => Type::Uuid,
        Some(Value::Json(_)) => Type::Json,
    };
    Value::parse_as(&text, &ty)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn fields() -> Vec<String> {
        vec!["amount".into(), "currency".into()]
    }

    #[test]
    fn given_values_take_the_kinds_of_the_contenders_values() {
        let contender = vec![Value::decimal("1.50").unwrap(), Value::text("EUR")];
        let given = [("currency".to_string(), json!("USD")), ("amount".to_string(), json!(2.25))];
        let values = given_values(&fields(), &[&contender], &given).unwrap();
        assert_eq!(values, [Value::decimal("2.25").unwrap(), Value::text("USD")]);
    }

    #[test]
    fn a_group_is_decided_as_a_whole() {
        let given = [("amount".to_string(), json!("1"))];
        assert!(given_values(&fields(), &[], &given).unwrap_err().contains("`currency` is missing"));
        let stranger = [("colour".to_string(), json!("red"))];
        assert!(given_values(&fields(), &[], &stranger).unwrap_err().contains("`colour` is not one"));
    }

    #[test]
    fn a_value_of_another_kind_is_refused() {
        let contender = vec![Value::Int(1), Value::Null];
        let given = [("amount".to_string(), json!("many")), ("currency".to_string(), json!(null))];
        assert!(given_values(&fields(), &[&contender], &given).unwrap_err().contains("`amount`"));
    }
}
