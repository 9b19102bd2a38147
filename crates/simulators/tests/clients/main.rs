//! The simulator against clients that others wrote, unmodified: what they decode must equal the simulator's own state.
//! A client that disagrees is right until the vendor's documentation says otherwise. The scripts are in `clients/`; the
//! clients are installed by `tools/setup.sh`, and a test fails where they are not.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test says what is wrong by failing")]

use concord_simulators::salesforce::{Options, Simulator};
use std::path::{Path, PathBuf};
use std::process::Output;
use std::time::Duration;

/// Longest run of one script.
const SCRIPT_SECONDS_MAX: u64 = 240;

/// Where `tools/setup.sh` put the clients.
fn clients() -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join("../tools/clients")
}

/// The interpreter of a script, and what it needs in its environment.
fn interpreter(script: &str) -> (PathBuf, Vec<(&'static str, PathBuf)>) {
    let (program, environment) = if script.ends_with(".py") {
        (clients().join("python/bin/python"), Vec::new())
    } else {
        let modules = clients().join("node/node_modules");
        assert!(modules.is_dir(), "{}: the Node clients are not installed; run tools/setup.sh", modules.display());
        (PathBuf::from("node"), vec![("NODE_PATH", modules)])
    };
    assert!(
        program.components().count() == 1 || program.exists(),
        "{}: the Python clients are not installed; run tools/setup.sh",
        program.display()
    );
    (program, environment)
}

/// Runs a script against a simulator of its own; the script says what does not agree.
async fn agrees(script: &str) {
    let (program, environment) = interpreter(script);
    let simulator = Simulator::start(Options::default()).await.expect("the simulator starts");
    let folder = tempfile::tempdir().expect("a folder");
    let authority = folder.path().join("ca.pem");
    std::fs::write(&authority, &simulator.authority_pem).expect("the authority is written");
    let mut command = tokio::process::Command::new(&program);
    command
        .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("clients").join(script))
        .env("SIM_HTTP", simulator.http_url())
        .env("SIM_HTTPS", simulator.https_url())
        .env("SIM_PUBSUB", format!("localhost:{}", simulator.addresses.pubsub.port()))
        .env("SIM_PROXY", format!("http://{}", simulator.addresses.proxy))
        .env("NO_PROXY", "localhost,127.0.0.1")
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .envs(environment)
        .kill_on_drop(true);
    for trusted in ["REQUESTS_CA_BUNDLE", "SSL_CERT_FILE", "NODE_EXTRA_CA_CERTS", "CURL_CA_BUNDLE"] {
        command.env(trusted, &authority);
    }
    let run = tokio::time::timeout(Duration::from_secs(SCRIPT_SECONDS_MAX), command.output()).await;
    let output: Output = run.expect("the script ends in time").unwrap_or_else(|error| panic!("{}: {error}", program.display()));
    assert!(
        output.status.success(),
        "{script}: {}\n{}{}",
        output.status,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    simulator.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn simple_salesforce_agrees_about_records() {
    agrees("simple_salesforce_records.py").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn simple_salesforce_agrees_about_logins() {
    agrees("simple_salesforce_auth.py").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn simple_salesforce_agrees_about_bulk() {
    agrees("simple_salesforce_bulk.py").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn jsforce_agrees_about_records() {
    agrees("jsforce_records.cjs").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn jsforce_agrees_about_bulk() {
    agrees("jsforce_bulk.cjs").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn jsforce_agrees_about_streaming() {
    agrees("jsforce_streaming.cjs").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_pubsub_client_agrees_about_managed_subscriptions() {
    agrees("pubsub_managed.cjs").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_pubsub_client_agrees_about_publishing() {
    agrees("pubsub_publish.cjs").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_pubsub_client_agrees_about_events() {
    agrees("pubsub_events.cjs").await;
}
