//! People at both sides of a world who write for as long as a story wants them to, each by a session of their own. What they have
//! committed is known, and so is what both sides must show in the end: each field of a record has one of them as its user.

use crate::postgres::Database;
use crate::world::World;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// Between two edits of one user.
pub const PACE: Duration = Duration::from_millis(6);
/// Records whose phone belongs to the one side and whose city to the other.
const SHARED: u64 = 8;

/// Numbers that follow from a seed (splitmix64).
pub struct Chance(u64);

impl Chance {
    /// Of the seed in `CONCORD_SEED`, or of another one each time. It is printed.
    pub fn new() -> Chance {
        let given = std::env::var("CONCORD_SEED").ok().and_then(|seed| seed.parse().ok());
        let seed = given.unwrap_or_else(|| uuid::Uuid::new_v4().as_u64_pair().0);
        eprintln!("CONCORD_SEED={seed}");
        Chance(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// Numbers of their own for somebody else.
    pub fn fork(&mut self) -> Chance {
        Chance(self.next())
    }

    /// A number below a bound.
    pub fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }
}

/// A record as its users left it: name, phone, city.
type Records = BTreeMap<String, [String; 3]>;

/// How the one side calls things.
struct Side {
    table: &'static str,
    name: &'static str,
    email: &'static str,
    phone: &'static str,
    city: &'static str,
    /// In front of what it makes.
    own: char,
}

const CRM: Side = Side { table: "accounts", name: "name", email: "email", phone: "phone", city: "city", own: 'c' };
const ERP: Side = Side { table: "customers", name: "company", email: "mail", phone: "tel", city: "town", own: 'e' };

/// What one user has committed.
#[derive(Default)]
struct Committed {
    /// Records of their own.
    own: Records,
    /// Their field of the shared records.
    shared: BTreeMap<u64, String>,
}

/// Lets users write at both sides while something is done. Gives back what both sides must show once they are equal, as lines of
/// [`World::sides`], and what came of that.
pub fn at_work<A, B>(world: &World, chance: &mut Chance, story: impl FnOnce(&mut Chance) -> (A, B)) -> (Vec<String>, A, B) {
    let shared: Vec<String> = (0..SHARED).map(|n| format!("('s{n}', 's{n}@x.example')")).collect();
    world.crm.psql(&format!("INSERT INTO accounts (name, email) VALUES {}", shared.join(", ")));
    let (of_crm, of_erp) = (chance.fork(), chance.fork());
    let (crm, (erp, (one, other))) = beside(
        |stop| write(&world.crm, &CRM, of_crm, stop),
        || beside(|stop| write(&world.erp, &ERP, of_erp, stop), || story(chance)),
    );
    (lines(&crm, &erp), one, other)
}

/// Does something while somebody writes, who is told when to stop; what came of the writing, and of the other.
pub fn beside<W: Send, T>(write: impl FnOnce(&AtomicBool) -> W + Send, story: impl FnOnce() -> T) -> (W, T) {
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let writer = scope.spawn(|| write(&stop));
        // They stop also where the story fails.
        let stopping = Stopping(&stop);
        let told = story();
        drop(stopping);
        (writer.join().unwrap(), told)
    })
}

struct Stopping<'a>(&'a AtomicBool);

impl Drop for Stopping<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

/// One user: makes, changes and removes records of their own, and changes a field of the shared ones.
fn write(database: &Database, side: &Side, mut chance: Chance, stop: &AtomicBool) -> Committed {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let session = database.session().await;
        let mut committed = Committed::default();
        let Side { table, name, email, phone, city, own } = side;
        let mut turn = 0;
        while !stop.load(Ordering::SeqCst) {
            turn += 1;
            let some = || -> Option<String> { committed.own.keys().nth(chance_of(&committed.own, turn)).cloned() };
            match (chance.below(20), some()) {
                (0..8, _) | (_, None) => {
                    let record = [format!("{own}{turn}"), String::new(), format!("town {turn}")];
                    let mail = format!("{own}{turn}@x.example");
                    let sql = format!(
                        "INSERT INTO {table} ({name}, {email}, {city}) VALUES ('{}', '{mail}', '{}')",
                        record[0], record[2]
                    );
                    assert_eq!(session.execute(&sql, &[]).await.unwrap(), 1);
                    committed.own.insert(mail, record);
                }
                (8..15, Some(mail)) => {
                    let sql = format!("UPDATE {table} SET {phone} = '{own}{turn}' WHERE {email} = '{mail}'");
                    assert_eq!(session.execute(&sql, &[]).await.unwrap(), 1, "{mail} of {table} is gone");
                    committed.own.get_mut(&mail).unwrap()[1] = format!("{own}{turn}");
                }
                (15, Some(mail)) => {
                    let sql = format!("DELETE FROM {table} WHERE {email} = '{mail}'");
                    assert_eq!(session.execute(&sql, &[]).await.unwrap(), 1, "{mail} of {table} is gone");
                    committed.own.remove(&mail);
                }
                _ => {
                    let one = chance.below(SHARED);
                    let field = if *own == 'c' { phone } else { city };
                    let sql = format!("UPDATE {table} SET {field} = '{own}{turn}' WHERE {email} = 's{one}@x.example'");
                    // It may not have come yet.
                    if session.execute(&sql, &[]).await.unwrap() == 1 {
                        committed.shared.insert(one, format!("{own}{turn}"));
                    }
                }
            }
            tokio::time::sleep(PACE).await;
        }
        committed
    })
}

/// Some record of theirs, another one each turn.
fn chance_of(own: &Records, turn: usize) -> usize {
    turn.wrapping_mul(7919) % own.len().max(1)
}

/// What both sides must show.
fn lines(crm: &Committed, erp: &Committed) -> Vec<String> {
    let mut all: Records = crm.own.iter().chain(&erp.own).map(|(mail, record)| (mail.clone(), record.clone())).collect();
    for one in 0..SHARED {
        let of = |committed: &Committed| committed.shared.get(&one).cloned().unwrap_or_default();
        all.insert(format!("s{one}@x.example"), [format!("s{one}"), of(crm), of(erp)]);
    }
    all.into_iter().map(|(mail, [name, phone, city])| format!("{name}|{mail}|{phone}|{city}")).collect()
}

/// How many records the users of the one side have made and not removed.
pub fn made(world: &World) -> usize {
    count(&world.crm, "SELECT count(*) FROM accounts WHERE email LIKE 'c%'")
}

/// How many of these are at the other side.
pub fn carried(world: &World) -> usize {
    count(&world.erp, "SELECT count(*) FROM customers WHERE mail LIKE 'c%'")
}

fn count(database: &Database, sql: &str) -> usize {
    database.psql(sql).parse().unwrap()
}
