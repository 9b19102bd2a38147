//! What goes in comes out, table by table, across a reopening; and what the reads promise about order and bounds.

use super::*;

#[tokio::test]
async fn every_table_gives_back_what_it_was_given_after_a_reopening() {
    let folder = tempfile::tempdir().unwrap();
    let written = sample();
    submit(&open(&folder), written.clone()).await.unwrap();

    let store = open(&folder);
    let addresses: Vec<Address> = written.keys.iter().map(|(address, _)| address.clone()).collect();
    let shown = picture(&store, &addresses, &[b"ada@example.org".to_vec()]).await;
    assert_eq!(shown.last_numbers, (3, 8, 5));
    assert_eq!(shown.positions, written.positions);
    assert_eq!(shared(shown.links), written.links);
    assert_eq!(shown.keys.into_iter().map(|(address, link)| (address, Some(link))).collect::<Vec<_>>(), written.keys);
    assert_eq!(shown.pending.into_iter().map(|(address, pending)| (address, Some(pending))).collect::<Vec<_>>(), written.pending);
    assert_eq!(shown.owed[0], (SyncId(1), 0, vec![LinkId(2), LinkId(1)], Some(Moment(10))));
    assert_eq!(shown.owed[1], (SyncId(1), 1, vec![], None));
    assert_eq!(shown.waits, written.waits);
    assert_eq!(shown.reserved, vec![(SyncId(1), vec![Some(LinkId(2))]), (SyncId(2), vec![None])]);
    assert_eq!(shown.flights.into_iter().map(Arc::new).collect::<Vec<_>>(), written.opened);
    assert_eq!(shown.settings, vec![("pause/crm".to_owned(), vec![]), ("plan/1".to_owned(), vec![7])]);
    assert_eq!(shown.reviews, written.reviews.iter().rev().cloned().collect::<Vec<_>>());
    assert_eq!(shown.open_reviews, vec![written.reviews[0].clone()]);
    assert_eq!(shown.ledger, written.ledger.iter().rev().cloned().collect::<Vec<_>>());
    let counts =
        Counts { links: 2, live: 1, pending: vec![(0, 1), (1, 1)], owed: vec![(0, 2)], waiting: 2, reviews: 1, ledger: 2 };
    assert_eq!(shown.counts, vec![counts, Counts { links: 1, ..Counts::default() }]);
}

#[tokio::test]
async fn a_lookup_answers_in_the_order_asked_and_shows_what_is_pending() {
    let store = in_memory();
    submit(
        &store,
        Transaction {
            keys: vec![(address(1, 0, 1), Some(LinkId(7)))],
            pending: vec![(address(1, 0, 2), Some(pending(1, 0, 2, "new")))],
            ..Transaction::default()
        },
    )
    .await
    .unwrap();
    let found = store.lookup(vec![address(1, 0, 2), address(1, 1, 1), address(1, 0, 1)]).await.unwrap();
    assert_eq!(found.iter().map(|found| found.link).collect::<Vec<_>>(), vec![None, None, Some(LinkId(7))]);
    assert_eq!(found[0].pending, Some(pending(1, 0, 2, "new")));
    assert!(found[1].pending.is_none() && found[2].pending.is_none());
}

#[tokio::test]
async fn links_come_with_what_is_pending_under_their_sides_keys_and_missing_ones_are_left_out() {
    let store = in_memory();
    let mut linked = link(4, 1);
    linked.sides[1].key = Some(key(9));
    submit(
        &store,
        Transaction {
            links: shared([linked.clone(), link(5, 1)]),
            pending: vec![
                (address(1, 1, 9), Some(pending(1, 1, 9, "waits"))),
                (address(1, 0, 9), Some(pending(1, 0, 9, "of another record"))),
            ],
            ..Transaction::default()
        },
    )
    .await
    .unwrap();
    let states = store.links(vec![LinkId(5), LinkId(6), LinkId(4)]).await.unwrap();
    assert_eq!(states.iter().map(|state| state.link.id).collect::<Vec<_>>(), vec![LinkId(5), LinkId(4)]);
    assert_eq!(states[0].pending, vec![None, None]);
    assert_eq!(states[1].link, linked);
    assert_eq!(states[1].pending, vec![None, Some(pending(1, 1, 9, "waits"))]);
}

#[tokio::test]
async fn a_recall_follows_keys_to_links_and_links_to_all_their_keys() {
    let store = in_memory();
    let mut linked = link(4, 1);
    linked.sides[0].key = Some(key(1));
    linked.sides[1].key = Some(key(9));
    let mut other = link(5, 1);
    other.sides[0].key = Some(key(2));
    submit(
        &store,
        Transaction {
            links: shared([linked.clone(), other.clone(), link(6, 1)]),
            // What side 1 of link 4 believes to be its key belongs to link 5.
            keys: vec![(address(1, 0, 1), Some(LinkId(4))), (address(1, 1, 9), Some(LinkId(5)))],
            pending: vec![(address(1, 1, 9), Some(pending(1, 1, 9, "waits"))), (address(1, 0, 7), Some(pending(1, 0, 7, "far")))],
            ..Transaction::default()
        },
    )
    .await
    .unwrap();
    let recalled = store.recall(vec![address(1, 0, 1), address(1, 0, 8)], vec![LinkId(77)]).await.unwrap();
    assert_eq!(recalled.links.into_values().map(|link| Link::clone(&link)).collect::<Vec<_>>(), vec![linked, other]);
    let slots: Vec<(Address, Option<LinkId>, bool)> =
        recalled.slots.into_iter().map(|(address, found)| (address, found.link, found.pending.is_some())).collect();
    let expected = [
        (address(1, 0, 1), Some(LinkId(4)), false),
        (address(1, 0, 2), None, false),
        (address(1, 0, 8), None, false),
        (address(1, 1, 9), Some(LinkId(5)), true),
    ];
    assert_eq!(slots, expected);
}

#[tokio::test]
async fn scans_go_on_behind_the_last_one_seen_within_their_sync() {
    let store = in_memory();
    let addresses: Vec<Address> = (0..2).flat_map(|member| (0..3).map(move |number| address(1, member, number))).collect();
    submit(
        &store,
        Transaction {
            links: shared((1..=9).map(|id| link(id, if id % 2 == 0 { 2 } else { 1 }))),
            pending: addresses.iter().map(|place| (place.clone(), Some(pending(1, place.member, 0, "x")))).collect(),
            ..Transaction::default()
        },
    )
    .await
    .unwrap();
    let ids = |links: Vec<Link>| links.into_iter().map(|link| link.id.0).collect::<Vec<_>>();
    assert_eq!(ids(store.scan_links(SyncId(1), LinkId(0), 2).await.unwrap()), vec![1, 3]);
    assert_eq!(ids(store.scan_links(SyncId(1), LinkId(3), 10).await.unwrap()), vec![5, 7, 9]);

    let mut seen = Vec::new();
    let mut after = None;
    loop {
        let page = store.scan_pending(SyncId(1), after.clone(), 4).await.unwrap();
        let Some((last, _)) = page.last() else { break };
        after = Some(last.clone());
        seen.extend(page.into_iter().map(|(address, _)| address));
    }
    assert_eq!(seen, addresses);
    let of_other_syncs = [(address(0, 5, 5), 6), (address(2, 0, 0), 0)];
    for (after, expected) in of_other_syncs {
        assert_eq!(store.scan_pending(SyncId(1), Some(after), 10).await.unwrap().len(), expected);
    }
}

#[tokio::test]
async fn debts_come_when_due_and_the_longest_due_first() {
    let store = in_memory();
    let debt = |link, due| (SyncId(1), 0, LinkId(link), due);
    let owed = vec![debt(1, Some(Moment(30))), debt(2, Some(Moment(10))), debt(3, Some(Moment(20)))];
    submit(&store, Transaction { owed, ..Transaction::default() }).await.unwrap();
    assert_eq!(store.owed(SyncId(1), 0, Moment(20), 9).await.unwrap(), vec![LinkId(2), LinkId(3)]);
    assert_eq!(store.owed(SyncId(1), 0, Moment(99), 1).await.unwrap(), vec![LinkId(2)]);
    submit(&store, Transaction { owed: vec![debt(2, None), debt(3, Some(Moment(40)))], ..Transaction::default() }).await.unwrap();
    assert_eq!(store.next_owed(SyncId(1), 0).await.unwrap(), Some(Moment(30)));
    assert_eq!(store.owed(SyncId(1), 0, Moment(99), 9).await.unwrap(), vec![LinkId(1), LinkId(3)]);
}

#[tokio::test]
async fn the_ledger_is_asked_by_sync_link_and_key_newest_first() {
    let store = in_memory();
    let ledger = vec![
        ledger_row(1, 1, Some(1), "a"),
        ledger_row(2, 1, Some(2), "b"),
        ledger_row(3, 2, None, "a"),
        ledger_row(4, 1, Some(1), "renamed"),
    ];
    submit(&store, Transaction { ledger, ..Transaction::default() }).await.unwrap();
    let ask = async |sync: Option<u32>, link: Option<u64>, key: Option<&str>, limit| {
        let query = LedgerQuery { sync: sync.map(SyncId), link: link.map(LinkId), key: key.map(str::to_owned), limit };
        store.ledger(query).await.unwrap().into_iter().map(|row| row.at.0).collect::<Vec<_>>()
    };
    assert_eq!(ask(None, None, None, 3).await, vec![4, 3, 2]);
    assert_eq!(ask(Some(1), None, None, 9).await, vec![4, 2, 1]);
    assert_eq!(ask(Some(1), Some(1), None, 9).await, vec![4, 1]);
    assert_eq!(ask(None, None, Some("a"), 9).await, vec![3, 1]);
    assert_eq!(ask(Some(2), None, Some("a"), 9).await, vec![3]);
    assert_eq!(ask(Some(1), Some(1), Some("a"), 9).await, vec![1]);
    assert_eq!(ask(Some(2), Some(1), None, 9).await, Vec::<i64>::new());
    assert_eq!(ask(None, None, None, 0).await, Vec::<i64>::new());
}

#[tokio::test]
async fn a_review_changes_as_a_whole_and_stays_once_closed() {
    let store = in_memory();
    submit(&store, Transaction { reviews: vec![review(1, 1, None), review(2, 2, None)], ..Transaction::default() })
        .await
        .unwrap();
    submit(&store, Transaction { reviews: vec![review(1, 1, Some(5))], ..Transaction::default() }).await.unwrap();
    assert_eq!(store.review(ReviewId(1)).await.unwrap(), Some(review(1, 1, Some(5))));
    assert_eq!(store.review(ReviewId(3)).await.unwrap(), None);
    assert_eq!(store.reviews(None, true, 9).await.unwrap(), vec![review(2, 2, None)]);
    assert_eq!(store.reviews(Some(SyncId(1)), false, 9).await.unwrap(), vec![review(1, 1, Some(5))]);
    assert_eq!(store.reviews(Some(SyncId(1)), true, 9).await.unwrap(), vec![]);
    assert_eq!(store.reviews(None, false, 1).await.unwrap(), vec![review(2, 2, None)]);
}

#[tokio::test]
async fn open_reviews_and_settings_are_read_in_portions_none_left_out_and_none_twice() {
    let store = in_memory();
    let reviews = vec![review(1, 1, None), review(2, 1, Some(5)), review(3, 2, None), review(4, 1, None), review(7, 1, None)];
    let settings = ["a/9", "b/", "b/1", "b/2", "b/3", "c/0"].map(|name| (name.to_owned(), Some(vec![1])));
    submit(&store, Transaction { reviews, settings: settings.to_vec(), ..Transaction::default() }).await.unwrap();
    let open = async |after| {
        let found = store.open_reviews(SyncId(1), ReviewId(after), 2).await.unwrap();
        found.into_iter().map(|review| review.id.0).collect::<Vec<_>>()
    };
    assert_eq!(open(0).await, [1, 4]);
    assert_eq!(open(4).await, [7]);
    assert!(open(7).await.is_empty());
    let named = async |after| {
        let found = store.settings_after("b/", after, 2).await.unwrap();
        found.into_iter().map(|(name, _)| name).collect::<Vec<_>>()
    };
    assert_eq!(named(None).await, ["b/", "b/1"]);
    assert_eq!(named(Some("b/1")).await, ["b/2", "b/3"]);
    assert!(named(Some("b/3")).await.is_empty());
}

#[tokio::test]
async fn settings_are_found_by_the_beginning_of_their_names() {
    let store = in_memory();
    let names = ["plan", "plan/1", "plan/ü", "plao", "pause"];
    let settings = names.map(|name| (name.to_owned(), Some(name.as_bytes().to_vec()))).to_vec();
    submit(&store, Transaction { settings, ..Transaction::default() }).await.unwrap();
    let found: Vec<String> = store.settings("plan").await.unwrap().into_iter().map(|(name, _)| name).collect();
    assert_eq!(found, vec!["plan", "plan/1", "plan/ü"]);
    assert_eq!(store.setting("plao").await.unwrap(), Some(b"plao".to_vec()));
    assert_eq!(store.setting("pla").await.unwrap(), None);
}

#[tokio::test]
async fn a_sync_keeps_the_number_it_was_first_given() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(&folder);
    let (accounts, contacts) = (store.sync_id("accounts").await.unwrap(), store.sync_id("contacts").await.unwrap());
    assert_ne!(accounts, contacts);
    assert_eq!(store.sync_id("accounts").await.unwrap(), accounts);
    drop(store);
    assert_eq!(open(&folder).sync_id("contacts").await.unwrap(), contacts);
}

#[tokio::test]
async fn a_store_keeps_its_identity_and_another_has_another() {
    let folder = tempfile::tempdir().unwrap();
    let first = open(&folder).identity().await.unwrap().store;
    assert_eq!(open(&folder).identity().await.unwrap().store, first);
    assert_ne!(in_memory().identity().await.unwrap().store, first);
    let options = StoreOptions { identity: Some("chosen".to_owned()), ..StoreOptions::default() };
    assert_eq!(SqliteStore::in_memory(&options).unwrap().identity().await.unwrap().store, "chosen");
}

#[tokio::test]
async fn a_forgotten_link_takes_its_keys_and_debts_along_but_not_its_number() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(&folder);
    submit(&store, sample()).await.unwrap();
    let gone = Transaction { forgotten: vec![LinkId(1), LinkId(3)], closed: vec![FlightId(8)], ..Transaction::default() };
    submit(&store, gone).await.unwrap();
    drop(store);
    let store = open(&folder);
    let addresses: Vec<Address> = sample().keys.into_iter().map(|(address, _)| address).collect();
    let shown = picture(&store, &addresses, &[]).await;
    assert_eq!(shown.links, vec![link(2, 1)]);
    assert_eq!(shown.keys, BTreeMap::new());
    assert_eq!(shown.owed[0], (SyncId(1), 0, vec![LinkId(2)], Some(Moment(10))));
    assert_eq!(shown.flights, vec![]);
    assert_eq!(shown.last_numbers, (3, 8, 5));
    assert_eq!(shown.counts[0].links, 1);
    assert_eq!(shown.counts[1].links, 0);
}

#[tokio::test]
async fn expiry_removes_what_is_older_and_no_longer_needed_and_keeps_the_numbers() {
    let store = in_memory();
    let mut owing = tombstone(2, 1, 10);
    owing.sides[0].owes_life = true;
    let awaited = tombstone(3, 1, 10);
    // A record that is marked as deleted, or was left where it is, would be a stranger without its tombstone.
    let (mut marked, mut left) = (tombstone(6, 1, 10), tombstone(7, 1, 10));
    (marked.sides[1].standing, left.sides[1].standing) = (Standing::Marked, Standing::Present);
    submit(
        &store,
        Transaction {
            links: shared([
                tombstone(1, 1, 10),
                owing.clone(),
                awaited.clone(),
                tombstone(4, 1, 30),
                link(5, 1),
                marked.clone(),
                left.clone(),
            ]),
            keys: vec![(address(1, 0, 1), Some(LinkId(1))), (address(1, 0, 3), Some(LinkId(3)))],
            pending: vec![(address(1, 0, 3), Some(pending(1, 0, 3, "late")))],
            ledger: (0..2500).map(|at| ledger_row(at, 1, None, "k")).collect(),
            reviews: vec![review(1, 1, None), review(2, 1, Some(99)), review(3, 1, Some(2400))],
            ..Transaction::default()
        },
    )
    .await
    .unwrap();

    assert_eq!(store.expire(&ages(2300, 30)).await.unwrap(), 2300 + 1 + 1);
    let shown = picture(&store, &[address(1, 0, 1), address(1, 0, 3)], &[]).await;
    assert_eq!(shown.links, vec![owing, awaited, tombstone(4, 1, 30), link(5, 1), marked, left]);
    assert_eq!(shown.keys, BTreeMap::from([(address(1, 0, 3), LinkId(3))]));
    assert_eq!(shown.ledger.len(), 200);
    assert!(shown.ledger.iter().all(|row| row.at >= Moment(2300)));
    assert_eq!(shown.reviews, vec![review(3, 1, Some(2400)), review(1, 1, None)]);
    assert_eq!(
        shown.counts[0],
        Counts { links: 6, live: 1, pending: vec![(0, 1)], owed: vec![], waiting: 0, reviews: 1, ledger: 200 }
    );

    let rest = store.expire(&ages(i64::MAX, i64::MAX)).await.unwrap();
    assert_eq!(rest, 200 + 1 + 1);
    assert_eq!(picture(&store, &[], &[]).await.last_numbers, (7, 0, 3));
}

#[tokio::test]
async fn each_sync_keeps_its_history_for_as_long_as_it_says() {
    let store = in_memory();
    // More rows of each than one step looks at, in turns, and some of a sync that no configuration has any more.
    let rows = (0..6000_i64).map(|at| ledger_row(at, u32::try_from(at % 3 + 1).unwrap(), None, "k")).collect();
    let reviews =
        (1..=6).map(|id| review(id, u32::try_from(id % 3 + 1).unwrap(), Some(i64::try_from(id).unwrap() * 900))).collect();
    submit(&store, Transaction { ledger: rows, reviews, ..Transaction::default() }).await.unwrap();
    let ages = Ages {
        of_syncs: BTreeMap::from([(SyncId(1), Moment(5700)), (SyncId(2), Moment(300))]),
        of_others: Moment(3000),
        tombstones: Moment(0),
    };
    assert_eq!(store.expire(&ages).await.unwrap(), 1900 + 100 + 1000 + 3);

    let shown = picture(&store, &[], &[]).await;
    let of = |sync: u32| shown.ledger.iter().filter(|row| row.sync == SyncId(sync)).map(|row| row.at.0).collect::<Vec<_>>();
    let first_of = |sync: u32| (of(sync).len(), of(sync).into_iter().min());
    assert_eq!([1, 2, 3].map(first_of), [(100, Some(5700)), (1900, Some(301)), (1000, Some(3002))]);
    assert_eq!([shown.counts[0].ledger, shown.counts[1].ledger], [100, 1900]);
    // Closed at 900 (sync 2), 1800 (3), 2700 (1), 3600 (2), 4500 (3) and 5400 (1).
    let kept: Vec<u64> = shown.reviews.iter().map(|review| review.id.0).collect();
    assert_eq!(kept, [5, 4, 1]);
    assert_eq!(store.expire(&ages).await.unwrap(), 0);
}

#[tokio::test]
async fn whoever_waits_is_found_by_what_it_waits_for_until_it_waits_no_longer() {
    let store = in_memory();
    let (key, record) = (Awaited::Key(address(1, 0, 5)), Awaited::Record(LinkId(5)));
    let waits = vec![
        (SyncId(2), LinkId(1), vec![key.clone()]),
        (SyncId(2), LinkId(2), vec![key.clone(), record.clone()]),
        (SyncId(3), LinkId(3), vec![key.clone()]),
    ];
    let links = shared([link(1, 2), link(2, 2), link(3, 3)]);
    submit(&store, Transaction { links, waits, ..Transaction::default() }).await.unwrap();
    assert_eq!(store.waiting(&key, LinkId(0), 10).await.unwrap(), [LinkId(1), LinkId(2), LinkId(3)]);
    assert_eq!(store.waiting(&key, LinkId(1), 1).await.unwrap(), [LinkId(2)]);
    assert_eq!(store.waiting(&record, LinkId(0), 10).await.unwrap(), [LinkId(2)]);
    assert_eq!(store.scan_waiting(SyncId(2), LinkId(0), 10).await.unwrap(), [LinkId(1), LinkId(2)]);
    assert_eq!(store.counts(SyncId(2)).await.unwrap().waiting, 2);

    // Written whole: what is not named any more is not waited for, and a link that goes waits for nothing.
    let waits = vec![(SyncId(2), LinkId(1), Vec::new()), (SyncId(2), LinkId(2), vec![record.clone()])];
    submit(&store, Transaction { waits, forgotten: vec![LinkId(3)], ..Transaction::default() }).await.unwrap();
    assert_eq!(store.waiting(&key, LinkId(0), 10).await.unwrap(), []);
    assert_eq!(store.waits_of(SyncId(2), LinkId(2)).await.unwrap(), [record]);
    assert_eq!(store.counts(SyncId(2)).await.unwrap().waiting, 1);
    assert_eq!(store.counts(SyncId(3)).await.unwrap().waiting, 0);
}
