//! Random transactions: the threaded store, the inline one and plain maps answer alike, and so does a reopened one.

use super::model::Model;
use super::*;
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;

#[derive(Clone, Debug)]
enum Step {
    Submit(Box<Transaction>),
    Expire(Ages),
    Reopen,
}

fn addresses() -> Vec<Address> {
    let mut all = Vec::new();
    for sync in [1, 2] {
        for member in MEMBERS {
            all.extend((0..4).map(|number| address(sync, member, number)));
        }
    }
    all
}

fn values() -> Vec<Vec<u8>> {
    vec![vec![], b"a".to_vec(), b"b".to_vec()]
}

fn an_address() -> impl Strategy<Value = Address> {
    (1..=2u32, 0..2usize, 0..4i64).prop_map(|(sync, member, number)| address(sync, member, number))
}

/// A link belongs to one sync, as in life.
fn sync_of(id: u64) -> u32 {
    if id.is_multiple_of(2) { 2 } else { 1 }
}

fn a_link() -> impl Strategy<Value = Link> {
    let life = prop_oneof![
        Just(Life::Live),
        (0..100i64).prop_map(|at| Life::Deleted { by: 1, at: Moment(at) }),
        (0..100i64).prop_map(|at| Life::Detached { at: Moment(at) }),
    ];
    let side = (option::of(0..4i64), any::<[bool; 2]>(), option::weighted(0.1, 1..9u64), option::weighted(0.1, 1..9u64));
    (1..=8u64, any::<u32>(), life, vec(side, 2), option::weighted(0.1, 1..9u64)).prop_map(|(id, layout, life, sides, held)| {
        let sides = sides.into_iter().map(|(number, [life, groups], flight, blocked)| Side {
            key: number.map(key),
            owes: if groups && life { vec![1] } else { vec![] },
            owes_life: life && !groups,
            flight: flight.map(FlightId),
            blocked: blocked.map(ReviewId),
            ..Side::absent(2)
        });
        Link {
            layout,
            life,
            sides: sides.collect(),
            held: held.map(|review| LinkHold { review: ReviewId(review), sticky: true }),
            ..link(id, sync_of(id))
        }
    })
}

fn a_transaction() -> impl Strategy<Value = Transaction> {
    let few = 0..4usize;
    let first = (
        vec(("[ab]", "[xy]", vec(any::<u8>(), 0..3)), few.clone()),
        vec(a_link(), few.clone()),
        vec(1..=8u64, 0..2),
        vec((an_address(), option::of(1..=8u64)), few.clone()),
        vec((an_address(), option::of("[a-z]{0,9}")), few.clone()),
        vec((1..=8u64, 0..2usize, option::of(0..50i64)), few.clone()),
    );
    let second = (
        vec((1..=2u32, prop::sample::select(values()), option::of(1..=8u64)), few.clone()),
        vec(1..=6u64, 0..2),
        vec(1..=6u64, 0..2),
        vec((0..100i64, 1..=2u32, option::of(1..=8u64), "[k-m]"), few.clone()),
        vec((1..=6u64, 1..=2u32, option::of(0..100i64)), few.clone()),
        vec((1..=7u64, 0..100i64), 0..2),
        vec(("[a-c]/[a-c]", option::of(vec(any::<u8>(), 0..3))), few),
    );
    (first, second).prop_map(
        |((positions, links, forgotten, keys, waiting, owed), (reserved, opened, closed, rows, reviews, ended, settings))| {
            Transaction {
                waits: Vec::new(),
                positions: positions.into_iter().map(|(s, f, p)| (s.into(), f.into(), Position(p))).collect(),
                links: shared(links),
                forgotten: forgotten.into_iter().map(LinkId).collect(),
                keys: keys.into_iter().map(|(address, link)| (address, link.map(LinkId))).collect(),
                pending: waiting
                    .into_iter()
                    .map(|(address, text)| {
                        let pending = text.map(|text| pending(address.sync.0, address.member, 1, &text));
                        (address, pending)
                    })
                    .collect(),
                owed: owed
                    .into_iter()
                    .map(|(id, member, due)| (SyncId(sync_of(id)), member, LinkId(id), due.map(Moment)))
                    .collect(),
                reservations: reserved.into_iter().map(|(sync, value, link)| (SyncId(sync), value, link.map(LinkId))).collect(),
                opened: opened.into_iter().map(|id| flight(id, 1).into()).collect(),
                closed: closed.into_iter().map(FlightId).collect(),
                ledger: rows.into_iter().map(|(at, sync, link, key)| ledger_row(at, sync, link, &key)).collect(),
                reviews: reviews.into_iter().map(|(id, sync, closed)| review(id, sync, closed)).collect(),
                closed_reviews: ended.into_iter().map(|(id, at)| (ReviewId(id), Moment(at), "decided".to_owned())).collect(),
                settings,
            }
        },
    )
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        8 => a_transaction().prop_map(|transaction| Step::Submit(Box::new(transaction))),
        1 => (0..100i64, 0..100i64, 0..100i64).prop_map(|(first, others, tombstones)| {
            let of_syncs = BTreeMap::from([(SyncId(1), Moment(first))]);
            Step::Expire(Ages { of_syncs, ..ages(others, tombstones) })
        }),
        1 => Just(Step::Reopen),
    ];
    vec(step, 1..24)
}

/// Which way the store under test is opened.
type Open = fn(&tempfile::TempDir) -> SqliteStore;

fn open_inline(folder: &tempfile::TempDir) -> SqliteStore {
    SqliteStore::inline(folder.path(), &StoreOptions::default()).unwrap()
}

/// Runs the steps and compares after each; awaits the answers only at the end, so that groups form.
async fn compare_with_model(open: Open, steps: &[Step]) {
    let (addresses, values) = (addresses(), values());
    let folder = tempfile::tempdir().unwrap();
    let mut store = open(&folder);
    let mut model = Model::default();
    let mut answers = Vec::new();
    for step in steps {
        match step {
            Step::Submit(transaction) => {
                answers.push(store.submit((**transaction).clone()));
                model.apply((**transaction).clone());
            }
            Step::Expire(ages) => {
                let removed = store.expire(ages).await.unwrap();
                assert_eq!(removed, model.expire(ages));
            }
            Step::Reopen => {
                drop(store);
                store = open(&folder);
            }
        }
        assert_eq!(picture(&store, &addresses, &values).await, model.picture(&addresses, &values));
    }
    for answer in answers {
        answer.await.unwrap().unwrap();
    }
}

fn block_on(future: impl Future<Output = ()>) {
    tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(future);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn the_threaded_store_answers_as_plain_maps_do(steps in steps()) {
        block_on(compare_with_model(super::open, &steps));
    }

    #[test]
    fn the_inline_store_answers_as_plain_maps_do(steps in steps()) {
        block_on(compare_with_model(open_inline, &steps));
    }

    #[test]
    fn the_inline_store_and_the_threaded_one_answer_alike(transactions in vec(a_transaction(), 1..16)) {
        block_on(async {
            let folder = tempfile::tempdir().unwrap();
            let (threaded, inline) = (super::open(&folder), in_memory());
            for transaction in transactions {
                let answer = threaded.submit(transaction.clone());
                super::submit(&inline, transaction).await.unwrap();
                let alike = [picture(&threaded, &addresses(), &values()).await, picture(&inline, &addresses(), &values()).await];
                assert_eq!(alike[0], alike[1]);
                let ids: Vec<LinkId> = (1..=8).map(LinkId).collect();
                let states = [threaded.links(ids.clone()).await.unwrap(), inline.links(ids).await.unwrap()];
                assert_eq!(format!("{:?}", states[0]), format!("{:?}", states[1]));
                answer.await.unwrap().unwrap();
            }
        });
    }
}
