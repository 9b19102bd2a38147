//! The transport of the feed: a replication session that delivers steps and takes acknowledgements.
//! The trait is all that the capture sees; the crate behind it is named only here. A task of the session's own keeps
//! answering the server while the consumer is slow; what waits in between is bounded in bytes.

use super::client::startup_options;
use super::config::{Config, SslMode};
use super::errors;
use super::position::{ServerIdentity, parse_history};
use super::tls::{self, Trust};
use async_trait::async_trait;
use bytes::Bytes;
use concord_engine::error::{Code, Error, Result};
use pgwire_replication::client::{ReplicationClient, ReplicationEvent};
use pgwire_replication::config::{ReplicationConfig, TlsConfig};
use pgwire_replication::{Lsn, PgWireError};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, watch};
use tokio_util::task::{AbortOnDropHandle, TaskTracker};

/// About the most bytes of steps that wait for the consumer; one larger step waits alone.
const WAITING_BYTES_MAX: u32 = 16 << 20;
/// The most steps that wait for the consumer.
const WAITING_STEPS_MAX: usize = 4096;
/// The most events between the session and our own queue; each is at most one message.
const TRANSPORT_EVENTS_MAX: usize = 16;
/// How often the server hears from us at least, and how long an acknowledgement waits at most.
const STATUS_INTERVAL: Duration = Duration::from_secs(1);
/// What a step costs beside its bytes.
const STEP_OVERHEAD: usize = 64;

/// One step of the feed, in the order of commits.
#[derive(Clone, Debug)]
pub enum Step {
    /// A transaction begins.
    Begin {
        /// Where its commit stands.
        commit_lsn: u64,
        /// When it was committed: microseconds since 2000-01-01.
        commit_time: i64,
        /// Its number's lower 32 bits.
        xid: u32,
    },
    /// A `pgoutput` message inside a transaction.
    Change(Bytes),
    /// A message that somebody wrote into the log.
    Message {
        /// Whether it belongs to the transaction around it.
        transactional: bool,
        /// Its prefix.
        prefix: String,
        /// Its content.
        content: Bytes,
    },
    /// The transaction ends.
    Commit {
        /// Where the feed resumes behind it.
        end_lsn: u64,
    },
    /// Nothing for us up to here.
    Idle {
        /// Where the feed resumes.
        wal_end: u64,
    },
}

/// A feed that is being read.
#[async_trait]
pub trait Replication: Send + Sync {
    /// The next step. Cancel-safe.
    async fn next(&mut self) -> Result<Step>;
    /// The next step, if it is already there.
    fn ready(&mut self) -> Option<Result<Step>>;
}

/// A session that is authenticated but does not stream yet: what it says of the server is true of the stream too.
pub struct Session {
    client: ReplicationClient,
    place: String,
}

/// A session that streams.
struct Stream {
    steps: mpsc::Receiver<(Result<Step>, OwnedSemaphorePermit)>,
    _reader: AbortOnDropHandle<()>,
}

impl Session {
    /// Connects and authenticates.
    pub async fn connect(config: &Config, application_name: &str, slot: &str, start_lsn: u64) -> Result<Session> {
        let place = format!("opening the feed {slot} of {} at {}:{}", config.database, config.host, config.port);
        let late = || Error::new(Code::Unreachable, format!("{place}: no answer in time"));
        let attempts = modes(config);
        let mut failure = None;
        for mode in attempts {
            let settings = settings(config, application_name, slot, start_lsn, mode);
            let attempt = tokio::time::timeout(config.connect_timeout, open(settings)).await;
            match attempt.map_err(|_| late())? {
                Ok(client) => return Ok(Session { client, place }),
                Err(error) => {
                    let error = errors::replication(&error, &place);
                    let refused = matches!(error.code, Code::AuthenticationFailed | Code::TlsFailed);
                    let first = failure.get_or_insert(error);
                    if !refused {
                        return Err(first.clone());
                    }
                }
            }
        }
        Err(failure.unwrap_or_else(late))
    }

    /// Which server this is.
    pub async fn identity(&mut self) -> Result<ServerIdentity> {
        let failed = |error: PgWireError| errors::replication(&error, &self.place);
        let system = self.client.identify_system().await.map_err(failed)?;
        let system_identifier =
            system.system_id.parse().map_err(|_| errors::unexpected("a system identifier that is no number"))?;
        let forks = if system.timeline > 1 {
            let history = self.client.timeline_history(system.timeline).await;
            let history = history.map_err(|error| errors::replication(&error, &self.place))?;
            parse_history(&String::from_utf8_lossy(&history.content))
        } else {
            Vec::new()
        };
        Ok(ServerIdentity { system_identifier, timeline: system.timeline, flushed_lsn: system.xlogpos.as_u64(), forks })
    }

    /// Begins to stream. `acknowledged` is what the server is told, whenever it rises.
    pub async fn start(mut self, acknowledged: watch::Receiver<u64>, tasks: &TaskTracker) -> Result<Box<dyn Replication>> {
        self.client.start().await.map_err(|error| errors::replication(&error, &self.place))?;
        self.client.wait_started().await.map_err(|error| errors::replication(&error, &self.place))?;
        let (sender, steps) = mpsc::channel(WAITING_STEPS_MAX);
        let reader = tasks.spawn(read(self.client, self.place, sender, acknowledged));
        Ok(Box::new(Stream { steps, _reader: AbortOnDropHandle::new(reader) }))
    }
}

#[async_trait]
impl Replication for Stream {
    async fn next(&mut self) -> Result<Step> {
        match self.steps.recv().await {
            Some((step, _room)) => step,
            None => Err(Error::new(Code::Unreachable, "the feed was closed")),
        }
    }

    fn ready(&mut self) -> Option<Result<Step>> {
        self.steps.try_recv().ok().map(|(step, _room)| step)
    }
}

/// The modes to try in turn; `allow` and `prefer` are two attempts, as for other sessions.
fn modes(config: &Config) -> Vec<pgwire_replication::config::SslMode> {
    use pgwire_replication::config::SslMode as Wire;
    match (config.sslmode, tls::trust(config)) {
        _ if config.is_socket() => vec![Wire::Disable],
        (SslMode::Disable, _) => vec![Wire::Disable],
        (SslMode::Allow, _) => vec![Wire::Disable, Wire::Require],
        (SslMode::Prefer, _) => vec![Wire::Prefer, Wire::Disable],
        (_, Trust::Anything) => vec![Wire::Require],
        (_, Trust::Authority) => vec![Wire::VerifyCa],
        (_, Trust::AuthorityAndHost) => vec![Wire::VerifyFull],
    }
}

fn settings(
    config: &Config,
    application_name: &str,
    slot: &str,
    start_lsn: u64,
    mode: pgwire_replication::config::SslMode,
) -> ReplicationConfig {
    let password = config.password.reveal();
    let tls = TlsConfig {
        mode,
        ca_pem_path: config.sslrootcert.clone(),
        // Named, so that an address is verified against the certificate's addresses instead of being refused.
        sni_hostname: Some(config.host.clone()),
        client_cert_pem_path: config.sslcert.clone(),
        client_key_pem_path: config.sslkey.clone(),
    };
    ReplicationConfig::new(&config.host, &config.username, password, &config.database, slot, slot)
        .with_port(config.port)
        .with_tls(tls)
        .with_start_lsn(Lsn::from_u64(start_lsn))
        .with_status_interval(STATUS_INTERVAL)
        .with_wakeup_interval(STATUS_INTERVAL)
        .with_buffer_size(TRANSPORT_EVENTS_MAX)
        .with_application_name(application_name)
        .with_options(startup_options(&[]))
}

/// Connects, and proves that the session answers.
async fn open(settings: ReplicationConfig) -> std::result::Result<ReplicationClient, PgWireError> {
    // The transport takes the process's TLS provider: make sure that it is ours.
    let _ = tls::provider();
    let mut client = ReplicationClient::connect_gated(settings).await?;
    client.simple_query("SELECT 1").await?;
    Ok(client)
}

/// Moves steps from the session into the queue, and acknowledgements back, until either side ends.
async fn read(
    mut client: ReplicationClient,
    place: String,
    sender: mpsc::Sender<(Result<Step>, OwnedSemaphorePermit)>,
    mut acknowledged: watch::Receiver<u64>,
) {
    let room = Arc::new(Semaphore::new(usize::try_from(WAITING_BYTES_MAX).unwrap_or(usize::MAX)));
    loop {
        let step = tokio::select! {
            event = client.recv() => match event {
                Ok(Some(event)) => match step(event) {
                    Some(step) => Ok(step),
                    None => continue,
                },
                Ok(None) => Err(Error::new(Code::Unreachable, format!("{place}: the server closed the feed"))),
                Err(error) => Err(errors::replication(&error, &place)),
            },
            changed = acknowledged.changed() => {
                if changed.is_err() {
                    return;
                }
                client.update_applied_lsn(Lsn::from_u64(*acknowledged.borrow_and_update()));
                continue;
            }
        };
        let ended = step.is_err();
        if !deliver(step, &client, &room, &sender, &mut acknowledged).await || ended {
            return;
        }
    }
}

/// Puts a step into the queue; acknowledgements pass meanwhile. `false`: nobody reads any more.
async fn deliver(
    step: Result<Step>,
    client: &ReplicationClient,
    room: &Arc<Semaphore>,
    sender: &mpsc::Sender<(Result<Step>, OwnedSemaphorePermit)>,
    acknowledged: &mut watch::Receiver<u64>,
) -> bool {
    let weight = u32::try_from(weight(&step)).unwrap_or(u32::MAX).min(WAITING_BYTES_MAX);
    let queue = async {
        let permit = Arc::clone(room).acquire_many_owned(weight).await.ok()?;
        sender.send((step, permit)).await.ok()
    };
    tokio::pin!(queue);
    loop {
        tokio::select! {
            sent = &mut queue => return sent.is_some(),
            changed = acknowledged.changed() => {
                if changed.is_err() {
                    return false;
                }
                client.update_applied_lsn(Lsn::from_u64(*acknowledged.borrow_and_update()));
            }
        }
    }
}

fn weight(step: &Result<Step>) -> usize {
    STEP_OVERHEAD
        + match step {
            Ok(Step::Change(bytes)) => bytes.len(),
            Ok(Step::Message { prefix, content, .. }) => prefix.len() + content.len(),
            _ => 0,
        }
}

fn step(event: ReplicationEvent) -> Option<Step> {
    Some(match event {
        ReplicationEvent::Begin { final_lsn, xid, commit_time_micros } => {
            Step::Begin { commit_lsn: final_lsn.as_u64(), commit_time: commit_time_micros, xid }
        }
        ReplicationEvent::XLogData { data, .. } => Step::Change(data),
        ReplicationEvent::Message { transactional, prefix, content, .. } => Step::Message { transactional, prefix, content },
        ReplicationEvent::Commit { end_lsn, .. } => Step::Commit { end_lsn: end_lsn.as_u64() },
        ReplicationEvent::KeepAlive { wal_end, .. } => Step::Idle { wal_end: wal_end.as_u64() },
        ReplicationEvent::StoppedAt { .. } => return None,
    })
}
