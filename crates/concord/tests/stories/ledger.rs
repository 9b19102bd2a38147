//! The ledger that a story leaves behind, read from its store when nothing runs: it tells of every effect once, of none that there
//! was not, and last of what is shown. Of worlds in which each field of a record has one user, so that nothing contends.

use crate::world::World;
use concord_engine::ledger::{Entry, LedgerRow};
use concord_engine::link::{Life, Link, LinkId, SyncId};
use concord_engine::store::sqlite::SqliteStore;
use concord_engine::store::{LedgerQuery, Store};
use std::collections::{BTreeMap, BTreeSet};

/// The canonical fields in the order of the mappings, each of which is a group of its own.
const FIELDS: [&str; 4] = ["name", "email", "phone", "city"];

/// What a side shows by key: the fields in the order of [`FIELDS`].
type Shown = BTreeMap<String, Vec<Option<String>>>;

/// What became of one member of a record, by the ledger.
#[derive(Default)]
struct Told {
    created: usize,
    deleted: usize,
    /// What was last written, field by field.
    last: BTreeMap<String, Option<String>>,
}

/// Proves it; `records` are there.
pub fn is_consistent(world: &World, records: usize) {
    let (links, rows) = read(world);
    let shown = [
        shown(&world.crm.psql(&select("id, name, email, phone, city", "accounts"))),
        shown(&world.erp.psql(&select("customer_no, company, mail, tel, town", "customers"))),
    ];
    let told = told(&rows);
    let mut live = 0;
    for link in &links {
        let nothing = Told::default();
        let sides: Vec<&Told> = (0..2).map(|member| told.get(&(link.id, member)).unwrap_or(&nothing)).collect();
        let effects: Vec<(usize, usize)> = sides.iter().map(|told| (told.created, told.deleted)).collect();
        if link.life != Life::Live {
            // What was deleted before it had been carried is told of nowhere.
            let is_right = matches!(effects.as_slice(), [(0, 0), (0, 0) | (1, 1)] | [(1, 1), (0, 0)]);
            assert!(is_right, "created and deleted {effects:?}: {}", history(link.id, &rows));
            continue;
        }
        live += 1;
        assert!(
            matches!(effects.as_slice(), [(0, 0), (1, 0)] | [(1, 0), (0, 0)]),
            "created and deleted {effects:?}: {}",
            history(link.id, &rows)
        );
        for (member, (told, shown)) in sides.into_iter().zip(&shown).enumerate() {
            tells_what_is_shown(link, member, told, shown, &rows);
        }
    }
    assert_eq!(live, records, "records that are linked");
}

/// Of every field that came from elsewhere, the last row is about what stands there.
fn tells_what_is_shown(link: &Link, member: usize, told: &Told, shown: &Shown, rows: &[LedgerRow]) {
    let key = link.sides[member].key.as_ref().unwrap_or_else(|| panic!("no key: {link:#?}")).to_string();
    let shown =
        shown.get(&key).unwrap_or_else(|| panic!("member {member} shows nothing under {key}: {}", history(link.id, rows)));
    for (field, (name, shown)) in FIELDS.iter().zip(shown).enumerate() {
        let agreed = link.groups[field].agreed.as_ref();
        if agreed.is_none_or(|agreed| agreed.from == member) {
            // Its own user wrote it.
            continue;
        }
        let last = told.last.get(*name).cloned().flatten();
        assert_eq!(&last, shown, "member {member}, {name}: {}", history(link.id, rows));
    }
}

/// Everything that the store tells, oldest first.
fn read(world: &World) -> (Vec<Link>, Vec<LedgerRow>) {
    let store = SqliteStore::open_read_only(&world.store()).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(async {
        let sync: SyncId = store.sync_id("accounts").await.unwrap();
        let links = store.scan_links(sync, LinkId(0), 1_000_000).await.unwrap();
        let query = LedgerQuery { sync: Some(sync), limit: 1_000_000, ..LedgerQuery::default() };
        let mut rows = store.ledger(query).await.unwrap();
        rows.reverse();
        (links, rows)
    })
}

fn told(rows: &[LedgerRow]) -> BTreeMap<(LinkId, usize), Told> {
    let mut all: BTreeMap<(LinkId, usize), Told> = BTreeMap::new();
    for row in rows {
        // Nothing contends here: no value has a reason to lose, and no record one to wait.
        let is_effect = matches!(row.entry, Entry::Created | Entry::Updated | Entry::Deleted | Entry::Linked);
        let link = row.link.filter(|_| is_effect).unwrap_or_else(|| panic!("without a reason: {row:#?}"));
        let told = all.entry((link, row.member)).or_default();
        match row.entry {
            Entry::Created => told.created += 1,
            Entry::Deleted => {
                told.deleted += 1;
                told.last.clear();
                continue;
            }
            _ => {}
        }
        for field in &row.fields {
            let new =
                field.new.as_ref().map(ToString::to_string).filter(|_| field.new != Some(concord_engine::value::Value::Null));
            let before = told.last.insert(field.field.clone(), new.clone());
            assert!(before.is_none() || before != Some(new), "told twice: {}", history(link, rows));
        }
    }
    all
}

fn history(link: LinkId, rows: &[LedgerRow]) -> String {
    let rows: Vec<&LedgerRow> = rows.iter().filter(|row| row.link == Some(link)).collect();
    format!("{link:?} {rows:#?}")
}

fn select(columns: &str, table: &str) -> String {
    format!(
        "SELECT to_json(ARRAY[{}]::text[]) FROM {table}",
        columns.split(", ").map(|name| format!("{name}::text")).collect::<Vec<_>>().join(", ")
    )
}

fn shown(lines: &str) -> Shown {
    let rows: Vec<Vec<Option<String>>> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let keys: BTreeSet<&Option<String>> = rows.iter().map(|row| &row[0]).collect();
    assert_eq!(keys.len(), rows.len());
    rows.into_iter().map(|row| (row[0].clone().unwrap(), row[1..].to_vec())).collect()
}
