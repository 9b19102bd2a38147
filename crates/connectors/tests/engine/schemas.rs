//! Schemas that change under a running sync: keys and identities, columns renamed, narrowed and dropped while changes of
//! them are queued, labels and columns added. What cannot be carried on stops with a reason; everything else flows.

use crate::support::{LOAD_DEADLINE, Story, rules, wait_within};
use concord_engine::runtime::command::{Request, Resolution};

const TABLES: &str = "CREATE TABLE accounts (id serial PRIMARY KEY, email text NOT NULL UNIQUE, name text, note text);
    CREATE TABLE orders (number integer PRIMARY KEY, total integer);
    INSERT INTO accounts (email, name) VALUES ('ann@x.org', 'Ann'), ('bob@x.org', 'Bob');
    INSERT INTO orders VALUES (1, 10);";
const ALL: &str = "SELECT email, name FROM accounts ORDER BY email";

async fn story() -> Story {
    let story = Story::tables(TABLES).await.sync("accounts", &["email", "name"]).await;
    story.sync("orders", &["number", "total"]).await.started().await
}

async fn orders_flow_on(story: &Story, total: u32) {
    story.left.run(&format!("UPDATE orders SET total = {total}")).await;
    story.right_shows("SELECT total FROM orders", &total.to_string()).await;
    story.right.run(&format!("UPDATE orders SET total = {total} + 1")).await;
    story.left_shows("SELECT total FROM orders", &(total + 1).to_string()).await;
}

#[tokio::test]
async fn an_object_that_loses_its_key_stops_and_the_others_flow_on() {
    let mut story = story().await;
    story.left.run("ALTER TABLE accounts DROP CONSTRAINT accounts_pkey").await;
    story.left.run("INSERT INTO accounts (email, name) VALUES ('cyd@x.org', 'Cyd')").await;
    story.wait_for_stage("stopped").await;
    assert!(story.stage().contains("key"), "{}", story.stage());
    orders_flow_on(&story, 20).await;
    assert_eq!(story.on_right(ALL).await.len(), 2);
    // What happened while there was no key is not lost: it is read when the object goes on.
    story.left.run("ALTER TABLE accounts ADD PRIMARY KEY (id)").await;
    story.resume().await;
    story.settle().await;
    story.both_show(ALL, &["ann@x.org|Ann", "bob@x.org|Bob", "cyd@x.org|Cyd"]).await;
    story.left.run("UPDATE accounts SET name = 'Anna' WHERE email = 'ann@x.org'").await;
    story.settle().await;
    story.both_show(ALL, &["ann@x.org|Anna", "bob@x.org|Bob", "cyd@x.org|Cyd"]).await;
    story.stop().await;
}

// The engine dies before a person has put things right.
#[tokio::test]
async fn what_was_missed_while_an_object_had_no_key_is_read_after_a_restart() {
    let mut story = story().await;
    story.left.run("ALTER TABLE accounts DROP CONSTRAINT accounts_pkey").await;
    story.left.run("INSERT INTO accounts (email, name) VALUES ('cyd@x.org', 'Cyd')").await;
    story.wait_for_stage("stopped").await;
    story.fence().await;
    story.crash().await;
    story.left.run("ALTER TABLE accounts ADD PRIMARY KEY (id)").await;
    story.start().await;
    story.settle().await;
    story.both_show(ALL, &["ann@x.org|Ann", "bob@x.org|Bob", "cyd@x.org|Cyd"]).await;
    story.stop().await;
}

#[tokio::test]
async fn an_object_whose_identity_no_longer_shows_its_key_stops_and_the_others_flow_on() {
    let mut story = story().await;
    story.left.run("ALTER TABLE accounts REPLICA IDENTITY USING INDEX accounts_email_key").await;
    story.left.run("UPDATE accounts SET name = 'Anna' WHERE email = 'ann@x.org'").await;
    story.wait_for_stage("stopped").await;
    orders_flow_on(&story, 20).await;
    story.left.run("ALTER TABLE accounts REPLICA IDENTITY DEFAULT").await;
    story.resume().await;
    story.settle().await;
    story.both_show(ALL, &["ann@x.org|Anna", "bob@x.org|Bob"]).await;
    story.stop().await;
}

// More than is needed harms nobody.
#[tokio::test]
async fn an_object_whose_identity_becomes_the_whole_row_flows_on() {
    let mut story = story().await;
    story.left.run("ALTER TABLE accounts REPLICA IDENTITY FULL").await;
    story.left.run("UPDATE accounts SET name = 'Anna' WHERE email = 'ann@x.org'").await;
    story.left.run("UPDATE accounts SET id = 77 WHERE email = 'bob@x.org'").await;
    story.right.run("UPDATE accounts SET name = 'Robert' WHERE email = 'bob@x.org'").await;
    story.settle().await;
    story.both_show(ALL, &["ann@x.org|Anna", "bob@x.org|Robert"]).await;
    assert_eq!(story.writes().await, 2, "{:#?}", story.ledger().await);
    story.left.run("DELETE FROM accounts WHERE email = 'bob@x.org'").await;
    story.settle().await;
    story.both_show(ALL, &["ann@x.org|Anna"]).await;
    story.stop().await;
}

/// Ends the session in which the left side's feed is read.
async fn lose_the_feed(story: &Story) {
    let end = "SELECT pg_terminate_backend(active_pid) FROM pg_replication_slots WHERE database = current_database() AND active";
    story.left.run(end).await;
}

// The connection is lost before anybody has put the table right.
#[tokio::test]
async fn a_table_that_is_broken_or_gone_keeps_no_other_from_being_read_again() {
    let key =
        ("ALTER TABLE accounts DROP CONSTRAINT accounts_pkey", "INSERT INTO accounts (email, name) VALUES ('cyd@x.org', 'Cyd')");
    let field =
        ("ALTER TABLE accounts RENAME COLUMN name TO title", "UPDATE accounts SET title = 'Anna' WHERE email = 'ann@x.org'");
    let table = ("ALTER TABLE accounts RENAME TO away", "SELECT 1");
    let back = [
        "ALTER TABLE accounts ADD PRIMARY KEY (id)",
        "ALTER TABLE accounts RENAME COLUMN title TO name",
        "ALTER TABLE away RENAME TO accounts",
    ];
    for ((ddl, behind), back) in [key, field, table].into_iter().zip(back) {
        let mut story = story().await;
        story.left.run(ddl).await;
        story.left.run(behind).await;
        story.wait_for_stage("stopped").await;
        lose_the_feed(&story).await;
        orders_flow_on(&story, 20).await;
        assert!(story.stage().starts_with("stopped"), "{ddl}: {}", story.stage());
        assert_eq!(story.on_right(ALL).await.len(), 2, "{ddl}");
        // It is followed again once it is put right.
        story.left.run(back).await;
        story.resume().await;
        story.settle().await;
        story.are_equal(ALL).await;
        story.left.run("UPDATE accounts SET name = 'Robert' WHERE email = 'bob@x.org'").await;
        story.right_shows("SELECT name FROM accounts WHERE email = 'bob@x.org'", "Robert").await;
        story.stop().await;
    }
}

const AGAIN: &str = "ALTER TABLE accounts DROP COLUMN name; ALTER TABLE accounts ADD COLUMN name text";

// What stands in a column that is dropped and made anew is nobody's edit of what stood in the old one.
#[tokio::test]
async fn a_column_that_is_dropped_and_made_anew_empties_nobody() {
    let mut story = story().await;
    story.left.run("ALTER TABLE accounts DROP COLUMN name").await;
    story.left.run("UPDATE accounts SET note = 'x' WHERE email = 'ann@x.org'").await;
    story.wait_for_stage("stopped").await;
    story.right.run("UPDATE accounts SET name = 'Robert' WHERE email = 'bob@x.org'").await;
    let refused = story.ask(Request::Resume(story.id())).await.unwrap_err();
    assert!(refused.code == concord_engine::error::Code::SchemaDrift && refused.message.contains("name"), "{refused}");
    story.left.run("ALTER TABLE accounts ADD COLUMN name text").await;
    story.resume().await;
    story.settle().await;
    story.both_show(ALL, &["ann@x.org|Ann", "bob@x.org|Robert"]).await;
    story.left.run("UPDATE accounts SET name = NULL WHERE email = 'ann@x.org'").await;
    story.settle().await;
    story.right_shows("SELECT count(*) FROM accounts WHERE name IS NULL", "1").await;
    story.stop().await;
}

// The slot is lost before anybody has put the table right: what accepts the gap makes up for the column, too.
#[tokio::test]
async fn a_column_that_is_made_anew_in_a_gap_empties_nobody() {
    let mut story = story().await;
    story.left.run("ALTER TABLE accounts DROP COLUMN name").await;
    story.left.run("UPDATE accounts SET note = 'x' WHERE email = 'ann@x.org'").await;
    story.wait_for_stage("stopped: CON-2009").await;
    crate::gaps::slot_made_anew(&story, "ALTER TABLE accounts ADD COLUMN name text").await;
    story.wait_for_stage("stopped: CON-2008").await;
    assert!(story.ask(Request::Resume(story.id())).await.is_err(), "a gap is not passed over");
    story.ask(Request::Reread(story.id())).await.unwrap();
    story.settle().await;
    story.both_show(ALL, &["ann@x.org|Ann", "bob@x.org|Bob"]).await;
    story.stop().await;
}

// Nothing is seen in between.
#[tokio::test]
async fn a_column_that_is_made_anew_at_once_or_while_nothing_runs_empties_nobody() {
    let mut story = story().await;
    story.left.run(&format!("BEGIN; {AGAIN}; COMMIT")).await;
    story.left.run("UPDATE accounts SET note = 'x' WHERE email = 'ann@x.org'").await;
    story.wait_for_stage("stopped").await;
    assert!(story.stage().contains("was dropped"), "{}", story.stage());
    story.resume().await;
    story.settle().await;
    story.both_show(ALL, &["ann@x.org|Ann", "bob@x.org|Bob"]).await;

    story.stop().await;
    story.left.run(AGAIN).await;
    story.left.run("UPDATE accounts SET note = 'y' WHERE email = 'bob@x.org'").await;
    story.syncs[0] = story.rules("accounts", &[("email", "email"), ("name", "name")]).await;
    story.number_layouts().await;
    story.start().await;
    story.settle().await;
    story.both_show(ALL, &["ann@x.org|Ann", "bob@x.org|Bob"]).await;
    assert!(story.lost().await.is_empty(), "{:#?}", story.lost().await);
    story.stop().await;
}

/// Records that are changed again and again while nobody reads them.
const QUEUED_RECORDS: usize = 2_000;
/// How often, which makes a hundred thousand changes.
const QUEUED_TURNS: usize = 49;
/// What shows the last of them.
const QUEUED: &str = "SELECT count(*) FROM accounts WHERE name LIKE '%.49'";

/// Changes on the left that the engine has not read yet when `ddl` comes, and changes behind it.
async fn queued(story: &Story, turns: usize, ddl: &str, behind: &str) {
    story.taps[0].before_batch.close();
    let fill = format!(
        "INSERT INTO accounts (email, name) SELECT 'user' || n || '@x.org', 'User ' || n FROM generate_series(1, {QUEUED_RECORDS}) n"
    );
    story.left.run(&fill).await;
    for turn in QUEUED_TURNS - turns + 1..=QUEUED_TURNS {
        story.left.run(&format!("UPDATE accounts SET name = split_part(email, '@', 1) || '.{turn}'")).await;
    }
    story.left.run(ddl).await;
    story.left.run(behind).await;
    story.taps[0].before_batch.open();
}

/// Waits until the object has stopped, and until what was queued before that has been written or waits for it.
async fn stops_behind_what_was_queued(story: &Story) {
    wait_within(LOAD_DEADLINE, "the object to stop", || async { story.stage().starts_with("stopped") }).await;
    wait_within(LOAD_DEADLINE, "what was queued to be written or kept", || async {
        let counts = story.counts().await;
        let waiting =
            counts.pending.iter().filter(|(member, _)| *member == 0).chain(counts.owed.iter().filter(|(member, _)| *member == 1));
        let waiting: u64 = waiting.map(|(_, count)| count).sum();
        let written: u64 = story.on_right(QUEUED).await[0][0].as_ref().unwrap().parse().unwrap();
        written + waiting >= u64::try_from(QUEUED_RECORDS).unwrap()
    })
    .await;
}

#[tokio::test]
async fn a_mapped_column_renamed_behind_queued_changes_stops_the_object_and_nothing_turns_null() {
    let mut story = story().await;
    let behind = "UPDATE accounts SET title = 'Changed' WHERE email = 'bob@x.org'";
    queued(&story, QUEUED_TURNS, "ALTER TABLE accounts RENAME COLUMN name TO title", behind).await;
    stops_behind_what_was_queued(&story).await;
    assert!(story.stage().contains("name"), "{}", story.stage());
    orders_flow_on(&story, 20).await;
    // What had not been written when the object stopped is kept and written when it goes on.
    story.right_shows("SELECT count(*) FROM accounts WHERE name IS NULL", "0").await;
    story.left.run("ALTER TABLE accounts RENAME COLUMN title TO name").await;
    story.resume().await;
    story.settle().await;
    story.are_equal(ALL).await;
    story.right_shows("SELECT name FROM accounts WHERE email = 'bob@x.org'", "Changed").await;
    story.right_shows("SELECT name FROM accounts WHERE email = 'user500@x.org'", "user500.49").await;
    assert!(story.reviews().await.is_empty());
    story.stop().await;
}

#[tokio::test]
async fn a_mapped_column_narrowed_behind_queued_changes_stops_the_object() {
    let mut story = story().await;
    let behind = "UPDATE accounts SET name = 'Bo' WHERE email = 'bob@x.org'";
    queued(&story, QUEUED_TURNS, "ALTER TABLE accounts ALTER COLUMN name TYPE varchar(12)", behind).await;
    stops_behind_what_was_queued(&story).await;
    assert!(story.stage().contains("varying(12)"), "{}", story.stage());
    orders_flow_on(&story, 20).await;
    story.left.run("ALTER TABLE accounts ALTER COLUMN name TYPE text").await;
    story.resume().await;
    story.settle().await;
    story.are_equal(ALL).await;
    story.right_shows("SELECT name FROM accounts WHERE email = 'bob@x.org'", "Bo").await;
    story.right_shows(QUEUED, &(QUEUED_RECORDS + 1).to_string()).await;
    assert!(story.reviews().await.is_empty());
    story.stop().await;
}

// What had not been written when the object stopped goes with the column: an earlier value stands, and nobody's is empty.
#[tokio::test]
async fn a_mapped_column_dropped_behind_queued_changes_stops_the_object_and_empties_nobody() {
    let mut story = story().await;
    let behind = "UPDATE accounts SET note = 'behind' WHERE email = 'bob@x.org'";
    queued(&story, QUEUED_TURNS, "ALTER TABLE accounts DROP COLUMN name", behind).await;
    stops_behind_what_was_queued(&story).await;
    assert!(story.stage().contains("name"), "{}", story.stage());
    orders_flow_on(&story, 20).await;
    let whole = "SELECT count(*) FROM accounts WHERE name IN ('Ann', 'Bob') OR name ~ '^User \\d+$' OR name ~ '^(user\\d+|ann|bob)\\.\\d+$'";
    let everyone = (QUEUED_RECORDS + 2).to_string();
    let there = story.on_right(whole).await;
    assert_eq!(there, story.on_right("SELECT count(*) FROM accounts").await, "each value is one that the left side had");
    // It comes again, empty.
    story.left.run("ALTER TABLE accounts ADD COLUMN name text").await;
    story.resume().await;
    story.settle().await;
    story.are_equal(ALL).await;
    story.left_shows(whole, &everyone).await;
    story.right_shows(whole, &everyone).await;
    assert!(story.reviews().await.is_empty());
    // It is followed again.
    story.left.run("UPDATE accounts SET name = 'Robert' WHERE email = 'bob@x.org'").await;
    story.right_shows("SELECT name FROM accounts WHERE email = 'bob@x.org'", "Robert").await;
    story.stop().await;
}

#[tokio::test]
async fn an_unmapped_column_dropped_or_renamed_behind_queued_changes_stops_nothing() {
    for ddl in ["ALTER TABLE accounts DROP COLUMN note", "ALTER TABLE accounts RENAME COLUMN note TO remark"] {
        let mut story = story().await;
        queued(&story, 1, ddl, "UPDATE accounts SET name = 'Changed' WHERE email = 'bob@x.org'").await;
        story.settle().await;
        story.are_equal(ALL).await;
        story.right_shows("SELECT name FROM accounts WHERE email = 'bob@x.org'", "Changed").await;
        story.right.run("UPDATE accounts SET name = 'Changed back' WHERE email = 'bob@x.org'").await;
        story.settle().await;
        story.are_equal(ALL).await;
        assert!(story.reviews().await.is_empty());
        story.stop().await;
    }
}

#[tokio::test]
async fn labels_and_columns_that_are_added_while_streaming_disturb_nobody() {
    let table = "CREATE TYPE mood AS ENUM ('sad', 'ok');
        CREATE TYPE place AS (street text, city text);
        CREATE TABLE accounts (id serial PRIMARY KEY, email text UNIQUE, mood mood, places place[], doc jsonb);
        INSERT INTO accounts (email, mood, places, doc) VALUES
            ('ann@x.org', 'ok', ARRAY[('High \"Street\"', 'York')::place, (NULL, 'Leeds')::place], '{\"b\": 1.0, \"a\": [1, 2]}');";
    let right = table.replace("mood mood", "mood text");
    let fields = ["email", "mood", "places", "doc"];
    let all = "SELECT email, mood, places, doc FROM accounts ORDER BY email";
    let mut story = Story::servers(table, &right).await.sync("accounts", &fields).await.started().await;
    assert_eq!(story.writes().await, 0, "{:#?}", story.ledger().await);

    story.left.run("ALTER TYPE mood ADD VALUE 'great' AFTER 'sad'").await;
    story.left.run("UPDATE accounts SET mood = 'great'").await;
    story.settle().await;
    story.are_equal(all).await;
    assert_eq!(story.writes().await, 1, "{:#?}", story.ledger().await);

    story.left.run("ALTER TABLE accounts ADD COLUMN shout text GENERATED ALWAYS AS (upper(email)) STORED").await;
    story.left.run("ALTER TABLE accounts ADD COLUMN extra integer NOT NULL DEFAULT 7").await;
    story.left.run("UPDATE accounts SET doc = '{\"a\":[1,2.0],\"b\":1}'").await;
    story.right.run("UPDATE accounts SET doc = '{\"a\":[1,2],\"b\":1.00}'").await;
    story.settle().await;
    assert_eq!(story.writes().await, 1, "the same document in other words is no change: {:#?}", story.ledger().await);

    story.right.run("UPDATE accounts SET places = places || ('Low Lane, 7', 'Hull')::place").await;
    story.left.run("INSERT INTO accounts (email, mood, places) VALUES ('bob@x.org', 'great', '{}')").await;
    story.settle().await;
    story.are_equal("SELECT email, mood, places FROM accounts ORDER BY email").await;
    assert_eq!(story.writes().await, 3, "{:#?}", story.ledger().await);
    assert!(story.reviews().await.is_empty());
    assert_eq!(story.stage(), "live");
    story.stop().await;
}

// A label that the other side does not have.
#[tokio::test]
async fn a_label_that_the_other_side_lacks_waits_for_a_person_and_the_rest_flows() {
    let table = "CREATE TYPE mood AS ENUM ('sad', 'ok');
        CREATE TABLE accounts (id serial PRIMARY KEY, email text UNIQUE, mood mood);
        INSERT INTO accounts (email, mood) VALUES ('ann@x.org', 'ok'), ('bob@x.org', 'ok');";
    let all = "SELECT email, mood FROM accounts ORDER BY email";
    let mut story = Story::tables(table).await.sync("accounts", &["email", "mood"]).await.started().await;
    story.left.run("ALTER TYPE mood ADD VALUE 'great'").await;
    story.left.run("UPDATE accounts SET mood = 'great' WHERE email = 'ann@x.org'").await;
    story.left.run("UPDATE accounts SET mood = 'sad' WHERE email = 'bob@x.org'").await;
    story.settle().await;
    assert_eq!(story.reviews().await.len(), 1, "{:#?}", story.reviews().await);
    story.right_shows("SELECT string_agg(mood::text, ',' ORDER BY email) FROM accounts", "ok,sad").await;
    // The other side learns the label, the plan is made again, and the record is tried again.
    story.stop().await;
    story.right.run("ALTER TYPE mood ADD VALUE 'great'").await;
    story.syncs[0] = story.rules("accounts", &[("email", "email"), ("mood", "mood")]).await;
    story.start().await;
    let review = story.review().await.id;
    story.resolve(review, Resolution::Retry).await;
    story.settle().await;
    story.both_show(all, &["ann@x.org|great", "bob@x.org|sad"]).await;
    assert!(story.reviews().await.is_empty());
    story.stop().await;
}

/// Rules of another configuration for the same objects, numbered as the plan would.
async fn planned_anew(story: &mut Story, transformation: &str) {
    let mut changed = story.rules("accounts", &[("email", "email"), ("name", "name")]).await;
    rules::transformed(&mut changed, 0, "name", transformation);
    story.syncs[0] = changed;
    story.number_layouts().await;
}

// What was agreed under the old rules and not written yet is planned again under the new ones, and so is what had been
// written.
#[tokio::test]
async fn writes_in_flight_when_the_rules_change_are_planned_again_and_none_is_a_mixture() {
    let emptied = format!("{TABLES} DELETE FROM accounts;");
    let names = "SELECT string_agg(name, ',' ORDER BY email) FROM accounts";
    let mut story = Story::servers(TABLES, &emptied).await.sync("accounts", &["email", "name"]).await;
    planned_anew(&mut story, "uppercase").await;
    let mut story = story.started().await;
    story.right_shows(names, "ANN,BOB").await;
    story.taps[1].before_apply.close();
    story.left.run("UPDATE accounts SET name = 'Anna' WHERE email = 'ann@x.org'").await;
    story.left.run("INSERT INTO accounts (email, name) VALUES ('cyd@x.org', 'Cyd')").await;
    // Both: what was only seen when the engine dies is decided by the new rules.
    story.in_flight(1, 2).await;
    story.crash().await;
    planned_anew(&mut story, "lowercase").await;
    story.start().await;
    story.left.run("UPDATE accounts SET name = 'BOBBY' WHERE email = 'bob@x.org'").await;
    story.settle().await;
    story.right_shows(names, "anna,bobby,cyd").await;
    story.left_shows(names, "Anna,BOBBY,Cyd").await;
    // Bob is written once or twice: his edit may come before he is planned anew, or behind that.
    let writes = story.writes().await;
    assert!((5..=6).contains(&writes), "{:#?}", story.ledger().await);
    story.left.run("UPDATE accounts SET name = name || '!'").await;
    story.settle().await;
    story.right_shows(names, "anna!,bobby!,cyd!").await;
    assert_eq!(story.writes().await, writes + 3, "{:#?}", story.ledger().await);
    assert!(story.reviews().await.is_empty());
    story.stop().await;
}

// A policy that changes while a conflict waits decides it.
#[tokio::test]
async fn a_conflict_that_waits_when_the_policy_changes_is_decided_by_the_new_one_at_its_next_change() {
    use concord_engine::rules::Policy;
    let story = Story::tables(TABLES).await.sync("accounts", &["email", "name"]).await;
    let mut story = story.with(|rules| rules.groups[1].policy = Policy::Manual).started().await;
    story.ask(Request::Pause(story.id())).await.unwrap();
    story.left.run("UPDATE accounts SET name = 'Anna' WHERE email = 'ann@x.org'").await;
    story.right.run("UPDATE accounts SET name = 'Anne' WHERE email = 'ann@x.org'").await;
    story.pending(0, 1).await;
    story.pending(1, 1).await;
    story.resume().await;
    story.review().await;
    story.stop().await;
    story.syncs[0].groups[1].policy = Policy::Priority(vec![0]);
    story.start().await;
    story.right.run("UPDATE accounts SET name = 'Annie' WHERE email = 'ann@x.org'").await;
    story.settle().await;
    story.both_show(ALL, &["ann@x.org|Anna", "bob@x.org|Bob"]).await;
    assert!(story.reviews().await.is_empty(), "{:#?}", story.reviews().await);
    story.stop().await;
}
