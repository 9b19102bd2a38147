//! What of a mirror sync waits for a person: records that were refused, and mass deletes. Kept in the store like every
//! review item; durable before the progress passes what they are about.

use super::carry::{SOURCE, TARGET};
use crate::change::Position;
use crate::clock::{Clock, Moment};
use crate::error::{Code, Error, Result};
use crate::ledger::{Entry, LedgerRow};
use crate::link::{MemberIndex, ReviewId, SyncId};
use crate::record::Key;
use crate::review::{Review, Subject};
use crate::rules::SyncRules;
use crate::runtime::ReviewNumbers;
use crate::store::{Store, Transaction};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use xxhash_rust::xxh3::xxh3_128;

/// The most refused records that wait at once: beyond, the sync stops, for it is not the records that are wrong.
const REFUSED_MAX: usize = 20_000;

/// What a person said about a mass delete: holds for what the feed tells up to a place.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Verdict {
    /// Whether the deletes are meant; else they are dropped.
    pub let_through: bool,
    /// How far it holds.
    pub upto: Position,
    /// Whether it holds for a table that was emptied at once, too. Kept beside the rest, for a verdict of an earlier version of
    /// Concord is read as well: that one does not.
    #[serde(skip)]
    pub empties: bool,
}

/// What a person was asked about deletes at the source, with the place that the source was at by then: of what comes behind it
/// nobody was asked.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) enum Asked {
    /// Many deletes that the feed tells of.
    Deletes(Position),
    /// A table that was emptied at once.
    Emptied(Position),
    /// Records without a key that fewer are to replace, which no feed tells of.
    Replaced,
}

impl Asked {
    fn is_like(&self, other: &Asked) -> bool {
        std::mem::discriminant(self) == std::mem::discriminant(other)
    }
}

/// A setting of one sync.
pub(super) fn setting(sync: SyncId, name: &str) -> String {
    format!("mirror_{name}/{}", sync.0)
}

/// What a record is remembered by: its key, or a print of one that finds nothing and holds all that the record shows.
fn entry(key: &Key, finds: bool) -> Vec<u8> {
    match finds {
        true => key.encode(),
        false => xxh3_128(&key.encode()).to_be_bytes().to_vec(),
    }
}

/// A refused record.
struct Waiting {
    id: ReviewId,
    /// Its key at the source, where that finds it.
    key: Option<Key>,
    /// Whether another record had a value of it: it may find its place once that one has moved.
    is_taken: bool,
}

impl Waiting {
    /// `finds`: whether its key finds a record at the source.
    fn new(id: ReviewId, code: &str, key: &Key, finds: bool) -> Waiting {
        Waiting { id, key: finds.then(|| key.clone()), is_taken: finds && code == Code::ValueTaken.to_string() }
    }
}

/// The desk of one sync.
pub(super) struct Desk {
    rules: Arc<SyncRules>,
    store: Arc<dyn Store>,
    clock: Arc<dyn Clock>,
    numbers: ReviewNumbers,
    /// Refused records by their key at the source.
    refused: Mutex<BTreeMap<Vec<u8>, Waiting>>,
    /// Those refused since a batch was begun with.
    lately: Mutex<BTreeSet<Vec<u8>>>,
    /// Whether a record was refused because of another one's value since that was asked.
    in_the_way: AtomicBool,
}

impl Desk {
    pub fn new(rules: Arc<SyncRules>, store: Arc<dyn Store>, clock: Arc<dyn Clock>, numbers: ReviewNumbers) -> Desk {
        Desk {
            rules,
            store,
            clock,
            numbers,
            refused: Mutex::default(),
            lately: Mutex::default(),
            in_the_way: AtomicBool::new(false),
        }
    }

    fn setting(&self, name: &str) -> String {
        setting(self.rules.id, name)
    }

    /// Items that were open when the process ended.
    pub async fn restore(&self) -> Result<()> {
        let open = self.store.reviews(Some(self.rules.id), true, REFUSED_MAX).await?;
        let finds = self.keys_find();
        let mut refused = self.refused();
        refused.clear();
        refused.extend(open.into_iter().filter_map(|review| match review.subject {
            Subject::Refused { key, .. } => Some((entry(&key, finds), Waiting::new(review.id, &review.code, &key, finds))),
            _ => None,
        }));
        // Those that had the values may have let go of them since.
        self.in_the_way.store(refused.values().any(|waiting| waiting.is_taken), Ordering::SeqCst);
        Ok(())
    }

    async fn commit(&self, transaction: Transaction) -> Result<()> {
        let gone = |_| Error::new(Code::StoreFailed, "the store stopped before it answered");
        self.store.submit(transaction).await.map_err(gone)?
    }

    /// Keeps a setting of this sync.
    pub async fn keep(&self, settings: Vec<(String, Option<Vec<u8>>)>) -> Result<()> {
        self.commit(Transaction { settings, ..Transaction::default() }).await
    }

    /// Keeps the settings that say that a feed is begun with: what was asked and said of deletes was so of another one, and held up to
    /// a place of that.
    pub async fn begin(&self, mut settings: Vec<(String, Option<Vec<u8>>)>) -> Result<()> {
        let now = self.clock.now();
        let open = self.store.reviews(Some(self.rules.id), true, REFUSED_MAX).await?;
        let asked = open.into_iter().filter(|review| matches!(review.subject, Subject::MassChange { .. }));
        let closed_reviews = asked.map(|review| (review.id, now, "everything is read again".to_owned())).collect();
        settings.extend(["verdict", "verdict_empties", "asked"].map(|name| (self.setting(name), None)));
        self.commit(Transaction { settings, closed_reviews, ..Transaction::default() }).await
    }

    /// Whether the source's records are found by their keys; else they have none.
    fn keys_find(&self) -> bool {
        self.rules.members.get(SOURCE).is_some_and(|source| !source.schema.key.is_empty())
    }

    /// The records are read, again where they were before: what was refused will be refused again, or not. Those that are not read,
    /// by their keys at the source, wait on.
    pub async fn begins_to_read(&self, but: impl Fn(&Key) -> bool) -> Result<()> {
        let now = self.clock.now();
        let stays = |waiting: &Waiting| waiting.key.as_ref().is_some_and(&but);
        let closed: Vec<_> = {
            let refused = self.refused();
            let read = refused.values().filter(|waiting| !stays(waiting));
            read.map(|waiting| (waiting.id, now, "everything is read again".to_owned())).collect()
        };
        if closed.is_empty() {
            return Ok(());
        }
        self.commit(Transaction { closed_reviews: closed, ..Transaction::default() }).await?;
        self.refused().retain(|_, waiting| stays(waiting));
        Ok(())
    }

    /// Whether a record, by its key at the source, was refused and waits.
    pub fn waits(&self, key: &Key) -> bool {
        self.refused().contains_key(&entry(key, self.keys_find()))
    }

    /// Whether anything was refused.
    pub fn has_refused(&self) -> bool {
        !self.refused().is_empty()
    }

    /// Makes durable that records, by their keys at the source, were refused. What is not durable is not remembered either.
    pub async fn refuse(&self, refused: Vec<(Key, Error)>) -> Result<()> {
        let mut transaction = Transaction::default();
        let mut noted: BTreeMap<Vec<u8>, Waiting> = BTreeMap::new();
        let now = self.clock.now();
        for (key, error) in refused {
            let encoded = entry(&key, self.keys_find());
            let known = noted.get(&encoded).map(|waiting| waiting.id);
            let known = known.or_else(|| self.refused().get(&encoded).map(|waiting| waiting.id));
            let id = known.unwrap_or_else(|| self.numbers.next());
            // Where a value was refused by the rules it is the source's record that is wrong.
            let member = if error.code == Code::ValidationFailed { SOURCE } else { TARGET };
            transaction.ledger.push(self.row(now, &key, Entry::Rejected(error.code.to_string())));
            noted.insert(encoded, Waiting::new(id, &error.code.to_string(), &key, self.keys_find()));
            transaction.reviews.retain(|review: &Review| review.id != id);
            transaction.reviews.push(Review {
                id,
                sync: self.rules.id,
                link: None,
                opened: now,
                closed: None,
                code: error.code.to_string(),
                message: error.message,
                subject: Subject::Refused { member, key },
            });
            if self.waiting_with(&noted) > REFUSED_MAX {
                let message = format!("{REFUSED_MAX} records were refused and wait for a person: {}", error.code);
                return Err(Error::new(Code::SchemaDrift, message));
            }
        }
        self.commit(transaction).await?;
        self.lately.lock().unwrap_or_else(PoisonError::into_inner).extend(noted.keys().cloned());
        if noted.values().any(|waiting| waiting.is_taken) {
            self.in_the_way.store(true, Ordering::SeqCst);
        }
        self.refused().extend(noted);
        Ok(())
    }

    /// Whether, since that was asked last, a record was refused because another one had a value of it.
    pub fn has_met_others_values(&self) -> bool {
        self.in_the_way.swap(false, Ordering::SeqCst)
    }

    /// The records, by their keys at the source, that were refused because another one had a value of theirs.
    pub fn taken(&self) -> Vec<Key> {
        self.refused().values().filter(|waiting| waiting.is_taken).filter_map(|waiting| waiting.key.clone()).collect()
    }

    fn refused(&self) -> MutexGuard<'_, BTreeMap<Vec<u8>, Waiting>> {
        self.refused.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many would wait with these.
    fn waiting_with(&self, noted: &BTreeMap<Vec<u8>, Waiting>) -> usize {
        let there = self.refused();
        match there.len().saturating_add(noted.len()) {
            few if few <= REFUSED_MAX => few,
            _ => there.len().saturating_add(noted.keys().filter(|key| !there.contains_key(*key)).count()),
        }
    }

    /// Notes what was let through with a warning.
    pub async fn warn(&self, warned: Vec<(Key, String)>) -> Result<()> {
        let now = self.clock.now();
        let ledger = warned.into_iter().map(|(key, what)| self.row(now, &key, Entry::Warned(what))).collect();
        self.commit(Transaction { ledger, ..Transaction::default() }).await
    }

    fn row(&self, at: Moment, key: &Key, entry: Entry) -> LedgerRow {
        LedgerRow { at, sync: self.rules.id, link: None, member: TARGET, key: key.to_string(), entry, fields: Vec::new() }
    }

    /// Closes the items of records, by their keys at the source, that have been carried over since.
    pub async fn carried(&self, keys: impl Iterator<Item = &Key>, how: &str) -> Result<()> {
        let closed: BTreeMap<Vec<u8>, ReviewId> = {
            let refused = self.refused();
            let finds = self.keys_find();
            let found = keys.filter_map(|key| refused.get_key_value(&entry(key, finds)));
            found.map(|(key, waiting)| (key.clone(), waiting.id)).collect()
        };
        if closed.is_empty() {
            return Ok(());
        }
        let now = self.clock.now();
        let closed_reviews = closed.values().map(|id| (*id, now, how.to_owned())).collect();
        self.commit(Transaction { closed_reviews, ..Transaction::default() }).await?;
        self.refused().retain(|key, _| !closed.contains_key(key));
        Ok(())
    }

    /// A batch is begun with: what was refused before says nothing of it, in a load or in a life that ended in the middle.
    pub fn begins_to_write(&self) {
        self.lately.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    /// A batch of records, by their keys at the source, is written: closes the items of those that were not refused again.
    pub async fn carried_but_refused(&self, keys: &[Key]) -> Result<()> {
        let lately = std::mem::take(&mut *self.lately.lock().unwrap_or_else(PoisonError::into_inner));
        let finds = self.keys_find();
        self.carried(keys.iter().filter(|key| !lately.contains(&entry(key, finds))), "carried over since").await
    }

    /// The open question about deletes at a member.
    pub async fn question_about(&self, member: MemberIndex) -> Result<Option<Review>> {
        let open = self.store.reviews(Some(self.rules.id), true, REFUSED_MAX).await?;
        let is_about = |review: &Review| matches!(review.subject, Subject::MassChange { member: of, .. } if of == member);
        Ok(open.into_iter().find(is_about))
    }

    /// Another question about deletes.
    fn question(&self, member: MemberIndex, deletes: u64, what: &str) -> Review {
        Review {
            id: self.numbers.next(),
            sync: self.rules.id,
            link: None,
            opened: self.clock.now(),
            closed: None,
            code: Code::MassDelete.to_string(),
            message: what.to_owned(),
            subject: Subject::MassChange { member, deletes },
        }
    }

    /// Asks about a mass delete, once.
    pub async fn ask_about_deletes(&self, member: MemberIndex, deletes: u64, what: &str) -> Result<ReviewId> {
        if let Some(open) = self.question_about(member).await? {
            return Ok(open.id);
        }
        let review = self.question(member, deletes, what);
        let id = review.id;
        self.commit(Transaction { reviews: vec![review], ..Transaction::default() }).await?;
        Ok(id)
    }

    /// Asks about deletes at the source, once. A question of another kind that is still open is not that one, nor one of which
    /// nothing tells what it covers.
    pub async fn ask_about_source(&self, deletes: u64, what: &str, asked: &Asked) -> Result<()> {
        let open = self.question_about(SOURCE).await?;
        if let Some(open) = &open
            && self.asked(open.id).await?.is_some_and(|before| before.is_like(asked))
        {
            return Ok(());
        }
        let review = self.question(SOURCE, deletes, what);
        let (id, now) = (review.id, self.clock.now());
        let kept = postcard::to_stdvec(&(id, asked)).ok();
        let closed = open.map(|open| (open.id, now, format!("asked anew as review item {}", id.0)));
        self.commit(Transaction {
            settings: vec![(self.setting("asked"), kept)],
            reviews: vec![review],
            closed_reviews: closed.into_iter().collect(),
            ..Transaction::default()
        })
        .await
    }

    /// What an item asks about deletes at the source; `None`: it was asked by a version of Concord that did not keep that.
    pub async fn asked(&self, id: ReviewId) -> Result<Option<Asked>> {
        let kept = self.store.setting(&self.setting("asked")).await?;
        let kept = kept.and_then(|bytes| postcard::from_bytes::<(ReviewId, Asked)>(&bytes).ok());
        Ok(kept.filter(|(of, _)| *of == id).map(|(_, asked)| asked))
    }

    /// Asks under another number, for what was asked is not so any more: an answer to the old one is not one to the new one.
    pub async fn ask_anew(&self, old: ReviewId, member: MemberIndex, deletes: u64, what: &str) -> Result<ReviewId> {
        let review = self.question(member, deletes, what);
        let id = review.id;
        let closed_reviews = vec![(old, self.clock.now(), format!("asked anew as review item {}", id.0))];
        self.commit(Transaction { reviews: vec![review], closed_reviews, ..Transaction::default() }).await?;
        Ok(id)
    }

    /// Closes an item.
    pub async fn close(&self, id: ReviewId, how: &str) -> Result<()> {
        let closed_reviews = vec![(id, self.clock.now(), how.to_owned())];
        self.commit(Transaction { closed_reviews, ..Transaction::default() }).await
    }

    /// What was said about deletes.
    pub async fn verdict(&self) -> Result<Option<Verdict>> {
        let kept = self.store.setting(&self.setting("verdict")).await?;
        let empties = self.store.setting(&self.setting("verdict_empties")).await?.is_some();
        let verdict = kept.and_then(|bytes| postcard::from_bytes::<Verdict>(&bytes).ok());
        Ok(verdict.map(|verdict| Verdict { empties, ..verdict }))
    }

    /// Keeps what was said about deletes, and closes the question.
    pub async fn decide(&self, review: ReviewId, verdict: &Verdict) -> Result<()> {
        let how = if verdict.let_through { "the deletes are let through" } else { "the deletes are dropped" };
        self.commit(Transaction {
            settings: vec![
                (self.setting("verdict"), postcard::to_stdvec(verdict).ok()),
                (self.setting("verdict_empties"), verdict.empties.then(|| b"1".to_vec())),
                (self.setting("asked"), None),
            ],
            closed_reviews: vec![(review, self.clock.now(), how.to_owned())],
            ..Transaction::default()
        })
        .await
    }

    /// Whether everything is to be read anew.
    pub async fn is_to_begin_anew(&self) -> Result<bool> {
        Ok(self.store.setting(&self.setting("anew")).await?.is_some())
    }

    /// Keeps that everything is to be read anew, or has begun to be.
    pub async fn begin_anew(&self, anew: bool) -> Result<()> {
        self.keep(vec![(self.setting("anew"), anew.then(|| b"1".to_vec()))]).await
    }

    /// An item of this sync.
    pub async fn review(&self, id: ReviewId) -> Result<Review> {
        let review = self.store.review(id).await?;
        let review = review.ok_or_else(|| Error::new(Code::UnknownReview, format!("there is no review item {}", id.0)))?;
        match &review.closed {
            Some((at, how)) => Err(Error::new(Code::UnknownReview, format!("review item {} was closed at {at}: {how}", id.0))),
            None => Ok(review),
        }
    }
}
