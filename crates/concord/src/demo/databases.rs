//! The pair of two databases: a CRM and an ERP with tables of different shape, and the people who edit them.

use super::accounts::{self, Chance, Side};
use super::database::{Database, Maker};
use super::view::View;
use concord_engine::error::Result;
use serde_json::json;
use std::path::Path;
use tokio::sync::Mutex;

/// Two databases.
pub struct Databases {
    crm: Database,
    erp: Database,
    chance: Mutex<Chance>,
}

impl Databases {
    /// Starts what is needed and fills it.
    pub async fn open(sqlite: bool, folder: &Path, view: &View<'_>) -> Result<Databases> {
        let maker = Maker::new(sqlite, folder)?;
        view.heading(&format!("Two private databases are started ({}).", maker.kind));
        let (crm, erp) = tokio::try_join!(
            maker.make("crm", accounts::CRM_TABLE, accounts::CRM_TABLE_SQLITE),
            maker.make("erp", accounts::ERP_TABLE, accounts::ERP_TABLE_SQLITE)
        )?;
        crm.run(accounts::beginning(Side::Crm)).await?;
        erp.run(accounts::beginning(Side::Erp)).await?;
        Ok(Databases { crm, erp, chance: Mutex::new(Chance::of(42)) })
    }

    /// People edit both sides.
    pub async fn edit(&self, turn: u64) -> Result<()> {
        let mut chance = self.chance.lock().await;
        let crm = accounts::edits(Side::Crm, turn, &mut chance, self.crm.now());
        let erp = accounts::edits(Side::Erp, turn, &mut chance, self.erp.now());
        drop(chance);
        tokio::try_join!(self.crm.run(crm), self.erp.run(erp)).map(|_| ())
    }

    /// What is kept equal, and how.
    pub fn configuration(&self, folder: &Path) -> serde_json::Value {
        json!({
            "name": "accounts",
            "connections": { "crm": self.crm.connection(folder), "erp": self.erp.connection(folder) },
            "sync_type": "bidirectional",
            "source": { "system": "crm", "object": "accounts" },
            "target": { "system": "erp", "object": "customers" },
            "match_on": ["email"],
            "field_mappings": [
                { "source": "name", "target": "company" },
                { "source": "email", "target": "contact_email", "transformation": "lowercase" },
                { "source": "phone", "target": "tel" },
                { "source": "street", "target": "street", "group": "address" },
                { "source": "city", "target": "town", "group": "address" },
                { "source": "country", "target": "country", "group": "address" },
                { "source": "credit_limit", "target": "credit" },
                { "source": "status", "target": "state", "transformation": { "map": { "active": "A", "inactive": "I", "prospect": "P" } } }
            ],
            "initial_sync": { "authority": "crm" },
            "conflict_resolution": {
                "strategy": "last_write_wins",
                "field_rules": [{ "field": "credit_limit", "priority_system": "erp" }],
                "delete_vs_update": "update_wins"
            }
        })
    }
}
