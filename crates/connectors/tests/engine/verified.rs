//! What a verification says where a record cannot be read: it is named, both sides are not called equal because of it, and all others
//! are compared.

use crate::support::Story;
use crate::support::gates::Tap;
use concord_engine::record::Key;
use concord_engine::value::Value;
use concord_engine::verify::SyncVerification;

const TABLE: &str = "CREATE TABLE accounts (id serial PRIMARY KEY, email text UNIQUE, name text);
    INSERT INTO accounts (email, name) VALUES ('ann@x.org', 'Ann'), ('bob@x.org', 'Bob'), ('cyd@x.org', 'Cyd');";

/// How a record cannot be read: it may not be seen, or whatever read it is part of fails.
const WAYS: [fn(&Tap, Key); 2] =
    [|tap, key| *tap.forbids.lock().unwrap() = Some(key), |tap, key| *tap.cannot_read.lock().unwrap() = Some(key)];

/// Three records that are equal on both sides, and nobody carries anything.
async fn equal_and_stopped() -> Story {
    let mut story = Story::tables(TABLE).await.sync("accounts", &["email", "name"]).await.started().await;
    story.stop().await;
    let found = story.verified().await;
    assert!(found.is_equal() && found.equal == 3, "{found:#?}");
    story
}

fn key(id: i64) -> Key {
    Key(vec![Value::Int(id)])
}

/// What differs, and where.
fn named(found: &SyncVerification) -> Vec<(&str, &str, &str)> {
    let mut named: Vec<_> = found
        .differences
        .iter()
        .map(|difference| (difference.kind.as_str(), difference.system.as_str(), difference.key.as_str()))
        .collect();
    named.sort_unstable();
    named
}

#[tokio::test]
async fn a_linked_record_that_cannot_be_read_is_named_and_the_others_are_compared() {
    for cannot_be_read in WAYS {
        let story = equal_and_stopped().await;
        story.right.run("UPDATE accounts SET name = 'Cydney' WHERE id = 3").await;
        cannot_be_read(&story.taps[1], key(2));
        let found = story.verified().await;
        assert!(!found.is_equal());
        assert_eq!(named(&found), [("differs", "right", "3"), ("unreadable", "right", "2")]);
        assert_eq!((found.links, found.equal, found.differing), (3, 1, 2), "{found:#?}");
    }
}

#[tokio::test]
async fn a_record_without_a_link_that_cannot_be_read_is_named_and_the_others_are_compared() {
    for cannot_be_read in WAYS {
        let story = equal_and_stopped().await;
        story.right.run("INSERT INTO accounts (id, email, name) VALUES (77, 'dan@x.org', 'Dan'), (78, 'eve@x.org', 'Eve')").await;
        cannot_be_read(&story.taps[1], key(77));
        let found = story.verified().await;
        assert!(!found.is_equal());
        assert_eq!(named(&found), [("unlinked", "right", "78"), ("unreadable", "right", "77")]);
        assert_eq!(found.unlinked, [0, 2]);
        assert_eq!(found.equal, 3, "{found:#?}");
    }
}
