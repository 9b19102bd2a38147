//! What a test does to the simulator over HTTP, under /_sim: the clock, faults, the journal, people's edits, the schema,
//! rules, allocations, and a look at every record. No part of the vendor's interface; never counted, never at fault.

use super::auth::{App, token_for_test};
use super::dml::Refused;
use super::events::{Channel, Event, PlatformEvent};
use super::front::Front;
use super::ids::Id;
use super::limits::Limit;
use super::org::INTEGRATION_USER;
use super::person::Person;
use super::rules::RuleFile;
use super::schema::SchemaFile;
use crate::faults::Fault;
use crate::net::http::{Answer, Request, parameters};
use serde::de::DeserializeOwned;
use serde_json::{Map, Value as Json, json};
use std::sync::Arc;

/// The most events that are shown at once.
const EVENTS_SHOWN_MAX: usize = 10_000;

type Result<T> = std::result::Result<T, String>;

/// Answers a request under /_sim.
pub fn handle(front: &Front, request: &Request) -> Answer {
    let parts: Vec<&str> = request.path.split('/').filter(|part| !part.is_empty()).skip(1).collect();
    match act(front, request, &parts) {
        Ok(answer) => answer,
        Err(words) => Answer::json(400, &json!({"error": words})),
    }
}

fn act(front: &Front, request: &Request, parts: &[&str]) -> Result<Answer> {
    let org = &*front.org;
    let done = || Ok(Answer::json(200, &json!({"done": true})));
    match (request.method.as_str(), parts) {
        ("GET", []) => {
            let now_ms = org.clock.now_ms();
            let calls = org.state().limits.used(Limit::DailyApiRequests, now_ms);
            Ok(Answer::json(
                200,
                &json!({"org_id": org.id.to_string(), "my_domain": org.options.my_domain,
                "http": front.addresses.http, "https": front.addresses.https, "pubsub": front.addresses.pubsub,
                "proxy": front.addresses.proxy, "now_ms": now_ms, "api_calls": calls}),
            ))
        }
        ("GET", ["ca.pem"]) => Ok(Answer::of(200, "application/x-pem-file", front.authority_pem.clone())),
        ("POST", ["session"]) => session(front, request),
        ("DELETE", ["sessions"]) => {
            org.state().auth.end_all_sessions();
            done()
        }
        ("DELETE", ["grants"]) => {
            org.state().auth.end_all_grants();
            done()
        }
        ("POST", ["consent"]) => {
            org.state().auth.denies =
                !body::<Json>(request)?.get("given").and_then(Json::as_bool).ok_or("given: true or false")?;
            done()
        }
        ("POST", ["apps"]) => {
            let app: App = body(request)?;
            let auth = &mut org.state().auth;
            auth.apps.retain(|known| known.client_id != app.client_id);
            auth.apps.push(app);
            done()
        }
        ("POST", ["clock"]) => clock(front, &body(request)?),
        ("POST", ["faults"]) => {
            let fault: Fault = body(request)?;
            let number = org.faults.add(fault);
            // A fault of streams takes effect now, not with the next event.
            org.wake_streams();
            Ok(Answer::json(200, &json!({"number": number})))
        }
        ("GET", ["faults"]) => Ok(Answer::json(200, &org.faults.counts())),
        ("DELETE", ["faults"]) => {
            org.faults.clear();
            done()
        }
        ("DELETE", ["faults", number]) => {
            org.faults.remove(number.parse().map_err(|_| "which fault?")?);
            done()
        }
        ("GET", ["journal"]) => Ok(Answer::json(200, &org.journal.since(since(request).unwrap_or(0)))),
        ("GET", ["events"]) => {
            let events = org.state().events.after(&Channel::All, since(request).unwrap_or(0), EVENTS_SHOWN_MAX);
            let shown = |event: &Arc<Event>| {
                json!({"replay_id": event.replay_id, "object": event.entity, "change": event.change.name(),
                    "ids": event.record_ids, "origin": event.origin, "commit_ms": event.commit_ms})
            };
            Ok(Answer::json(200, &events.iter().map(shown).collect::<Vec<_>>()))
        }
        ("POST", ["person"]) => person(front, &body(request)?),
        ("GET", ["records", object]) => {
            let deleted = parameters(&request.query).iter().any(|(key, value)| key == "deleted" && value == "true");
            Ok(Answer::of(200, "application/json", org.records(object, deleted)?))
        }
        ("POST", ["schema"]) => {
            org.add_schema(&body::<SchemaFile>(request)?)?;
            done()
        }
        ("DELETE", ["schema", object, field]) => {
            org.remove_field(object, field)?;
            done()
        }
        ("POST", ["rules"]) => {
            org.state().rules.add(body::<RuleFile>(request)?)?;
            done()
        }
        ("DELETE", ["rules"]) => {
            org.state().rules.clear();
            done()
        }
        ("POST", ["limits"]) => {
            for (name, max) in body::<Map<String, Json>>(request)? {
                let limit = Limit::ALL.iter().find(|(_, own)| *own == name).ok_or_else(|| format!("no limit {name}"))?.0;
                org.state().limits.set_max(limit, max.as_u64().ok_or("a number")?);
            }
            org.wake_streams();
            done()
        }
        ("POST", ["channels"]) => {
            let channels: std::collections::HashMap<String, Vec<String>> = body(request)?;
            org.state().events.channels.extend(channels);
            done()
        }
        ("POST", ["platform_events"]) => {
            for (name, fields) in body::<Map<String, Json>>(request)? {
                let fields = fields.as_object().ok_or("its fields, by name")?;
                org.state().events.define(PlatformEvent::define(&name, fields)?);
            }
            done()
        }
        ("GET", ["platform_events"]) => {
            let state = org.state();
            let events = state.events.after(&state.events.all_published(), since(request).unwrap_or(0), EVENTS_SHOWN_MAX);
            let shown = |event: &Arc<Event>| {
                let fields = event.published.as_ref().map(|published| &published.fields);
                json!({"replay_id": event.replay_id, "name": event.entity, "id": event.event_id, "fields": fields})
            };
            Ok(Answer::json(200, &events.iter().map(shown).collect::<Vec<_>>()))
        }
        ("GET", ["managed"]) => {
            let state = org.state();
            let shown = state.managed.all().map(|(id, managed)| {
                json!({"id": id.to_string(), "name": managed.name, "topic": managed.topic, "runs": managed.runs,
                    "committed": managed.committed, "active": managed.active})
            });
            Ok(Answer::json(200, &shown.collect::<Vec<_>>()))
        }
        ("POST", ["jobs"]) => {
            let held = body::<Json>(request)?.get("held").and_then(Json::as_bool).ok_or("held: true or false")?;
            org.state().jobs.held = held;
            done()
        }
        ("DELETE", ["cursors"]) => {
            org.state().cursors.close_all();
            done()
        }
        _ => Ok(Answer::json(404, &json!({"error": "nothing here"}))),
    }
}

/// What comes behind this number is asked for.
fn since(request: &Request) -> Option<u64> {
    parameters(&request.query).iter().find(|(key, _)| key == "since").and_then(|(_, text)| text.parse().ok())
}

fn body<T: DeserializeOwned>(request: &Request) -> Result<T> {
    let bytes: &[u8] = if request.body.is_empty() { b"{}" } else { &request.body };
    serde_json::from_slice(bytes).map_err(|error| error.to_string())
}

fn session(front: &Front, request: &Request) -> Result<Answer> {
    let body: Json = body(request)?;
    let username = body.get("username").and_then(Json::as_str).unwrap_or(INTEGRATION_USER);
    let token = token_for_test(&front.org, username).ok_or("no such user")?;
    let scheme = if request.secure { "https" } else { "http" };
    Ok(Answer::json(
        200,
        &json!({"access_token": token, "instance_url": format!("{scheme}://{}", request.host),
        "https_url": format!("https://localhost:{}", front.addresses.https.port()), "org_id": front.org.id.to_string()}),
    ))
}

fn clock(front: &Front, body: &Json) -> Result<Answer> {
    let clock = &front.org.clock;
    if body.get("freeze") == Some(&json!(true)) {
        clock.freeze();
    }
    if body.get("resume") == Some(&json!(true)) {
        clock.resume();
    }
    if let Some(to_ms) = body.get("set_ms").and_then(Json::as_i64) {
        clock.set(to_ms);
    }
    if let Some(by_ms) = body.get("advance_ms").and_then(Json::as_i64) {
        clock.advance(by_ms);
    }
    front.org.wake_streams();
    Ok(Answer::json(200, &json!({"now_ms": clock.now_ms()})))
}

fn person(front: &Front, body: &Json) -> Result<Answer> {
    let person = Person { org: &front.org };
    let text = |key: &str| body.get(key).and_then(Json::as_str).unwrap_or("").to_string();
    let object = text("object");
    let id = || Id::parse(&text("id")).ok_or("id: which record?");
    let fields = body.get("fields").and_then(Json::as_object).cloned().unwrap_or_default();
    let ids = |key: &str| -> Vec<Id> {
        let all = body.get(key).and_then(Json::as_array).cloned().unwrap_or_default();
        all.iter().filter_map(|id| Id::parse(id.as_str()?)).collect()
    };
    let made: std::result::Result<Vec<Id>, Refused> = match text("do").as_str() {
        "create" => match body.get("records").and_then(Json::as_array) {
            Some(records) => {
                let records: Vec<Map<String, Json>> = records.iter().filter_map(|one| one.as_object().cloned()).collect();
                person.create_all(&object, &records)
            }
            None => person.create(&object, &fields).map(|id| vec![id]),
        },
        "update" if body.get("ids").is_some() => person.update_all(&object, &ids("ids"), &fields),
        "update" => person.update(&object, id()?, &fields).map(|id| vec![id]),
        "delete" => person.delete(&object, id()?).map(|id| vec![id]),
        "hard_delete" => person.hard_delete(&object, id()?).map(|id| vec![id]),
        "undelete" => person.undelete(&object, id()?).map(|id| vec![id]),
        "hide" => person.hide(&object, id()?, true).map(|id| vec![id]),
        "share" => person.hide(&object, id()?, false).map(|id| vec![id]),
        "merge" => person.merge(&object, id()?, &ids("losers"), &fields).map(|id| vec![id]),
        other => return Err(format!("do: create, update, delete, hard_delete, undelete, hide, share or merge, not {other:?}")),
    };
    Ok(match made {
        Ok(ids) => {
            let ids: Vec<String> = ids.iter().map(Id::to_string).collect();
            Answer::json(200, &json!({"id": ids.first(), "ids": ids}))
        }
        Err(errors) => Answer::json(400, &json!({"errors": errors})),
    })
}
