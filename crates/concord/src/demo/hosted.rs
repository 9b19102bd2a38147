//! The pair of an org and a database: the simulated org with its sales team, a database with an application, and the
//! moments that are told of: what somebody did on one side has come to be on the other.

use super::accounts::Chance;
use super::database::{Database, Maker};
use super::org::SimulatedOrg;
use super::sales;
use super::view::View;
use concord_engine::error::Result;
use serde_json::{Value as Json, json};
use std::collections::BTreeMap;
use std::path::Path;
use tokio::sync::Mutex;

/// An org and a database.
pub struct Hosted {
    org: SimulatedOrg,
    database: Database,
    /// The accounts that were there at the beginning.
    ids: Vec<String>,
    state: Mutex<State>,
}

struct State {
    chance: Chance,
    /// What the sales team has made, by turn.
    made: BTreeMap<u64, String>,
    /// What is waited for, in the order in which it was brought about.
    moments: Vec<Moment>,
}

/// Something that is told when it has come true.
struct Moment {
    /// How it is seen.
    sign: Sign,
    /// What is told; `{}` stands for what was seen.
    told: String,
}

enum Sign {
    /// A query finds a value.
    Row(String),
    /// An account shows this.
    Account { id: String, field: &'static str, value: Json },
    /// An account is gone.
    Gone { id: String },
}

impl Hosted {
    /// Starts what is needed and fills it.
    pub async fn open(sqlite: bool, folder: &Path, view: &View<'_>) -> Result<Hosted> {
        let maker = Maker::new(sqlite, folder)?;
        view.heading(&format!(
            "A simulated Salesforce org and a private database ({}) are started; no account and no network are used.",
            maker.kind
        ));
        let (org, database) = tokio::try_join!(
            async { SimulatedOrg::start(folder, &sales::rules()).await },
            maker.make("erp", sales::TABLE, sales::TABLE_SQLITE)
        )?;
        let ids = org.create(&sales::accounts_at_first()).await?;
        database.run(sales::rows_at_first(&ids)).await?;
        let state = State { chance: Chance::of(42), made: BTreeMap::new(), moments: Vec::new() };
        Ok(Hosted { org, database, ids, state: Mutex::new(state) })
    }

    /// Both sides do what they do in this turn. Returns what has come true since.
    pub async fn edit(&self, number: u64) -> Result<Vec<String>> {
        let mut state = self.state.lock().await;
        let turn = sales::turn(number, &self.ids, &mut state.chance);
        self.database.run(turn.sql.clone()).await?;
        for (id, fields) in &turn.edits {
            self.org.update(id, fields).await?;
        }
        if let Some(account) = &turn.made {
            let ids = self.org.create(std::slice::from_ref(account)).await?;
            state.made.extend(ids.first().map(|id| (number, id.clone())));
        }
        let gone = turn.deletes_of.and_then(|made| state.made.remove(&made));
        if let Some(id) = &gone {
            self.org.delete(id).await?;
        }
        self.expect(number, &turn, gone.as_deref(), &mut state).await?;
        let mut told = Vec::new();
        let mut open = Vec::new();
        for moment in std::mem::take(&mut state.moments) {
            match self.sees(&moment.sign).await? {
                Some(seen) => told.push(moment.told.replace("{}", &seen)),
                None => open.push(moment),
            }
        }
        state.moments = open;
        Ok(told)
    }

    /// Notes what this turn has brought about, the first time that something of its kind was done.
    async fn expect(&self, number: u64, turn: &sales::Turn, gone: Option<&str>, state: &mut State) -> Result<()> {
        let name = self.database.name();
        let mut expect = |sign, told: String| state.moments.push(Moment { sign, told });
        let quoted = |account: &Json| account["Name"].as_str().unwrap_or_default().to_owned();
        match number {
            0 => {
                let row = sales::name(turn.inserted.unwrap_or_default());
                let sql = format!("SELECT sf_id FROM accounts WHERE account_name = '{row}'");
                expect(
                    Sign::Row(sql),
                    format!("`{row}` was inserted in {name}: it is the account {{}} now, and its `sf_id` says so."),
                );
                // An account that nobody else edits.
                let id = self.ids.last().cloned().unwrap_or_default();
                self.database.run(format!("UPDATE accounts SET account_name = 'Renamed in {name}' WHERE sf_id = '{id}'")).await?;
                let told = format!("An account was renamed in {name}: Salesforce shows `{{}}`.");
                expect(Sign::Account { id, field: "Name", value: json!(format!("Renamed in {name}")) }, told);
            }
            1 => {
                if let (Some(account), Some(id)) = (&turn.made, state.made.get(&number)) {
                    let sql = format!("SELECT CAST(id AS varchar(20)) FROM accounts WHERE sf_id = '{id}'");
                    expect(
                        Sign::Row(sql),
                        format!("`{}` was made in Salesforce: it is the row {{}} in {name}.", quoted(account)),
                    );
                }
                let id = self.ids.first().cloned().unwrap_or_default();
                self.org.update(&id, &json!({ "Name": "Renamed in Salesforce" })).await?;
                let sql =
                    format!("SELECT account_name FROM accounts WHERE sf_id = '{id}' AND account_name = 'Renamed in Salesforce'");
                expect(Sign::Row(sql), format!("An account was renamed in Salesforce: {name} shows `{{}}`."));
            }
            3 => {
                // The row of turn 0, which the next turn deletes: its account is known by now.
                let row = sales::name(1_000);
                let sql = format!("SELECT sf_id FROM accounts WHERE account_name = '{row}'");
                if let Some(id) = self.database.value(sql).await? {
                    state.made.insert(0, id);
                }
            }
            4 => {
                if let (Some(id), Some(row)) = (state.made.remove(&0), turn.deleted) {
                    let told = format!("`{}` was deleted in {name}: its account is in Salesforce's bin.", sales::name(row));
                    state.moments.push(Moment { sign: Sign::Gone { id }, told });
                }
            }
            5 => {
                if let Some(id) = gone {
                    let sql = format!("SELECT 'gone' WHERE NOT EXISTS (SELECT 1 FROM accounts WHERE sf_id = '{id}')");
                    expect(Sign::Row(sql), format!("An account was deleted in Salesforce: its row in {name} is gone."));
                }
            }
            _ => {}
        }
        Ok(())
    }

    async fn sees(&self, sign: &Sign) -> Result<Option<String>> {
        match sign {
            Sign::Row(sql) => self.database.value(sql.clone()).await,
            Sign::Gone { id } => Ok(self.org.account(id).await?.is_none().then(String::new)),
            Sign::Account { id, field, value } => {
                let account = self.org.account(id).await?;
                let shown = account.as_ref().map(|account| &account[*field]).filter(|shown| *shown == value);
                Ok(shown.map(|shown| shown.as_str().map_or_else(|| shown.to_string(), str::to_owned)))
            }
        }
    }

    /// What is kept equal, and how: the mapping and the rules of `examples/salesforce-accounts.json`.
    pub fn configuration(&self, folder: &Path) -> Json {
        policies(&json!({ "crm": self.org.connection(folder), "erp": self.database.connection(folder) }))
    }
}

fn policies(connections: &Json) -> Json {
    json!({
        "name": "salesforce-accounts",
        "connections": connections,
        "source": { "system": "crm", "object": "Account" },
        "target": { "system": "erp", "object": "accounts" },
        "sync_type": "bidirectional",
        "initial_sync": { "strategy": "full_load", "authority": "review" },
        "ongoing_sync": { "mode": "real_time", "polling_interval_seconds": 30 },
        "conflict_resolution": {
            "strategy": "last_write_wins", "timestamp_field": "LastModifiedDate", "delete_vs_update": "manual"
        },
        "field_mappings": [
            { "source": "Id", "target": "sf_id" },
            { "source": "Name", "target": "account_name", "required": true },
            { "source": "Industry", "target": "industry_type" },
            { "source": "AnnualRevenue", "target": "annual_revenue" },
            { "source": "LastModifiedDate", "target": "last_modified" }
        ],
        "on_delete": "propagate",
        "error_handling": {
            "retry_strategy": { "max_attempts": 5, "backoff_factor": 2.0, "initial_delay_seconds": 1 },
            "fallback": { "action": "queue_for_manual_review" }
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use concord_engine::config;

    #[test]
    fn the_demo_keeps_equal_what_the_example_keeps_equal() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/salesforce-accounts.json");
        let example = config::load(&[path], concord_connectors::kinds::KINDS).config.unwrap();
        let text = policies(&json!({
            "crm": { "type": "salesforce", "credentials": { "instance_url": "https://a.example", "client_id": "a", "client_secret": { "env": "A" } } },
            "erp": { "type": "sqlite", "credentials": { "path": "erp.db" } }
        }));
        let document = config::Document { name: "demo.json", text: &text.to_string() };
        let demo = config::parse(&[document], concord_connectors::kinds::KINDS);
        let demo = demo.config.unwrap_or_else(|| panic!("{:#?}", demo.diagnostics));
        let (demo, example) = (&demo.syncs[0], &example.syncs[0]);
        assert_eq!(demo.field_mappings, example.field_mappings);
        assert_eq!(demo.conflict_resolution, example.conflict_resolution);
        assert_eq!(demo.ongoing_sync, example.ongoing_sync);
        assert_eq!(demo.initial_sync, example.initial_sync);
        assert_eq!(demo.on_delete, example.on_delete);
    }
}
