//! Whatever is submitted, forgotten or let go for want of room: what is remembered is what the store says.

use super::*;
use crate::change::Version;
use crate::link::{MemberIndex, SyncId};
use crate::record::Key;
use crate::store::sqlite::{SqliteStore, StoreOptions};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;

const SYNC: SyncId = SyncId(1);

fn key(number: i64) -> Key {
    Key(vec![Value::Int(number)])
}

fn place(member: MemberIndex, number: i64) -> Address {
    Address { sync: SYNC, member, key: key(number).encode() }
}

fn a_link(id: u64, keys: [Option<i64>; 2], life: Life) -> Link {
    let mut link = Link::new(LinkId(id), SYNC, 1, 2, 1, 1);
    for (side, number) in link.sides.iter_mut().zip(keys) {
        side.key = number.map(key);
        side.base = vec![Some(Value::text("x".repeat(usize::try_from(id).unwrap_or(0))))];
    }
    link.life = life;
    link
}

fn a_pending(member: MemberIndex, number: i64, version: u8) -> Pending {
    Pending {
        sync: SYNC,
        member,
        key: key(number),
        old_key: None,
        shown: Shown::Gone { time: EditTime { at: Moment(1), granularity_micros: 1, estimated: false } },
        version: Version(vec![version]),
        hops: 0,
        echo: false,
        arrived: Moment(1),
        layout: 1,
    }
}

fn life() -> impl Strategy<Value = Life> {
    prop_oneof![4 => Just(Life::Live), 1 => Just(Life::Deleted { by: 0, at: Moment(1) }), 1 => Just(Life::Detached { at: Moment(1) })]
}

/// A transaction, and what is asked behind it: addresses and links.
type Step = (Transaction, Vec<(MemberIndex, i64)>, Vec<u64>);

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let keys = || (option::of(0..4i64), option::of(0..4i64));
    let links = vec((1..6u64, keys(), life()), 0..3);
    let addresses = || (0..2usize, 0..4i64);
    let owners = vec((addresses(), option::of(1..6u64)), 0..3);
    let pending = vec((addresses(), option::of(any::<u8>())), 0..3);
    let step = (links, owners, pending).prop_map(|(links, owners, pending)| Transaction {
        links: links.into_iter().map(|(id, (left, right), life)| Arc::new(a_link(id, [left, right], life))).collect(),
        keys: owners.into_iter().map(|((member, number), id)| (place(member, number), id.map(LinkId))).collect(),
        pending: pending
            .into_iter()
            .map(|((member, number), version)| (place(member, number), version.map(|v| a_pending(member, number, v))))
            .collect(),
        ..Transaction::default()
    });
    vec((step, vec(addresses(), 0..4), vec(1..7u64, 0..3)), 1..30)
}

/// What a recall says, in terms that compare.
type Told = (Vec<(Address, Option<LinkId>, Option<Pending>)>, Vec<Link>);

fn told(recalled: Recalled) -> Told {
    let slots = recalled.slots.into_iter().map(|(address, lookup)| (address, lookup.link, lookup.pending)).collect();
    (slots, recalled.links.into_values().map(Arc::unwrap_or_clone).collect())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn what_is_remembered_is_what_the_store_says(steps in steps(), bytes in prop_oneof![Just(0), Just(4_000), Just(1 << 20)]) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let store = Arc::new(SqliteStore::in_memory(&StoreOptions::default()).unwrap());
        let memory = Memory::new(Arc::clone(&store) as Arc<dyn Store>, bytes);
        for (transaction, addresses, ids) in steps {
            runtime.block_on(memory.submit(transaction)).unwrap().unwrap();
            let addresses: Vec<Address> = addresses.into_iter().map(|(member, number)| place(member, number)).collect();
            let ids: Vec<LinkId> = ids.into_iter().map(LinkId).collect();
            let remembered = runtime.block_on(memory.recall(addresses.clone(), ids.clone())).unwrap();
            let stored = runtime.block_on(store.recall(addresses, ids)).unwrap();
            prop_assert_eq!(told(remembered), told(stored));
        }
    }
}

#[test]
fn a_record_at_work_costs_no_look_into_the_store_and_memory_stays_within_its_bound() {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let store = Arc::new(SqliteStore::in_memory(&StoreOptions::default()).unwrap());
    let memory = Memory::new(store, 64 << 10);
    let ids: Vec<LinkId> = (1..=1_000).map(LinkId).collect();
    let links = ids.iter().map(|id| Arc::new(a_link(id.0, [Some(1), None], Life::Live))).collect();
    runtime.block_on(memory.submit(Transaction { links, ..Transaction::default() })).unwrap().unwrap();
    runtime
        .block_on(memory.submit(Transaction { keys: vec![(place(0, 1), Some(LinkId(1_000)))], ..Transaction::default() }))
        .unwrap()
        .unwrap();
    runtime.block_on(memory.recall(vec![place(0, 1)], Vec::new())).unwrap();

    let mut known = Recalled::default();
    let unknown = memory.hot().recall(vec![place(0, 1)], Vec::new(), &mut known);
    assert_eq!(unknown, (Vec::new(), Vec::new()));
    assert_eq!(known.links.into_keys().collect::<Vec<_>>(), vec![LinkId(1_000)]);

    for id in ids {
        runtime.block_on(memory.recall(Vec::new(), vec![id])).unwrap();
    }
    let hot = memory.hot();
    let kept: usize = hot.links.young.values().chain(hot.links.old.values()).map(|(_, weight)| weight).sum();
    assert!(kept <= 64 << 10, "{kept} bytes are kept");
    assert!(!hot.links.young.is_empty());
}
