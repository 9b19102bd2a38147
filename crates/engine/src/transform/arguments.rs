//! The arguments of one transformation or rule: read by name, unknown names refused.

use crate::error::{Code, Error, Result};
use crate::value::Value;
use serde_json::Value as Json;

/// Arguments by name, with what is needed to say what is wrong with them.
pub(crate) struct Arguments<'a> {
    owner: &'a str,
    given: serde_json::Map<String, Json>,
    code: Code,
}

impl<'a> Arguments<'a> {
    /// Reads an object of arguments; anything else but null is the first one.
    pub(crate) fn read(owner: &'a str, given: &Json, known: &[&str], code: Code) -> Result<Arguments<'a>> {
        let given = match (given, known.first()) {
            (Json::Null, _) => serde_json::Map::new(),
            (Json::Object(named), _) => named.clone(),
            (first, Some(name)) => [((*name).to_owned(), first.clone())].into_iter().collect(),
            (_, None) => return Err(Error::new(code, format!("`{owner}` takes no arguments"))),
        };
        let arguments = Arguments { owner, given, code };
        match arguments.given.keys().find(|name| !known.contains(&name.as_str())) {
            None => Ok(arguments),
            Some(unknown) if known.is_empty() => Err(arguments.error(&format!("takes no arguments, but has `{unknown}`"))),
            Some(unknown) => Err(arguments.error(&format!("has no argument `{unknown}`; it has: {}", known.join(", ")))),
        }
    }

    pub(crate) fn error(&self, what: &str) -> Error {
        Error::new(self.code, format!("`{}` {what}", self.owner))
    }

    pub(crate) fn get(&self, name: &str) -> Option<&Json> {
        self.given.get(name)
    }

    pub(crate) fn text(&self, name: &str) -> Result<Option<&str>> {
        match self.given.get(name) {
            None | Some(Json::Null) => Ok(None),
            Some(Json::String(text)) => Ok(Some(text)),
            Some(_) => Err(self.error(&format!("needs text in `{name}`"))),
        }
    }

    pub(crate) fn required_text(&self, name: &str) -> Result<&str> {
        self.text(name)?.ok_or_else(|| self.error(&format!("needs the argument `{name}`")))
    }

    pub(crate) fn truth(&self, name: &str) -> Result<bool> {
        match self.given.get(name) {
            None => Ok(false),
            Some(Json::Bool(truth)) => Ok(*truth),
            Some(_) => Err(self.error(&format!("needs true or false in `{name}`"))),
        }
    }

    pub(crate) fn whole(&self, name: &str) -> Result<Option<i64>> {
        match self.given.get(name) {
            None | Some(Json::Null) => Ok(None),
            Some(number) => number.as_i64().map(Some).ok_or_else(|| self.error(&format!("needs a whole number in `{name}`"))),
        }
    }

    pub(crate) fn texts(&self, name: &str) -> Result<Option<Vec<String>>> {
        let Some(given) = self.given.get(name) else { return Ok(None) };
        let wrong = || self.error(&format!("needs a list of texts in `{name}`"));
        let items = given.as_array().ok_or_else(wrong)?;
        items.iter().map(|item| item.as_str().map(str::to_owned).ok_or_else(wrong)).collect::<Result<_>>().map(Some)
    }

    /// A value: as [`Value::from_json`] reads it; a number with a point is read as the decimal that is written.
    pub(crate) fn value(&self, name: &str) -> Result<Option<Value>> {
        self.given.get(name).map(|given| self.to_value(given)).transpose()
    }

    pub(crate) fn to_value(&self, given: &Json) -> Result<Value> {
        let read = match given {
            Json::Number(number) if number.is_f64() => Value::decimal(&number.to_string()),
            other => Value::from_json(other),
        };
        read.map_err(|malformed| self.error(&format!("has a value that cannot be read: {malformed}")))
    }
}
