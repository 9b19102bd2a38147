//! The real engine on real connectors, without the binary around it: the shortest way to see a sync run.

use concord_connectors::sqlite::{self, SqliteSettings};
use concord_engine::clock::SystemClock;
use concord_engine::connector::Connector;
use concord_engine::link::SyncId;
use concord_engine::map::Mapping;
use concord_engine::record::{FieldName, SystemName};
use concord_engine::rules::*;
use concord_engine::runtime::{Approvals, Options, Setup, engine};
use concord_engine::schema::Selection;
use concord_engine::store::Store;
use concord_engine::store::sqlite::{SqliteStore, StoreOptions};
use concord_engine::transform::MatchNormaliser;
use rusqlite::Connection;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

fn database(path: &Path, rows: &[(i64, &str, &str)]) -> Connection {
    let connection = Connection::open(path).unwrap();
    connection
        .execute_batch("PRAGMA journal_mode = WAL; CREATE TABLE accounts (id INTEGER PRIMARY KEY, email TEXT UNIQUE, name TEXT);")
        .unwrap();
    for (id, email, name) in rows {
        connection.execute("INSERT INTO accounts VALUES (?1, ?2, ?3)", (id, email, name)).unwrap();
    }
    connection.busy_timeout(Duration::from_secs(5)).unwrap();
    connection
}

fn contents(connection: &Connection) -> Vec<(String, String)> {
    let mut statement = connection.prepare("SELECT email, name FROM accounts ORDER BY email").unwrap();
    let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?))).unwrap();
    rows.map(Result::unwrap).collect()
}

async fn rules(systems: &[(SystemName, Arc<dyn Connector>)]) -> SyncRules {
    let mut members = Vec::new();
    for (system, connector) in systems {
        let schema = connector.schema(&"accounts".into()).await.unwrap();
        members.push(MemberRules {
            system: system.clone(),
            object: schema.object.clone(),
            role: None,
            selection: Selection { object: schema.object.clone(), fields: vec!["email".into(), "name".into()] },
            schema,
            outward: true,
            inward: true,
            edit_time_field: None,
            soft_delete_field: None,
        });
    }
    let field = |index: usize, name: &str| FieldRules {
        name: name.to_owned(),
        group: index,
        owner: None,
        members: members
            .iter()
            .map(|member| {
                let field = member.schema.field(name).unwrap();
                Some(MemberField {
                    name: FieldName::from(name),
                    ty: field.ty.clone(),
                    native_type: field.native_type.clone(),
                    mapping: Mapping::identity(),
                    outward: true,
                    inward: true,
                    creatable: true,
                    updatable: true,
                    write_back: false,
                    lossy: false,
                })
            })
            .collect(),
    };
    let fields = vec![field(0, "email"), field(1, "name")];
    let group =
        |index: usize, name: &str| GroupRules { name: name.to_owned(), fields: vec![index], policy: Policy::LastWriteWins };
    SyncRules {
        id: SyncId(1),
        name: "accounts".into(),
        groups: vec![group(0, "email"), group(1, "name")],
        fields,
        members,
        layout: 1,
        match_on: vec![MatchRule { field: 0, normaliser: MatchNormaliser::default() }],
        validation: Vec::new(),
        deletes: DeleteRules { on_delete: OnDelete::Propagate, against_edit: DeleteAgainstEdit::Manual },
        initial: InitialRules { strategy: InitialStrategy::FullLoad, authority: Authority::Member(0) },
        loops: LoopRules { enabled: true, window: Duration::from_secs(60), max: 5 },
        guard: GuardRules { max_deletes: 1_000, max_deletes_percent: 50.0, window: Duration::from_secs(60) },
        retry: RetryRules {
            max_attempts: 5,
            initial_delay: Duration::from_secs(1),
            backoff_factor: 2.0,
            max_delay: Duration::from_secs(300),
        },
        fallback: Fallback::Review,
        target_edits: TargetEdits::Overwrite,
        batch_size: 500,
        parallelism: 4,
        estimate_wait: Duration::from_secs(2),
        tombstones: Duration::from_secs(30 * 86_400),
    }
}

async fn wait_until(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = tokio::time::Instant::now() + Duration::from_secs(10);
    while !holds() {
        assert!(tokio::time::Instant::now() < deadline, "waited too long for: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn two_files_are_matched_loaded_and_kept_equal_both_ways() {
    let folder = tempfile::tempdir().unwrap();
    let (left_path, right_path) = (folder.path().join("left.db"), folder.path().join("right.db"));
    let left = database(&left_path, &[(1, "ann@x.org", "Ann"), (2, "bob@x.org", "Bob")]);
    let right = database(&right_path, &[(7, "bob@x.org", "Robert"), (8, "cyd@x.org", "Cyd")]);
    let open = |path: &Path| -> Arc<dyn Connector> { Arc::new(sqlite::open(SqliteSettings::new(path)).unwrap()) };
    let systems = vec![(SystemName::from("left"), open(&left_path)), (SystemName::from("right"), open(&right_path))];
    let store: Arc<dyn Store> = Arc::new(SqliteStore::open(&folder.path().join("store"), &StoreOptions::default()).unwrap());
    let sync_rules = rules(&systems).await;
    let setup = Setup {
        syncs: vec![sync_rules],
        systems,
        store,
        clock: Arc::new(SystemClock),
        options: Options::default(),
        approvals: Approvals::All,
    };
    let (_handle, engine) = engine(setup);
    let stop = CancellationToken::new();
    let stopper = stop.clone();
    let mut running = tokio::task::JoinSet::new();
    running.spawn(async move { engine.run(stopper).await });

    let loaded = || contents(&left) == contents(&right) && contents(&left).len() == 3 && contents(&left)[1].1 == "Bob";
    wait_until("the first load", loaded).await;

    left.execute("UPDATE accounts SET name = 'Anna' WHERE id = 1", []).unwrap();
    wait_until("an edit to the right", || contents(&right)[0].1 == "Anna").await;
    right.execute("UPDATE accounts SET name = 'Cydney' WHERE id = 8", []).unwrap();
    wait_until("an edit to the left", || contents(&left)[2].1 == "Cydney").await;
    right.execute("DELETE FROM accounts WHERE id = 7", []).unwrap();
    wait_until("a delete to the left", || contents(&left).len() == 2).await;
    left.execute("INSERT INTO accounts (email, name) VALUES ('dee@x.org', 'Dee')", []).unwrap();
    wait_until("an insert to the right", || contents(&right).len() == 3).await;
    assert_eq!(contents(&left), contents(&right));

    stop.cancel();
    running.join_next().await.unwrap().unwrap().unwrap();
}
