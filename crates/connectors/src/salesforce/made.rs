//! Creates whose answer was lost, looked up: by the unique external id that they carried, else by what was made in our
//! name since, whoever we acted as. Says "no" only where the first call can no longer make a second record; what could be several is nobody's.

use super::client::{Client, Need};
use super::config::SalesforceSettings;
use super::find::{Search, find};
use super::ingest::is_under_way;
use super::records::{Columns, Look, PAGE_MAX, ShownRecord, rows};
use super::schema::{FieldInfo, ID, Object};
use super::soql::{literal, moment, quoted, select};
use concord_engine::change::{Mark, Observation};
use concord_engine::clock::Moment;
use concord_engine::connector::{Made, Operation, Write};
use concord_engine::error::{Code, Error, Result};
use concord_engine::record::{FieldName, Record};
use concord_engine::schema::Selection;
use concord_engine::value::{Value, to_hex};
use std::time::Duration;

/// How far before the batch a record may say that it was made: the two clocks are not the same.
const MARGIN_SECONDS: i64 = 300;
/// The most pages of records made since (invariant 10); beyond that nothing can be told.
const PAGES_MAX: usize = 50;
/// The most values of one query for what is in the bin.
const VALUES_MAX: usize = 100;
/// The bytes of a key of ours; twice as many characters.
const KEY_BYTES: usize = 16;
/// A call that may still be carried out is asked about again after so long at the most.
const AGAIN_MAX: Duration = Duration::from_secs(10);

const CREATED_DATE: &str = "CreatedDate";
const CREATED_BY: &str = "CreatedById";

/// What is asked: creates of a batch under this mark.
pub(super) struct Lost<'a> {
    pub client: &'a Client,
    pub object: &'a Object,
    pub selection: &'a Selection,
    pub mark: &'a Mark,
    /// When the batch was about to be sent.
    pub since: Moment,
    /// How much longer a call of it may still be carried out.
    pub settles_in: Duration,
    pub behind: u64,
}

/// The field that carries a key of ours when a record is made, where the configuration names one for the object.
pub(super) fn key_field<'a>(settings: &SalesforceSettings, object: &'a Object) -> Result<Option<&'a FieldInfo>> {
    let Some(name) = settings.external_ids.get(&object.name) else { return Ok(None) };
    let long_enough =
        |field: &&FieldInfo| field.max_chars.is_some_and(|most| usize::try_from(most).is_ok_and(|most| most >= 2 * KEY_BYTES));
    let fits = object.field(name).filter(|field| field.is_key_of_others() && field.field.creatable).filter(long_enough);
    fits.map(Some).ok_or_else(|| {
        let wanted = format!("a text of at least {} characters, an external id and unique, that the user may set", 2 * KEY_BYTES);
        Error::new(Code::FieldMissing, format!("options.external_ids names {}.{name}, which is not {wanted}", object.name))
    })
}

/// The key of a record that is made for a link: the same however often it is tried.
pub(super) fn key_of(mark: &Mark, link: u64) -> Value {
    let text = format!("{}\n{}\n{link}", mark.store, mark.sync);
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, text.as_bytes());
    Value::text(to_hex(digest.as_ref().get(..KEY_BYTES).unwrap_or_default()))
}

/// What became of creates; see [`Connector::made`](concord_engine::connector::Connector::made).
pub(super) async fn made(lost: &Lost<'_>, creates: &[Write]) -> Result<Vec<Made>> {
    let mut answers: Vec<Option<Made>> = creates.iter().map(|_| None).collect();
    let mut keyed: Vec<(usize, &FieldInfo, Value, bool)> = Vec::new();
    let mut others: Vec<(usize, &Record)> = Vec::new();
    let ours = key_field(&lost.client.settings, lost.object)?;
    for (place, write) in creates.iter().enumerate() {
        let Operation::Create { image, .. } = &write.operation else { continue };
        let given = lost.object.fields.iter().filter(|field| field.is_key_of_others()).find_map(|field| {
            image.get(&field.name).filter(|value| **value != Value::Null).map(|value| (field, value.clone(), false))
        });
        let own = ours.filter(|field| !image.has(&field.name)).map(|field| (field, key_of(lost.mark, write.id), true));
        match own.or(given) {
            Some((field, value, is_own)) => keyed.push((place, field, value, is_own)),
            None => others.push((place, image)),
        }
    }
    lost.by_key(keyed, &mut answers).await?;
    if !others.is_empty() {
        lost.by_what_was_made(others, &mut answers).await?;
    }
    Ok(answers.into_iter().map(|answer| answer.unwrap_or(Made::Unsure)).collect())
}

impl Lost<'_> {
    /// A unique key tells at once: what is still under way would be refused beside a record that is made now.
    async fn by_key(&self, mut keyed: Vec<(usize, &FieldInfo, Value, bool)>, answers: &mut [Option<Made>]) -> Result<()> {
        if keyed.is_empty() {
            return Ok(());
        }
        let users = self.users().await?;
        while let Some(name) = keyed.first().map(|(_, field, ..)| FieldName::from(field.name.as_str())) {
            let (part, rest): (Vec<_>, Vec<_>) = keyed.into_iter().partition(|(_, field, ..)| field.name == name.as_str());
            keyed = rest;
            let values: Vec<Vec<Value>> = part.iter().map(|(_, _, value, _)| vec![value.clone()]).collect();
            let selection = self.with_makers();
            let search = Search { by: &[name], values: &values, limit: 1 };
            let found = find(self.client, self.object, &selection, &search, self.behind, Need::Now).await?;
            let missing = part.iter().zip(&found).filter(|(_, found)| found.is_empty());
            let missing: Vec<(&FieldInfo, &Value)> = missing.map(|((_, field, value, _), _)| (*field, value)).collect();
            let binned = self.in_the_bin(&missing).await?;
            for ((place, field, value, is_own), found) in part.into_iter().zip(found) {
                let is_it = |shown: &ShownRecord| {
                    let has_it = shown.record.get(field.name.as_str()).is_some_and(|held| held.equivalent(&value));
                    has_it && (is_own || users.as_ref().is_none_or(|users| is_made_by(&shown.record, users)))
                };
                let made = match (found.into_iter().next(), &users) {
                    // It took effect, and somebody has deleted it since: whether it is to be made again they have to say.
                    (None, _) if binned.iter().any(is_it) => Made::Unsure,
                    (None, _) => Made::No,
                    (Some(record), _) if is_own => Made::Yes(Box::new(record)),
                    // Whose it is cannot be told.
                    (Some(_), None) => Made::Unsure,
                    (Some(record), Some(users)) if self.is_ours(&record, users) => Made::Yes(Box::new(record)),
                    // What somebody else gave this value before stands in the way, and says so when it is tried again.
                    (Some(_), Some(_)) => Made::No,
                };
                if let Some(answer) = answers.get_mut(place) {
                    *answer = Some(made);
                }
            }
        }
        Ok(())
    }

    /// Records in the bin that were made since, and have one of these values of a field. What is in the bin stands in nobody's way:
    /// a create would not be refused beside it.
    async fn in_the_bin(&self, values: &[(&FieldInfo, &Value)]) -> Result<Vec<ShownRecord>> {
        let (Some((field, _)), Some(is_deleted)) = (values.first(), self.object.field("IsDeleted")) else {
            return Ok(Vec::new());
        };
        let mut fields: Vec<&FieldInfo> = self.object.field(ID).into_iter().chain([*field, is_deleted]).collect();
        fields.extend(self.object.field(CREATED_BY));
        let columns = Columns::new(self.object, fields);
        let since = match self.object.field(CREATED_DATE) {
            Some(_) => format!(" AND {CREATED_DATE} >= {}", moment(self.since_second())),
            None => String::new(),
        };
        let doing = format!("looking for what was made of {} and deleted", self.object.name);
        let mut binned = Vec::new();
        for part in values.chunks(VALUES_MAX) {
            let list = part.iter().map(|(_, value)| literal(value)).collect::<Result<Vec<_>>>()?.join(",");
            let soql = select(&columns.names(), &self.object.name, &format!("WHERE {} IN ({list}){since}", field.name));
            for row in rows(self.client, &doing, &soql, true, Need::Now).await? {
                binned.extend(Some(columns.read(&row)?).filter(|shown| shown.deleted));
            }
        }
        Ok(binned)
    }

    /// Without a key, records that were made in our name since are compared with what was sent. Where we act as another user by
    /// now, what is not found may be there all the same: this one need not see everything that the one before has made.
    async fn by_what_was_made(&self, creates: Vec<(usize, &Record)>, answers: &mut [Option<Made>]) -> Result<()> {
        let Some(users) = self.users().await? else { return Ok(()) };
        let Some((candidates, look)) = self.candidates(&creates, &users).await? else { return Ok(()) };
        let is_missing = |image: &Record| !candidates.iter().any(|shown| shows(shown, image, Alike::All));
        let mut settles_in = self.settles_in;
        if settles_in.is_zero()
            && creates.iter().any(|(_, image)| is_missing(image))
            && is_under_way(self.client, &self.object.name, &users).await?
        {
            settles_in = AGAIN_MAX;
        }
        let mut left = creates;
        while let Some((_, image)) = left.first().copied() {
            let (same, rest): (Vec<_>, Vec<_>) = left.into_iter().partition(|(_, other)| *other == image);
            left = rest;
            let exact: Vec<&ShownRecord> = candidates.iter().filter(|shown| shows(shown, image, Alike::All)).collect();
            let certain = exact.len() <= same.len() && exact.iter().all(|shown| !shown.deleted);
            let alike = || candidates.iter().any(|shown| shows(shown, image, Alike::Most));
            let mut records = exact.iter();
            for (place, _) in same {
                let made = match records.next() {
                    _ if !certain => Made::Unsure,
                    // Records that show the same are as good as each other.
                    Some(shown) => Made::Yes(Box::new(look.observe(self.object, (*shown).clone()))),
                    None if exact.is_empty() && alike() => Made::Unsure,
                    None if settles_in.is_zero() && users.len() > 1 => Made::Unsure,
                    None if settles_in.is_zero() => Made::No,
                    None => Made::NotYet(settles_in.min(AGAIN_MAX)),
                };
                if let Some(answer) = answers.get_mut(place) {
                    *answer = Some(made);
                }
            }
        }
        Ok(())
    }

    /// What these users have made since, deleted ones included; `None` where that cannot be asked for, or is too much.
    async fn candidates(&self, creates: &[(usize, &Record)], users: &[String]) -> Result<Option<(Vec<ShownRecord>, Look)>> {
        if self.object.field(CREATED_BY).is_none() || self.object.field(CREATED_DATE).is_none() {
            return Ok(None);
        }
        let users = users.iter().map(|user| quoted(user)).collect::<Vec<_>>().join(", ");
        let mut fields = self.object.selected(self.selection)?;
        for name in creates.iter().flat_map(|(_, image)| image.iter().map(|(name, _)| name)) {
            if let Some(field) = self.object.field(name.as_str())
                && !fields.iter().any(|known| known.name == field.name)
            {
                fields.push(field);
            }
        }
        let columns = Columns::new(self.object, fields);
        let mut names = columns.names();
        if self.object.field("IsDeleted").is_some() && !names.contains(&"IsDeleted") {
            names.push("IsDeleted");
        }
        let since = moment(self.since_second());
        let look = Look::new(self.behind);
        let mut found: Vec<ShownRecord> = Vec::new();
        for _ in 0..PAGES_MAX {
            let after = found.last().map_or_else(String::new, |last| format!(" AND {ID} > {}", quoted(&last.id)));
            let condition = format!("WHERE {CREATED_BY} IN ({users}) AND {CREATED_DATE} >= {since}{after}");
            let soql = select(&names, &self.object.name, &format!("{condition} ORDER BY {ID} LIMIT {PAGE_MAX}"));
            let doing = format!("looking for what was made of {}", self.object.name);
            let page = rows(self.client, &doing, &soql, true, Need::Now).await?;
            for row in &page {
                found.push(columns.read(row)?);
            }
            if page.len() < PAGE_MAX {
                return Ok(Some((found, look)));
            }
        }
        Ok(None)
    }

    /// As whom the creates can have been sent, and everybody since; `None` where that is not known.
    async fn users(&self) -> Result<Option<Vec<String>>> {
        self.client.auth.users_since(self.since).await
    }

    fn since_second(&self) -> i64 {
        self.client.at_the_org(self.since).saturating_sub(MARGIN_SECONDS)
    }

    fn with_makers(&self) -> Selection {
        let mut selection = self.selection.clone();
        for name in [CREATED_BY, CREATED_DATE] {
            if self.object.field(name).is_some() && !selection.fields.iter().any(|field| field.as_str() == name) {
                selection.fields.push(FieldName::from(name));
            }
        }
        selection
    }

    /// Whether a record says that one of these users has made it since.
    fn is_ours(&self, record: &Observation, users: &[String]) -> bool {
        let Some(record) = record.image.record() else { return false };
        let made_at = match record.get(CREATED_DATE) {
            Some(Value::TimestampTz(stamp)) => stamp.to_micros().map(|micros| micros.div_euclid(1_000_000)),
            _ => None,
        };
        is_made_by(record, users) && made_at.is_some_and(|second| second >= self.since_second())
    }
}

/// Whether a record says that one of these users has made it.
fn is_made_by(record: &Record, users: &[String]) -> bool {
    record.get(CREATED_BY).and_then(Value::as_text).is_some_and(|made_by| users.iter().any(|user| user == made_by))
}

/// How much of what was sent a record has to show.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Alike {
    All,
    /// More than half of the values: rules of the org may have made something else of the others.
    Most,
}

fn shows(shown: &ShownRecord, image: &Record, how: Alike) -> bool {
    let sent: Vec<bool> = image
        .iter()
        .filter(|(_, value)| how == Alike::All || **value != Value::Null)
        .map(|(name, value)| shown.record.get(name.as_str()).is_some_and(|held| is_same(value, held)))
        .collect();
    let alike = sent.iter().filter(|alike| **alike).count();
    match how {
        Alike::All => alike == sent.len(),
        Alike::Most => alike.saturating_mul(2) > sent.len(),
    }
}

/// The org trims texts, and stores empty ones as null.
fn is_same(sent: &Value, held: &Value) -> bool {
    match (sent.as_text(), held.as_text()) {
        (Some(sent), Some(held)) => sent.trim() == held.trim(),
        (Some(sent), None) => sent.trim().is_empty() && *held == Value::Null,
        _ => sent.equivalent(held),
    }
}
