//! References to secrets, and the one place that follows them.
//! A document never holds a secret, only where it is to be found; the value lives in [`SecretText`], which no
//! formatter and no serialiser shows.

use crate::error::{Code, Error, Result};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Where a secret is to be found. A secret is never written plainly.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum Secret {
    /// The name of an environment variable that holds it.
    #[serde(rename = "env")]
    Env(String),
    /// The path of a file that holds it; one line end at its end is not part of it.
    #[serde(rename = "file")]
    File(String),
    /// The name under which `concord secret set NAME` keeps it, encrypted, in the store.
    #[serde(rename = "secret")]
    Stored(String),
}

/// A text that some keep secret and others do not (a client id, a webhook's URL).
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum TextOrSecret {
    /// The text itself.
    Text(String),
    /// Where the text is to be found.
    Secret(Secret),
}

/// The value of a secret. Shown by nothing; read only through [`SecretText::expose`].
#[derive(Clone, PartialEq, Eq)]
pub struct SecretText(String);

impl SecretText {
    /// Takes a value into keeping.
    pub fn new(value: impl Into<String>) -> SecretText {
        SecretText(value.into())
    }

    /// The value, for the call that needs it and for nothing else.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Debug for SecretText {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SecretText(…)")
    }
}

impl std::fmt::Display for Secret {
    /// The reference, never the value.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Secret::Env(name) => write!(f, "environment variable {name}"),
            Secret::File(path) => write!(f, "file {path}"),
            Secret::Stored(name) => write!(f, "stored secret {name}"),
        }
    }
}

impl Secret {
    /// Follows the reference: the one place that reads secrets from the environment and from files. `stored` looks up
    /// the secrets kept in the store and answers `None` for a name that is not there.
    pub fn resolve(&self, stored: &dyn Fn(&str) -> Result<Option<SecretText>>) -> Result<SecretText> {
        match self {
            Secret::Env(name) => from_environment(name, std::env::var(name)),
            Secret::File(path) => from_file(path, std::fs::read_to_string(path)),
            Secret::Stored(name) => stored(name)?.ok_or_else(|| {
                Error::new(
                    Code::SecretMissing,
                    format!("there is no stored secret `{name}`: `concord secret set {name}` makes it"),
                )
            }),
        }
    }
}

impl TextOrSecret {
    /// The text, following the reference where it is one.
    pub fn resolve(&self, stored: &dyn Fn(&str) -> Result<Option<SecretText>>) -> Result<SecretText> {
        match self {
            TextOrSecret::Text(text) => Ok(SecretText::new(text.clone())),
            TextOrSecret::Secret(secret) => secret.resolve(stored),
        }
    }
}

fn from_environment(name: &str, found: std::result::Result<String, std::env::VarError>) -> Result<SecretText> {
    match found {
        Ok(value) if !value.is_empty() => Ok(SecretText(value)),
        Ok(_) => Err(Error::new(Code::SecretMissing, format!("the environment variable `{name}` is empty"))),
        Err(std::env::VarError::NotPresent) => {
            Err(Error::new(Code::SecretMissing, format!("the environment variable `{name}` is not set")))
        }
        Err(std::env::VarError::NotUnicode(_)) => {
            Err(Error::new(Code::SecretMissing, format!("the environment variable `{name}` does not hold text")))
        }
    }
}

fn from_file(path: &str, found: std::io::Result<String>) -> Result<SecretText> {
    let text = found.map_err(|error| {
        Error::new(Code::SecretUnreadable, format!("the file `{path}` that should hold a secret cannot be read")).because(error)
    })?;
    let value = text.strip_suffix('\n').unwrap_or(&text);
    let value = value.strip_suffix('\r').unwrap_or(value);
    if value.is_empty() {
        return Err(Error::new(Code::SecretMissing, format!("the file `{path}` that should hold a secret is empty")));
    }
    Ok(SecretText(value.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nothing_stored(_: &str) -> Result<Option<SecretText>> {
        Ok(None)
    }

    #[test]
    fn a_reference_is_printed_and_its_value_never() {
        let secret = Secret::Env("CRM_PASSWORD".into());
        assert_eq!(serde_json::to_string(&secret).unwrap(), r#"{"env":"CRM_PASSWORD"}"#);
        assert_eq!(format!("{:?}", SecretText::new("hunter2")), "SecretText(…)");
    }

    #[test]
    fn an_environment_variable_that_is_not_set_is_named() {
        let error = Secret::Env("CONCORD_TEST_NOT_SET".into()).resolve(&nothing_stored).unwrap_err();
        assert_eq!(error.code, Code::SecretMissing);
        assert_eq!(error.message, "the environment variable `CONCORD_TEST_NOT_SET` is not set");
    }

    #[test]
    fn an_empty_environment_variable_is_no_secret() {
        assert_eq!(from_environment("X", Ok(String::new())).unwrap_err().code, Code::SecretMissing);
        assert_eq!(from_environment("X", Ok("v".into())).unwrap().expose(), "v");
    }

    #[test]
    fn a_file_gives_its_text_without_the_last_line_end() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("password");
        std::fs::write(&path, "hunter2\r\n").unwrap();
        let secret = Secret::File(path.to_string_lossy().into_owned());
        assert_eq!(secret.resolve(&nothing_stored).unwrap().expose(), "hunter2");
        let missing = Secret::File("/nowhere/at/all".into()).resolve(&nothing_stored).unwrap_err();
        assert_eq!(missing.code, Code::SecretUnreadable);
    }

    #[test]
    fn a_stored_secret_comes_from_the_look_up_and_a_missing_one_says_how_to_make_it() {
        let stored = |name: &str| Ok((name == "crm").then(|| SecretText::new("kept")));
        assert_eq!(Secret::Stored("crm".into()).resolve(&stored).unwrap().expose(), "kept");
        let error = Secret::Stored("erp".into()).resolve(&stored).unwrap_err();
        assert!(error.message.contains("concord secret set erp"), "{}", error.message);
    }
}
