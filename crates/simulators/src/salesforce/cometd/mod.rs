//! CometD: change events by long polling, for networks that are closed to gRPC. Owns clients and their subscriptions;
//! the events are those of the log, told with names and texts.

mod message;

use super::events::Channel;
use super::limits::Limit;
use super::org::Org;
use super::state::State;
use super::values::time;
use crate::net::http::{Answer, Request};
use serde_json::{Value as Json, json};
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

/// A connect is held so long.
const HOLD_MS: i64 = 110_000;
/// A client that does not come back so long is forgotten.
const AWAY_MS: i64 = 40_000;
/// Most events of one answer.
const EVENTS_MAX: usize = 100;

/// Clients that shook hands.
#[derive(Debug, Default)]
pub struct Clients {
    clients: HashMap<String, Client>,
}

#[derive(Debug)]
struct Client {
    subscriptions: BTreeMap<String, (Channel, u64)>,
    seen_ms: i64,
    connected: bool,
}

/// Answers a request under /cometd.
pub async fn handle(org: &Arc<Org>, request: &Request) -> Answer {
    let messages = match serde_json::from_slice::<Json>(&request.body) {
        Ok(Json::Array(messages)) => messages,
        Ok(message @ Json::Object(_)) => vec![message],
        _ => return Answer::json(400, &json!([{"successful": false, "error": "400::Bad request"}])),
    };
    let token = request.header("authorization").and_then(|header| header.split_once(' ')).map_or("", |(_, token)| token);
    let known = org.state().auth.session(token, org.clock.now_ms()).is_some();
    if !known {
        let failure = |message: &Json| {
            let channel = message.get("channel").cloned().unwrap_or_default();
            json!({"channel": channel, "id": message.get("id"), "successful": false, "error": "401::Authentication invalid",
                "advice": {"reconnect": "none"}, "ext": {"sfdc": {"failureReason": "401::Authentication invalid"}}})
        };
        return dated(org, Answer::json(401, &messages.iter().map(failure).collect::<Vec<_>>()));
    }
    let mut answers = Vec::new();
    // A connect is held: whatever came with it is done before.
    let held = |message: &&Json| message.get("channel") == Some(&json!("/meta/connect"));
    let (connects, others): (Vec<&Json>, Vec<&Json>) = messages.iter().partition(held);
    for message in others.into_iter().chain(connects) {
        let channel = message.get("channel").and_then(Json::as_str).unwrap_or("");
        let mut said = match channel {
            "/meta/handshake" => vec![handshake(org)],
            "/meta/connect" => connect(org, message).await,
            "/meta/subscribe" => vec![subscribe(org, message)],
            "/meta/unsubscribe" => vec![unsubscribe(org, message)],
            "/meta/disconnect" => {
                org.state().streaming.clients.remove(client_id(message));
                vec![json!({"channel": channel, "successful": true})]
            }
            _ => vec![json!({"channel": channel, "successful": false, "error": "403::Publishing is not allowed"})],
        };
        if let (Some(id), Some(last)) = (message.get("id"), said.last_mut().and_then(Json::as_object_mut)) {
            last.insert("id".into(), id.clone());
        }
        answers.extend(said);
    }
    dated(org, Answer::json(200, &answers).with("Set-Cookie", "BAYEUX_BROWSER=simulated; Path=/; HttpOnly"))
}

/// With the org's own time.
fn dated(org: &Org, answer: Answer) -> Answer {
    answer.with("Date", time::http_date(org.clock.now_ms()))
}

fn client_id(message: &Json) -> &str {
    message.get("clientId").and_then(Json::as_str).unwrap_or("")
}

fn unknown(channel: &str) -> Json {
    json!({"channel": channel, "successful": false, "error": "403::Unknown client",
        "advice": {"interval": 0, "reconnect": "handshake"}})
}

/// The allocation of deliveries is used up.
fn used_up(channel: &str, message: &Json) -> Json {
    json!({"channel": channel, "clientId": client_id(message), "subscription": message.get("subscription"), "successful": false,
        "error": "403::Organization total events daily limit exceeded"})
}

fn handshake(org: &Org) -> Json {
    let now_ms = org.clock.now_ms();
    let state = &mut *org.state();
    let id = state.chance.token(27);
    state.streaming.clients.insert(id.clone(), Client { subscriptions: BTreeMap::new(), seen_ms: now_ms, connected: false });
    json!({"channel": "/meta/handshake", "version": "1.0", "minimumVersion": "1.0", "successful": true, "clientId": id,
        "supportedConnectionTypes": ["long-polling"], "ext": {"replay": true, "payload.format": true},
        "advice": {"interval": 0, "timeout": HOLD_MS, "reconnect": "retry"}})
}

fn subscribe(org: &Org, message: &Json) -> Json {
    let topic = message.get("subscription").and_then(Json::as_str).unwrap_or("").to_string();
    let refuse = |error: String| json!({"channel": "/meta/subscribe", "clientId": client_id(message), "subscription": topic, "successful": false, "error": error});
    let now_ms = org.clock.now_ms();
    let state = &mut *org.state();
    state.events.forget(now_ms);
    let Some(channel) = state.events.channel(&state.data.schema, &topic) else {
        return refuse(format!("400::The channel you requested to subscribe to does not exist: {topic}"));
    };
    if state.limits.left(Limit::DailyDeliveredPlatformEvents, now_ms) == 0 {
        return used_up("/meta/subscribe", message);
    }
    let replay = message.pointer("/ext/replay").and_then(|replays| replays.get(&topic)).and_then(Json::as_i64).unwrap_or(-1);
    let position = match replay {
        -1 => state.events.latest(),
        -2 => state.events.earliest(),
        id => match u64::try_from(id).ok().filter(|id| state.events.knows(*id)) {
            Some(id) => id,
            None => {
                return refuse(format!(
                    "400::The replayId {{{id}}} you provided was invalid.  Please provide a valid ID, -2 to replay all events, \
                     or -1 to replay only new events."
                ));
            }
        },
    };
    let Some(client) = state.streaming.clients.get_mut(client_id(message)) else { return unknown("/meta/subscribe") };
    client.subscriptions.insert(topic.clone(), (channel, position));
    org.wake_streams();
    json!({"channel": "/meta/subscribe", "clientId": client_id(message), "subscription": topic, "successful": true})
}

fn unsubscribe(org: &Org, message: &Json) -> Json {
    let topic = message.get("subscription").and_then(Json::as_str).unwrap_or("");
    let state = &mut *org.state();
    match state.streaming.clients.get_mut(client_id(message)) {
        Some(client) => {
            client.subscriptions.remove(topic);
            json!({"channel": "/meta/unsubscribe", "clientId": client_id(message), "subscription": topic, "successful": true})
        }
        None => unknown("/meta/unsubscribe"),
    }
}

/// Held until there is something to say. The first connect is answered at once, as Bayeux has it.
async fn connect(org: &Org, message: &Json) -> Vec<Json> {
    let id = client_id(message).to_string();
    let mut published = org.published.subscribe();
    let start_ms = org.clock.now_ms();
    let answer = json!({"channel": "/meta/connect", "clientId": id, "successful": true});
    loop {
        published.mark_unchanged();
        let now_ms = org.clock.now_ms();
        let late_ms = {
            let State { events, chance, streaming, limits, .. } = &mut *org.state();
            let late_ms = events.release_late(now_ms, chance);
            let Some(client) = streaming.clients.get_mut(&id) else { return vec![unknown("/meta/connect")] };
            if now_ms == start_ms && now_ms - client.seen_ms > AWAY_MS {
                streaming.clients.remove(&id);
                return vec![unknown("/meta/connect")];
            }
            client.seen_ms = now_ms;
            let mut said = Vec::new();
            for (topic, (channel, position)) in &mut client.subscriptions {
                let left = usize::try_from(limits.left(Limit::DailyDeliveredPlatformEvents, now_ms)).unwrap_or(usize::MAX);
                if left == 0 && said.is_empty() {
                    return vec![used_up("/meta/connect", message)];
                }
                let batch = events.after(channel, *position, EVENTS_MAX.min(left));
                limits.take(Limit::DailyDeliveredPlatformEvents, u64::try_from(batch.len()).unwrap_or(u64::MAX), now_ms);
                for event in batch {
                    *position = event.replay_id;
                    said.push(message::of(topic, &event));
                }
            }
            let first = !std::mem::replace(&mut client.connected, true);
            if !said.is_empty() || first || now_ms - start_ms >= HOLD_MS {
                said.push(answer);
                return said;
            }
            late_ms
        };
        let wake_ms = (start_ms + HOLD_MS).min(late_ms.unwrap_or(i64::MAX));
        tokio::select! {
            _ = published.changed() => {}
            () = org.clock.sleep_until(wake_ms) => {}
            () = org.shutdown.cancelled() => return vec![answer],
        }
    }
}
