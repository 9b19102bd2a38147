//! Rights that are taken from us while we run, so that records look absent. None of that is a delete: the member is shown as down,
//! with the statement that gives the right back, and what was to be written goes on behind it.

use crate::support::{Server, Side, Story, wait_until};
use concord_engine::ledger::Entry;

const TABLE: &str = "CREATE TABLE accounts (id serial PRIMARY KEY, email text UNIQUE, name text);
    INSERT INTO accounts (email, name) VALUES ('ann@x.org', 'Ann'), ('bob@x.org', 'Bob'), ('cyd@x.org', 'Cyd');";
const ALL: &str = "SELECT email, name FROM accounts ORDER BY email";
// Of owners, too.
const HIDE: &str = "ALTER TABLE accounts ENABLE ROW LEVEL SECURITY; ALTER TABLE accounts FORCE ROW LEVEL SECURITY;";

/// A story whose right side is reached as a role of its own. `also`: what is done there before the engine starts.
async fn story(also: &str) -> (Story, String) {
    let (right, role) = Server::with_role("right").await;
    let sides: [Box<dyn Side>; 2] = [Box::new(Server::make("left").await), Box::new(right)];
    let story = Story::between(sides, TABLE, &format!("{TABLE} {}", also.replace("ROLE_NAME", &role))).await;
    (story.sync("accounts", &["email", "name"]).await.started().await, role)
}

/// The right side is shown as down with this statement, and stays so while both feeds are read to their ends, twice over.
async fn is_down(story: &Story, statement: &str) {
    // Nothing is told before the engine has begun.
    let reach = || {
        let status = story.status();
        let member = status.syncs.first().and_then(|sync| sync.members.get(1));
        member.map(|member| member.reach.clone()).unwrap_or_default()
    };
    wait_until(&format!("{statement} in the status"), || async { reach().contains(statement) }).await;
    assert!(reach().contains("CON-2003"), "{}", reach());
    assert_eq!(story.status().syncs[0].members[1].code, Some(concord_engine::error::Code::PrivilegeMissing));
    for _ in 0..2 {
        story.fence().await;
    }
    assert!(reach().contains(statement), "{}", reach());
}

/// Nothing was deleted on either side, and nobody is asked.
async fn nothing_is_gone(story: &Story) {
    for side in [&story.left, &story.right] {
        assert_eq!(side.rows("SELECT 1 FROM accounts").await.len(), 3);
    }
    let ledger = story.ledger().await;
    assert!(ledger.iter().all(|row| row.entry != Entry::Deleted), "{ledger:#?}");
    assert!(story.reviews().await.is_empty(), "{:#?}", story.reviews().await);
}

/// Edits on both sides, after the right was given back.
async fn all_flows_on(story: &mut Story) {
    story.settle().await;
    story.both_show(ALL, &["ann@x.org|Anna", "bob@x.org|Bob", "cyd@x.org|Cyd"]).await;
    // More than once, so that each session is used.
    for turn in 0..3 {
        story.left.run(&format!("UPDATE accounts SET name = 'Bob {turn}' WHERE email = 'bob@x.org'")).await;
        story.right.run(&format!("UPDATE accounts SET name = 'Cyd {turn}' WHERE email = 'cyd@x.org'")).await;
        story.settle().await;
    }
    story.both_show(ALL, &["ann@x.org|Anna", "bob@x.org|Bob 2", "cyd@x.org|Cyd 2"]).await;
    nothing_is_gone(story).await;
    story.stop().await;
}

#[tokio::test]
async fn records_that_row_level_security_begins_to_hide_are_not_taken_for_deleted() {
    let (mut story, role) = story("").await;
    story.right.run(HIDE).await;
    story.left.run("UPDATE accounts SET name = 'Anna' WHERE email = 'ann@x.org'").await;
    let statement = format!("ALTER ROLE \"{role}\" BYPASSRLS;");
    is_down(&story, &statement).await;
    nothing_is_gone(&story).await;
    // Everything is asked after, while all of it is hidden.
    story.ask(concord_engine::runtime::command::Request::Reread(story.id())).await.unwrap();
    is_down(&story, &statement).await;
    nothing_is_gone(&story).await;
    story.right.run(&statement).await;
    all_flows_on(&mut story).await;
}

#[tokio::test]
async fn a_role_that_is_no_longer_exempt_from_row_level_security_takes_nothing_for_deleted() {
    let (mut story, role) = story(&format!("ALTER ROLE ROLE_NAME BYPASSRLS; {HIDE}")).await;
    let statement = format!("ALTER ROLE \"{role}\" BYPASSRLS;");
    story.right.run(&statement.replace("BYPASSRLS", "NOBYPASSRLS")).await;
    // Sessions that were open before would go on seeing everything.
    story.crash_and_restart().await;
    story.left.run("UPDATE accounts SET name = 'Anna' WHERE email = 'ann@x.org'").await;
    is_down(&story, &statement).await;
    nothing_is_gone(&story).await;
    story.right.run(&statement).await;
    all_flows_on(&mut story).await;
}

#[tokio::test]
async fn records_that_may_no_longer_be_read_are_not_taken_for_deleted() {
    let (mut story, role) = story("").await;
    // What is granted to the owner is what the role has.
    story.right.run("REVOKE SELECT ON accounts FROM postgres").await;
    story.left.run("UPDATE accounts SET name = 'Anna' WHERE email = 'ann@x.org'").await;
    story.ask(concord_engine::runtime::command::Request::Reread(story.id())).await.unwrap();
    let statement = format!("GRANT SELECT ON \"public\".\"accounts\" TO \"{role}\";");
    is_down(&story, &statement).await;
    nothing_is_gone(&story).await;
    story.right.run(&statement).await;
    all_flows_on(&mut story).await;
}
