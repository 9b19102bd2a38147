//! Triggers and flows: what an administrator's automation does to a record while it is saved.

use super::{Refused, Writer, refused};
use crate::salesforce::formula::merge;
use crate::salesforce::record::Record;
use crate::salesforce::rules::{Event, TriggerSpec};
use crate::salesforce::schema::Object;
use crate::salesforce::values::read::{Given, read};
use serde_json::Value as Json;
use std::sync::Arc;

impl Writer<'_> {
    /// Runs every trigger of the object that applies, in order.
    pub(super) fn run_triggers(
        &self,
        object: &Arc<Object>,
        old: Option<&Record>,
        record: &mut Record,
        event: Event,
    ) -> Result<(), Refused> {
        for (spec, condition) in &self.rules.triggers {
            let applies = spec.object.eq_ignore_ascii_case(&object.name)
                && (spec.on.is_empty() || spec.on.contains(&event))
                && changed(spec, object, old, record)
                && condition.as_ref().is_none_or(|condition| self.holds(object, record, condition));
            if !applies {
                continue;
            }
            if let Some(words) = &spec.fail {
                return Err(refused("CANNOT_INSERT_UPDATE_ACTIVATE_ENTITY", words));
            }
            for (name, value) in &spec.set {
                let Some((at, field)) = object.field(name) else {
                    return Err(refused("CANNOT_INSERT_UPDATE_ACTIVATE_ENTITY", &format!("no field {name}")));
                };
                let value = match value {
                    Json::String(text) => Json::String(merge(object, record, text)),
                    other => other.clone(),
                };
                record.set(at, read(field, &Given::Json(value)).map_err(|error| vec![error])?);
            }
        }
        Ok(())
    }
}

fn changed(spec: &TriggerSpec, object: &Object, old: Option<&Record>, record: &Record) -> bool {
    let places = spec.changed.iter().filter_map(|name| object.field(name).map(|(at, _)| at));
    spec.changed.is_empty()
        || places.into_iter().any(|at| match old {
            Some(old) => old.get(at) != record.get(at),
            None => !record.get(at).is_null(),
        })
}
