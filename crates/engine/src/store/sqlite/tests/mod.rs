//! The store's promises, each with its test. Here: sample records, and a picture of everything a store answers.

mod failures;
mod format;
mod model;
mod opening;
mod order;
mod properties;
mod round_trips;

use super::{SqliteStore, StoreOptions};
use crate::change::{EditTime, Position, Version};
use crate::clock::Moment;
use crate::connector::{Operation, Write};
use crate::error::Result;
use crate::flight::{Flight, Intent};
use crate::ledger::{Entry, FieldEntry, LedgerRow, Rule};
use crate::link::{
    Agreed, FlightId, Group, Held, Life, Link, LinkHold, LinkId, MemberIndex, Pending, ReviewId, Shown, Side, Standing, SyncId,
};
use crate::record::{FeedName, Key, Record, SystemName};
use crate::references::Awaited;
use crate::review::{Review, Subject};
use crate::store::{Address, Ages, Counts, LedgerQuery, Store, Transaction};
use crate::value::Value;
use std::collections::BTreeMap;
use std::sync::Arc;

pub(super) fn open(folder: &tempfile::TempDir) -> SqliteStore {
    SqliteStore::open(folder.path(), &StoreOptions::default()).unwrap()
}

pub(super) fn in_memory() -> SqliteStore {
    SqliteStore::in_memory(&StoreOptions::default()).unwrap()
}

pub(super) async fn submit(store: &SqliteStore, transaction: Transaction) -> Result<()> {
    store.submit(transaction).await.unwrap()
}

pub(super) fn key(number: i64) -> Key {
    Key(vec![Value::Int(number)])
}

pub(super) fn address(sync: u32, member: MemberIndex, number: i64) -> Address {
    Address { sync: SyncId(sync), member, key: key(number).encode() }
}

pub(super) fn edit_time(micros: i64) -> EditTime {
    EditTime { at: Moment(micros), granularity_micros: 1, estimated: false }
}

/// A live link of two members with one field, nothing owed.
pub(super) fn link(id: u64, sync: u32) -> Link {
    Link {
        id: LinkId(id),
        sync: SyncId(sync),
        layout: 1,
        decision: 1,
        life: Life::Live,
        sides: vec![Side::absent(1), Side::absent(1)],
        groups: vec![Group::default()],
        held: None,
    }
}

pub(super) fn pending(sync: u32, member: MemberIndex, number: i64, text: &str) -> Pending {
    Pending {
        sync: SyncId(sync),
        member,
        key: key(number),
        old_key: None,
        shown: Shown::Present {
            cells: vec![Some(Value::Text(text.to_owned()))],
            times: vec![Some(edit_time(number))],
            full: true,
            anew: false,
        },
        version: Version(vec![1, 2, 3]),
        hops: 0,
        echo: false,
        arrived: Moment(7),
        layout: 1,
    }
}

pub(super) fn flight(id: u64, sync: u32) -> Flight {
    let set = Record::from_iter([("name".into(), Value::Text("Ada".to_owned()))]);
    let operation = Operation::Update { key: key(5), set, guard: Record::new() };
    Flight {
        id: FlightId(id),
        sync: SyncId(sync),
        member: 1,
        hops: 2,
        opened: Moment(11),
        intents: vec![Intent { link: LinkId(3), write: Write { id: 3, operation }, decision: 4, edited: Moment(10) }],
    }
}

pub(super) fn ledger_row(at: i64, sync: u32, link: Option<u64>, key: &str) -> LedgerRow {
    LedgerRow {
        at: Moment(at),
        sync: SyncId(sync),
        link: link.map(LinkId),
        member: 1,
        key: key.to_owned(),
        entry: Entry::Skipped("read-only there".to_owned()),
        fields: vec![FieldEntry {
            field: "name".to_owned(),
            old: None,
            new: Some(Value::Text("Ada".to_owned())),
            from: 0,
            edited: Moment(at - 1),
            rule: Rule::OnlyChange,
        }],
    }
}

pub(super) fn review(id: u64, sync: u32, closed: Option<i64>) -> Review {
    Review {
        id: ReviewId(id),
        sync: SyncId(sync),
        link: Some(LinkId(3)),
        opened: Moment(20),
        closed: closed.map(|at| (Moment(at), "resolved".to_owned())),
        code: "CON-3001".to_owned(),
        message: "The target refused the record.".to_owned(),
        subject: Subject::Duplicate { member: 1, key: key(6), linked: LinkId(2) },
    }
}

/// The same age for the rows of every sync.
pub(super) fn ages(rows: i64, tombstones: i64) -> Ages {
    Ages { of_others: Moment(rows), tombstones: Moment(tombstones), ..Ages::default() }
}

/// A tombstone, made at a moment, that has nothing left to do.
pub(super) fn tombstone(id: u64, sync: u32, at: i64) -> Link {
    Link { life: Life::Deleted { by: 0, at: Moment(at) }, ..link(id, sync) }
}

/// A link with something in every part of it.
pub(super) fn full_link(id: u64, sync: u32) -> Link {
    let side = Side {
        key: Some(key(5)),
        standing: Standing::Present,
        base: vec![Some(Value::Text("Ada".to_owned())), None, Some(Value::Null)],
        version: Version(vec![9]),
        owes: vec![0, 2],
        owes_life: true,
        flight: Some(FlightId(8)),
        queued: true,
        due: Moment(31),
        attempts: 3,
        misses: 1,
        blocked: Some(ReviewId(4)),
    };
    let agreed = Agreed {
        values: vec![Value::Bool(true), Value::Int(-4), Value::UInt(u64::MAX), Value::Bytes(vec![0, 255])],
        from: 1,
        time: edit_time(99),
        decision: 6,
        hops: 1,
        rule: Rule::LastWriteWins,
    };
    let held = Held { review: ReviewId(4), contenders: vec![(0, edit_time(98), 0), (1, edit_time(99), 2)], rejects: true };
    Link {
        id: LinkId(id),
        sync: SyncId(sync),
        layout: 2,
        decision: 7,
        life: Life::Detached { at: Moment(50) },
        sides: vec![side, Side::absent(3)],
        groups: vec![Group { agreed: Some(agreed), held: Some(held), returns: vec![(Moment(1), 2)] }, Group::default()],
        held: Some(LinkHold { review: ReviewId(5), sticky: true }),
    }
}

/// Links as a transaction holds them.
pub(super) fn shared(links: impl IntoIterator<Item = Link>) -> Vec<Arc<Link>> {
    links.into_iter().map(Arc::new).collect()
}

/// One transaction that writes into every table.
pub(super) fn sample() -> Transaction {
    Transaction {
        positions: vec![("crm".into(), "slot".into(), Position(vec![1, 2])), ("erp".into(), "log".into(), Position(vec![]))],
        links: shared([full_link(1, 1), link(2, 1), tombstone(3, 2, 40)]),
        forgotten: vec![],
        keys: vec![
            (Address { sync: SyncId(1), member: 0, key: b"one".to_vec() }, Some(LinkId(1))),
            (Address { sync: SyncId(2), member: 1, key: b"three".to_vec() }, Some(LinkId(3))),
        ],
        pending: vec![
            (Address { sync: SyncId(1), member: 0, key: b"one".to_vec() }, Some(pending(1, 0, 5, "Ada"))),
            (
                Address { sync: SyncId(1), member: 1, key: b"new".to_vec() },
                Some(Pending { old_key: Some(key(4)), shown: Shown::Gone { time: edit_time(3) }, ..pending(1, 1, 9, "gone") }),
            ),
        ],
        owed: vec![(SyncId(1), 0, LinkId(1), Some(Moment(30))), (SyncId(1), 0, LinkId(2), Some(Moment(10)))],
        waits: vec![
            (SyncId(1), LinkId(1), vec![Awaited::Key(address(2, 1, 77)), Awaited::Record(LinkId(3))]),
            (SyncId(1), LinkId(2), vec![Awaited::Record(LinkId(3))]),
        ],
        reservations: vec![(SyncId(1), b"ada@example.org".to_vec(), Some(LinkId(2)))],
        opened: vec![flight(8, 1).into()],
        closed: vec![],
        ledger: vec![ledger_row(100, 1, Some(1), "5"), ledger_row(101, 1, None, "stranger")],
        reviews: vec![review(4, 1, None), review(5, 1, Some(60))],
        closed_reviews: vec![],
        settings: vec![("plan/1".to_owned(), Some(vec![7])), ("pause/crm".to_owned(), Some(vec![]))],
    }
}

pub(super) const SYNCS: [SyncId; 2] = [SyncId(1), SyncId(2)];
pub(super) const MEMBERS: [MemberIndex; 2] = [0, 1];
pub(super) const EVERYTHING: usize = 10_000;

/// Everything that a store answers about its contents, in terms that compare and print.
#[derive(Debug, PartialEq, Default)]
pub(super) struct Picture {
    pub last_numbers: (u64, u64, u64),
    pub positions: Vec<(SystemName, FeedName, Position)>,
    pub links: Vec<Link>,
    pub keys: BTreeMap<Address, LinkId>,
    pub pending: Vec<(Address, Pending)>,
    pub owed: Vec<(SyncId, MemberIndex, Vec<LinkId>, Option<Moment>)>,
    pub waits: Vec<(SyncId, LinkId, Vec<Awaited>)>,
    pub reserved: Vec<(SyncId, Vec<Option<LinkId>>)>,
    pub flights: Vec<Flight>,
    pub settings: Vec<(String, Vec<u8>)>,
    pub reviews: Vec<Review>,
    pub open_reviews: Vec<Review>,
    pub ledger: Vec<LedgerRow>,
    pub counts: Vec<Counts>,
}

/// Takes the picture of a store, asking for these addresses and match values.
pub(super) async fn picture(store: &SqliteStore, addresses: &[Address], values: &[Vec<u8>]) -> Picture {
    let identity = store.identity().await.unwrap();
    let mut picture = Picture {
        last_numbers: (identity.last_link, identity.last_flight, identity.last_review),
        positions: store.positions().await.unwrap(),
        flights: store.flights().await.unwrap(),
        settings: store.settings("").await.unwrap(),
        reviews: store.reviews(None, false, EVERYTHING).await.unwrap(),
        open_reviews: store.reviews(None, true, EVERYTHING).await.unwrap(),
        ledger: store.ledger(LedgerQuery { limit: EVERYTHING, ..LedgerQuery::default() }).await.unwrap(),
        ..Picture::default()
    };
    for (address, found) in addresses.iter().zip(store.lookup(addresses.to_vec()).await.unwrap()) {
        if let Some(link) = found.link {
            picture.keys.insert(address.clone(), link);
        }
    }
    for sync in SYNCS {
        picture.links.extend(store.scan_links(sync, LinkId(0), EVERYTHING).await.unwrap());
        picture.pending.extend(store.scan_pending(sync, None, EVERYTHING).await.unwrap());
        for link in store.scan_waiting(sync, LinkId(0), EVERYTHING).await.unwrap() {
            picture.waits.push((sync, link, store.waits_of(sync, link).await.unwrap()));
        }
        picture.reserved.push((sync, store.reserved(sync, values.to_vec()).await.unwrap()));
        picture.counts.push(store.counts(sync).await.unwrap());
        for member in MEMBERS {
            let owed = store.owed(sync, member, Moment(i64::MAX), EVERYTHING).await.unwrap();
            picture.owed.push((sync, member, owed, store.next_owed(sync, member).await.unwrap()));
        }
    }
    picture
}
