//! What waits for a person: records that are refused, and deletes of many records.

use super::World;
use crate::support::Target;
use concord_engine::error::Code;
use concord_engine::review::Subject;
use concord_engine::runtime::command::{Request, Resolution};
use concord_engine::validate::{OnError, Rule, RuleSpec};

const TABLE: &str = "CREATE TABLE t (id int PRIMARY KEY, name text, amount int)";
const FILLED: &str = "INSERT INTO t SELECT n, 'name ' || n, n FROM generate_series(1, 200) n";
const FIELDS: &[&str] = &["id", "name", "amount"];

#[tokio::test]
async fn what_the_target_refuses_waits_and_everything_else_flows() {
    let right = "CREATE TABLE t (id int PRIMARY KEY, name text, amount int CHECK (amount < 1000))";
    let world = World::of(TABLE, right, FILLED, FIELDS).await.started().await;
    world.left.psql("INSERT INTO t SELECT n, 'more', CASE WHEN n = 250 THEN 5000 ELSE 1 END FROM generate_series(201, 300) n");
    let review = world.until_review().await;
    assert_eq!(review.code, "CON-3001");
    world.until("all others are there", async || world.right.psql("SELECT count(*) FROM t") == "299").await;
    // A change of a part of it, which cannot be carried by itself.
    world.left.psql("UPDATE t SET name = 'still too much' WHERE id = 250");
    let refused = world.decide(&review, Resolution::Retry).await.unwrap_err();
    assert_eq!(refused.code, Code::TargetRejected);
    assert_eq!(world.reviews().await.len(), 1);
    world.left.psql("UPDATE t SET amount = 5 WHERE id = 250");
    world.until_equal().await;
    world.until("nothing waits any more", async || world.reviews().await.is_empty()).await;
}

#[tokio::test]
async fn a_record_that_takes_another_key_and_is_refused_does_not_stay_under_its_old_one() {
    let right = "CREATE TABLE t (id int PRIMARY KEY, name text, amount int CHECK (amount < 1000))";
    let world = World::of(TABLE, right, FILLED, FIELDS).await.started().await;
    world.left.psql("UPDATE t SET id = 1000, amount = 5000 WHERE id = 7");
    world.until_review().await;
    let keys = "SELECT count(*) FILTER (WHERE id = 7), count(*) FILTER (WHERE id = 1000) FROM t";
    world.until("it is known by its new key", async || world.right.psql(keys) == "0|1").await;
    world.left.psql("UPDATE t SET amount = 6 WHERE id = 1000");
    world.until_equal().await;
    world.until("nothing waits any more", async || world.reviews().await.is_empty()).await;
}

#[tokio::test]
async fn a_part_of_a_record_that_is_carried_does_not_end_what_waits_of_the_rest() {
    let right = "CREATE TABLE t (id int PRIMARY KEY, name text CHECK (length(name) < 3000), amount int)";
    let world = World::of(TABLE, right, FILLED, FIELDS).await.started().await;
    // Too large to be told again by the log where it stays as it is.
    world.left.psql("ALTER TABLE t ALTER name SET STORAGE EXTERNAL; UPDATE t SET name = repeat('x', 10000) WHERE id = 7");
    world.until_review().await;
    world.left.psql("UPDATE t SET amount = 12345 WHERE id = 7");
    let amount = async || world.right.psql("SELECT amount FROM t WHERE id = 7") == "12345";
    world.until("the part is there", amount).await;
    world.left.psql("INSERT INTO t VALUES (9999, 'behind it', 1)");
    world.until("what comes behind is there", async || world.right.psql("SELECT count(*) FROM t WHERE id = 9999") == "1").await;
    assert_eq!(world.reviews().await.len(), 1, "the name still waits");
    world.left.psql("UPDATE t SET name = 'short' WHERE id = 7");
    world.until_equal().await;
    world.until("nothing waits any more", async || world.reviews().await.is_empty()).await;
}

#[tokio::test]
async fn a_refused_record_is_found_in_a_load_too_and_is_carried_when_a_person_says_so() {
    let right = "CREATE TABLE t (id int PRIMARY KEY, name text, amount int CHECK (amount < 100))";
    let mut world = World::of(TABLE, right, FILLED, FIELDS).await;
    world.start().await;
    world.until("those that fit are there", async || world.right.psql("SELECT count(*) FROM t") == "99").await;
    world.until("the others wait", async || world.reviews().await.len() == 100).await;
    world.until("nothing is under way any more", async || world.status().level).await;
    world.right.lift("t", "t_amount_check", TABLE);
    for review in world.reviews().await {
        world.decide(&review, Resolution::Retry).await.unwrap();
    }
    // The hundred-and-first was beyond what the list shows.
    world.until("one is left", async || world.reviews().await.len() <= 1).await;
    for review in world.reviews().await {
        world.decide(&review, Resolution::Retry).await.unwrap();
    }
    world.until_equal().await;
}

#[tokio::test]
async fn a_record_that_was_refused_in_a_load_is_carried_by_its_next_change() {
    let right = "CREATE TABLE t (id int PRIMARY KEY, name text, amount int CHECK (amount < 200))";
    let mut world = World::of(TABLE, right, FILLED, FIELDS).await;
    world.start().await;
    world.until_review().await;
    world.until("nothing is under way any more", async || world.status().level).await;
    world.left.psql("UPDATE t SET amount = 5 WHERE id = 200");
    world.until_equal().await;
    world.until("nothing waits any more", async || world.reviews().await.is_empty()).await;
}

#[tokio::test]
async fn what_a_rule_refuses_waits_until_the_source_puts_it_right() {
    let mut world = World::new(TABLE, FILLED, FIELDS).await;
    let spec = RuleSpec {
        field: "name".into(),
        rule: "length".into(),
        on_error: OnError::RejectRecord,
        arguments: serde_json::json!({ "max": 20 }),
    };
    world.rules.validation = vec![Rule::compile(&spec, None).unwrap()];
    let world = world.started().await;
    world.left.psql("UPDATE t SET name = repeat('long', 10) WHERE id = 1; UPDATE t SET name = 'short' WHERE id = 2");
    assert_eq!(world.until_review().await.code, "CON-3010");
    world.until("the other is there", async || world.right.psql("SELECT name FROM t WHERE id = 2") == "short").await;
    assert_eq!(world.right.psql("SELECT name FROM t WHERE id = 1"), "name 1");
    let found = world.verify().await;
    assert_eq!((found.in_review, found.is_equal()), (1, true));
    world.left.psql("UPDATE t SET name = 'short again' WHERE id = 1");
    world.until_equal().await;
    world.until("nothing waits any more", async || world.reviews().await.is_empty()).await;
}

#[tokio::test]
async fn a_delete_of_most_records_waits_and_is_let_through_or_dropped() {
    for let_through in [true, false] {
        let mut world = World::new(TABLE, FILLED, FIELDS).await.started().await;
        world.left.psql(
            "UPDATE t SET name = 'before' WHERE id = 200; DELETE FROM t WHERE id <= 150; INSERT INTO t VALUES (300, 'behind', 0)",
        );
        let review = world.until_review().await;
        assert_eq!(review.code, "CON-3017");
        world.until_stage("stopped: CON-3017").await;
        world
            .until("what came before is there", async || world.right.psql("SELECT name FROM t WHERE id = 200") == "before")
            .await;
        assert!(world.right.psql("SELECT count(*) FROM t").parse::<u32>().unwrap() > 90);
        // A start does not forget the question, nor ask it twice.
        world.stop().await;
        world.start().await;
        world.until_stage("stopped: CON-3017").await;
        assert_eq!(world.reviews().await.len(), 1);
        assert!(world.ask(Request::Resume(world.rules.id)).await.is_err());
        let resolution = if let_through { Resolution::Retry } else { Resolution::Ignore };
        world.decide(&review, resolution).await.unwrap();
        world
            .until("what came behind is there", async || world.right.psql("SELECT name FROM t WHERE id = 300") == "behind")
            .await;
        if let_through {
            world.until_equal().await;
        } else {
            world.until("it is level", async || world.status().level).await;
            assert!(world.right.psql("SELECT count(*) FROM t WHERE id <= 150").parse::<u32>().unwrap() > 40);
        }
        assert!(world.reviews().await.is_empty());
    }
}

#[tokio::test]
async fn a_share_of_the_records_is_one_of_those_that_there_are_by_now() {
    let filled = "INSERT INTO t SELECT n, 'name ' || n, n FROM generate_series(1, 40) n";
    let world = World::new(TABLE, filled, FIELDS).await.started().await;
    world.left.psql("INSERT INTO t SELECT n, 'later', n FROM generate_series(41, 400) n");
    world.until_equal().await;
    world.until("they are counted", async || world.status().links == 400).await;
    world.left.psql("DELETE FROM t WHERE id <= 30");
    world.until_equal().await;
    assert!(world.reviews().await.is_empty());
    world.until("they are not counted any more", async || world.status().links == 370).await;
    // With those before, more than half of the four hundred.
    world.left.psql("DELETE FROM t WHERE id <= 210");
    assert_eq!(world.until_review().await.code, "CON-3017");
    world.until_stage("stopped: CON-3017").await;
    assert!(world.right.psql("SELECT count(*) FROM t").parse::<u32>().unwrap() >= 200);
}

#[tokio::test]
async fn once_many_deletes_were_let_through_the_next_one_is_not_asked_about() {
    let world = World::new(TABLE, FILLED, FIELDS).await.with(|rules| rules.guard.max_deletes = 20).started().await;
    let mut there = 200;
    for range in ["id <= 50", "id BETWEEN 61 AND 110"] {
        world.left.psql(&format!("DELETE FROM t WHERE {range}"));
        let review = world.until_review().await;
        world.until_stage("stopped: CON-3017").await;
        // Deletes that were made in one go are held back together.
        assert_eq!(world.right.psql("SELECT count(*) FROM t"), there.to_string(), "{}", review.message);
        there -= 51;
        world.decide(&review, Resolution::Retry).await.unwrap();
        world.until_equal().await;
        // Far fewer than the guard allows.
        world.left.psql("DELETE FROM t WHERE id IN (SELECT min(id) FROM t)");
        world.until_equal().await;
        assert!(world.reviews().await.is_empty());
    }
}

#[tokio::test]
async fn a_truncation_waits_for_a_person() {
    let world = World::new(TABLE, FILLED, FIELDS).await.started().await;
    world.right.psql("INSERT INTO t VALUES (999, 'own', 1)");
    world.left.psql("TRUNCATE t; INSERT INTO t VALUES (1, 'anew', 1)");
    let review = world.until_review().await;
    // What goes is not only what came from the source.
    assert!(review.message.contains("all 201 records of right "), "{review:?}");
    assert!(matches!(review.subject, Subject::MassChange { member: 0, deletes: 201 }), "{review:?}");
    world.until_stage("stopped: CON-3017").await;
    assert_eq!(world.right.psql("SELECT count(*) FROM t"), "201");
    world.decide(&review, Resolution::Retry).await.unwrap();
    world.until_equal().await;
}

#[tokio::test]
async fn an_answer_about_deletes_says_nothing_of_what_came_behind_the_question() {
    let stories = [
        ("TRUNCATE t", "(TRUNCATE)", Resolution::Retry, "179"),
        ("DELETE FROM t WHERE id BETWEEN 101 AND 140", "went away within", Resolution::Retry, "179"),
        ("DELETE FROM t WHERE id BETWEEN 101 AND 140", "went away within", Resolution::Ignore, "200"),
    ];
    for (behind, named, resolution, left) in stories {
        let world = World::new(TABLE, FILLED, FIELDS).await.with(|rules| rules.guard.max_deletes = 20).started().await;
        world.left.psql("DELETE FROM t WHERE id <= 21");
        let first = world.until_review().await;
        world.until_stage("stopped: CON-3017").await;
        world.left.psql(behind);
        world.decide(&first, resolution).await.unwrap();
        world.until("it is asked about by itself", async || !world.reviews().await.is_empty()).await;
        let second = world.reviews().await.remove(0);
        assert!(second.id != first.id && second.message.contains(named), "{second:?}");
        assert_eq!(world.right.psql("SELECT count(*) FROM t"), left, "{behind}");
        world.until_stage("stopped: CON-3017").await;
        world.decide(&second, Resolution::Ignore).await.unwrap();
        world.left.psql("INSERT INTO t VALUES (300, 'behind it all', 0)");
        let is_there = async || world.right.psql("SELECT count(*) FROM t WHERE id = 300") == "1";
        world.until("what came behind it all is there", is_there).await;
        assert_eq!(world.right.psql("SELECT count(*) FROM t WHERE id < 300"), left, "{behind}");
        assert!(world.reviews().await.is_empty());
    }
}

#[tokio::test]
async fn a_lost_slot_is_a_gap_that_a_person_accepts_by_reading_again() {
    let mut world = World::new(TABLE, FILLED, FIELDS).await.started().await;
    let feed = world.statuses().feeds[0].feed.clone();
    world.stop().await;
    world.lose_slot(&feed).await;
    world.left.psql("UPDATE t SET name = 'missed' WHERE id < 50");
    world.start().await;
    world.until_stage("stopped: CON-2008").await;
    assert!(world.ask(Request::Resume(world.rules.id)).await.is_err());
    world.ask(Request::Reread(world.rules.id)).await.unwrap();
    world.until_equal().await;
    assert!(world.verify().await.is_equal());
}

#[tokio::test]
async fn what_is_fine_once_everything_is_read_again_waits_no_longer() {
    let right = "CREATE TABLE t (id int PRIMARY KEY, name text, amount int CHECK (amount < 1000))";
    let mut world = World::of(TABLE, right, FILLED, FIELDS).await.started().await;
    world.left.psql("UPDATE t SET amount = 5000 WHERE id IN (7, 8)");
    world.until("both wait", async || world.reviews().await.len() == 2).await;
    let feed = world.statuses().feeds[0].feed.clone();
    world.stop().await;
    world.lose_slot(&feed).await;
    world.left.psql("UPDATE t SET amount = 6 WHERE id = 7");
    world.start().await;
    world.until_stage("stopped: CON-2008").await;
    world.ask(Request::Reread(world.rules.id)).await.unwrap();
    world.until("it is carried", async || world.right.psql("SELECT amount FROM t WHERE id = 7") == "6").await;
    world.until("it is level", async || world.status().level).await;
    let waiting: Vec<String> = world.reviews().await.into_iter().map(|review| format!("{:?}", review.subject)).collect();
    assert!(waiting.len() == 1 && waiting[0].contains("Int(8)"), "{waiting:?}");
}

#[tokio::test]
async fn a_question_about_deletes_ends_with_the_feed_that_it_was_asked_of() {
    let world = World::new(TABLE, FILLED, FIELDS).await.started().await;
    world.left.psql("DELETE FROM t WHERE id <= 150");
    let first = world.until_review().await;
    world.until_stage("stopped: CON-3017").await;
    world.ask(Request::Reread(world.rules.id)).await.unwrap();
    let other = async || world.reviews().await.iter().any(|review| review.id != first.id);
    world.until("it is asked of what only the target has", other).await;
    let reviews = world.reviews().await;
    assert!(reviews.len() == 1 && matches!(reviews[0].subject, Subject::MassChange { member: 1, .. }), "{reviews:?}");
    world.until_stage("live").await;
    world.decide(&reviews[0], Resolution::Retry).await.unwrap();
    world.until_equal().await;
}

#[tokio::test]
async fn a_target_that_forgot_the_sync_is_a_gap() {
    let mut world = World::new(TABLE, FILLED, FIELDS).await.started().await;
    world.stop().await;
    world.right.forget_us();
    world.start().await;
    world.until_stage("stopped: CON-2008").await;
    world.ask(Request::Reread(world.rules.id)).await.unwrap();
    world.until_equal().await;
}

#[tokio::test]
async fn records_that_went_while_nobody_read_are_removed_only_when_a_person_says_so() {
    let mut world = World::new(TABLE, FILLED, FIELDS).await.started().await;
    let feed = world.statuses().feeds[0].feed.clone();
    world.stop().await;
    world.lose_slot(&feed).await;
    world.left.psql("DELETE FROM t WHERE id <= 7");
    world.start().await;
    world.until_stage("stopped: CON-2008").await;
    world.ask(Request::Reread(world.rules.id)).await.unwrap();
    let review = world.until_review().await;
    assert!(review.message.starts_with("7 records"), "{review:?}");
    world.until_stage("live").await;
    assert_eq!(world.right.psql("SELECT count(*) FROM t WHERE id <= 7"), "7");
    world.decide(&review, Resolution::Retry).await.unwrap();
    world.until_equal().await;
    assert!(world.reviews().await.is_empty());
}

#[tokio::test]
async fn no_more_records_are_removed_than_the_person_was_asked_about() {
    let mut world = World::new(TABLE, FILLED, FIELDS).await.started().await;
    let feed = world.statuses().feeds[0].feed.clone();
    world.stop().await;
    world.lose_slot(&feed).await;
    world.left.psql("DELETE FROM t WHERE id <= 7");
    world.start().await;
    world.until_stage("stopped: CON-2008").await;
    world.ask(Request::Reread(world.rules.id)).await.unwrap();
    let seven = world.until_review().await;
    world.until_stage("live").await;
    world.left.psql("TRUNCATE t");
    world.until_stage("stopped: CON-3017").await;
    let refused = world.decide(&seven, Resolution::Retry).await.unwrap_err();
    assert_eq!(refused.code, Code::BadResolution, "what the source lost since is in question itself");
    assert_eq!(world.right.psql("SELECT count(*) FROM t"), "200");
    let open = world.reviews().await;
    let emptied = open.iter().find(|review| review.id != seven.id).unwrap();
    world.decide(emptied, Resolution::Ignore).await.unwrap();
    world.until_stage("live").await;
    let refused = world.decide(&seven, Resolution::Retry).await.unwrap_err();
    assert_eq!(refused.code, Code::MassDelete);
    assert_eq!(world.right.psql("SELECT count(*) FROM t"), "200");
    let all = world.reviews().await.remove(0);
    assert!(all.id != seven.id && all.message.starts_with("200 records"), "{all:?}");
    assert!(matches!(all.subject, Subject::MassChange { member: 1, deletes: 200 }), "{all:?}");
    world.decide(&all, Resolution::Retry).await.unwrap();
    assert_eq!(world.right.psql("SELECT count(*) FROM t"), "0");
    assert!(world.reviews().await.is_empty());
}

#[tokio::test]
async fn a_mirrored_and_a_reconciled_sync_run_side_by_side_and_are_asked_apart() {
    let right = "CREATE TABLE t (id int PRIMARY KEY, name text, amount int CHECK (amount < 1000))";
    let world = World::of(TABLE, right, FILLED, FIELDS).await;
    let strict = "CREATE TABLE u (id int PRIMARY KEY, name text CHECK (name <> 'refused'))";
    let other = "CREATE TABLE u (id int PRIMARY KEY, name text)";
    let world = world.beside((strict, other), "u", &["id", "name"]).await.started().await;
    world.left.psql("INSERT INTO u VALUES (1, 'from the left')");
    world.right.psql("INSERT INTO u VALUES (2, 'from the right'), (3, 'refused')");
    world.left.psql("INSERT INTO t VALUES (500, 'too much', 5000)");
    let all = "SELECT string_agg(name, ', ' ORDER BY id) FROM u WHERE id < 3";
    let arrived =
        async || world.left.psql(all) == "from the left, from the right" && world.right.psql(all) == world.left.psql(all);
    world.until("the other sync carries both ways", arrived).await;
    world.until("each has something that waits for a person", async || world.reviews().await.len() == 2).await;
    let reviews = world.reviews().await;
    assert_ne!(reviews[0].id, reviews[1].id);
    let names: Vec<String> = world.statuses().syncs.into_iter().map(|sync| sync.name).collect();
    assert_eq!(names, ["t", "u"]);
    world.ask(Request::Pause(world.rules.id)).await.unwrap();
    world.left.psql("UPDATE t SET name = 'while paused' WHERE id = 1; UPDATE u SET name = 'goes on' WHERE id = 1");
    world.until("the other sync goes on", async || world.right.psql("SELECT name FROM u WHERE id = 1") == "goes on").await;
    assert_eq!(world.right.psql("SELECT name FROM t WHERE id = 1"), "name 1");
    for review in reviews {
        world.decide(&review, Resolution::Ignore).await.unwrap();
    }
    world.until("nothing waits any more", async || world.reviews().await.is_empty()).await;
}
