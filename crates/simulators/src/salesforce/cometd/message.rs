//! A change event as CometD tells it: names instead of bitmaps, moments as texts.

use crate::salesforce::events::{Body, Event, Part};
use crate::salesforce::values::{Value, time};
use serde_json::{Map, Value as Json, json};

/// The message of an event on a channel.
pub fn of(topic: &str, event: &Event) -> Json {
    if let Some(published) = &event.published {
        let mut payload = published.fields.clone();
        if let Some(Json::Number(ms)) = payload.get("CreatedDate").cloned() {
            payload.insert("CreatedDate".into(), json!(time::datetime_z(ms.as_i64().unwrap_or(0))));
        }
        let numbered = json!({"replayId": event.replay_id, "EventUuid": event.event_id});
        return json!({"channel": topic, "data": {"schema": event.shape.id, "payload": payload, "event": numbered}});
    }
    let mut payload = Map::new();
    for body in &event.body {
        match body {
            Body::Plain(at, own) => {
                if let Some(field) = event.shape.fields.get(*at) {
                    payload.insert(field.name.clone(), plain(own));
                }
            }
            Body::Parts(at, parts) => {
                let Some(field) = event.shape.fields.get(*at) else { continue };
                let named = parts.iter().filter_map(|(part, own)| Some((field.parts.get(*part)?.0.clone(), plain(own))));
                payload.insert(field.name.clone(), Json::Object(named.collect()));
            }
        }
    }
    for (at, part) in &event.nulled {
        if let (Some(field), None) = (event.shape.fields.get(*at), part) {
            payload.insert(field.name.clone(), Json::Null);
        }
    }
    payload.insert(
        "ChangeEventHeader".into(),
        json!({
            "commitNumber": event.commit_number, "commitUser": event.user, "sequenceNumber": event.sequence,
            "entityName": event.entity, "changeType": event.change.name(), "changedFields": names(event, &event.changed),
            "nulledFields": names(event, &event.nulled), "diffFields": names(event, &event.differing), "changeOrigin": event.origin,
            "transactionKey": event.transaction_key, "commitTimestamp": event.commit_ms, "recordIds": event.record_ids
        }),
    );
    json!({"channel": topic, "data": {"schema": event.shape.id, "payload": payload, "event": {"replayId": event.replay_id}}})
}

fn names(event: &Event, parts: &[Part]) -> Vec<String> {
    let name = |(at, part): &Part| {
        let field = event.shape.fields.get(*at)?;
        Some(match part {
            Some(part) => format!("{}.{}", field.name, field.parts.get(*part)?.0),
            None => field.name.clone(),
        })
    };
    parts.iter().filter_map(name).collect()
}

fn plain(own: &Value) -> Json {
    match own {
        Value::DateTime(ms) => json!(time::datetime_z(*ms)),
        other => serde_json::to_value(other).unwrap_or_default(),
    }
}
