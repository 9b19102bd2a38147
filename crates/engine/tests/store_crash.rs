//! The store against the end of its process: killed at random, and stopped by the system in the middle of a write.
//! The process that ends is this test binary itself, asked to run one test alone.
#![allow(clippy::unwrap_used, reason = "the helpers of a test fail it as the test itself does")]

use concord_engine::clock::Moment;
use concord_engine::error::Code;
use concord_engine::ledger::{Entry, LedgerRow};
use concord_engine::link::{Group, Life, Link, LinkId, Side, SyncId};
use concord_engine::store::sqlite::{SqliteStore, StoreOptions};
use concord_engine::store::{Address, Store, Transaction};
use std::collections::VecDeque;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// The folder in which the child works; without it the child's test works alone in one of its own.
const FOLDER: &str = "CONCORD_CRASH_FOLDER";
/// Transactions submitted and not yet answered.
const IN_FLIGHT: usize = 32;
const SYNC: SyncId = SyncId(1);

type Answer = tokio::sync::oneshot::Receiver<concord_engine::error::Result<()>>;

/// Transaction number n: link n, its key, a ledger row and the setting `last`, so that half of one is noticed.
fn numbered(number: u64) -> Transaction {
    let link = Link {
        id: LinkId(number),
        sync: SYNC,
        layout: 1,
        decision: number,
        life: Life::Live,
        sides: vec![Side::absent(8), Side::absent(8)],
        groups: vec![Group::default(); 8],
        held: None,
    };
    let row = LedgerRow {
        at: Moment(1),
        sync: SYNC,
        link: Some(LinkId(number)),
        member: 0,
        key: number.to_string(),
        entry: Entry::Created,
        fields: vec![],
    };
    Transaction {
        links: vec![link.into()],
        keys: vec![(address(number), Some(LinkId(number)))],
        ledger: vec![row],
        settings: vec![("last".to_owned(), Some(number.to_be_bytes().to_vec()))],
        ..Transaction::default()
    }
}

fn address(number: u64) -> Address {
    Address { sync: SYNC, member: 0, key: number.to_be_bytes().to_vec() }
}

/// What is there is a prefix of what was submitted, each transaction whole; returns its length.
async fn assert_holds_a_prefix(store: &SqliteStore) -> u64 {
    let last = store.identity().await.unwrap().last_link;
    let links = store.scan_links(SYNC, LinkId(0), usize::MAX).await.unwrap();
    assert!(links.iter().map(|link| link.id.0).eq(1..=last), "links are missing below {last}");
    let found = store.lookup((1..=last).map(address).collect()).await.unwrap();
    assert!(found.iter().map(|found| found.link.unwrap().0).eq(1..=last));
    let counts = store.counts(SYNC).await.unwrap();
    assert_eq!((counts.links, counts.ledger), (last, last));
    let setting = store.setting("last").await.unwrap().map_or(0, |value| u64::from_be_bytes(value.try_into().unwrap()));
    assert_eq!(setting, last);
    last
}

#[tokio::test]
async fn a_process_submits_numbered_transactions_and_reports_each_answer() {
    let own = tempfile::tempdir().unwrap();
    let given = std::env::var_os(FOLDER);
    let folder = given.as_ref().map_or(own.path(), Path::new);
    // A short log, so that checkpoints are among what is interrupted.
    let options = StoreOptions { wal_bytes_max: 1 << 20, ..StoreOptions::default() };
    let store = SqliteStore::open(folder, &options).unwrap();
    let mut next = store.identity().await.unwrap().last_link + 1;
    let mut waiting: VecDeque<(u64, Answer)> = VecDeque::new();
    while given.is_some() || next <= 200 {
        if waiting.len() >= IN_FLIGHT {
            let (number, answer) = waiting.pop_front().unwrap();
            match answer.await.unwrap() {
                Ok(()) => println!("\nanswered {number}"),
                Err(error) => return println!("\nfailed {}", error.code),
            }
        }
        waiting.push_back((next, store.submit(numbered(next))));
        println!("\nsubmitted {next}");
        next += 1;
    }
    for (_, answer) in waiting {
        answer.await.unwrap().unwrap();
    }
    assert_eq!(assert_holds_a_prefix(&store).await, 200);
}

/// What a child said before it ended.
#[derive(Debug, Default)]
struct Report {
    submitted: u64,
    answered: u64,
    failed: Option<String>,
}

fn child_arguments() -> [&'static str; 3] {
    ["--exact", "a_process_submits_numbered_transactions_and_reports_each_answer", "--nocapture"]
}

/// Reads what the child says; kills it after so many answers and a little longer, if a number is given.
fn listen(child: &mut Child, kill_after: Option<(u64, Duration)>) -> Report {
    let mut report = Report::default();
    let mut answers = 0;
    let output = BufReader::new(child.stdout.take().unwrap());
    for line in output.lines().map_while(Result::ok) {
        match line.split_once(' ') {
            Some(("submitted", number)) => report.submitted = number.parse().unwrap(),
            Some(("answered", number)) => {
                report.answered = number.parse().unwrap();
                answers += 1;
            }
            Some(("failed", code)) => report.failed = Some(code.to_owned()),
            _ => {}
        }
        if let Some((answers_wanted, longer)) = kill_after
            && answers == answers_wanted
        {
            answers += 1;
            std::thread::sleep(longer);
            child.kill().unwrap();
        }
    }
    child.wait().unwrap();
    report
}

#[tokio::test]
async fn a_killed_process_leaves_a_prefix_that_includes_everything_answered() {
    let folder = tempfile::tempdir().unwrap();
    let mut seed = 0x9e37_79b9_7f4a_7c15_u64 ^ u64::from(std::process::id());
    println!("seed {seed}");
    for round in 0..12 {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let answers = 1 + (seed >> 33) % 400;
        let longer = Duration::from_micros((seed >> 17) % 3000);
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(child_arguments())
            .env(FOLDER, folder.path())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let report = listen(&mut child, Some((answers, longer)));
        assert!(report.answered > 0, "round {round}: the child did nothing: {report:?}");
        let store = SqliteStore::open(folder.path(), &StoreOptions::default()).unwrap();
        let kept = assert_holds_a_prefix(&store).await;
        assert!(kept >= report.answered, "round {round}: {kept} kept, {report:?}");
        // One more than was reported may have been submitted.
        assert!(kept <= report.submitted + 1, "round {round}: {kept} kept, {report:?}");
    }
}

#[cfg(unix)]
#[tokio::test]
async fn a_file_that_may_not_grow_stops_the_store_and_everything_answered_is_there_afterwards() {
    let folder = tempfile::tempdir().unwrap();
    // The limit makes writes fail in the middle of the log, as a full disk does; the signal that comes with it is ignored.
    let mut child = Command::new("sh")
        .args(["-c", "trap '' XFSZ; ulimit -f 600; exec \"$0\" \"$@\""])
        .arg(std::env::current_exe().unwrap())
        .args(child_arguments())
        .env(FOLDER, folder.path())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let report = listen(&mut child, None);
    assert_eq!(report.failed, Some(Code::StoreFailed.to_string()), "{report:?}");
    assert!(report.answered > 0, "{report:?}");
    let store = SqliteStore::open(folder.path(), &StoreOptions::default()).unwrap();
    let kept = assert_holds_a_prefix(&store).await;
    assert!(kept >= report.answered && kept <= report.submitted, "{kept} kept, {report:?}");
    store.submit(numbered(kept + 1)).await.unwrap().unwrap();
}

#[tokio::test]
async fn another_process_is_refused_the_store_with_the_holders_pid() {
    let folder = tempfile::tempdir().unwrap();
    let _store = SqliteStore::open(folder.path(), &StoreOptions::default()).unwrap();
    let output =
        Command::new(std::env::current_exe().unwrap()).args(child_arguments()).env(FOLDER, folder.path()).output().unwrap();
    assert!(!output.status.success());
    let said = String::from_utf8_lossy(&output.stderr) + String::from_utf8_lossy(&output.stdout);
    assert!(said.contains(&format!("the pid {}", std::process::id())), "{said}");
    assert!(said.contains("StoreInUse"), "{said}");
}
