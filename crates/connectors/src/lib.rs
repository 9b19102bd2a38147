//! The connectors: one folder each, the same file names in each. The list in this file is the only place that names
//! them all; [`kinds`] says of every kind, built or not, what the configuration language must know.

pub mod consent;
pub mod keeping;
pub mod kinds;
mod percent;
pub mod postgres;
pub mod salesforce;
pub mod settings;
pub mod sqlite;

use concord_engine::change::Position;
use concord_engine::connector::Connector;
use concord_engine::error::{Code, Error, Result};
use consent::Application;
use settings::Asked;
use std::sync::Arc;

type Open = fn(&Asked<'_>) -> Result<Arc<dyn Connector>>;
type Consents = fn(&Asked<'_>) -> Result<Application>;

type Shown = fn(&Position) -> Option<String>;

/// Kind → how a connector of it is opened, how a stored position of it reads, and how a person is asked for consent where
/// that may be needed.
const OPEN: &[(&str, Open, Shown, Option<Consents>)] = &[
    ("postgres", |asked| Ok(Arc::new(postgres::open(postgres::Config::read(asked)?)?)), postgres::shown, None),
    (sqlite::KIND, |asked| Ok(Arc::new(sqlite::open(sqlite::SqliteSettings::read(asked)?)?)), sqlite::shown, None),
    (
        salesforce::KIND,
        |asked| Ok(Arc::new(salesforce::open(salesforce::SalesforceSettings::read(asked)?)?)),
        salesforce::shown,
        Some(salesforce::consent),
    ),
];

fn listed(asked: &Asked<'_>) -> Result<&'static (&'static str, Open, Shown, Option<Consents>)> {
    let kind = asked.kind();
    OPEN.iter().find(|(name, ..)| *name == kind).ok_or_else(|| {
        Error::new(Code::ConfigNotBuilt, format!("this version has no connector of the type {kind}")).at(asked.name.to_string())
    })
}

/// A connector for a configured connection. Nothing is reached yet: a system that cannot be reached shows in the first
/// call, so that it can be tried again. An error here is one of the settings.
pub fn open(asked: &Asked<'_>) -> Result<Arc<dyn Connector>> {
    let (_, open, ..) = listed(asked)?;
    open(asked)
}

/// A stored position of a system of this kind in the system's own notation, as it is shown while a feed is read; `None` where
/// it is not one. Asks nobody.
pub fn shown(kind: &str, position: &Position) -> Option<String> {
    let (_, _, shown, _) = OPEN.iter().find(|(name, ..)| *name == kind)?;
    shown(position)
}

/// What a person is to be asked, so that we may act in their name. An error where nobody has to be.
pub fn consent(asked: &Asked<'_>) -> Result<Application> {
    match listed(asked)? {
        (.., Some(consents)) => consents(asked),
        (kind, .., None) => {
            let message = format!("a connection of the type {kind} needs nobody's consent");
            Err(Error::new(Code::NothingToConnect, message).at(asked.name.to_string()))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use concord_engine::config::Connection;
    use concord_engine::config::SecretText;
    use concord_engine::record::SystemName;

    fn open_json(text: &str) -> Result<Arc<dyn Connector>> {
        let connection: Connection = serde_json::from_str(text).unwrap();
        let stored = |_: &str| Ok(None::<SecretText>);
        let name = SystemName::from("crm");
        let changes = settings::AskedChanges::default();
        let asked =
            Asked { name: &name, connection: &connection, installation: "an-installation", stored: &stored, keep: None, changes };
        open(&asked)
    }

    #[test]
    fn the_list_and_the_built_kinds_are_the_same() {
        let listed: Vec<&str> = OPEN.iter().map(|(name, ..)| *name).collect();
        let built: Vec<&str> = kinds::KINDS.iter().filter(|kind| kind.built).map(|kind| kind.name).collect();
        assert_eq!(listed, built);
    }

    #[test]
    fn a_server_is_opened_without_reaching_it_and_only_with_its_secret() {
        let text = r#"{"type": "postgresql", "credentials": {"host": "/nowhere", "database": "d", "username": "u"}}"#;
        assert_eq!(open_json(text).unwrap().capabilities().kind, "postgres");
        let text = r#"{"type": "postgres", "credentials": {"database": "d", "username": "u", "password": {"secret": "none"}}}"#;
        assert_eq!(open_json(text).err().unwrap().code, Code::SecretMissing);
    }

    #[test]
    fn what_is_not_a_position_of_a_kind_is_not_shown_as_one() {
        for (kind, ..) in OPEN {
            assert_eq!(shown(kind, &Position(vec![255; 3])), None, "{kind}");
            assert_eq!(shown(kind, &Position::default()), None, "{kind}");
        }
        assert_eq!(shown("nothing", &Position::default()), None);
    }

    #[test]
    fn an_alias_opens_the_connector_of_its_kind() {
        for kind in ["sqlite", "sqlite3"] {
            let text =
                format!(r#"{{"type": "{kind}", "credentials": {{"path": "crm.db"}}, "options": {{"busy_timeout_ms": 250}}}}"#);
            assert_eq!(open_json(&text).unwrap().capabilities().kind, "sqlite");
        }
    }

    #[test]
    fn a_bad_setting_is_named_with_the_connection() {
        let error = |text: &str| open_json(text).err().unwrap();
        let missing = error(r#"{"type": "sqlite"}"#);
        assert_eq!((missing.code, missing.at.as_deref()), (Code::ConfigMissing, Some("crm")));
        let misspelt = error(r#"{"type": "sqlite", "credentials": {"path": "a"}, "options": {"busy_timout_ms": 1}}"#);
        assert_eq!(misspelt.code, Code::ConfigUnknownKey);
        assert!(misspelt.message.contains("busy_timout_ms") && misspelt.message.contains("busy_timeout_ms"));
        let wrong = error(r#"{"type": "sqlite", "credentials": {"path": "a"}, "options": {"poll_interval_ms": "often"}}"#);
        assert_eq!(wrong.code, Code::ConfigWrongType);
        let far = error(r#"{"type": "sqlite", "credentials": {"path": "a"}, "options": {"poll_interval_ms": 0}}"#);
        assert_eq!(far.code, Code::ConfigOutOfRange);
        assert_eq!(error(r#"{"type": "zendesk"}"#).code, Code::ConfigNotBuilt);
    }
}
