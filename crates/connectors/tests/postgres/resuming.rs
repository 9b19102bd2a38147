//! Restarts, gaps and what is left behind: invariant 1 against a real server.

use crate::server::{Options, Server};
use crate::support::*;
use concord_engine::change::Position;
use concord_engine::connector::{Connector, Feed};
use concord_engine::error::Code;
use std::sync::Arc;
use std::time::Duration;

const TABLES: &str = "CREATE TABLE t (id int PRIMARY KEY, name text); CREATE TABLE u (id int PRIMARY KEY)";

/// The error of preparing a known feed again, which must be one.
async fn refused(system: &System, known: &Feed) -> Code {
    system.restarted().prepare(&[selection("t")], std::slice::from_ref(known)).await.unwrap_err().code
}

#[tokio::test]
async fn a_restart_resumes_behind_the_stored_position_and_loses_nothing() {
    let system = system(TABLES);
    let mut feed = system.prepare(&["t"]).await;
    let mut reader = system.capture(&feed).await;
    system.psql("INSERT INTO t VALUES (1)");
    reader.observations(1).await;
    while reader.position == feed.position {
        assert!(reader.batch().await.events.is_empty());
    }
    feed.position = reader.position.clone();
    system.connector.acknowledge(&feed.name, &feed.position).await.unwrap();
    drop(reader);
    system.psql("INSERT INTO t VALUES (2)");
    let connector = system.restarted();
    let known = prepare(&connector, &["t"], std::slice::from_ref(&feed)).await;
    assert_eq!(known.position, feed.position);
    let mut reader = open_when_free(&connector, &known).await;
    let seen = reader.observations(1).await;
    assert_eq!(seen[0].key, key(2));
}

/// A session that has just ended may hold the slot for a moment: that is transient.
async fn open_when_free(connector: &concord_connectors::postgres::PostgresConnector, feed: &Feed) -> Reader {
    let deadline = std::time::Instant::now() + PATIENCE;
    loop {
        match connector.capture(feed, &feed.position).await {
            Ok(changes) => return Reader { changes, position: feed.position.clone() },
            Err(error) => assert_eq!(error.code, Code::Busy, "{error}"),
        }
        assert!(std::time::Instant::now() < deadline);
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn without_an_acknowledgement_the_same_changes_come_again_with_equal_versions() {
    let system = system(TABLES);
    let feed = system.prepare(&["t"]).await;
    let mut reader = system.capture(&feed).await;
    system.psql("INSERT INTO t SELECT generate_series(1, 3)");
    let first = reader.observations(3).await;
    drop(reader);
    let connector = system.restarted();
    let mut reader = open_when_free(&connector, &feed).await;
    let second = reader.observations(3).await;
    assert_eq!(first, second);
}

#[tokio::test]
async fn a_slot_that_is_being_read_is_busy_and_not_a_gap() {
    let system = system(TABLES);
    let feed = system.prepare(&["t"]).await;
    let _reader = system.capture(&feed).await;
    let error = system.restarted().capture(&feed, &feed.position).await.err().unwrap();
    assert_eq!(error.code, Code::Busy);
}

#[tokio::test]
async fn a_slot_dropped_or_made_anew_or_advanced_by_somebody_else_is_a_gap() {
    let system = system(TABLES);
    let feed = system.prepare(&["t"]).await;
    let slot = feed.name.as_str();
    system.psql(&format!("SELECT pg_drop_replication_slot('{slot}')"));
    assert_eq!(refused(&system, &feed).await, Code::FeedGap);
    system.psql(&format!("SELECT pg_create_logical_replication_slot('{slot}', 'pgoutput')"));
    assert_eq!(refused(&system, &feed).await, Code::FeedGap);
    let again = Feed { position: Position::default(), ..feed.clone() };
    let feed = prepare(&system.connector, &["t"], &[again]).await;
    assert_eq!(prepare(&system.connector, &["t"], std::slice::from_ref(&feed)).await.position, feed.position);
    system.psql("INSERT INTO t VALUES (1)");
    system.psql(&format!("SELECT pg_replication_slot_advance('{slot}', pg_current_wal_lsn())"));
    assert_eq!(refused(&system, &feed).await, Code::FeedGap);
    let error = system.connector.capture(&feed, &feed.position).await.err().unwrap();
    assert_eq!(error.code, Code::FeedGap);
}

#[tokio::test]
async fn a_table_or_publication_taken_away_by_somebody_else_is_a_gap() {
    let system = system(TABLES);
    let feed = prepare(&system.connector, &["t", "u"], &[]).await;
    let name = feed.name.as_str();
    system.psql(&format!("ALTER PUBLICATION {name} DROP TABLE t"));
    assert_eq!(refused(&system, &feed).await, Code::FeedGap);
    system.psql(&format!("DROP PUBLICATION {name}; CREATE PUBLICATION {name} FOR TABLE t, u"));
    assert_eq!(refused(&system, &feed).await, Code::FeedGap);
}

#[tokio::test]
async fn a_table_that_joins_is_complete_only_behind_the_writers_of_that_moment() {
    let system = system(TABLES);
    let feed = system.prepare(&["t"]).await;
    let writer = system.database.session().await;
    writer.batch_execute("BEGIN; INSERT INTO u VALUES (1)").await.unwrap();
    let connector = system.restarted();
    let known = [feed];
    let joining = prepare(&connector, &["t", "u"], &known);
    tokio::pin!(joining);
    // The writer is still open: the table has joined, but is not complete yet.
    assert!(tokio::time::timeout(Duration::from_millis(700), &mut joining).await.is_err());
    // Nor is it for whoever tries again after a crash, though the publication has it by now.
    let connector = system.restarted();
    let joining = prepare(&connector, &["t", "u"], &known);
    tokio::pin!(joining);
    assert!(tokio::time::timeout(Duration::from_millis(700), &mut joining).await.is_err());
    writer.batch_execute("COMMIT").await.unwrap();
    let feed = joining.await;
    assert_eq!(feed.complete_from.len(), 1);
    assert_eq!(feed.complete_from[0].0.as_str(), "public.u");
    let mut reader = Reader::open(&connector, &feed, &feed.position).await;
    system.psql("INSERT INTO u VALUES (2)");
    assert_eq!(reader.observations(1).await[0].key, key(2));
    reader.pass(&connector, &feed.complete_from[0].1).await;
}

// It has no session, and may be committed days later.
#[tokio::test]
async fn a_table_that_joins_waits_for_a_transaction_that_is_prepared() {
    let settings = vec![("max_prepared_transactions".to_owned(), "2".to_owned())];
    let server = Arc::new(Server::start(&Options { settings, ..Options::default() }));
    let system = system_on(&server, TABLES);
    let feed = system.prepare(&["t"]).await;
    system.database.session().await.batch_execute("BEGIN; INSERT INTO u VALUES (1); PREPARE TRANSACTION 'late'").await.unwrap();
    let connector = system.restarted();
    let known = [feed];
    let joining = prepare(&connector, &["t", "u"], &known);
    tokio::pin!(joining);
    assert!(tokio::time::timeout(Duration::from_millis(700), &mut joining).await.is_err());
    system.psql("COMMIT PREPARED 'late'");
    assert_eq!(joining.await.complete_from.len(), 1);
}

// The usual way to migrate a large table: a copy is filled, and takes the name.
#[tokio::test]
async fn a_table_that_makes_room_for_another_one_of_its_name_is_a_gap() {
    let swap = "BEGIN; CREATE TABLE n (LIKE t INCLUDING ALL); INSERT INTO n SELECT * FROM t; ALTER TABLE t RENAME TO bak; \
        ALTER TABLE n RENAME TO t; COMMIT";
    for publishes in [false, true] {
        let system = system(TABLES);
        let feed = prepare(&system.connector, &["t", "u"], &[]).await;
        let mut reader = system.capture(&feed).await;
        system.psql("INSERT INTO t VALUES (1)");
        assert_eq!(reader.observations(1).await[0].key, key(1));
        system.psql(swap);
        if publishes {
            let name = feed.name.as_str();
            system.psql(&format!("ALTER PUBLICATION {name} DROP TABLE bak; ALTER PUBLICATION {name} ADD TABLE t"));
        }
        system.psql("INSERT INTO t VALUES (2)");
        if !publishes {
            system.connector.health(&feed.name).await.unwrap();
        }
        let gap = async {
            loop {
                if let Err(error) = reader.changes.next(LIMITS).await {
                    return error;
                }
            }
        };
        let error = tokio::time::timeout(PATIENCE, gap).await.expect("a gap");
        assert!(error.code == Code::FeedGap && error.message.contains("another table"), "{error}");
    }
}

#[tokio::test]
async fn a_release_leaves_nothing_behind() {
    let system = system(TABLES);
    prepare(&system.connector, &["t", "u"], &[]).await;
    let left = || {
        system.psql("SELECT (SELECT count(*) FROM pg_publication), (SELECT count(*) FROM pg_publication_rel), (SELECT count(*) FROM pg_replication_slots WHERE database = current_database())")
    };
    assert_eq!(left(), "1|2|1");
    system.connector.release(&["u".into()]).await.unwrap();
    assert_eq!(left(), "1|1|1");
    system.connector.release(&["t".into(), "u".into()]).await.unwrap();
    assert_eq!(left(), "0|0|0");
    system.connector.release(&["t".into()]).await.unwrap();
}

#[tokio::test]
async fn a_feed_whose_session_is_killed_resumes_without_loss() {
    let system = system(TABLES);
    let mut feed = system.prepare(&["t"]).await;
    let mut reader = system.capture(&feed).await;
    let mut seen = Vec::new();
    for round in 0..4 {
        system.psql(&format!("INSERT INTO t SELECT generate_series({}, {})", round * 50 + 1, round * 50 + 50));
        let killed = system
            .psql("SELECT count(pg_terminate_backend(active_pid)) FROM pg_replication_slots WHERE database = current_database()");
        assert_eq!(killed, "1");
        loop {
            match reader.changes.next(LIMITS).await {
                Ok(batch) => {
                    for event in &batch.events {
                        let concord_engine::connector::Event::Observed(observation) = event else { panic!() };
                        seen.push(observation.key.to_string().parse::<i32>().unwrap());
                    }
                    feed.position = batch.position.unwrap_or(feed.position);
                }
                Err(error) => {
                    assert_eq!(error.code, Code::Unreachable, "{error}");
                    break;
                }
            }
        }
        reader = open_when_free(&system.connector, &feed).await;
    }
    let deadline = std::time::Instant::now() + PATIENCE;
    while seen.iter().collect::<std::collections::BTreeSet<_>>().len() < 200 {
        assert!(std::time::Instant::now() < deadline);
        for event in reader.batch().await.events {
            let concord_engine::connector::Event::Observed(observation) = event else { panic!() };
            seen.push(observation.key.to_string().parse::<i32>().unwrap());
        }
    }
}

#[tokio::test]
async fn an_idle_table_does_not_hold_back_the_log_while_others_write() {
    let system = system("CREATE TABLE t (id int PRIMARY KEY); CREATE TABLE other (id int, pad text)");
    let feed = system.prepare(&["t"]).await;
    let mut reader = system.capture(&feed).await;
    system.psql("INSERT INTO other SELECT i, repeat('x', 1000) FROM generate_series(1, 2000) AS i");
    let deadline = std::time::Instant::now() + PATIENCE;
    loop {
        assert!(std::time::Instant::now() < deadline, "the slot does not move");
        assert!(reader.batch().await.events.is_empty());
        system.connector.acknowledge(&feed.name, &reader.position).await.unwrap();
        let health = system.connector.health(&feed.name).await.unwrap();
        assert_eq!(health.warning, None);
        let behind = system.psql(&format!(
            "SELECT pg_current_wal_lsn() - confirmed_flush_lsn > 1000000 FROM pg_replication_slots WHERE slot_name = '{}'",
            feed.name
        ));
        if behind == "f" {
            break;
        }
    }
}

#[tokio::test]
async fn a_fence_stands_behind_every_earlier_write_and_ends_what_an_earlier_process_left() {
    let system = system(TABLES);
    let feed = system.prepare(&["t"]).await;
    let mut reader = system.capture(&feed).await;
    // A writing session of an earlier process of this installation, in the middle of its transaction.
    let names = system.psql("SELECT DISTINCT application_name FROM pg_stat_activity WHERE datname = current_database() AND application_name LIKE 'concord:%'");
    let leftover = system.database.session().await;
    leftover
        .batch_execute(&format!("SET application_name = '{names}:apply:deadbeef'; BEGIN; INSERT INTO t VALUES (66)"))
        .await
        .unwrap();
    let fence = system.connector.fence(&feed.name).await.unwrap();
    assert!(leftover.batch_execute("COMMIT").await.is_err());
    reader.pass(&system.connector, &fence).await;
    assert_eq!(system.psql("SELECT count(*) FROM t"), "0");
}
