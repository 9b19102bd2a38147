//! Tables bound by foreign keys, mirrored together: no record is seen before the one that it names, whatever happens; what cannot be
//! mirrored so is reconciled, with the reason.

use crate::kindred::{Family, Table, watching};
use crate::server::{Database, Options, Server};
use async_trait::async_trait;
use concord_engine::connector::Connector;
use concord_engine::error::{Code, Error, Result};
use concord_engine::mirror::batch::Step;
use concord_engine::mirror::bulk::Helper;
use concord_engine::mirror::{Mode, Neighbour};
use concord_engine::record::{Key, SyncName};
use concord_engine::rules::Kin;
use concord_engine::runtime::command::{Request, Resolution};
use std::sync::Arc;
use std::time::Duration;

const MADE: &str = "CREATE TABLE p (id int PRIMARY KEY, name text); \
    CREATE TABLE c (id int PRIMARY KEY, p int REFERENCES p ON DELETE CASCADE ON UPDATE CASCADE, note text)";
const FILLED: &str = "INSERT INTO p SELECT n, 'p ' || n FROM generate_series(1, 2000) n; \
    INSERT INTO c SELECT n, 1 + n % 2000, 'c ' || n FROM generate_series(1, 6000) n; ANALYZE p; ANALYZE c";
const P: Table = ("p", &["id", "name"]);
const C: Table = ("c", &["id", "p", "note"]);
/// Those of a child before its parent.
const ORPHANS: &str = "SELECT count(*) FROM c WHERE p IS NOT NULL AND NOT EXISTS (SELECT FROM p WHERE p.id = c.p)";
/// Each new record of `p` takes its time at the target, whatever the session is.
const SLOW: &str = "CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_sleep(0.002); RETURN NEW; END $$; \
    CREATE TRIGGER slow BEFORE INSERT ON p FOR EACH ROW EXECUTE FUNCTION slow(); ALTER TABLE p ENABLE ALWAYS TRIGGER slow";

#[tokio::test]
async fn no_record_is_seen_before_the_one_that_it_names() {
    // The order of the configuration decides nothing.
    let mut family = Family::new(MADE, FILLED, &[C, P]).await;
    let right = family.right.session().await;
    let left = family.left.session().await;
    // A first load, then changes of both tables in one transaction while nobody is away, then those that have piled up.
    let watched = Database { server: Server::shared(), name: family.right.name.clone() };
    watching(&watched, ORPHANS, async {
        family.start().await;
        family.until_equal().await;
        right.batch_execute(SLOW).await.unwrap();
        // It is fired in any session: the sync looks at what has changed, and goes on.
        for round in 0..40 {
            let at = 10_000 + round * 100;
            let sql = format!(
                "BEGIN; INSERT INTO p SELECT n, 'new' FROM generate_series({at}, {at} + 20) n; \
                 INSERT INTO c SELECT n, n, 'new' FROM generate_series({at}, {at} + 20) n; COMMIT; \
                 UPDATE c SET p = {at} WHERE id = {round} + 1"
            );
            left.batch_execute(&sql).await.unwrap();
        }
        family.until_equal().await;
        family.stop().await;
        left.batch_execute(
            "INSERT INTO p SELECT n, 'piled up' FROM generate_series(20001, 20600) n; \
             INSERT INTO c SELECT n, 20001 + n % 600, 'piled up' FROM generate_series(20001, 26000) n",
        )
        .await
        .unwrap();
        family.start().await;
        family.until_equal().await;
    })
    .await;
    family.verify().await;
    assert!(family.reviews().await.is_empty());
}

#[tokio::test]
async fn what_follows_from_a_foreign_key_at_the_source_arrives_and_nothing_more_is_done_at_the_target() {
    let made = "CREATE TABLE p (id int PRIMARY KEY, name text); \
        CREATE TABLE c (id int PRIMARY KEY, p int REFERENCES p ON DELETE CASCADE ON UPDATE CASCADE, note text); \
        CREATE TABLE n (id int PRIMARY KEY, p int REFERENCES p ON DELETE SET NULL ON UPDATE CASCADE)";
    let filled = format!("{FILLED}; INSERT INTO n SELECT n, n FROM generate_series(1, 2000) n");
    let family = Family::new(made, &filled, &[P, C, ("n", &["id", "p"])]).await.started().await;
    family.left.psql("DELETE FROM p WHERE id <= 50; UPDATE p SET id = id + 100000 WHERE id BETWEEN 100 AND 150");
    // A key that moves and is taken by another record at once.
    family.left.psql("BEGIN; UPDATE p SET id = 777777 WHERE id = 200; INSERT INTO p VALUES (200, 'another'); INSERT INTO c VALUES (90000, 200, 'of it'); COMMIT");
    family.until_equal().await;
    for (table, column) in [("c", "p"), ("n", "p")] {
        let orphans = format!("SELECT count(*) FROM {table} WHERE {column} IS NOT NULL AND {column} NOT IN (SELECT id FROM p)");
        assert_eq!(family.right.psql(&orphans), "0");
    }
    assert_eq!(family.right.psql("SELECT count(*) FROM n WHERE p IS NULL"), "50");
    // What somebody does at the target himself is held against the foreign keys as ever.
    let refused = family.right.session().await.batch_execute("INSERT INTO c VALUES (-1, -1, 'x')").await;
    assert!(refused.is_err());
    family.verify().await;
    assert!(family.reviews().await.is_empty());
}

#[tokio::test]
async fn a_table_that_is_emptied_with_those_that_name_it_is_asked_about_as_ever() {
    let mut family = Family::new(MADE, FILLED, &[P, C]).await.started().await;
    family.left.psql("TRUNCATE p CASCADE; INSERT INTO p VALUES (1, 'after'); INSERT INTO c VALUES (1, 1, 'after')");
    family.until("both are asked about", async || family.reviews().await.len() == 2).await;
    for review in family.reviews().await {
        family.ask(Request::Resolve(review.id, Resolution::Retry)).await.unwrap();
    }
    family.until_equal().await;
    assert_eq!(family.right.psql("SELECT count(*) FROM c"), "1");
    family.stop().await;
}

#[tokio::test]
async fn one_that_does_not_go_on_holds_back_those_that_name_its_records_and_they_say_so() {
    let family = Family::new(MADE, FILLED, &[P, C]).await.started().await;
    family.ask(Request::Pause(family.id("p"))).await.unwrap();
    family.left.psql("INSERT INTO p VALUES (5000, 'late'); INSERT INTO c VALUES (7000, 5000, 'later')");
    let says = async |what: &str| family.status("c").waits_for.iter().any(|why| why.contains("`p`") && why.contains(what));
    family.until("it says for whom it waits", async || says("paused").await).await;
    assert_eq!(family.right.psql("SELECT count(*) FROM c WHERE id = 7000"), "0");
    family.ask(Request::Resume(family.id("p"))).await.unwrap();
    family.until_equal().await;
    assert_eq!(family.status("c").waits_for, Vec::<String>::new());
    // The other way round nobody waits.
    family.ask(Request::Pause(family.id("c"))).await.unwrap();
    family.left.psql("INSERT INTO p VALUES (5001, 'at once')");
    family.until("the parent is there", async || family.right.psql("SELECT count(*) FROM p WHERE id = 5001") == "1").await;
}

#[tokio::test]
async fn a_record_that_the_target_refuses_holds_back_those_that_name_its_like_until_it_is_put_right() {
    let family = Family::new(MADE, FILLED, &[P, C]).await.started().await;
    family.right.psql("ALTER TABLE p ADD CONSTRAINT short CHECK (length(name) < 20)");
    family.left.psql("INSERT INTO p VALUES (5000, repeat('x', 30)); INSERT INTO c VALUES (7000, 5000, 'of it')");
    family.until("it waits for a person", async || family.reviews().await.len() == 1).await;
    let says = async || family.status("c").waits_for.iter().any(|why| why.contains("wait for a person"));
    family.until("those that name it wait", says).await;
    assert_eq!(family.right.psql("SELECT count(*) FROM c WHERE id = 7000"), "0");
    // To do without it would leave them without what they name.
    let review = family.reviews().await.remove(0);
    let ignored = family.ask(Request::Resolve(review.id, Resolution::Ignore)).await;
    assert_eq!(ignored.unwrap_err().code, Code::BadResolution);
    family.left.psql("UPDATE p SET name = 'short' WHERE id = 5000");
    family.until_equal().await;
    family.until("nothing waits", async || family.reviews().await.is_empty()).await;
}

#[tokio::test]
async fn a_quiet_table_holds_nobody_back() {
    let family = Family::new(MADE, FILLED, &[P, C]).await.started().await;
    let (left, right) = (family.left.session().await, family.right.session().await);
    let begun = tokio::time::Instant::now();
    for n in 0..20 {
        left.batch_execute(&format!("UPDATE c SET note = 'quick {n}' WHERE id = 1")).await.unwrap();
        let there = format!("SELECT count(*) FROM c WHERE id = 1 AND note = 'quick {n}'");
        while right.query_one(&there, &[]).await.unwrap().get::<_, i64>(0) == 0 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
    // A step of a feed that has nothing to tell lasts 200 ms.
    assert!(begun.elapsed() < Duration::from_secs(4), "20 changes took {:?}", begun.elapsed());
}

#[tokio::test]
async fn records_that_name_others_of_their_own_table_are_mirrored() {
    let made = "CREATE TABLE e (id int PRIMARY KEY, name text, boss int REFERENCES e DEFERRABLE INITIALLY DEFERRED)";
    // Those that are named come last in the order of the key.
    let filled = "INSERT INTO e SELECT n, 'e ' || n, nullif(least(n + 1, 5000), n) FROM generate_series(1, 5000) n; ANALYZE e";
    let mut family = Family::new(made, filled, &[("e", &["id", "name", "boss"])]).await;
    let never = "SELECT count(*) FROM e WHERE boss IS NOT NULL AND NOT EXISTS (SELECT FROM e AS b WHERE b.id = e.boss)";
    let watched = Database { server: Server::shared(), name: family.right.name.clone() };
    let left = family.left.session().await;
    watching(&watched, never, async {
        family.start().await;
        family.until_equal().await;
        family.stop().await;
        left.batch_execute(
            "INSERT INTO e SELECT n, 'new', n - 1 FROM generate_series(5001, 9000) n; UPDATE e SET boss = 9000 WHERE id < 100",
        )
        .await
        .unwrap();
        family.start().await;
        family.until_equal().await;
    })
    .await;
    assert_eq!(family.right.psql("SELECT count(*) FROM concord.lanes"), "0");
    // With their keys, and those that name them.
    family.left.psql("BEGIN; SET CONSTRAINTS ALL DEFERRED; UPDATE e SET id = 100000 WHERE id = 9000; UPDATE e SET boss = 100000 WHERE boss = 9000; COMMIT; \
        DELETE FROM e WHERE id < 50");
    family.until_equal().await;
    assert_eq!(family.right.psql(never), "0");
    family.verify().await;
}

#[tokio::test]
async fn killed_again_and_again_no_record_is_ever_seen_before_the_one_that_it_names() {
    let mut family = Family::new(MADE, FILLED, &[P, C]).await.started().await;
    family.stop().await;
    family.right.psql(SLOW);
    let left = family.left.session().await;
    let watched = Database { server: Server::shared(), name: family.right.name.clone() };
    watching(&watched, ORPHANS, async {
        for round in 0..12_u64 {
            let lanes = [1, 4, 8, 2][usize::try_from(round % 4).unwrap()];
            family.rules.iter_mut().for_each(|rules| rules.parallelism = lanes);
            family.start().await;
            for step in 0..4 {
                let at = 100_000 + round * 10_000 + step * 1_000;
                let sql = format!(
                    "BEGIN; INSERT INTO p SELECT n, 'new' FROM generate_series({at}, {at} + 30) n; \
                     INSERT INTO c SELECT n, {at} + n % 31, 'new' FROM generate_series({at}, {at} + 900) n; COMMIT"
                );
                left.batch_execute(&sql).await.unwrap();
                tokio::time::sleep(Duration::from_millis(round * 23 % 70)).await;
            }
            family.crash().await;
        }
        family.start().await;
        family.until_equal().await;
    })
    .await;
    family.verify().await;
    assert!(family.reviews().await.is_empty());
}

#[tokio::test]
async fn a_run_for_once_brings_them_all_and_ends_without_those_that_cannot_come() {
    let mut family = Family::new(MADE, FILLED, &[C, P]).await;
    let ended = family.run_once().await;
    assert!(ended.iter().all(|sync| sync.level), "{ended:#?}");
    assert_eq!(family.right.psql("SELECT count(*) FROM c"), "6000");
    family.left.psql("INSERT INTO p VALUES (5000, 'late'); INSERT INTO c VALUES (7000, 5000, 'later')");
    family.start().await;
    family.ask(Request::Pause(family.id("p"))).await.unwrap();
    family.stop().await;
    family.left.psql("INSERT INTO p VALUES (5001, 'late'); INSERT INTO c VALUES (7001, 5001, 'later')");
    let ended = family.run_once().await;
    let child = ended.iter().find(|sync| sync.name == "c").unwrap();
    assert!(!child.level && child.stage.contains("`p`") && child.stage.contains("paused"), "{child:#?}");
    assert_eq!(family.right.psql("SELECT count(*) FROM c WHERE id = 7001"), "0");
}

#[tokio::test]
async fn nothing_is_committed_where_what_it_stands_behind_is_not_there() {
    let family = Family::new(MADE, "", &[P, C]).await;
    let target = family.systems().remove(1).1;
    let mirror = target.mirror_target().unwrap();
    let parent = mirror.take_over("parent", &"p".into()).await.unwrap().session;
    parent.keep(b"1", true).await.unwrap();
    let before = parent.standing();
    parent.keep(b"2", false).await.unwrap();
    let child = mirror.take_over("child", &"c".into()).await.unwrap().session;
    let write = async || child.write(&[], b"1", &Nobody).await;
    child.stand_behind(vec![before.clone(), parent.standing()]);
    write().await.unwrap();
    child.require(&[before.clone(), parent.standing()]).await.unwrap();
    // As after a crash that took the last commit.
    let later = parent.standing();
    family.right.psql("UPDATE concord.mirrors SET fence = fence - 1 WHERE sync = 'parent'");
    assert_eq!(write().await.unwrap_err().code, Code::Busy);
    assert_eq!(child.require(&[later]).await.unwrap_err().code, Code::Busy);
    child.stand_behind(vec![before.clone()]);
    write().await.unwrap();
    // Somebody else has taken it over since: nothing is known of it any more.
    mirror.take_over("parent", &"p".into()).await.unwrap();
    assert_eq!(write().await.unwrap_err().code, Code::Busy);
}

/// Nothing is asked of it.
struct Nobody;

#[async_trait]
impl Helper for Nobody {
    async fn whole(&self, _: &[Key]) -> Result<(Vec<Step>, usize)> {
        Ok((Vec::new(), 1))
    }

    async fn refused(&self, _: Vec<(Step, Error)>) -> Result<()> {
        Ok(())
    }
}

/// A target that forgets its last commits gets them again, parents first.
#[tokio::test]
async fn a_target_that_forgets_commits_shows_no_record_without_the_one_that_it_names() {
    let settings =
        vec![("wal_writer_delay".to_owned(), "10s".to_owned()), ("wal_writer_flush_after".to_owned(), "1GB".to_owned())];
    let server = Arc::new(Server::start(&Options { settings, ..Options::default() }));
    let databases = (Server::shared().database(), server.database());
    let mut family = Family::between(databases, (MADE, MADE), FILLED, &[P, C]).await.started().await;
    for round in 0..4 {
        let at = 10_000 + round * 1_000;
        family.left.psql(&format!(
            "INSERT INTO p SELECT n, 'new' FROM generate_series({at}, {at} + 300) n; INSERT INTO c SELECT n, n, 'new' FROM generate_series({at}, {at} + 300) n"
        ));
        let seen = format!("SELECT count(*) > 0 FROM p WHERE id >= {at}");
        family.until("something is carried", async || family.right.psql(&seen) == "t").await;
        server.crash();
        assert_eq!(family.right.psql(ORPHANS), "0");
        family.until_equal().await;
    }
    family.verify().await;
    family.stop().await;
}

#[tokio::test]
async fn a_trigger_that_comes_while_it_runs_is_not_passed_over() {
    let mut family = Family::new(MADE, FILLED, &[P, C]).await.started().await;
    family.right.psql(
        "CREATE TABLE seen (id int); CREATE FUNCTION see() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN INSERT INTO seen VALUES (NEW.id); RETURN NEW; END $$; \
         CREATE TRIGGER see AFTER INSERT ON p FOR EACH ROW EXECUTE FUNCTION see()",
    );
    family.left.psql("INSERT INTO p VALUES (5000, 'new')");
    let stopped = async || family.status("p").stage.starts_with("stopped") && family.status("p").stage.contains("`see`");
    family.until("it stops and says why", stopped).await;
    assert_eq!(family.right.psql("SELECT count(*) FROM p WHERE id = 5000"), "0");
    family.right.psql("ALTER TABLE p ENABLE ALWAYS TRIGGER see");
    family.ask(Request::Resume(family.id("p"))).await.unwrap();
    family.until_equal().await;
    assert_eq!(family.right.psql("SELECT string_agg(id::text, ',') FROM seen"), "5000");
    family.stop().await;
}

#[tokio::test]
async fn a_source_that_keeps_its_foreign_keys_no_longer_stops_those_that_rely_on_it() {
    let family = Family::new(MADE, FILLED, &[P, C]).await.started().await;
    family.left.psql("ALTER TABLE c DROP CONSTRAINT c_p_fkey");
    // It is looked at now and then; what is carried behind such a look is not.
    let touched = async || {
        family.left.psql("UPDATE c SET note = note || '.' WHERE id = 1");
        family.status("c").stage.starts_with("stopped") && family.status("c").stage.contains("foreign keys")
    };
    family.until("it stops", touched).await;
    assert!(family.status("p").stage.starts_with("live"));
    family.left.psql("ALTER TABLE c ADD CONSTRAINT c_p_fkey FOREIGN KEY (p) REFERENCES p ON DELETE CASCADE ON UPDATE CASCADE");
    family.ask(Request::Resume(family.id("c"))).await.unwrap();
    family.until_equal().await;
}

#[tokio::test]
async fn what_cannot_be_mirrored_together_says_why() {
    let both = [P, C];
    let said = async |made: (&str, &str), tables: &[Table], expected: &[&str]| {
        let reasons = Family::of(made, "", tables).await.reasons().await;
        assert_eq!(reasons.len(), expected.len());
        for (reason, expected) in reasons.iter().zip(expected) {
            assert!(reason.contains(expected), "{expected}: {reason}");
        }
    };
    let loose = "CREATE TABLE p (id int PRIMARY KEY, name text); CREATE TABLE c (id int PRIMARY KEY, p int, note text)";
    said((loose, MADE), &both, &["`c` is not mirrored", "nothing at `left` keeps"]).await;
    let unproven = &format!("{loose}; ALTER TABLE c ADD FOREIGN KEY (p) REFERENCES p NOT VALID");
    said((unproven, MADE), &both, &["`c` is not mirrored", "nothing at `left` keeps"]).await;
    let off = &format!("{MADE}; ALTER TABLE c DISABLE TRIGGER ALL");
    said((off, MADE), &both, &["`c` is not mirrored", "nothing at `left` keeps"]).await;
    let another = "CREATE TABLE p (id int PRIMARY KEY, name text); \
        CREATE TABLE c (id int PRIMARY KEY REFERENCES p, p int, note text)";
    said((another, MADE), &both, &["`c` is not mirrored", "nothing at `left` keeps"]).await;
    said((MADE, MADE), &[C], &["nothing carries that one"]).await;
    said((MADE, MADE), &[P], &["nothing carries that one"]).await;
    let fired = &format!(
        "{MADE}; CREATE FUNCTION f() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN NEW; END $$; \
         CREATE TRIGGER mine BEFORE UPDATE ON c FOR EACH ROW EXECUTE FUNCTION f()"
    );
    said((MADE, fired), &both, &["`c` is not mirrored", "`mine`"]).await;
    let circle = "CREATE TABLE p (id int PRIMARY KEY, name text); CREATE TABLE c (id int PRIMARY KEY, p int REFERENCES p, note text); \
        ALTER TABLE p ADD c int REFERENCES c";
    said((circle, circle), &[("p", &["id", "name", "c"]), C], &["back to it", "back to it"]).await;
    let kept = &format!("{MADE}; ALTER TABLE p ADD UNIQUE (name) DEFERRABLE");
    said((MADE, kept), &both, &["DEFERRABLE", "`p` is not mirrored"]).await;
    let unmapped = [P, ("c", &["id", "note"][..])];
    said((MADE, MADE), &unmapped, &["`c` is not mirrored", "nothing at `left` keeps"]).await;
}

/// To be reconciled from now on because of what passes would be for good.
#[tokio::test]
async fn one_that_is_bound_to_what_cannot_be_looked_at_yet_waits_for_it() {
    let family = Family::new(MADE, "", &[C]).await;
    let object = |system: &str| (system.into(), "public.p".into());
    let other = Neighbour {
        id: concord_engine::link::SyncId(77),
        name: "p".into(),
        members: vec![object("left"), object("right")],
        refers_to: Vec::new(),
    };
    let waits = family.chosen(std::slice::from_ref(&other)).await.remove(0).unwrap_err();
    assert!(waits.code == Code::Busy && waits.message.contains("`p`"), "{waits:?}");
    // It carries that from elsewhere.
    let other = Neighbour { members: vec![object("elsewhere"), object("right")], ..other };
    let chosen = family.chosen(&[other]).await.remove(0).unwrap();
    assert!(matches!(chosen.mode, Mode::Reconcile(Some(_))), "{chosen:?}");
}

#[tokio::test]
async fn who_may_not_leave_foreign_keys_to_the_source_is_told_what_to_grant() {
    let family = Family::new(MADE, "", &[P, C]).await;
    let server = Server::shared();
    let role = format!("limited_{}", family.right.name);
    server.psql(&format!("CREATE ROLE {role} LOGIN"));
    family.right.psql(&format!(
        "GRANT ALL ON ALL TABLES IN SCHEMA public TO {role}; GRANT CREATE ON DATABASE {} TO {role}",
        family.right.name
    ));
    let mut config = concord_connectors::postgres::Config::new("127.0.0.1", family.right.name.clone(), role.as_str());
    config.port = server.port();
    config.installation = "limited".into();
    let target = concord_connectors::postgres::open(config).unwrap();
    let target: &dyn Connector = &target;
    let why = async || target.mirror_target().unwrap().bonds(&"c".into()).await.unwrap().hindrance;
    let said = why().await.unwrap();
    let version: u32 = server.psql("SHOW server_version_num").parse().unwrap();
    if version < 150_000 {
        assert!(said.contains("superuser"), "{said}");
        return;
    }
    let grant = format!("GRANT SET ON PARAMETER session_replication_role TO \"{role}\";");
    assert!(said.contains(&grant), "{said}");
    server.psql(&grant);
    assert_eq!(why().await, None);
    // And it is enough to write so.
    let session = target.mirror_target().unwrap().take_over("one", &"c".into()).await.unwrap().session;
    let keys = target.mirror_target().unwrap().bonds(&"c".into()).await.unwrap().keys;
    session.leave_foreign_keys(&keys).await.unwrap();
    session.write(&[], b"1", &Nobody).await.unwrap();
}

#[tokio::test]
async fn who_stays_behind_whom_follows_from_the_foreign_keys() {
    let made = "CREATE TABLE a (id int PRIMARY KEY); CREATE TABLE b (id int PRIMARY KEY, a int REFERENCES a); \
        CREATE TABLE d (id int PRIMARY KEY, a int REFERENCES a, b int REFERENCES b, d int REFERENCES d); CREATE TABLE z (id int PRIMARY KEY)";
    let tables: [Table; 4] = [("d", &["id", "a", "b", "d"]), ("b", &["id", "a"]), ("z", &["id"]), ("a", &["id"])];
    let choices = Family::new(made, "", &tables).await.choices().await;
    assert!(choices.iter().all(|choice| choice.mode == Mode::Mirror));
    let names = |all: &[SyncName]| all.iter().map(|name| name.as_str().to_owned()).collect::<Vec<_>>();
    let bonds = |kin: &Kin| (names(&kin.behind), names(&kin.ahead_of));
    let [d, b, z, a] = choices.as_slice() else { panic!() };
    let words = |all: &[&str]| all.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
    assert_eq!(bonds(&d.kin), (words(&["b", "a"]), words(&[])));
    assert_eq!(bonds(&b.kin), (words(&["a"]), words(&["d"])));
    assert_eq!(bonds(&a.kin), (words(&[]), words(&["b", "d"])));
    assert!(z.kin.is_alone() && d.kin.names_its_own(&"public.d".into()));
}
