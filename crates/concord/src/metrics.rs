//! The status as Prometheus text, served on a loopback port. Rendered by hand from one plain value, so that what a
//! monitor sees and what `concord status` shows cannot differ. Never served beyond this machine.

use crate::answers::Answerer;
use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use concord_engine::config::Metric as Measure;
use concord_engine::error::{Code, Error, Result};
use concord_engine::runtime::status::{Status, SyncStatus};
use std::fmt::Write;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// How long answers that are under way may still take when the process stops.
const LAST_ANSWERS_MAX: Duration = Duration::from_secs(1);

/// Opens the port; 0 lets the machine choose.
pub async fn open(asked: SocketAddr) -> Result<(TcpListener, SocketAddr)> {
    let port = asked.port();
    let taken = |error: std::io::Error| {
        Error::new(Code::PortTaken, format!("port {port} cannot be opened for metrics")).at(asked.ip().to_string()).because(error)
    };
    let listener = TcpListener::bind(asked).await.map_err(taken)?;
    let address = listener.local_addr().map_err(taken)?;
    Ok((listener, address))
}

/// Answers `GET /metrics` until told to stop. Who has sent a part of a question by then is not waited for long.
pub async fn serve(listener: TcpListener, answerer: watch::Receiver<Answerer>, shutdown: CancellationToken) {
    let router = Router::new().route("/metrics", get(answer)).with_state(answerer);
    let server = axum::serve(listener, router).with_graceful_shutdown(shutdown.clone().cancelled_owned());
    let patience = async {
        shutdown.cancelled().await;
        tokio::time::sleep(LAST_ANSWERS_MAX).await;
    };
    tokio::select! {
        served = server.into_future() => if let Err(error) = served {
            tracing::warn!(%error, "metrics are no longer served");
        },
        () = patience => {}
    }
}

async fn answer(State(answerer): State<watch::Receiver<Answerer>>) -> Response {
    let answerer = answerer.borrow().clone();
    let measures = |sync: &str, metric: Measure| answerer.measures(sync, metric);
    match answerer.status().await {
        Ok(status) => ([(CONTENT_TYPE, "text/plain; version=0.0.4")], render(&status, measures)).into_response(),
        Err(error) => (StatusCode::SERVICE_UNAVAILABLE, format!("{error}\n")).into_response(),
    }
}

/// One metric with its samples.
struct Metric<'a> {
    text: &'a mut String,
    name: &'static str,
}

impl Metric<'_> {
    fn open<'a>(text: &'a mut String, name: &'static str, kind: &str, help: &str) -> Metric<'a> {
        let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} {kind}");
        Metric { text, name }
    }

    fn sample(&mut self, labels: &[(&str, &str)], value: impl std::fmt::Display) {
        let labels: Vec<String> = labels.iter().map(|(name, value)| format!("{name}=\"{}\"", escaped(value))).collect();
        let _ = writeln!(self.text, "{}{{{}}} {value}", self.name, labels.join(","));
    }
}

/// A label's value: backslash, quote and line break are escaped, as the exposition format demands.
fn escaped(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

/// The status in the text format of Prometheus, version 0.0.4. `measures` says whether a sync wants one of the measures that it
/// can do without.
pub fn render(status: &Status, measures: impl Fn(&str, Measure) -> bool) -> String {
    let mut text = String::new();
    render_syncs(status, &measures, &mut text);
    render_members(status, &mut text);
    render_feeds(status, &mut text);
    text
}

fn render_syncs(status: &Status, measures: &impl Fn(&str, Measure) -> bool, text: &mut String) {
    type Read = fn(&SyncStatus) -> f64;
    #[allow(clippy::cast_precision_loss, reason = "counters beyond 2^53 are not reached, and a metric is a float anyway")]
    let metrics: [(&'static str, &str, &str, Read); 8] = [
        ("concord_links", "gauge", "Records known, per sync.", |sync| sync.links as f64),
        ("concord_observed_total", "counter", "Changes seen since the start.", |sync| sync.observed as f64),
        ("concord_written_total", "counter", "Records written since the start.", |sync| sync.written as f64),
        ("concord_failed_total", "counter", "Writes that failed since the start.", |sync| sync.failed as f64),
        ("concord_rate", "gauge", "Records written per second, over the last ten seconds.", |sync| sync.rate),
        ("concord_error_rate", "gauge", "Share of writes that failed in the last five minutes.", |sync| sync.error_rate),
        ("concord_review_open", "gauge", "Items that wait for a person.", |sync| sync.review as f64),
        ("concord_level", "gauge", "1 when nothing is left to do.", |sync| f64::from(u8::from(sync.level))),
    ];
    for (name, kind, help, read) in metrics {
        let wanted = match name {
            "concord_rate" => Some(Measure::Throughput),
            "concord_error_rate" => Some(Measure::ErrorRate),
            _ => None,
        };
        let mut metric = Metric::open(text, name, kind, help);
        for sync in status.syncs.iter().filter(|sync| wanted.is_none_or(|wanted| measures(&sync.name, wanted))) {
            metric.sample(&[("sync", &sync.name)], read(sync));
        }
    }
    let verified: Vec<_> = status.syncs.iter().filter_map(|sync| Some((&sync.name, sync.verified.as_ref()?))).collect();
    let mut equal = Metric::open(text, "concord_verified_equal", "gauge", "1 when the last verification found both sides equal.");
    for (name, last) in &verified {
        equal.sample(&[("sync", name)], u8::from(last.equal));
    }
    let mut through = Metric::open(text, "concord_verified_timestamp_seconds", "gauge", "When the last verification began.");
    for (name, last) in &verified {
        if let Ok(moment) = last.through.parse::<jiff::Timestamp>() {
            through.sample(&[("sync", name)], moment.as_second());
        }
    }
    let timed: Vec<&SyncStatus> = status.syncs.iter().filter(|sync| measures(&sync.name, Measure::SyncLatency)).collect();
    render_latency(&timed, text);
}

/// Latencies twice: as a histogram, which a monitor can add up over processes and time, and as quantiles since the start.
fn render_latency(syncs: &[&SyncStatus], text: &mut String) {
    let help = "Time from the commit of an edit to the commit of our write.";
    let _ = Metric::open(text, "concord_latency_seconds", "histogram", help);
    #[allow(clippy::cast_precision_loss, reason = "a bound in milliseconds fits a float exactly")]
    for sync in syncs {
        let (name, count) = (escaped(&sync.name), sync.latency_ms.count);
        for (bound, no_longer) in &sync.latency_histogram.at_most_ms {
            let bound = *bound as f64 / 1000.0;
            let _ = writeln!(text, "concord_latency_seconds_bucket{{sync=\"{name}\",le=\"{bound}\"}} {no_longer}");
        }
        let _ = writeln!(text, "concord_latency_seconds_bucket{{sync=\"{name}\",le=\"+Inf\"}} {count}");
        let _ = writeln!(text, "concord_latency_seconds_sum{{sync=\"{name}\"}} {}", sync.latency_histogram.sum_ms / 1000.0);
        let _ = writeln!(text, "concord_latency_seconds_count{{sync=\"{name}\"}} {count}");
    }
    let mut quantiles = Metric::open(
        text,
        "concord_latency_quantile_seconds",
        "gauge",
        "Quantiles of the same since the start; 1 is the longest.",
    );
    for sync in syncs {
        let latencies = sync.latency_ms;
        for (quantile, milliseconds) in
            [("0.5", latencies.p50), ("0.95", latencies.p95), ("0.99", latencies.p99), ("1", latencies.max)]
        {
            quantiles.sample(&[("sync", &sync.name), ("quantile", quantile)], milliseconds / 1000.0);
        }
    }
}

fn render_members(status: &Status, text: &mut String) {
    type Read = fn(&concord_engine::runtime::status::MemberStatus) -> u64;
    let metrics: [(&'static str, &str, Read); 4] = [
        ("concord_pending", "Observations not yet taken into account.", |member| member.pending),
        ("concord_owed", "Writes owed to the member.", |member| member.owed),
        ("concord_in_flight", "Writes under way to the member.", |member| member.in_flight),
        ("concord_member_up", "1 when the member can be reached.", |member| u64::from(member.reach == "up")),
    ];
    for (name, help, read) in metrics {
        let mut metric = Metric::open(text, name, "gauge", help);
        for sync in &status.syncs {
            for member in &sync.members {
                metric.sample(&[("sync", &sync.name), ("system", &member.system), ("object", &member.object)], read(member));
            }
        }
    }
}

fn render_feeds(status: &Status, text: &mut String) {
    let mut retained =
        Metric::open(text, "concord_feed_retained_bytes", "gauge", "Bytes of log that the source keeps because of us.");
    for feed in &status.feeds {
        if let Some(bytes) = feed.retained_bytes {
            retained.sample(&[("system", &feed.system), ("feed", &feed.feed)], bytes);
        }
    }
    let mut lag = Metric::open(text, "concord_feed_lag_seconds", "gauge", "Age of the newest event when it arrived.");
    for feed in &status.feeds {
        if let Some(milliseconds) = feed.lag_ms {
            #[allow(clippy::cast_precision_loss, reason = "a lag in milliseconds fits a float exactly")]
            lag.sample(&[("system", &feed.system), ("feed", &feed.feed)], milliseconds as f64 / 1000.0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use concord_engine::runtime::status::{FeedStatus, LastVerified, LatencyHistogram, MemberStatus, Percentiles};

    fn status() -> Status {
        Status {
            syncs: vec![SyncStatus {
                name: "acc\"ounts".into(),
                written: 7,
                error_rate: 0.125,
                latency_histogram: LatencyHistogram { at_most_ms: vec![(2, 3), (5, 6)], sum_ms: 16.0 },
                verified: Some(LastVerified { through: "2026-01-01T00:00:00Z".into(), equal: true, records: 7, differing: 0 }),
                latency_ms: Percentiles { count: 7, p50: 2.0, p95: 3.0, p99: 4.0, max: 5.0 },
                members: vec![MemberStatus {
                    system: "crm".into(),
                    object: "a".into(),
                    owed: 3,
                    reach: "up".into(),
                    ..Default::default()
                }],
                ..Default::default()
            }],
            feeds: vec![FeedStatus {
                system: "crm".into(),
                feed: "f".into(),
                retained_bytes: Some(1024),
                lag_ms: Some(1500),
                ..Default::default()
            }],
            ..Status::default()
        }
    }

    #[test]
    fn the_text_follows_the_exposition_format() {
        let text = render(&status(), |_, _| true);
        for line in text.lines() {
            let fine = line.starts_with("# HELP ")
                || line.starts_with("# TYPE ")
                || line.rsplit_once("} ").is_some_and(|(head, value)| head.contains('{') && value.parse::<f64>().is_ok());
            assert!(fine, "{line}");
        }
    }

    #[test]
    fn a_sync_is_measured_as_it_asks() {
        let mut status = status();
        status.syncs.push(SyncStatus { name: "orders".into(), ..SyncStatus::default() });
        let text = render(&status, |sync, measure| sync == "orders" || measure == Measure::ErrorRate);
        let of = |name: &str| {
            let told = |sync: &str| text.lines().any(|line| line.starts_with(&format!("{name}{{sync=\"{sync}\"")));
            (told("acc\\\"ounts"), told("orders"))
        };
        for left_out in [
            "concord_latency_seconds_count",
            "concord_latency_seconds_bucket",
            "concord_latency_quantile_seconds",
            "concord_rate",
        ] {
            assert_eq!(of(left_out), (false, true), "{left_out} in\n{text}");
        }
        for told in ["concord_error_rate", "concord_written_total", "concord_level"] {
            assert_eq!(of(told), (true, true), "{told} in\n{text}");
        }
    }

    #[test]
    fn values_and_escaped_labels_arrive() {
        let text = render(&status(), |_, _| true);
        for expected in [
            "concord_written_total{sync=\"acc\\\"ounts\"} 7",
            "concord_latency_quantile_seconds{sync=\"acc\\\"ounts\",quantile=\"0.99\"} 0.004",
            "concord_latency_seconds_bucket{sync=\"acc\\\"ounts\",le=\"0.005\"} 6",
            "concord_latency_seconds_bucket{sync=\"acc\\\"ounts\",le=\"+Inf\"} 7",
            "concord_latency_seconds_sum{sync=\"acc\\\"ounts\"} 0.016",
            "concord_error_rate{sync=\"acc\\\"ounts\"} 0.125",
            "concord_verified_timestamp_seconds{sync=\"acc\\\"ounts\"} 1767225600",
            "concord_owed{sync=\"acc\\\"ounts\",system=\"crm\",object=\"a\"} 3",
            "concord_feed_retained_bytes{system=\"crm\",feed=\"f\"} 1024",
            "concord_feed_lag_seconds{system=\"crm\",feed=\"f\"} 1.5",
        ] {
            assert!(text.contains(expected), "{expected} is not in\n{text}");
        }
    }
}
