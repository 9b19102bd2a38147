//! How many rows the store takes in a second: links and ledger rows in durable transactions of a given size.
//!
//! `cargo run --release -p concord-engine --example store_bench -- [FOLDER] [LINKS] [LINKS_PER_TRANSACTION] [IN_FLIGHT]`

use concord_engine::change::{EditTime, Version};
use concord_engine::clock::Moment;
use concord_engine::ledger::{Entry, FieldEntry, LedgerRow, Rule};
use concord_engine::link::{Agreed, Group, Life, Link, LinkId, Side, Standing, SyncId};
use concord_engine::record::Key;
use concord_engine::store::sqlite::{SqliteStore, StoreOptions};
use concord_engine::store::{Address, Store, Transaction};
use concord_engine::value::Value;
use std::collections::VecDeque;
use std::time::{Duration, Instant};

const FIELDS: usize = 8;
const SYNC: SyncId = SyncId(1);

fn value(number: u64, field: usize) -> Value {
    Value::Text(format!("value {number} of field {field}"))
}

fn key(number: u64) -> Key {
    Key(vec![Value::UInt(number)])
}

fn link(number: u64, decision: u64) -> Link {
    let time = EditTime { at: Moment(1_700_000_000_000_000), granularity_micros: 1, estimated: false };
    let side = Side {
        key: Some(key(number)),
        standing: Standing::Present,
        base: (0..FIELDS).map(|field| Some(value(number, field))).collect(),
        version: Version(vec![7; 16]),
        ..Side::absent(FIELDS)
    };
    let group = |field| Group {
        agreed: Some(Agreed { values: vec![value(number, field)], from: 0, time, decision, hops: 0, rule: Rule::OnlyChange }),
        ..Group::default()
    };
    Link {
        id: LinkId(number),
        sync: SYNC,
        layout: 1,
        decision,
        life: Life::Live,
        sides: vec![side.clone(), side],
        groups: (0..FIELDS).map(group).collect(),
        held: None,
    }
}

fn ledger_row(number: u64, decision: u64) -> LedgerRow {
    let edited = Moment(1_700_000_000_000_000 + i64::try_from(decision).unwrap_or(0));
    let field = FieldEntry {
        field: "name".to_owned(),
        old: Some(value(number, 0)),
        new: Some(value(number, 1)),
        from: 0,
        edited,
        rule: Rule::OnlyChange,
    };
    LedgerRow {
        at: edited,
        sync: SYNC,
        link: Some(LinkId(number)),
        member: 1,
        key: number.to_string(),
        entry: Entry::Updated,
        fields: vec![field],
    }
}

/// A new record: its link, a key on each side and a ledger row.
fn first(numbers: &[u64]) -> Transaction {
    let keys =
        |number: &u64| [0, 1].map(|member| (Address { sync: SYNC, member, key: key(*number).encode() }, Some(LinkId(*number))));
    Transaction { keys: numbers.iter().flat_map(keys).collect(), ..again(numbers, 1) }
}

/// A change of a known record: its link and a ledger row.
fn again(numbers: &[u64], decision: u64) -> Transaction {
    Transaction {
        links: numbers.iter().map(|number| link(*number, decision).into()).collect(),
        ledger: numbers.iter().map(|number| ledger_row(*number, decision)).collect(),
        ..Transaction::default()
    }
}

async fn measure(name: &str, store: &SqliteStore, transactions: impl Iterator<Item = Transaction>, links: u64, in_flight: usize) {
    let mut waiting = VecDeque::new();
    let mut slowest = Duration::ZERO;
    let begun = Instant::now();
    // Making the records is part of the time, as it is the caller's.
    let settle = async |(submitted, answer): (Instant, tokio::sync::oneshot::Receiver<_>)| {
        let outcome: concord_engine::error::Result<()> = answer.await.unwrap_or(Ok(()));
        if let Err(error) = outcome {
            eprintln!("{}", error.chain());
            std::process::exit(1);
        }
        submitted.elapsed()
    };
    for transaction in transactions {
        waiting.push_back((Instant::now(), store.submit(transaction)));
        while waiting.len() >= in_flight {
            if let Some(oldest) = waiting.pop_front() {
                slowest = slowest.max(settle(oldest).await);
            }
        }
    }
    for rest in waiting {
        slowest = slowest.max(settle(rest).await);
    }
    let seconds = begun.elapsed().as_secs_f64();
    let rate = f64::from(u32::try_from(links).unwrap_or(u32::MAX)) / seconds;
    println!("{name:<44} {rate:>9.0} links/s   {seconds:>6.2} s   slowest answer {slowest:.1?}");
}

fn resident_memory() -> String {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    status.lines().filter(|line| line.starts_with("VmHWM")).collect()
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> concord_engine::error::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let number = |place: usize, other: u64| arguments.get(place).and_then(|text| text.parse().ok()).unwrap_or(other);
    let folder = arguments.first().map_or_else(|| std::env::temp_dir().join("concord-store-bench"), Into::into);
    let (links, size) = (number(1, 100_000), usize::try_from(number(2, 500)).unwrap_or(500));
    let in_flight = usize::try_from(number(3, 4)).unwrap_or(4);
    let _ = std::fs::remove_dir_all(&folder);
    let store = SqliteStore::open(&folder, &StoreOptions::default())?;

    let in_order: Vec<u64> = (1..=links).collect();
    // 7919 is prime and larger than nothing it need divide: every number once, none beside its neighbour.
    let scattered: Vec<u64> = (0..links).map(|place| place * 7919 % links + 1).collect();
    println!("{links} links of {FIELDS} fields, {size} a transaction, {in_flight} in flight, in {}", folder.display());
    let news = in_order.chunks(size).map(first);
    measure("new: link, two keys, ledger row", &store, news, links, in_flight).await;
    let sequential = in_order.chunks(size).map(|numbers| again(numbers, 2));
    measure("known, in order: link, ledger row", &store, sequential, links, in_flight).await;
    let random = scattered.chunks(size).map(|numbers| again(numbers, 3));
    measure("known, scattered: link, ledger row", &store, random, links, in_flight).await;
    let single = scattered.iter().take(5000).map(|number| again(&[*number], 4));
    measure("known, one a transaction, one in flight", &store, single.clone(), 5000, 1).await;
    measure("known, one a transaction, 64 in flight", &store, single, 5000, 64).await;
    let ids: Vec<LinkId> = scattered.iter().take(20_000).map(|number| LinkId(*number)).collect();
    let begun = Instant::now();
    for some in ids.chunks(size) {
        store.links(some.to_vec()).await?;
    }
    println!("{:<44} {:>9.0} links/s", "read, scattered", 20_000.0 / begun.elapsed().as_secs_f64());
    println!("{}", resident_memory());
    Ok(())
}
