//! The Salesforce simulator as a program: listens on loopback until it is interrupted, and says where.

use clap::Parser;
use concord_simulators::clock::Clock;
use concord_simulators::net::tls::Identity;
use concord_simulators::salesforce::{Listeners, Options, Org, hosts, run};
use serde::de::DeserializeOwned;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use tokio_util::sync::CancellationToken;

/// A Salesforce org on loopback: OAuth, REST, Bulk API 2.0, Pub/Sub API, CometD. Everything is in memory and gone at the
/// end.
#[derive(Debug, Parser)]
#[command(name = "concord-sim-salesforce", version)]
struct Arguments {
    /// Plain HTTP.
    #[arg(long, default_value = "127.0.0.1:0")]
    http: String,
    /// HTTPS, for every host of the vendor.
    #[arg(long, default_value = "127.0.0.1:0")]
    https: String,
    /// Pub/Sub API: gRPC over TLS.
    #[arg(long, default_value = "127.0.0.1:0")]
    pubsub: String,
    /// A CONNECT proxy that leads every host to the HTTPS address.
    #[arg(long, default_value = "127.0.0.1:0")]
    proxy: String,
    /// Writes the certificate of the authority that clients have to trust.
    #[arg(long)]
    ca_out: Option<PathBuf>,
    /// Objects and fields besides the standard ones, as JSON.
    #[arg(long)]
    schema: Option<PathBuf>,
    /// Validation rules, triggers and duplicate rules, as JSON.
    #[arg(long)]
    rules: Option<PathBuf>,
    /// The host of the org.
    #[arg(long, default_value = "acme.my.salesforce.com")]
    my_domain: String,
    /// What chance begins with.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Ends when standard input does: with whoever started it, however that one ends.
    #[arg(long)]
    until_input_ends: bool,
}

#[tokio::main]
async fn main() -> ExitCode {
    match serve(Arguments::parse()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(words) => {
            eprintln!("concord-sim-salesforce: {words}");
            ExitCode::FAILURE
        }
    }
}

async fn serve(arguments: Arguments) -> Result<(), String> {
    let until_input_ends = arguments.until_input_ends;
    let options = Options {
        my_domain: arguments.my_domain,
        seed: arguments.seed,
        schema: arguments.schema.as_deref().map(read).transpose()?.unwrap_or_default(),
        rules: arguments.rules.as_deref().map(read).transpose()?.unwrap_or_default(),
        ..Options::default()
    };
    let listeners = Listeners::bind(&arguments.http, &arguments.https, &arguments.pubsub, &arguments.proxy).await?;
    let identity = Identity::new(&hosts(&options))?;
    if let Some(path) = &arguments.ca_out {
        std::fs::write(path, &identity.authority_pem).map_err(|error| format!("{}: {error}", path.display()))?;
    }
    let org = Arc::new(Org::new(options, Clock::new())?);
    let at = listeners.addresses;
    // One line of JSON: whoever started this reads it to know where to go.
    println!(
        "{}",
        serde_json::json!({"http": format!("http://{}", at.http), "https": format!("https://localhost:{}", at.https.port()),
            "pubsub": format!("localhost:{}", at.pubsub.port()), "proxy": format!("http://{}", at.proxy), "org_id": org.id.to_string()})
    );
    let shutdown = CancellationToken::new();
    let serving = run(org, identity, listeners, shutdown.clone());
    let interrupted = async {
        tokio::select! {
            // Without a way to be interrupted it serves until it is killed.
            _ = tokio::signal::ctrl_c() => {}
            () = input_ends(), if until_input_ends => {}
        }
        shutdown.cancel();
    };
    tokio::join!(serving, interrupted);
    Ok(())
}

/// Waits for the end of standard input. What comes before it is nothing to us.
async fn input_ends() {
    let (ended, end) = tokio::sync::oneshot::channel();
    // A thread of its own: a read of standard input cannot be given up, and must not hold the runtime's end.
    std::thread::spawn(move || {
        let _ = std::io::copy(&mut std::io::stdin().lock(), &mut std::io::sink());
        let _ = ended.send(());
    });
    let _ = end.await;
}

fn read<T: DeserializeOwned>(path: &Path) -> Result<T, String> {
    let text = std::fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))?;
    serde_json::from_str(&text).map_err(|error| format!("{}: {error}", path.display()))
}
