//! What `check` finds: reach, version, allowance, and for each object whether it can be read, written and captured. Changes
//! nothing in the org.

use super::client::{Call, Need};
use super::cometd::From;
use super::pubsub::{TopicInfo, error_of, is_unknown_topic};
use super::records::page;
use super::schema::{ID, Object};
use super::shared::{Shared, feed_of, topic_of};
use super::stream;
use super::transport::Way;
use concord_engine::config::ChangeDetection;
use concord_engine::connector::{Finding, Severity};
use concord_engine::error::{Code, Error, Result};
use concord_engine::record::ObjectName;
use serde::Deserialize;
use std::collections::HashMap;

/// Less than this share of the day's calls left is worth a word.
const FEW_LEFT_PERCENT: u64 = 10;

/// Looks at the org and at these objects.
pub(super) async fn check(shared: &Shared, objects: &[ObjectName]) -> Result<Vec<Finding>> {
    let system = shared.client.settings.system.clone();
    let mut findings = Vec::new();
    match allowance(shared, &system).await {
        Ok(found) => findings.extend(found),
        Err(error) => return Ok(vec![failed(&system, &error)]),
    }
    for name in objects {
        match shared.look_again(name).await {
            Ok(object) => findings.extend(of_object(shared, name, &object).await),
            Err(error) => findings.push(failed(name.as_str(), &error)),
        }
    }
    Ok(findings)
}

async fn allowance(shared: &Shared, system: &str) -> Result<Vec<Finding>> {
    #[derive(Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct Allowance {
        max: u64,
        remaining: u64,
    }
    let client = &shared.client;
    let limits: HashMap<String, Allowance> = client.json("reading the limits", Call::get(client.settings.path("limits"))).await?;
    let mut findings = vec![fine(system, format!("reached, version {} of the API", client.settings.api_version))];
    for (name, what) in [("DailyApiRequests", "API calls"), ("DailyDeliveredPlatformEvents", "delivered events")] {
        let Some(Allowance { max, remaining }) = limits.get(name) else { continue };
        let few = remaining.saturating_mul(100) < max.saturating_mul(FEW_LEFT_PERCENT);
        findings.push(Finding {
            code: few.then_some(Code::HostedAllowanceUsed),
            about: system.to_owned(),
            message: format!("{remaining} of {max} {what} are left in these 24 hours"),
            remedy: if few { "Run first loads at another time, or raise the allowance.".to_owned() } else { String::new() },
            severity: if few { Severity::Warning } else { Severity::Fine },
        });
    }
    Ok(findings)
}

async fn of_object(shared: &Shared, name: &ObjectName, object: &Object) -> Vec<Finding> {
    let mut findings = Vec::new();
    if !object.queryable {
        let message = format!("the user may not read {name}");
        findings.push(problem(
            name.as_str(),
            Code::PrivilegeMissing,
            message,
            format!("Give the user Read and View All on {name}."),
        ));
        return findings;
    }
    let missing: Vec<&str> = [("Create", object.createable), ("Edit", object.updateable), ("Delete", object.deletable)]
        .into_iter()
        .filter_map(|(right, has)| (!has).then_some(right))
        .collect();
    if !missing.is_empty() {
        findings.push(Finding {
            code: Some(Code::PrivilegeMissing),
            about: name.to_string(),
            message: format!("the user has no right to {} on {name}", missing.join(", ")),
            remedy: format!("Where records shall be written there, give the user {} on {name}.", missing.join(", ")),
            severity: Severity::Warning,
        });
    }
    findings.push(captured(shared, name).await);
    let silent: Vec<&str> = object.fields.iter().filter(|field| field.calculated).map(|field| field.name.as_str()).collect();
    if !silent.is_empty() {
        let message = format!("formula fields change without an event: {}", silent.join(", "));
        let remedy = "Where one is mapped, its changes are seen when the record is next changed, or by `concord verify`.";
        findings.push(Finding {
            code: None,
            about: name.to_string(),
            message,
            remedy: remedy.to_owned(),
            severity: Severity::Advice,
        });
    }
    if let Err(error) =
        page(&shared.client, &format!("reading {name}"), &format!("SELECT {ID} FROM {name} LIMIT 1"), false, Need::Now).await
    {
        findings.push(failed(name.as_str(), &error));
    }
    if findings.iter().all(|finding| finding.severity <= Severity::Advice) {
        findings.push(fine(name.as_str(), format!("the key is {ID}")));
    }
    findings
}

/// Whether change events tell of the object.
async fn captured(shared: &Shared, name: &ObjectName) -> Finding {
    let topic = topic_of(&feed_of(name));
    if shared.client.settings.change_detection == ChangeDetection::Polling {
        let every = shared.client.settings.poll_every.as_secs();
        return fine(name.as_str(), format!("polled every {every} s, as the configuration wants it"));
    }
    match can_capture(shared, &topic).await {
        Ok(()) => match shared.transport.why_polled() {
            None => fine(name.as_str(), format!("change events come through {topic}")),
            Some(why) => Finding {
                code: None,
                about: name.to_string(),
                message: format!("change events come through {topic} by long polling: {why}"),
                remedy: format!(
                    "Nothing to do. Where {} can be reached from here, they come by gRPC.",
                    shared.client.settings.pubsub_url
                ),
                severity: Severity::Advice,
            },
        },
        Err(error) if error.code == Code::HostedEventsOff && shared.client.settings.change_detection == ChangeDetection::Auto => {
            Finding {
                code: None,
                about: name.to_string(),
                message: format!(
                    "no change events come for {name}: it is polled every {} s",
                    shared.client.settings.poll_every.as_secs()
                ),
                remedy: format!("{} Changes are then told within a fraction of a second.", events_remedy(name)),
                severity: Severity::Advice,
            }
        }
        Err(error) if error.code == Code::HostedAllowanceUsed => Finding {
            code: Some(error.code),
            about: name.to_string(),
            message: format!("no change events of {name} are delivered for now: {}", error.message),
            remedy: format!(
                "Until they are it is asked what was touched, every {} s. {}",
                shared.client.settings.poll_every.as_secs(),
                error.code.remedy()
            ),
            severity: Severity::Warning,
        },
        Err(error) if error.code == Code::HostedEventsOff => {
            problem(name.as_str(), error.code, format!("no change events come for {name}"), events_remedy(name))
        }
        Err(error) => failed(name.as_str(), &error),
    }
}

/// Whether a topic can be subscribed to.
pub(super) async fn can_capture(shared: &Shared, topic: &str) -> Result<()> {
    topic_schema(shared, topic).await.map(drop)
}

/// The schema of the events that a topic gives now; `None` where they come by long polling, which does not tell.
pub(super) async fn topic_schema(shared: &Shared, topic: &str) -> Result<Option<String>> {
    if shared.transport.first() == Way::LongPolling {
        return polled_topic(shared, topic).await;
    }
    match streamed_topic(shared, topic).await {
        Err(error) if shared.transport.has_another(&error) => match polled_topic(shared, topic).await {
            Err(other) if other.code != Code::HostedEventsOff => Err(error),
            answered => {
                shared.transport.is_closed(&error);
                answered
            }
        },
        answered => answered.map(Some).inspect(|_| shared.transport.is_open()),
    }
}

async fn polled_topic(shared: &Shared, topic: &str) -> Result<Option<String>> {
    let (channel, _) = stream::channel(shared, topic, From::New).await?;
    channel.close().await;
    Ok(None)
}

async fn streamed_topic(shared: &Shared, topic: &str) -> Result<String> {
    let session = shared.client.auth.session().await?;
    let asked = match shared.pubsub.topic(&session, topic).await {
        Err(status) if super::pubsub::is_session_over(&status) => {
            let session = shared.client.auth.renew(&session).await?;
            shared.pubsub.topic(&session, topic).await
        }
        other => other,
    };
    match asked {
        Ok(TopicInfo { can_subscribe: true, schema_id, .. }) => Ok(schema_id),
        Ok(_) => Err(Error::new(Code::PrivilegeMissing, format!("the user may not subscribe to {topic}"))),
        Err(status) if is_unknown_topic(&status) => Err(Error::new(Code::HostedEventsOff, format!("there is no topic {topic}"))),
        Err(status) => Err(error_of(&format!("asking for {topic}"), &status)),
    }
}

fn events_remedy(name: &ObjectName) -> String {
    format!("In Setup, open Change Data Capture and add {name} to the selected entities.")
}

fn failed(about: &str, error: &Error) -> Finding {
    problem(about, error.code, error.message.clone(), error.code.remedy().to_owned())
}

fn problem(about: &str, code: Code, message: String, remedy: String) -> Finding {
    Finding { code: Some(code), about: about.to_owned(), message, remedy, severity: Severity::Problem }
}

fn fine(about: &str, message: String) -> Finding {
    Finding { code: None, about: about.to_owned(), message, remedy: String::new(), severity: Severity::Fine }
}
