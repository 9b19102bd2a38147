//! What `check` finds, and that each remedy is a statement that really helps.

use crate::server::{Options, Server};
use crate::support::*;
use concord_connectors::postgres::{Config, open};
use concord_engine::connector::{Connector, Finding, Involved, Severity, Writes};
use concord_engine::error::Code;
use std::sync::Arc;

fn problems(findings: &[Finding]) -> Vec<&Finding> {
    findings.iter().filter(|finding| finding.severity == Severity::Problem).collect()
}

#[tokio::test]
async fn every_problem_is_named_with_a_statement_that_solves_it() {
    let system = system(
        "CREATE TABLE keyless (a int NOT NULL UNIQUE); CREATE TABLE nothing (a int PRIMARY KEY); ALTER TABLE nothing REPLICA IDENTITY NOTHING; \
         CREATE UNLOGGED TABLE unlogged (a int PRIMARY KEY); CREATE TABLE hidden (a int PRIMARY KEY, p point); \
         ALTER TABLE hidden ENABLE ROW LEVEL SECURITY; CREATE TABLE fine (a int PRIMARY KEY)",
    );
    let name = format!("weak_{}", system.database.name);
    system.psql(&format!("CREATE ROLE {name} LOGIN"));
    let mut config: Config = config(&system.database);
    config.username = name.clone();
    let weak = open(config.clone()).unwrap();
    let objects: Vec<_> = ["keyless", "nothing", "unlogged", "hidden", "fine"].map(Into::into).to_vec();
    let before = weak.check(&objects).await.unwrap();
    let found: Vec<&Finding> = before.iter().filter(|finding| finding.severity >= Severity::Warning).collect();
    let expect = |about: &str, code: Code| {
        assert!(
            found.iter().any(|finding| finding.about.contains(about) && finding.code == Some(code)),
            "{about} {code}: {found:#?}"
        );
    };
    expect("role", Code::PrivilegeMissing);
    expect("keyless", Code::KeyMissing);
    expect("nothing", Code::SettingWrong);
    expect("unlogged", Code::SettingWrong);
    expect("hidden", Code::PrivilegeMissing);
    expect("fine", Code::PrivilegeMissing);
    expect("publication", Code::PrivilegeMissing);
    assert!(before.iter().any(|finding| finding.about == "hidden.p" && finding.severity == Severity::Advice));
    for finding in before.iter().filter(|finding| finding.severity >= Severity::Warning) {
        system.psql(&finding.remedy);
    }
    let after = open(config).unwrap().check(&objects).await.unwrap();
    assert!(problems(&after).is_empty(), "{:#?}", problems(&after));
    open_and_prepare(&system, &name, &objects).await;
    system.psql(&format!("DROP OWNED BY {name} CASCADE"));
}

async fn open_and_prepare(system: &System, role: &str, objects: &[concord_engine::record::ObjectName]) {
    let mut config = config(&system.database);
    config.username = role.to_owned();
    let connector = open(config).unwrap();
    let names: Vec<&str> = objects.iter().map(|object| object.as_str()).collect();
    prepare(&connector, &names, &[]).await;
    connector.release(objects).await.unwrap();
}

#[tokio::test]
async fn a_wrong_password_an_absent_database_and_an_absent_server_are_told_apart() {
    let system = system("CREATE TABLE t (a int PRIMARY KEY)");
    let code = async |change: &dyn Fn(&mut Config)| {
        let mut config = config(&system.database);
        change(&mut config);
        let findings = open(config).unwrap().check(&[]).await.unwrap();
        (findings.len(), findings[0].code, findings[0].severity)
    };
    assert_eq!(code(&|config| config.database = "absent".into()).await, (1, Some(Code::ObjectMissing), Severity::Problem));
    assert_eq!(code(&|config| config.username = "nobody".into()).await, (1, Some(Code::AuthenticationFailed), Severity::Problem));
    assert_eq!(code(&|config| config.port = 1).await, (1, Some(Code::Unreachable), Severity::Problem));
}

#[tokio::test]
async fn a_server_whose_log_is_not_logical_is_a_problem_and_is_refused() {
    let settings = vec![("wal_level".to_owned(), "replica".to_owned())];
    let server = Arc::new(Server::start(&Options { settings, ..Options::default() }));
    let system = system_on(&server, "CREATE TABLE t (a int PRIMARY KEY)");
    let findings = system.connector.check(&["t".into()]).await.unwrap();
    let found = problems(&findings);
    assert!(found.iter().any(|finding| finding.about == "wal_level" && finding.remedy.contains("ALTER SYSTEM")), "{found:#?}");
    let error = system.connector.prepare(&[selection("t")], &[]).await.unwrap_err();
    assert_eq!(error.code, Code::SettingWrong);
}

#[tokio::test]
async fn without_leave_to_change_the_publication_the_statement_is_named_and_then_suffices() {
    let system = system("CREATE TABLE t (a int PRIMARY KEY)");
    let mut config = config(&system.database);
    config.allow_ddl = false;
    let connector = open(config).unwrap();
    let error = connector.prepare(&[selection("t")], &[]).await.unwrap_err();
    assert_eq!(error.code, Code::PrivilegeMissing);
    let findings = connector.check(&["t".into()]).await.unwrap();
    let remedy = &problems(&findings)[0].remedy;
    assert!(error.message.contains(remedy.trim_end_matches(';')), "{error}");
    system.psql(remedy);
    assert!(problems(&connector.check(&["t".into()]).await.unwrap()).is_empty());
    prepare(&connector, &["t"], &[]).await;
}

#[tokio::test]
async fn what_no_log_tells_of_partitions_is_said_before_it_matters() {
    let system = system(
        "CREATE TABLE parts (id int PRIMARY KEY) PARTITION BY RANGE (id); CREATE TABLE first PARTITION OF parts FOR VALUES FROM (0) TO (9); \
         CREATE TABLE whole (id int PRIMARY KEY)",
    );
    let found = system.connector.check(&["parts".into(), "whole".into()]).await.unwrap();
    let told =
        |about: &str| found.iter().filter(|finding| finding.about == about && finding.message.contains("partition")).count();
    assert_eq!((told("parts"), told("whole")), (1, 0), "{found:#?}");
    assert!(found.iter().all(|finding| finding.severity != Severity::Problem), "{found:#?}");
}

/// What is missing to write is looked at where something is written, and named by the very statement that suffices; by the error
/// of a write that was tried without it as well.
#[tokio::test]
async fn what_writing_lacks_is_a_problem_where_the_sync_writes_and_nothing_elsewhere() {
    let system = system("CREATE TABLE t (id serial PRIMARY KEY, name text); INSERT INTO t (name) VALUES ('a'), ('b')");
    let name = format!("reader_{}", system.database.name);
    system
        .psql(&format!("CREATE ROLE {name} LOGIN REPLICATION; GRANT SELECT ON t TO {name}; GRANT UPDATE (name) ON t TO {name}"));
    let mut config: Config = config(&system.database);
    config.username = name.clone();
    let connector = open(config).unwrap();
    let looked = async |writes: Writes| {
        let found = connector.check_writes(&[Involved { object: "t".into(), writes }]).await.unwrap();
        found.into_iter().map(|finding| (finding.severity, finding.remedy)).collect::<Vec<_>>()
    };
    let (problem, warning) = (Severity::Problem, Severity::Warning);
    let all = Writes { creates: true, updates: true, deletes: true };
    let (insert, update) = ("GRANT INSERT, DELETE ON", "GRANT UPDATE ON");
    let on = format!("\"public\".\"t\" TO \"{name}\";");
    let draw = format!("GRANT USAGE ON SEQUENCE public.t_id_seq TO \"{name}\";");
    assert_eq!(looked(Writes::default()).await, []);
    assert_eq!(looked(Writes { updates: true, ..Writes::default() }).await, [(warning, format!("{update} {on}"))]);
    let wanted = [(problem, format!("{insert} {on}")), (warning, format!("{update} {on}")), (warning, draw.clone())];
    assert_eq!(looked(all).await, wanted);
    let reading = connector.check(&["t".into()]).await.unwrap();
    assert!(reading.iter().all(|finding| finding.about != "t" || finding.code != Some(Code::PrivilegeMissing)), "{reading:#?}");

    // One after the other, as the errors of the writes themselves name them.
    let refused = async |operation| {
        let write = concord_engine::connector::Write { id: 1, operation };
        connector.apply(&selection("t"), &mark(), &[write]).await.unwrap_err()
    };
    let error = refused(delete(1, &[])).await;
    assert_eq!(error.code, Code::PrivilegeMissing);
    assert!(error.message.contains(&format!("run: GRANT DELETE ON {on}")), "{error}");
    let error = refused(create(&[("name", text("c"))], &[])).await;
    assert!(error.message.contains(&format!("run: GRANT INSERT ON {on} {draw}")), "{error}");
    for (_, statement) in wanted {
        system.psql(&statement);
    }
    assert_eq!(looked(all).await, []);
    let outcomes = apply(&connector, "t", vec![create(&[("name", text("c"))], &[]), delete(1, &[])]).await;
    assert_eq!(all_said(&outcomes), ["written 3: id=3 name=c", "written 1"]);
    system.psql(&format!("DROP OWNED BY {name} CASCADE"));
}
