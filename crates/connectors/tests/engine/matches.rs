//! Records that could be one another in more than one way: nobody guesses, from whichever side it is looked at.

use crate::support::Story;
use concord_engine::link::Standing;
use concord_engine::review::Subject;
use concord_engine::runtime::command::Resolution;

const ONE: &str = "CREATE TABLE accounts (id serial PRIMARY KEY, email text, name text);
    INSERT INTO accounts (email, name) VALUES ('ann@x.org', 'Ann'), ('bob@x.org', 'Bob');";
const TWO: &str = "CREATE TABLE accounts (id serial PRIMARY KEY, email text, name text);
    INSERT INTO accounts (email, name) VALUES ('ann@x.org', 'Ann'), ('ann@x.org', 'Ann'), ('bob@x.org', 'Bob');";

/// How many links hold a record with this key on both sides.
async fn bound_with_both(story: &Story) -> usize {
    let links = story.links().await;
    links.iter().filter(|link| link.sides.iter().all(|side| side.standing == Standing::Present)).count()
}

#[tokio::test]
async fn a_record_with_two_possible_matches_is_bound_by_a_person_alone() {
    let mut story = Story::servers(ONE, TWO).await.sync("accounts", &["email", "name"]).await.started().await;
    let reviews = story.reviews().await;
    assert!(reviews.iter().all(|review| matches!(review.subject, Subject::Ambiguous { .. })), "{reviews:#?}");
    assert_eq!((reviews.len(), bound_with_both(&story).await), (3, 1), "Ann and both of hers; Bob is bound: {reviews:#?}");
    assert_eq!(story.writes().await, 0, "{:#?}", story.ledger().await);

    let of_left = reviews.iter().find(|review| matches!(review.subject, Subject::Ambiguous { member: 0, .. })).unwrap();
    let Subject::Ambiguous { candidates, .. } = &of_left.subject else { panic!("{of_left:#?}") };
    let chosen = candidates[1].to_string();
    story.resolve(of_left.id, Resolution::Bind(1)).await;
    story.settle().await;
    assert_eq!((story.reviews().await.len(), bound_with_both(&story).await), (1, 2), "{:#?}", story.reviews().await);
    story.left.run("UPDATE accounts SET name = 'Anna' WHERE email = 'ann@x.org'").await;
    story.settle().await;
    story.right_shows(&format!("SELECT name FROM accounts WHERE id = {chosen}"), "Anna").await;
    story.right_shows("SELECT count(*) FROM accounts WHERE name = 'Ann'", "1").await;
    story.stop().await;
}

#[tokio::test]
async fn the_second_of_two_records_with_one_match_is_a_duplicate_also_after_a_kill() {
    let mut story = Story::servers(TWO, ONE).await.sync("accounts", &["email", "name"]).await.started().await;
    for _ in 0..2 {
        let reviews = story.reviews().await;
        assert!(
            matches!(reviews.as_slice(), [one] if matches!(one.subject, Subject::Duplicate { member: 0, .. })),
            "{reviews:#?}"
        );
        assert_eq!((bound_with_both(&story).await, story.writes().await), (2, 0), "{:#?}", story.ledger().await);
        story.crash_and_restart().await;
        story.settle().await;
    }
    story.stop().await;
}
