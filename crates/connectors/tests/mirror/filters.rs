//! A filter: what takes part is carried; what leaves stays as it was and nothing of it is sent; what comes back is sent whole; what
//! is deleted goes, whatever it was.

use super::World;
use concord_engine::error::Code;
use concord_engine::filter::{Condition, parse};
use concord_engine::mirror::choose;
use concord_engine::rules::SyncRules;
use concord_engine::runtime::command::Request;
use std::sync::Arc;

/// The field that decides is not carried.
const LEFT: &str = "CREATE TABLE t (id int PRIMARY KEY, name text, note text, country text)";
const RIGHT: &str = "CREATE TABLE t (id int PRIMARY KEY, name text, note text)";
const FILLED: &str =
    "INSERT INTO t SELECT n, 'name ' || n, 'note', (ARRAY['DE', 'AT', NULL])[n % 3 + 1] FROM generate_series(1, 300) n";
const FIELDS: &[&str] = &["id", "name", "note"];
const ALL: &str = "SELECT count(*) FROM t";

/// As a configuration with this filter is compiled.
pub fn filtered(rules: &mut SyncRules, text: &str) {
    let source = &mut rules.members[0];
    let condition = Condition::new(parse(text).unwrap(), &source.schema).unwrap();
    source.selection.fields.extend(condition.fields().iter().cloned());
    source.selection.fields.sort_unstable();
    source.selection.fields.dedup();
    rules.filter = Some(condition);
}

async fn loaded(filter: &str) -> World {
    let mut world = World::of(LEFT, RIGHT, FILLED, FIELDS).await.with(|rules| filtered(rules, filter));
    world.start().await;
    level(&world).await;
    world
}

/// Until the target is level with what the source holds now: a record that takes part in any case tells when.
async fn level(world: &World) {
    world.left.psql("INSERT INTO t VALUES (0, 'the last', '', 'DE') ON CONFLICT (id) DO UPDATE SET note = t.note || '.'");
    let note = world.left.psql("SELECT note FROM t WHERE id = 0");
    let arrived = async || world.status().level && world.right.psql("SELECT note FROM t WHERE id = 0") == note;
    world.until("the last change has arrived", arrived).await;
}

fn shown(world: &World, id: u32) -> String {
    world.right.psql(&format!("SELECT name, note FROM t WHERE id = {id}"))
}

#[tokio::test]
async fn a_load_brings_what_takes_part_and_no_other() {
    let world = loaded("country = 'DE'").await;
    assert_eq!(world.right.psql(ALL), "101");
    assert_eq!(world.right.psql("SELECT count(*) FROM t WHERE id % 3 <> 0"), "0");
    let found = world.verify().await;
    assert!(found.is_equal() && found.links == 101 && found.equal == 101, "{found:?}");
}

#[tokio::test]
async fn what_is_carried_one_by_one_is_filtered_by_what_the_source_shows() {
    let mut world = World::of(LEFT, RIGHT, FILLED, FIELDS).await.with(|rules| filtered(rules, "name LIKE 'name 1%'"));
    crate::rules::transformed(&mut world.rules, 0, "name", "uppercase");
    world.left.psql("INSERT INTO t VALUES (0, 'name 1', '', 'DE')");
    world.start().await;
    level(&world).await;
    assert_eq!(world.right.psql("SELECT count(*), min(name) FROM t"), "112|NAME 1");
    assert!(world.verify().await.is_equal());
}

#[tokio::test]
async fn a_record_that_leaves_stays_as_it_was_and_comes_back_whole() {
    let world = loaded("country = 'DE'").await;
    world.left.psql("ALTER TABLE t ALTER note SET STORAGE EXTERNAL; UPDATE t SET note = repeat('long ', 20000) WHERE id = 3");
    level(&world).await;
    assert_eq!(world.right.psql("SELECT name, length(note) FROM t WHERE id = 3"), "name 3|100000");
    // The edit that leaves is not sent, and none of those behind it.
    world
        .left
        .psql("UPDATE t SET country = 'AT', name = 'left' WHERE id = 3; UPDATE t SET note = repeat('other', 20001) WHERE id = 3");
    level(&world).await;
    assert_eq!(world.right.psql("SELECT name, length(note) FROM t WHERE id = 3"), "name 3|100000");
    let found = world.verify().await;
    assert!(found.is_equal() && found.links == 100, "a record that has left is no difference: {found:?}");
    // What comes back leaves its large value alone, which changed while it was away.
    world.left.psql("UPDATE t SET country = 'DE' WHERE id = 3");
    level(&world).await;
    assert_eq!(world.right.psql("SELECT name, length(note) FROM t WHERE id = 3"), "left|100005");
    // One that was never there, and one that is not yet what it will be.
    world.left.psql(
        "UPDATE t SET country = 'DE' WHERE id IN (1, 2); INSERT INTO t VALUES (900, 'new', 'x', NULL), (901, 'new', 'x', 'DE')",
    );
    level(&world).await;
    assert_eq!(world.right.psql("SELECT count(*) FROM t WHERE id IN (1, 2, 900, 901)"), "3");
    let found = world.verify().await;
    assert!(found.is_equal() && found.links == 104, "{found:?}");
}

#[tokio::test]
async fn a_record_that_has_left_is_deleted_with_its_own_and_found_under_another_key() {
    let world = loaded("country = 'DE'").await;
    world.left.psql("UPDATE t SET country = 'AT' WHERE id IN (3, 6, 9)");
    world.left.psql("DELETE FROM t WHERE id = 3; UPDATE t SET id = 1006 WHERE id = 6");
    level(&world).await;
    assert_eq!((shown(&world, 3), shown(&world, 6), shown(&world, 1006)), ("".into(), "".into(), "name 6|note".into()));
    world.left.psql("DELETE FROM t WHERE id = 1006; UPDATE t SET id = 1009, name = 'back', country = 'DE' WHERE id = 9");
    // One that takes no part is as good as not there.
    world.left.psql("DELETE FROM t WHERE id = 1");
    level(&world).await;
    assert_eq!((shown(&world, 1006), shown(&world, 9), shown(&world, 1009)), ("".into(), "".into(), "back|note".into()));
    assert!(world.verify().await.is_equal());
}

#[tokio::test]
async fn a_changed_filter_reads_everything_again_and_takes_nothing_away() {
    let mut world = loaded("country = 'DE'").await;
    world.stop().await;
    world.left.psql("UPDATE t SET note = 'while it was away' WHERE id IN (3, 5)");
    filtered(&mut world.rules, "country IS NULL OR id = 3 OR id = 0");
    world.start().await;
    level(&world).await;
    // The third hundred has come, the first one stays.
    assert_eq!(world.right.psql(ALL), "201");
    assert_eq!((shown(&world, 3), shown(&world, 5)), ("name 3|while it was away".into(), "name 5|while it was away".into()));
    world.left.psql("UPDATE t SET note = 'not sent' WHERE id = 6");
    level(&world).await;
    assert_eq!(shown(&world, 6), "name 6|note");
    let found = world.verify().await;
    assert!(found.is_equal() && found.links == 102, "{found:?}");
    // And none again.
    world.stop().await;
    world.rules.filter = None;
    world.start().await;
    level(&world).await;
    assert_eq!(world.right.psql(ALL), "301");
    assert_eq!(shown(&world, 6), "name 6|not sent");
}

#[tokio::test]
async fn verify_names_what_takes_part_and_is_not_as_it_should_be() {
    let world = loaded("country = 'DE'").await;
    world.left.psql("UPDATE t SET country = 'AT' WHERE id = 3");
    level(&world).await;
    world.right.psql("UPDATE t SET note = 'somebody' WHERE id IN (3, 6)");
    world.right.psql("INSERT INTO t VALUES (5000, 'own', NULL)");
    let found = world.verify().await;
    assert_eq!((found.links, found.differing, found.unlinked[1]), (100, 1, 1), "{found:?}");
    assert_eq!(found.differences[0].kind, "differs");
}

#[tokio::test]
async fn a_refused_record_that_leaves_waits_for_nobody() {
    let mut world = World::of(LEFT, &RIGHT.replace("note text", "note text CHECK (note <> 'bad')"), FILLED, FIELDS).await;
    filtered(&mut world.rules, "country = 'DE'");
    world.start().await;
    level(&world).await;
    world.left.psql("UPDATE t SET note = 'bad' WHERE id IN (3, 4)");
    world.until_review().await;
    level(&world).await;
    assert_eq!(world.reviews().await.len(), 1, "that of the record that takes part");
    world.left.psql("UPDATE t SET country = 'AT' WHERE id = 3");
    world.until("nothing waits", async || world.reviews().await.is_empty()).await;
    assert_eq!(shown(&world, 3), "name 3|note");
}

#[tokio::test]
async fn a_field_that_the_filter_looks_at_and_that_is_gone_stops_the_sync() {
    let world = loaded("country = 'DE'").await;
    world.left.psql("ALTER TABLE t DROP country; UPDATE t SET note = 'behind' WHERE id = 3");
    world.until_stage("stopped: CON-2009").await;
    assert_eq!(shown(&world, 3), "name 3|note");
    world.ask(Request::Resume(world.rules.id)).await.unwrap();
    world.until_stage("stopped: CON-2009").await;
    assert_eq!(world.right.psql(ALL), "101");
}

#[tokio::test]
async fn a_sync_with_a_filter_that_is_not_mirrored_is_refused() {
    let world = World::of(LEFT, RIGHT, FILLED, FIELDS).await.with(|rules| {
        filtered(rules, "country = 'DE'");
        rules.deletes.on_delete = concord_engine::rules::OnDelete::Ignore;
    });
    let systems = world.systems();
    let rules = Arc::new(world.rules.clone());
    let refused = choose(&rules, &[], &**world.store(), (&*systems[0].1, &*systems[1].1)).await.unwrap_err();
    assert_eq!(refused.code, Code::FilterNotBuilt, "{refused}");
    let without = Arc::new(SyncRules { filter: None, ..world.rules.clone() });
    choose(&without, &[], &**world.store(), (&*systems[0].1, &*systems[1].1)).await.unwrap();
}
