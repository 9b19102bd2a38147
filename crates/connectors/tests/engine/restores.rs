//! A side that goes back in time: restored from a backup, or put back from a copy. Much of it is asked about, and nothing
//! is carried before the answer; a little of it is taken as it is.

use crate::server;
use crate::support::{File, Server, Side, Story, wait_until};
use concord_engine::link::MemberIndex;
use concord_engine::review::Subject;
use concord_engine::runtime::command::{Request, Resolution};
use std::path::PathBuf;
use std::sync::Arc;

const FILE: &str = "CREATE TABLE accounts (id INTEGER PRIMARY KEY, email TEXT UNIQUE, name TEXT, city TEXT);";
const ROWS: &str =
    "INSERT INTO accounts (id, email, name, city) WITH RECURSIVE n(i) AS (VALUES (1) UNION ALL SELECT i + 1 FROM n WHERE i < 40)
    SELECT i, i || '@x.org', 'Name ' || i, 'Rome' FROM n;";
const ALL: &str = "SELECT email, name, city FROM accounts ORDER BY email";

/// What happens after the copy was made: many names edited on the left, two cities on the right, one record more, one less.
async fn much_happens(story: &Story) {
    story.left.run("UPDATE accounts SET name = 'Edited ' || id WHERE id <= 30").await;
    story.right.run("UPDATE accounts SET city = 'Oslo' WHERE email IN ('1@x.org', '40@x.org')").await;
    story.left.run("DELETE FROM accounts WHERE email = '35@x.org'").await;
    story.left.run("INSERT INTO accounts (email, name, city) VALUES ('later@x.org', 'Later', 'Rome')").await;
    story.settle().await;
}

struct Files {
    story: Story,
    left: PathBuf,
    copy: PathBuf,
    _folder: tempfile::TempDir,
}

impl Files {
    async fn make() -> Files {
        let folder = tempfile::tempdir().unwrap();
        let (left, right) = (folder.path().join("left.db"), folder.path().join("right.db"));
        let sides: [Box<dyn Side>; 2] = [Box::new(File::make(left.clone())), Box::new(File::make(right))];
        let story = Story::between(sides, &format!("{FILE}{ROWS}"), FILE).await;
        let mut story = story.sync("accounts", &["email", "name", "city"]).await.started().await;
        story.stop().await;
        story.left.rows("PRAGMA wal_checkpoint(TRUNCATE)").await;
        let copy = folder.path().join("copy.db");
        std::fs::copy(&left, &copy).unwrap();
        story.start().await;
        Files { story, left, copy, _folder: folder }
    }

    /// The left file is put back, the engine started, and the gap accepted.
    async fn put_back(&mut self) {
        self.story.stop().await;
        for tail in ["-wal", "-shm"] {
            let _ = std::fs::remove_file(format!("{}{tail}", self.left.display()));
        }
        std::fs::copy(&self.copy, &self.left).unwrap();
        self.story.start().await;
        self.story.wait_for_stage("stopped").await;
        assert!(self.story.stage().contains("CON-2016"), "{}", self.story.stage());
        self.story.ask(Request::Reread(self.story.id())).await.unwrap();
    }
}

/// A person is asked, once, and nothing has happened by then.
async fn is_asked(story: &Story, before: usize) -> concord_engine::link::ReviewId {
    let review = story.review().await;
    assert_eq!(review.code, "CON-3024", "{review:?}");
    let Subject::WentBack { member: 0, older, records, .. } = review.subject else { panic!("{review:?}") };
    assert_eq!((older, records), (33, 41), "30 names, a city of another record, one gone, one back");
    story.wait_for_stage("stopped").await;
    assert!(story.ask(Request::Resume(story.id())).await.is_err(), "the question is not passed over");
    assert_eq!(story.writes().await, before, "nothing is carried before the answer");
    assert_eq!(story.reviews().await.len(), 1);
    review.id
}

async fn answered(story: &mut Story, side: MemberIndex) {
    let review = is_asked(story, story.writes().await).await;
    // The question outlives a kill.
    story.crash_and_restart().await;
    story.wait_for_stage("stopped").await;
    story.resolve(review, Resolution::Take(side)).await;
    story.settle().await;
    story.are_equal(ALL).await;
}

#[tokio::test]
async fn what_a_restored_side_lost_is_written_back_where_the_other_side_is_right() {
    let mut files = Files::make().await;
    much_happens(&files.story).await;
    let before = files.story.on_right(ALL).await;
    files.put_back().await;
    answered(&mut files.story, 1).await;
    assert_eq!(files.story.on_right(ALL).await, before, "nothing changed where nothing was lost");
    assert!(files.story.reviews().await.is_empty());
    files.story.left.run("UPDATE accounts SET city = 'Lyon' WHERE email = '5@x.org'").await;
    files.story.settle().await;
    files.story.right_shows("SELECT city FROM accounts WHERE email = '5@x.org'", "Lyon").await;
    files.story.stop().await;
}

#[tokio::test]
async fn what_a_restored_side_shows_counts_as_newly_edited_where_it_is_right() {
    let mut files = Files::make().await;
    let copied = files.story.on_left(ALL).await;
    much_happens(&files.story).await;
    files.put_back().await;
    answered(&mut files.story, 0).await;
    assert_eq!(files.story.on_right(ALL).await, copied);
    files.story.stop().await;
}

#[tokio::test]
async fn a_few_records_that_went_back_are_taken_as_they_are_and_nobody_is_asked() {
    let mut files = Files::make().await;
    files.story.left.run("UPDATE accounts SET name = 'Lost' WHERE email = '1@x.org'").await;
    files.story.right_shows("SELECT name FROM accounts WHERE email = '1@x.org'", "Lost").await;
    files.story.right.run("UPDATE accounts SET city = 'Oslo' WHERE email = '2@x.org'").await;
    files.story.settle().await;
    files.put_back().await;
    files.story.settle().await;
    files.story.are_equal(ALL).await;
    files.story.right_shows("SELECT name FROM accounts WHERE email = '1@x.org'", "Name 1").await;
    assert!(files.story.reviews().await.is_empty());
    files.story.stop().await;
}

const TABLE: &str = "CREATE TABLE accounts (id serial PRIMARY KEY, email text UNIQUE, name text, city text);";
const FILL: &str =
    "INSERT INTO accounts (email, name, city) SELECT n || '@x.org', 'Name ' || n, 'Rome' FROM generate_series(1, 40) n;";

#[tokio::test]
async fn a_server_restored_from_a_backup_is_asked_about_with_its_own_evidence() {
    let restored = Arc::new(server::Server::start(&server::Options::default()));
    let left = Server::on(&restored, "left").await;
    let database = left.database.name.clone();
    let sides: [Box<dyn Side>; 2] = [Box::new(left), Box::new(Server::make("right").await)];
    let story = Story::between(sides, &format!("{TABLE}{FILL}"), TABLE).await;
    let mut story = story.sync("accounts", &["email", "name", "city"]).await.started().await;
    story.stop().await;
    restored.back_up();
    story.left = Box::new(Server::again(&restored, &database, "left").await);
    story.start().await;
    much_happens(&story).await;
    let before = story.on_right(ALL).await;
    story.stop().await;
    restored.restore();
    story.left = Box::new(Server::again(&restored, &database, "left").await);
    story.start().await;
    story.wait_for_stage("stopped").await;
    assert!(story.stage().contains("CON-2016") && story.stage().contains("earlier state"), "{}", story.stage());
    story.ask(Request::Reread(story.id())).await.unwrap();
    wait_until("the question", || async { !story.reviews().await.is_empty() }).await;
    let review = story.review().await;
    let Subject::WentBack { evidence, .. } = &review.subject else { panic!("{review:?}") };
    assert!(evidence.contains("log ends at"), "{evidence}");
    answered(&mut story, 1).await;
    assert_eq!(story.on_right(ALL).await, before);
    story.stop().await;
}
