//! The data of the pair of an org and a database: what its sales team has in the org and its application in the database,
//! and what both do to it. The same every time: chance comes from a seed.

use super::accounts::Chance;
use serde_json::{Value as Json, json};
use std::fmt::Write;

/// Accounts that are in the org at the beginning. The first of them are in the database, too.
const IN_ORG: u64 = 120;
const IN_BOTH: u64 = 60;
/// Rows that are in the database alone.
const IN_DATABASE: u64 = 40;

/// The application's table.
pub const TABLE: &str = "CREATE TABLE accounts (id serial PRIMARY KEY, sf_id varchar(18) UNIQUE,
    account_name varchar(255) NOT NULL, industry_type varchar(255), annual_revenue decimal(18,2),
    last_modified timestamptz, last_sync timestamptz)";
/// The same for SQLite.
pub const TABLE_SQLITE: &str = "CREATE TABLE accounts (id integer PRIMARY KEY, sf_id varchar(18) UNIQUE,
    account_name varchar(255) NOT NULL, industry_type varchar(255), annual_revenue decimal(18,2),
    last_modified timestamptz, last_sync timestamptz)";

const FIRST: &[&str] =
    &["Northwind", "Blue Harbour", "Alder", "Kestrel", "Lumen", "Granite", "Sable", "Orchard", "Meridian", "Tidewater"];
const SECOND: &[&str] =
    &["Foods", "Logistics", "Instruments", "Textiles", "Energy", "Press", "Motors", "Optics", "Farms", "Systems"];
const INDUSTRIES: &[&str] = &["Agriculture", "Banking", "Energy", "Healthcare", "Manufacturing", "Retail", "Technology"];

/// The turn in which the application writes what the org refuses.
const REFUSED_TURN: u64 = 2;
/// The row that the org refuses.
pub const REFUSED: &str = "Sunk Cost Ltd";

/// What the org's administrator has set.
pub fn rules() -> Json {
    json!({ "validation": [{
        "object": "Account", "when": "AnnualRevenue < 0", "field": "AnnualRevenue", "message": "Annual revenue is never below zero"
    }] })
}

/// The name of an account.
pub fn name(number: u64) -> String {
    let mut chance = Chance::of(number + 7);
    format!("{} {} {number}", chance.one_of(FIRST, &""), chance.one_of(SECOND, &""))
}

fn industry(chance: &mut Chance) -> &'static str {
    let industry: &&str = chance.one_of(INDUSTRIES, &"Energy");
    industry
}

fn revenue(chance: &mut Chance) -> u64 {
    100_000 * (1 + chance.below(900))
}

/// An account as the sales team enters it.
fn account(number: u64) -> Json {
    let mut chance = Chance::of(number + 13);
    json!({ "Name": name(number), "Industry": industry(&mut chance), "AnnualRevenue": revenue(&mut chance) })
}

/// A row as the application inserts it.
fn row(number: u64, sf_id: Option<&str>) -> String {
    let mut chance = Chance::of(number + 13);
    let sf_id = sf_id.map_or_else(|| "NULL".to_owned(), |id| format!("'{id}'"));
    format!(
        "INSERT INTO accounts (sf_id, account_name, industry_type, annual_revenue) VALUES ({sf_id}, '{}', '{}', {});\n",
        name(number),
        industry(&mut chance),
        revenue(&mut chance)
    )
}

/// What is in the org at the beginning.
pub fn accounts_at_first() -> Vec<Json> {
    (0..IN_ORG).map(account).collect()
}

/// What is in the database at the beginning, given the ids of what is in the org.
pub fn rows_at_first(ids: &[String]) -> String {
    let in_both = (0..IN_BOTH).zip(ids).map(|(number, id)| row(number, Some(id)));
    let alone = (IN_ORG..IN_ORG + IN_DATABASE).map(|number| row(number, None));
    in_both.chain(alone).collect()
}

/// What both sides do in one turn.
#[derive(Debug, PartialEq)]
pub struct Turn {
    /// The application's statements.
    pub sql: String,
    /// Accounts that the sales team edits: id and fields.
    pub edits: Vec<(String, Json)>,
    /// An account that it makes.
    pub made: Option<Json>,
    /// The number of the row that the application inserts.
    pub inserted: Option<u64>,
    /// The number of the row that the application deletes.
    pub deleted: Option<u64>,
    /// The turn whose account the sales team deletes.
    pub deletes_of: Option<u64>,
}

/// The turn of this number. `ids`: the accounts that were in the org at the beginning; nobody deletes those.
pub fn turn(number: u64, ids: &[String], chance: &mut Chance) -> Turn {
    let mut sql = String::new();
    let mut edits = Vec::new();
    let none = String::new();
    for _ in 0..4 {
        let what = match chance.below(2) {
            0 => format!("industry_type = '{}'", industry(chance)),
            _ => format!("annual_revenue = {}", revenue(chance)),
        };
        let _ = writeln!(sql, "UPDATE accounts SET {what} WHERE sf_id = '{}';", chance.one_of(ids, &none));
        let what = match chance.below(2) {
            0 => json!({ "Industry": industry(chance) }),
            _ => json!({ "AnnualRevenue": revenue(chance) }),
        };
        edits.push((chance.one_of(ids, &none).clone(), what));
    }
    // Numbers of new records never meet: even ones are the database's.
    let own = |turn: u64| 1_000 + 2 * turn;
    let inserted = number.is_multiple_of(3).then(|| own(number));
    let made = (number % 3 == 1).then(|| account(own(number) + 1));
    // Every second one of the new records goes again, some turns after it came.
    let deleted = (number % 6 == 4).then(|| own(number - 4));
    let deletes_of = (number % 6 == 5).then(|| number - 4);
    if let Some(new) = inserted {
        sql.push_str(&row(new, None));
    }
    if let Some(gone) = deleted {
        let _ = writeln!(sql, "DELETE FROM accounts WHERE account_name = '{}';", name(gone));
    }
    if number == REFUSED_TURN {
        let _ = writeln!(sql, "INSERT INTO accounts (account_name, annual_revenue) VALUES ('{REFUSED}', -1000000);");
    }
    Turn { sql, edits, made, inserted, deleted, deletes_of }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ids() -> Vec<String> {
        (0..IN_ORG).map(|number| format!("001{number:015}")).collect()
    }

    #[test]
    fn some_records_are_on_both_sides_and_some_on_either() {
        let rows = rows_at_first(&ids());
        assert_eq!((accounts_at_first().len(), rows.lines().count()), (120, 100));
        assert_eq!(rows.lines().filter(|line| line.contains("(NULL,")).count(), 40);
    }

    #[test]
    fn a_row_and_its_account_say_the_same() {
        let account = account(5);
        let row = row(5, None);
        for value in [account["Name"].as_str().unwrap(), account["Industry"].as_str().unwrap()] {
            assert!(row.contains(value), "{row}");
        }
        assert!(row.contains(&account["AnnualRevenue"].to_string()), "{row}");
    }

    #[test]
    fn what_is_deleted_was_made_before_and_the_same_seed_makes_the_same_turns() {
        let turns = |seed| -> Vec<Turn> {
            let mut chance = Chance::of(seed);
            (0..30).map(|number| turn(number, &ids(), &mut chance)).collect()
        };
        assert_eq!(turns(5), turns(5));
        let all = turns(5);
        for (number, turn) in all.iter().enumerate() {
            assert!(turn.deleted.is_none_or(|gone| all[..number].iter().any(|earlier| earlier.inserted == Some(gone))));
            let made = |earlier: u64| all[usize::try_from(earlier).unwrap()].made.is_some();
            assert!(turn.deletes_of.is_none_or(made), "{number}");
        }
        assert!(all.iter().any(|turn| turn.deleted.is_some()) && all.iter().any(|turn| turn.deletes_of.is_some()));
        assert_eq!(all.iter().filter(|turn| turn.sql.contains(REFUSED)).count(), 1);
    }
}
