//! Calls of several parts (Composite): each part is about up to 200 records, is carried out by itself and in its turn, and
//! all of them count as one call.

use super::apply::{Answered, CALL_MAX, Job, Sent, unanswered};
use super::client::{Call, Client, Need, nothing_happened, read};
use super::errors::of_request;
use super::http::Failure;
use super::position::client_name;
use super::records::{Columns, Look, PAGE_MAX, Page, Row, ShownRecord};
use crate::percent::encoded;
use concord_engine::error::{Code, Error, Result};
use http::Method;
use serde::Deserialize;
use serde_json::value::RawValue;
use std::collections::HashMap;

/// The most parts of one call that are about many records.
pub(super) const PARTS_MAX: usize = 5;
/// The most of them that write where one reads again what was written.
pub(super) const READ_PARTS_MAX: usize = PARTS_MAX - 1;

/// The answer to a call of several parts.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Parts {
    composite_response: Vec<Part>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Part {
    http_status_code: u16,
    body: Box<RawValue>,
}

impl Job {
    /// Changes records and reads them again in one call of several parts: the parts are carried out in their order, each
    /// by itself, and count as one.
    pub(super) async fn update_and_read(&self, part: &[(usize, Sent)]) -> (Vec<Answered>, Look, HashMap<String, ShownRecord>) {
        let look = Look::new((self.behind)());
        let nothing = HashMap::new;
        let columns = match self.object.selected(&self.selection) {
            Ok(fields) => Columns::new(&self.object, fields),
            Err(error) => return (part.iter().map(|_| Answered::Failed(error.clone())).collect(), look, nothing()),
        };
        let (answers, rest) = self.call_of_parts(part, Some(&columns)).await;
        let rows = rest.filter(Part::is_success);
        let rows: Vec<Option<Row>> = rows.and_then(|rows| serde_json::from_str(rows.body.get()).ok()).unwrap_or_default();
        let shown = rows.into_iter().flatten().filter_map(|row| columns.read(&row).ok());
        (answers, look, shown.map(|shown| (shown.id.clone(), shown)).collect())
    }

    /// Makes or deletes records in one call of several parts.
    pub(super) async fn in_parts(&self, part: &[(usize, Sent)]) -> Vec<Answered> {
        self.call_of_parts(part, None).await.0
    }

    /// One call of several parts: the records by 200, and the reading of all of them where columns are given. What is said of
    /// each record, and the answer to the reading.
    async fn call_of_parts(&self, part: &[(usize, Sent)], read_again: Option<&Columns<'_>>) -> (Vec<Answered>, Option<Part>) {
        let mut parts: Vec<String> = part.chunks(CALL_MAX).enumerate().map(|(number, run)| self.part(number, run)).collect();
        if let Some(columns) = read_again {
            let changed = part.iter().filter_map(|(_, sent)| if let Sent::Update(id, _) = sent { Some(id) } else { None });
            let reading = serde_json::json!({
                "method": "POST",
                "url": self.client.settings.path(&format!("composite/sobjects/{}", self.object.name)),
                "referenceId": "r",
                "body": {"ids": changed.collect::<Vec<_>>(), "fields": columns.names()},
            });
            parts.push(reading.to_string());
        }
        let body = format!(r#"{{"allOrNone":false,"collateSubrequests":false,"compositeRequest":[{}]}}"#, parts.join(","));
        let mut call = Call::with_body(Method::POST, self.client.settings.path("composite"), body).needed(self.need());
        call.headers.push(("sforce-call-options", format!("client={}", client_name(&self.mark))));
        let answer = match self.client.call(&format!("writing {}", self.object.name), &call).await {
            Ok(answer) => answer,
            Err(failure) => return (unanswered(part, &failure), None),
        };
        let parts: Parts = match read("the results of a write", &answer.body) {
            Ok(parts) => parts,
            Err(_) => return (part.iter().map(|_| Answered::Unknown).collect(), None),
        };
        let mut parts = parts.composite_response.into_iter();
        let mut answers = Vec::with_capacity(part.len());
        for run in part.chunks(CALL_MAX) {
            match parts.next() {
                Some(one) if one.is_success() => answers.extend(self.results(run, one.body.get().as_bytes())),
                Some(one) => answers.extend(unanswered(run, &one.failure(&self.object.name))),
                None => answers.extend(run.iter().map(|_| Answered::Unknown)),
            }
        }
        (answers, parts.next())
    }

    /// One part: up to 200 records of which the same is wanted. It says by itself whose it is: headers of the whole are not
    /// passed on to it.
    fn part(&self, number: usize, run: &[(usize, Sent)]) -> String {
        let name = client_name(&self.mark);
        let mut records = Vec::with_capacity(run.len());
        let mut gone = Vec::new();
        let mut method = "POST";
        for (_, sent) in run {
            match sent {
                Sent::Create(body) => records.push(self.record(None, body)),
                Sent::Update(id, body) => {
                    method = "PATCH";
                    records.push(self.record(Some(id), body));
                }
                Sent::Delete(id) => gone.push(id.as_str()),
            }
        }
        let url = self.client.settings.path("composite/sobjects");
        let headers = format!(r#"{{"Sforce-Call-Options":"client={name}","Sforce-Auto-Assign":"FALSE"}}"#);
        if gone.is_empty() {
            format!(
                r#"{{"method":"{method}","url":"{url}","referenceId":"w{number}","httpHeaders":{headers},"body":{{"allOrNone":false,"records":[{}]}}}}"#,
                records.join(",")
            )
        } else {
            let url = format!("{url}?ids={}&allOrNone=false", gone.join(","));
            format!(r#"{{"method":"DELETE","url":"{url}","referenceId":"w{number}","httpHeaders":{headers}}}"#)
        }
    }
}

/// The first pages of queries, up to five, by one call. In its body a query may be as long as the org takes one, which no address
/// may.
pub(super) async fn ask(client: &Client, doing: &str, room: &str, queries: &[String], need: Need) -> Result<Vec<Page>> {
    let part = |(number, soql): (usize, &String)| {
        serde_json::json!({
            "method": "GET",
            "url": client.settings.path(&format!("{room}?q={}", encoded(soql))),
            "referenceId": format!("q{number}"),
            "httpHeaders": {"Sforce-Query-Options": format!("batchSize={PAGE_MAX}")},
        })
    };
    let parts: Vec<serde_json::Value> = queries.iter().enumerate().map(part).collect();
    let body = serde_json::json!({"allOrNone": false, "collateSubrequests": false, "compositeRequest": parts});
    let call = Call::with_body(Method::POST, client.settings.path("composite"), body.to_string()).needed(need);
    let answer: Parts = client.json(doing, call).await?;
    if answer.composite_response.len() != queries.len() {
        let came = answer.composite_response.len();
        return Err(Error::new(Code::ProtocolViolation, format!("{doing}: {} answers were to come, {came} came", queries.len())));
    }
    let page = |part: Part| match part.is_success() {
        true => read(doing, part.body.get().as_bytes()),
        false => {
            let error = of_request(doing, part.http_status_code, part.body.get().as_bytes());
            Err(error.at(client.settings.system.clone()))
        }
    };
    answer.composite_response.into_iter().map(page).collect()
}

impl Part {
    fn is_success(&self) -> bool {
        (200..300).contains(&self.http_status_code)
    }

    fn failure(&self, object: &str) -> Failure {
        let error = of_request(&format!("writing {object}"), self.http_status_code, self.body.get().as_bytes());
        Failure { error, sent: !nothing_happened(self.http_status_code) }
    }
}

/// Whether a text that is sent would be taken for a reference in a call of several parts.
pub(super) fn refers(sent: &Sent) -> bool {
    match sent {
        Sent::Create(body) | Sent::Update(_, body) => body.values().any(|value| value.get().contains("@{")),
        Sent::Delete(_) => false,
    }
}
