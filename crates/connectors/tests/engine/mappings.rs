//! Mappings that a person changes while records are known and changes wait: planned again under the new one, and nothing
//! written under a mixture of both.

use crate::support::{Story, rules};

const TABLES: &str = "CREATE TABLE accounts (id serial PRIMARY KEY, email text NOT NULL UNIQUE, name text, city text);
    INSERT INTO accounts (email, name, city) SELECT n || '@x.org', 'Name ' || n, 'Rome' FROM generate_series(1, 1200) n;";
const ALL: &str = "SELECT email, name, city FROM accounts ORDER BY email";

async fn story() -> Story {
    let mut story = Story::tables(TABLES).await.sync("accounts", &["email", "name", "city"]).await;
    story.number_layouts().await;
    story.started().await
}

async fn remapped(story: &mut Story, transformation: &str) {
    rules::written_as(&mut story.syncs[0], 1, "name", transformation);
    story.number_layouts().await;
}

// Scenario 21: a restart with another mapping.
#[tokio::test]
async fn a_changed_transformation_rewrites_the_values_that_are_there_and_only_these() {
    let mut story = story().await;
    story.right.run("UPDATE accounts SET name = 'from the right' WHERE email = '7@x.org'").await;
    story.settle().await;
    story.stop().await;
    let writes = story.writes().await;
    remapped(&mut story, "uppercase").await;
    story.start().await;
    story.settle().await;
    story.right_shows("SELECT count(*) FROM accounts WHERE name LIKE 'NAME %'", "1199").await;
    story.right_shows("SELECT name FROM accounts WHERE email = '7@x.org'", "from the right").await;
    story.left_shows("SELECT count(*) FROM accounts WHERE name LIKE 'Name %'", "1199").await;
    assert_eq!(story.writes().await - writes, 1199, "each record once, on the one side whose form has changed");
    assert!(story.reviews().await.is_empty());
    // And back: the very values that the left side holds.
    story.stop().await;
    remapped(&mut story, "").await;
    story.start().await;
    story.settle().await;
    story.are_equal(ALL).await;
    story.stop().await;
}

// Scenario 21: writes of the old mapping are in flight, and changes wait, when the engine is killed.
#[tokio::test]
async fn changes_in_flight_when_the_mapping_changes_are_planned_again_under_the_new_one() {
    let mut story = story().await;
    story.taps[1].after_apply.close();
    // Neither the answer nor the feed tells that the write took effect.
    story.taps[1].before_batch.close();
    story.left.run("UPDATE accounts SET name = 'in flight' WHERE email = '1@x.org'").await;
    story.taps[1].after_apply.reached().await;
    story.left.run("UPDATE accounts SET name = 'behind it', city = 'Oslo' WHERE email IN ('1@x.org', '2@x.org')").await;
    story.pending(0, 1).await;
    story.crash().await;
    story.right.run("UPDATE accounts SET name = 'right edit' WHERE email = '3@x.org'").await;
    remapped(&mut story, "uppercase").await;
    story.start().await;
    story.settle().await;
    let shown =
        "SELECT email, name, city FROM accounts WHERE email IN ('1@x.org', '2@x.org', '3@x.org', '4@x.org') ORDER BY email";
    let lines = |rows: Vec<crate::support::sides::Row>| -> Vec<String> {
        rows.into_iter().map(|row| row.into_iter().flatten().collect::<Vec<_>>().join("|")).collect()
    };
    let right = lines(story.on_right(shown).await);
    assert_eq!(right, ["1@x.org|BEHIND IT|Oslo", "2@x.org|BEHIND IT|Oslo", "3@x.org|right edit|Rome", "4@x.org|NAME 4|Rome"]);
    let left = lines(story.on_left(shown).await);
    assert_eq!(left, ["1@x.org|behind it|Oslo", "2@x.org|behind it|Oslo", "3@x.org|right edit|Rome", "4@x.org|Name 4|Rome"]);
    assert!(story.reviews().await.is_empty());
    story.stop().await;
}

// The look at every record is itself killed half way.
#[tokio::test]
async fn a_rewrite_that_is_killed_half_way_goes_on_where_it_was() {
    let mut story = story().await;
    story.stop().await;
    remapped(&mut story, "uppercase").await;
    story.taps[1].before_apply.close();
    story.start().await;
    story.taps[1].before_apply.reached().await;
    story.crash_and_restart().await;
    story.settle().await;
    story.right_shows("SELECT count(*) FROM accounts WHERE name LIKE 'NAME %'", "1200").await;
    story.stop().await;
}
