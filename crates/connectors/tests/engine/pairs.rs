//! The shortest way to see a sync run: pairs of files and servers, loaded, matched and kept equal both ways.

use crate::support::{File, Server, Side, Story};

const FILE: &str = "CREATE TABLE accounts (id INTEGER PRIMARY KEY, email TEXT UNIQUE, name TEXT);";
const TABLE: &str = "CREATE TABLE accounts (id serial PRIMARY KEY, email text UNIQUE, name text);";
const ALL: &str = "SELECT email, name FROM accounts ORDER BY email";

async fn keeps_equal(sides: [(Box<dyn Side>, &str); 2]) {
    let [(left, on_left), (right, on_right)] = sides;
    left.run(on_left).await;
    right.run(on_right).await;
    left.run("INSERT INTO accounts (id, email, name) VALUES (101, 'ann@x.org', 'Ann'), (102, 'bob@x.org', 'Bob')").await;
    right.run("INSERT INTO accounts (id, email, name) VALUES (107, 'bob@x.org', 'Robert'), (108, 'cyd@x.org', 'Cyd')").await;
    let mut story = Story::between([left, right], "", "").await.sync("accounts", &["email", "name"]).await.started().await;
    story.both_show(ALL, &["ann@x.org|Ann", "bob@x.org|Bob", "cyd@x.org|Cyd"]).await;
    assert_eq!(story.writes().await, 3, "one record made on each side, one changed");

    story.left.run("UPDATE accounts SET name = 'Anna' WHERE email = 'ann@x.org'").await;
    story.right.run("UPDATE accounts SET name = 'Cydney' WHERE email = 'cyd@x.org'").await;
    story.settle().await;
    story.both_show(ALL, &["ann@x.org|Anna", "bob@x.org|Bob", "cyd@x.org|Cydney"]).await;
    story.right.run("DELETE FROM accounts WHERE email = 'bob@x.org'").await;
    story.left.run("INSERT INTO accounts (email, name) VALUES ('dee@x.org', 'Dee')").await;
    story.settle().await;
    story.both_show(ALL, &["ann@x.org|Anna", "cyd@x.org|Cydney", "dee@x.org|Dee"]).await;
    assert_eq!(story.writes().await, 7, "one write for each edit");
    assert!(story.reviews().await.is_empty());
    story.stop().await;
}

fn file(folder: &tempfile::TempDir, name: &str) -> (Box<dyn Side>, &'static str) {
    (Box::new(File::make(folder.path().join(name))), FILE)
}

async fn table(name: &'static str) -> (Box<dyn Side>, &'static str) {
    (Box::new(Server::make(name).await), TABLE)
}

#[tokio::test]
async fn two_files_are_matched_loaded_and_kept_equal_both_ways() {
    let folder = tempfile::tempdir().unwrap();
    keeps_equal([file(&folder, "left.db"), file(&folder, "right.db")]).await;
}

#[tokio::test]
async fn two_servers_are_matched_loaded_and_kept_equal_both_ways() {
    keeps_equal([table("left").await, table("right").await]).await;
}

#[tokio::test]
async fn a_file_and_a_server_are_matched_loaded_and_kept_equal_both_ways() {
    let folder = tempfile::tempdir().unwrap();
    keeps_equal([file(&folder, "left.db"), table("right").await]).await;
}
