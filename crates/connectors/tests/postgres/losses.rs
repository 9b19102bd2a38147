//! Connections that are lost, sessions that are killed, commits that fail late.

use crate::proxy::{Loss, Proxy};
use crate::support::*;
use concord_connectors::postgres::{PostgresConnector, open};
use concord_engine::connector::{Connector, Presence, Write};
use concord_engine::error::Code;

const TABLE: &str = "CREATE TABLE t (id int PRIMARY KEY, n int); INSERT INTO t SELECT i, 0 FROM generate_series(1, 10) AS i";

async fn through_proxy(system: &System) -> (Proxy, PostgresConnector) {
    let proxy = Proxy::start(system.database.server.port()).await;
    let mut config = config(&system.database);
    config.port = proxy.port;
    (proxy, open(config).unwrap())
}

fn all(n: i64) -> Vec<concord_engine::connector::Operation> {
    (1..=10).map(|id| update(id, &[("n", int(n))], &[])).collect()
}

#[tokio::test]
async fn a_batch_whose_answers_are_lost_with_that_of_its_commit_is_unknown_and_stands() {
    let system = system(TABLE);
    let (proxy, connector) = through_proxy(&system).await;
    proxy.lose(Loss::AfterCommit);
    // Batch and commit are one round trip: there is no transaction that could be asked after. The feed will tell.
    let outcomes = apply(&connector, "t", all(5)).await;
    assert!(outcomes.iter().all(|outcome| said(outcome) == "unknown"), "{outcomes:?}");
    assert_eq!(system.psql("SELECT sum(n) FROM t"), "50");
}

#[tokio::test]
async fn a_batch_whose_commit_never_reached_the_server_is_unknown_and_can_be_written_when_it_is_known_to_be_undone() {
    let system = system(TABLE);
    let (proxy, connector) = through_proxy(&system).await;
    proxy.lose(Loss::BeforeCommit);
    let outcomes = apply(&connector, "t", all(5)).await;
    assert!(outcomes.iter().all(|outcome| said(outcome) == "unknown"), "{outcomes:?}");
    proxy.lose(Loss::Never);
    let outcomes = apply(&connector, "t", all(5)).await;
    assert!(outcomes.iter().all(|outcome| said(outcome).starts_with("written")), "{outcomes:?}");
    assert_eq!(system.psql("SELECT sum(n) FROM t"), "50");
}

#[tokio::test]
async fn a_commit_that_nobody_can_be_asked_about_is_unknown() {
    let system = system(TABLE);
    let (proxy, connector) = through_proxy(&system).await;
    proxy.lose(Loss::AfterCommitForGood);
    let outcomes = apply(&connector, "t", all(5)).await;
    assert!(outcomes.iter().all(|outcome| said(outcome) == "unknown"), "{outcomes:?}");
    assert_eq!(system.psql("SELECT sum(n) FROM t"), "50");
}

#[tokio::test]
async fn a_session_killed_before_its_commit_writes_nothing_and_the_next_call_connects_again() {
    let system = system(&format!(
        "{TABLE}; CREATE FUNCTION die() RETURNS trigger LANGUAGE plpgsql AS \
         'BEGIN IF NEW.n = 13 THEN PERFORM pg_terminate_backend(pg_backend_pid()); PERFORM pg_sleep(1); END IF; RETURN NEW; END'; \
         CREATE TRIGGER d BEFORE UPDATE ON t FOR EACH ROW EXECUTE FUNCTION die()"
    ));
    let writes = [
        Write { id: 1, operation: update(1, &[("n", int(1))], &[]) },
        Write { id: 2, operation: update(2, &[("n", int(13))], &[]) },
    ];
    let error = system.connector.apply(&selection("t"), &mark(), &writes).await.unwrap_err();
    assert_eq!(error.code, Code::Unreachable);
    assert_eq!(system.psql("SELECT sum(n) FROM t"), "0");
    assert!(said(&system.apply("t", vec![update(1, &[("n", int(1))], &[])]).await[0]).starts_with("written"));
    system.psql("SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE pid <> pg_backend_pid() AND datname = current_database()");
    // The idle session may be found dead only when it is used: that is transient, and the call after it connects.
    for _ in 0..3 {
        if let Ok(read) = system.connector.read(&selection("t"), &[key(1)]).await {
            assert!(matches!(read[0], Presence::Present(_)));
            return;
        }
    }
    panic!("no new session was opened");
}

#[tokio::test]
async fn a_constraint_that_is_checked_at_the_commit_fails_its_record_alone() {
    let system = system(
        "CREATE TABLE p (id int PRIMARY KEY); INSERT INTO p VALUES (1); \
         CREATE TABLE t (id int PRIMARY KEY, p int REFERENCES p DEFERRABLE INITIALLY DEFERRED)",
    );
    let creates = (1..=8).map(|id| create(&[("id", int(id)), ("p", int(if id == 6 { 2 } else { 1 }))], &[])).collect();
    let outcomes = system.apply("t", creates).await;
    for (id, outcome) in (1..).zip(&outcomes) {
        let expected = if id == 6 { "failed CON-3001".to_owned() } else { format!("written {id}: id={id} p=1") };
        assert_eq!(said(outcome), expected);
    }
}

#[tokio::test]
async fn two_batches_in_opposite_orders_do_not_lose_a_record_between_them() {
    let system = system(TABLE);
    for round in 1..=20 {
        let (mut forwards, backwards) = (all(round), all(-round));
        forwards.reverse();
        let (first, second) = tokio::join!(apply(&system.connector, "t", forwards), apply(&system.connector, "t", backwards));
        for outcome in first.iter().chain(&second) {
            assert!(["written", "locked"].iter().any(|word| said(outcome).starts_with(word)), "{outcome:?}");
        }
    }
}

#[tokio::test]
async fn a_write_given_up_in_the_middle_is_behind_no_later_fence() {
    let system = system(&format!(
        "{TABLE}; CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN PERFORM pg_sleep(5); RETURN NEW; END'; \
         CREATE TRIGGER s BEFORE UPDATE ON t FOR EACH ROW EXECUTE FUNCTION slow()"
    ));
    let feed = system.prepare(&["t"]).await;
    let mut reader = system.capture(&feed).await;
    let writes = [Write { id: 1, operation: update(1, &[("n", int(1))], &[]) }];
    let (selection, mark) = (selection("t"), mark());
    let writing = system.connector.apply(&selection, &mark, &writes);
    assert!(tokio::time::timeout(std::time::Duration::from_millis(500), writing).await.is_err());
    let fence = system.connector.fence(&feed.name).await.unwrap();
    reader.pass(&system.connector, &fence).await;
    assert_eq!(system.psql("SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE '%:apply:%' AND datname = current_database() AND state <> 'idle'"), "0");
    assert_eq!(system.psql("SELECT sum(n) FROM t"), "0");
}
