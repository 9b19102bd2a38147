//! What the store remembers of each sync beyond its number: names of members and fields, so that people can be answered
//! in their own words while no configuration is at hand. Written by `run`, read by everybody. Holds no values.

use concord_engine::error::{Code, Error, Result};
use concord_engine::link::GIVEN;
use concord_engine::rules::SyncRules;
use concord_engine::store::{Store, Transaction};
use serde::{Deserialize, Serialize};

/// Settings of this prefix hold one description each.
const PREFIX: &str = "description/";

/// A sync in words.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Description {
    /// Its number in the store.
    pub id: u32,
    /// Its name.
    pub name: String,
    /// Its members, in their order.
    pub members: Vec<DescribedMember>,
    /// Its canonical fields, in their order.
    pub fields: Vec<String>,
    /// Its field groups: name and canonical fields.
    pub groups: Vec<(String, Vec<String>)>,
    /// Fields that name records of other syncs: the canonical field, and the number of the sync.
    #[serde(default)]
    pub references: Vec<(String, u32)>,
    /// How it ran, or would have, when it was last looked at.
    #[serde(default)]
    pub mode: String,
}

/// A member in words.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DescribedMember {
    /// The system.
    pub system: String,
    /// The object.
    pub object: String,
    /// The alias.
    pub role: Option<String>,
    /// The kind of connector that speaks to the system; empty where an earlier version wrote it.
    #[serde(default)]
    pub kind: String,
}

impl Description {
    /// What there is to say of a sync whose members' systems are of these kinds, in the members' order.
    pub fn of(rules: &SyncRules, kinds: &[&str]) -> Description {
        let name_of = |field: &usize| rules.fields.get(*field).map(|field| field.name.clone());
        Description {
            id: rules.id.0,
            name: rules.name.to_string(),
            members: rules
                .members
                .iter()
                .enumerate()
                .map(|(place, member)| DescribedMember {
                    system: member.system.to_string(),
                    object: member.object.to_string(),
                    role: member.role.clone(),
                    kind: kinds.get(place).copied().unwrap_or_default().to_owned(),
                })
                .collect(),
            fields: rules.fields.iter().map(|field| field.name.clone()).collect(),
            groups: rules
                .groups
                .iter()
                .map(|group| (group.name.clone(), group.fields.iter().filter_map(name_of).collect()))
                .collect(),
            references: rules.references().filter_map(|(field, to)| Some((name_of(&field)?, to.sync.0))).collect(),
            mode: String::new(),
        }
    }

    /// Of a sync that nothing is remembered of.
    pub fn of_nothing(name: String) -> Description {
        let (members, fields, groups, references) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        Description { id: 0, name, members, fields, groups, references, mode: String::new() }
    }

    /// The sync whose records a field names.
    pub fn refers_to(&self, field: &str) -> Option<u32> {
        self.references.iter().find(|(name, _)| name == field).map(|(_, sync)| *sync)
    }

    /// The member's name for people: its system, with the object where two members share a system.
    pub fn member(&self, member: usize) -> String {
        let Some(found) = self.members.get(member) else {
            let whence = if member == GIVEN { "a person" } else { "a value that its system no longer showed" };
            return whence.to_owned();
        };
        let shared = self.members.iter().filter(|other| other.system == found.system).count() > 1;
        if shared { format!("{}/{}", found.system, found.object) } else { found.system.clone() }
    }

    /// The place of the member that a person calls so: by system, role, or system and object.
    pub fn member_called(&self, name: &str) -> Option<usize> {
        let by_name = (0..self.members.len()).find(|place| self.member(*place) == name);
        by_name.or_else(|| self.members.iter().position(|member| member.role.as_deref() == Some(name)))
    }
}

/// Every sync that the store knows, by name.
pub async fn load(store: &dyn Store) -> Result<Vec<Description>> {
    let damaged = |error| Error::new(Code::StoreFailed, "the store's description of a sync cannot be read").because(error);
    let settings = store.settings(PREFIX).await?;
    let mut found: Vec<Description> =
        settings.iter().map(|(_, bytes)| serde_json::from_slice(bytes).map_err(damaged)).collect::<Result<_>>()?;
    found.sort_by_key(|sync| sync.id);
    Ok(found)
}

/// Has the store remember these syncs.
pub async fn save(store: &dyn Store, syncs: &[Description]) -> Result<()> {
    let written = |error| Error::new(Code::Internal, "a sync's description cannot be written").because(error);
    let settings = syncs
        .iter()
        .map(|sync| Ok((format!("{PREFIX}{}", sync.name), Some(serde_json::to_vec(sync).map_err(written)?))))
        .collect::<Result<_>>()?;
    commit(store, Transaction { settings, ..Transaction::default() }).await
}

/// Submits a transaction and waits until it is durable.
pub async fn commit(store: &dyn Store, transaction: Transaction) -> Result<()> {
    store.submit(transaction).await.map_err(|error| Error::new(Code::StoreFailed, "the store has stopped").because(error))?
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn accounts() -> Description {
        let member = |system: &str, role: &str| DescribedMember {
            system: system.into(),
            object: format!("{system}.accounts"),
            role: Some(role.into()),
            kind: "postgres".into(),
        };
        Description {
            id: 1,
            name: "accounts".into(),
            members: vec![member("pg1", "crm"), member("pg2", "erp")],
            fields: vec!["name".into(), "street".into(), "city".into()],
            groups: vec![("name".into(), vec!["name".into()]), ("address".into(), vec!["street".into(), "city".into()])],
            references: Vec::new(),
            mode: String::new(),
        }
    }

    #[test]
    fn a_member_is_found_by_its_system_and_by_its_role() {
        let sync = accounts();
        assert_eq!(sync.member_called("pg2"), Some(1));
        assert_eq!(sync.member_called("erp"), Some(1));
        assert_eq!(sync.member_called("nobody"), None);
    }

    #[test]
    fn two_members_of_one_system_are_told_apart_by_their_objects() {
        let mut sync = accounts();
        sync.members[1].system = "pg1".into();
        assert_eq!(sync.member(1), "pg1/pg2.accounts");
        assert_eq!(sync.member_called("pg1/pg2.accounts"), Some(1));
    }
}
