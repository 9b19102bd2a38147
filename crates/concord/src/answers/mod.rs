//! Answers what people ask about syncs: the same answers from the process that runs, with its engine at hand, and from
//! a command that looks at the store while nothing runs. Reads the store and sends requests to the engine; writes to the
//! store only what waits for the next start (decisions, pauses).

pub mod description;
pub mod explain;
mod names;
pub mod queue;
pub mod review;
pub mod verified;

use crate::control::Ask;
use crate::secrets;
use crate::setup::{self, Prepared};
use concord_engine::clock::Clock;
use concord_engine::config::Metric;
use concord_engine::connector::{Finding, Involved, Severity};
use concord_engine::error::{Code, Error, Result};
use concord_engine::link::SyncId;
use concord_engine::mirror::{self, Mode};
use concord_engine::record::SystemName;
use concord_engine::runtime::command::{Command, Request};
use concord_engine::runtime::status::{FeedStatus, MemberStatus, Status, SyncStatus};
use concord_engine::store::Store;
use description::Description;
use serde::Serialize;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use tokio::sync::{mpsc, oneshot, watch};

/// The engine of this process.
#[derive(Clone)]
pub struct Running {
    /// Where requests go.
    pub commands: mpsc::Sender<Command>,
    /// What it tells of itself.
    pub status: watch::Receiver<Status>,
    /// The syncs that run, and their systems.
    pub prepared: Arc<Prepared>,
    /// The syncs that do not run before the next start.
    pub held: Arc<Vec<String>>,
    /// Where it is asked that systems be released.
    pub releases: mpsc::Sender<Release>,
}

impl Running {
    /// Whether it runs a sync of this name.
    pub fn runs(&self, name: &str) -> bool {
        self.prepared.syncs.iter().any(|sync| sync.rules.name.as_str() == name)
    }

    /// Whether it runs a sync of this name, waits for its systems, or holds it until the next start.
    pub fn knows(&self, name: &str) -> bool {
        self.runs(name)
            || self.prepared.waiting.iter().any(|(waiting, _)| waiting == name)
            || self.held.iter().any(|held| held == name)
    }
}

/// Asks the process that runs to let go of systems.
pub struct Release {
    /// The systems.
    pub systems: Vec<SystemName>,
    /// Also what was made there for other syncs.
    pub leftovers: bool,
    /// Where the answer goes.
    pub answer: oneshot::Sender<Result<Released>>,
}

/// Whoever answers.
#[derive(Clone)]
pub struct Answerer {
    /// The memory.
    pub store: Arc<dyn Store>,
    /// The store's folder, where the key of its secrets lies.
    pub folder: PathBuf,
    /// The syncs that the store knows, by name and number.
    pub syncs: Arc<Vec<Description>>,
    /// The engine, when it runs in this process.
    pub running: Option<Running>,
    /// Who tells the time.
    pub clock: Arc<dyn Clock>,
}

impl Answerer {
    /// Answers one question.
    pub async fn answer(&self, ask: Ask) -> Result<serde_json::Value> {
        match ask {
            Ask::Status => plain(&self.status().await?),
            Ask::Pause { sync } => self.pause(sync.as_deref(), true).await,
            Ask::Resume { sync } => self.pause(sync.as_deref(), false).await,
            Ask::ReviewList { sync, all, limit } => plain(&self.review_list(sync.as_deref(), all, limit).await?),
            Ask::ReviewShow { id } => plain(&self.review_show(id).await?),
            Ask::ReviewDecide { id, decision } => plain(&Said { said: self.review_decide(id, &decision).await? }),
            Ask::Explain { sync, key, field, limit } => plain(&self.explain(&sync, &key, field.as_deref(), limit).await?),
            Ask::KeepSecret { name, sealed, new_key } => {
                let others = if new_key { secrets::Others::Lost } else { secrets::Others::Readable };
                secrets::keep(&*self.store, &self.folder, &name, sealed, others).await?;
                plain(&Said { said: format!("kept: write {{\"secret\": \"{name}\"}} where it is needed") })
            }
            Ask::TrySecret { name, sealed } => {
                secrets::can_be_kept(&*self.store, &self.folder, &name, &sealed, secrets::Others::Readable).await?;
                plain(&Said { said: format!("`{name}` can be kept") })
            }
            Ask::Look { objects } => plain(&self.look(objects).await?),
            Ask::Verify { sync, syncs, repair } => {
                let wanted = sync.map_or(syncs, |sync| vec![sync]);
                plain(&verified::while_running(self, &wanted, repair).await?)
            }
            Ask::Release { systems, syncs, leftovers } => plain(&self.release(systems, &syncs, leftovers).await?),
        }
    }

    /// What the systems say that run here; of others nothing is said.
    async fn look(&self, objects: BTreeMap<String, Vec<Involved>>) -> Result<Looked> {
        let Some(running) = &self.running else {
            return Err(Error::new(Code::ControlFailed, "the process is starting and takes no requests yet; try again"));
        };
        let mut looked = Looked::new();
        for (system, connector) in &running.prepared.systems {
            if let Some(objects) = objects.get(system.as_str()) {
                let found = setup::look_at(&**connector, objects).await.unwrap_or_else(|error| vec![of_error(system, &error)]);
                looked.insert(system.to_string(), found);
            }
        }
        Ok(looked)
    }

    async fn release(&self, systems: Vec<String>, syncs: &[String], leftovers: bool) -> Result<Released> {
        let Some(running) = &self.running else {
            return Err(Error::new(Code::ControlFailed, "the process is starting and takes no requests yet; try again"));
        };
        let is_other = |name: &String| !syncs.is_empty() && !syncs.contains(name);
        let shares = |sync: &&Description| sync.members.iter().any(|member| systems.contains(&member.system));
        let others: Vec<&str> = self
            .syncs
            .iter()
            .filter(|sync| running.knows(&sync.name) && is_other(&sync.name))
            .filter(shares)
            .map(|sync| sync.name.as_str())
            .collect();
        if !others.is_empty() {
            let message = format!(
                "what is made in {} also serves {}, which these files do not have and which the running process runs",
                systems.join(" and "),
                others.join(", ")
            );
            return Err(Error::new(Code::ReleaseShared, message));
        }
        let (answer, answered) = oneshot::channel();
        let systems = systems.into_iter().map(SystemName::from).collect();
        let gone = || Error::new(Code::ControlFailed, "the process is stopping and takes no requests");
        running.releases.send(Release { systems, leftovers, answer }).await.map_err(|_| gone())?;
        answered.await.map_err(|_| gone())?
    }

    /// Whether a monitor is told this measure of a sync. Of one that does not run it is told everything.
    pub fn measures(&self, sync: &str, metric: Metric) -> bool {
        let mut running = self.running.iter().flat_map(|running| &running.prepared.syncs);
        running.find(|running| running.rules.name.as_str() == sync).is_none_or(|running| running.metrics.contains(&metric))
    }

    /// The sync of this name.
    pub fn sync(&self, name: &str) -> Result<&Description> {
        self.syncs.iter().find(|sync| sync.name == name).ok_or_else(|| {
            let known: Vec<&str> = self.syncs.iter().map(|sync| sync.name.as_str()).collect();
            let known = if known.is_empty() { "none has run yet".to_string() } else { known.join(", ") };
            Error::new(Code::UnknownSync, format!("there is no sync `{name}`; known: {known}"))
        })
    }

    fn chosen(&self, name: Option<&str>) -> Result<Vec<&Description>> {
        match name {
            Some(name) => Ok(vec![self.sync(name)?]),
            None if self.syncs.is_empty() => Err(Error::new(Code::UnknownSync, "no sync has run with this store yet")),
            None => Ok(self.syncs.iter().collect()),
        }
    }

    fn sync_of(&self, id: SyncId) -> Option<&Description> {
        self.syncs.iter().find(|sync| sync.id == id.0)
    }

    /// Sends a request to the engine and waits for its answer.
    async fn request(&self, running: &Running, request: Request) -> Result<String> {
        let (answer, answered) = oneshot::channel();
        let gone = || Error::new(Code::ControlFailed, "the engine is stopping and takes no requests");
        running.commands.send(Command { request, answer }).await.map_err(|_| gone())?;
        answered.await.map_err(|_| gone())?
    }

    /// Has a sync read everything again, which accepts a gap in its feeds.
    pub async fn read_again(&self, running: &Running, name: &str) -> Result<String> {
        self.request(running, Request::Reread(SyncId(self.sync(name)?.id))).await
    }

    async fn pause(&self, name: Option<&str>, pause: bool) -> Result<serde_json::Value> {
        let (mut said, mut failed) = (Vec::new(), None);
        for sync in self.chosen(name)? {
            match self.pause_one(sync, pause).await {
                Ok(one) => said.push(one),
                // The others are paused all the same, or go on.
                Err(error) => failed = failed.or(Some(error)),
            }
        }
        failed.map_or_else(|| plain(&Said { said: said.join("\n") }), Err)
    }

    /// Also a sync that is known and does not run now (it waits for a system, say): it begins as it is said here.
    async fn pause_one(&self, sync: &Description, pause: bool) -> Result<String> {
        let id = SyncId(sync.id);
        let Some(running) = &self.running else { return queue::pause(self, sync, pause).await };
        match self.request(running, if pause { Request::Pause(id) } else { Request::Resume(id) }).await {
            Err(error) if error.code == Code::UnknownSync => queue::pause(self, sync, pause).await,
            answered => answered,
        }
    }

    /// The engine's own status, or what the store tells while nothing runs; in both what the last verification found.
    pub async fn status(&self) -> Result<Status> {
        let mut status = match &self.running {
            Some(running) => running.status.borrow().clone(),
            None => self.status_at_rest().await?,
        };
        verified::add_to(&mut status, &*self.store).await?;
        Ok(status)
    }

    async fn status_at_rest(&self) -> Result<Status> {
        let mut status = Status::default();
        for sync in self.syncs.iter() {
            let counts = self.store.counts(SyncId(sync.id)).await?;
            let count_of =
                |counts: &[(usize, u64)], member: usize| counts.iter().find(|(at, _)| *at == member).map_or(0, |(_, n)| *n);
            status.syncs.push(SyncStatus {
                name: sync.name.clone(),
                stage: queue::stage_at_rest(self, sync).await?,
                mode: match mirror::has_begun(&*self.store, SyncId(sync.id)).await? {
                    true => Mode::Mirror.describe(),
                    false => sync.mode.clone(),
                },
                links: counts.live,
                review: counts.reviews,
                members: sync
                    .members
                    .iter()
                    .enumerate()
                    .map(|(place, member)| MemberStatus {
                        system: member.system.clone(),
                        object: member.object.clone(),
                        pending: count_of(&counts.pending, place),
                        owed: count_of(&counts.owed, place),
                        reach: "not asked".into(),
                        ..MemberStatus::default()
                    })
                    .collect(),
                ..SyncStatus::default()
            });
        }
        status.feeds = self.feeds_at_rest().await?;
        Ok(status)
    }

    /// Where each feed is durable. How much log its source keeps meanwhile only the source knows.
    async fn feeds_at_rest(&self) -> Result<Vec<FeedStatus>> {
        let at_rest = |system: &str, feed: &str, position: String| FeedStatus {
            system: system.to_owned(),
            feed: feed.to_owned(),
            state: AT_REST.to_owned(),
            position,
            ..FeedStatus::default()
        };
        let mut feeds = Vec::new();
        for (system, feed, position) in self.store.positions().await? {
            // One that begins anew has no place yet.
            if position.0.is_empty() {
                continue;
            }
            // What an earlier version wrote of a sync that nobody has any more does not tell the kind.
            let mut members = self.syncs.iter().flat_map(|sync| &sync.members);
            let known = members.find(|member| member.system == system.as_str() && !member.kind.is_empty());
            let shown = known.and_then(|member| concord_connectors::shown(&member.kind, &position));
            feeds.push(at_rest(system.as_str(), feed.as_str(), shown.unwrap_or_default()));
        }
        for sync in self.syncs.iter() {
            if let [source, target, ..] = sync.members.as_slice()
                && mirror::has_begun(&*self.store, SyncId(sync.id)).await?
            {
                // A mirrored sync keeps its progress where its records are.
                feeds.push(at_rest(&source.system, &sync.name, format!("kept in {}", target.system)));
            }
        }
        Ok(feeds)
    }
}

/// The state of a feed while nothing runs.
pub const AT_REST: &str = "not running";

/// What systems say of themselves.
pub type Looked = BTreeMap<String, Vec<Finding>>;

fn of_error(system: &SystemName, error: &Error) -> Finding {
    Finding {
        code: Some(error.code),
        about: system.to_string(),
        message: error.message.clone(),
        remedy: error.code.remedy().to_owned(),
        severity: Severity::Problem,
    }
}

/// What became of a release.
#[derive(Debug, Default, Serialize, serde::Deserialize)]
pub struct Released {
    /// The systems in which nothing of ours is left.
    pub released: Vec<String>,
    /// The others, and why.
    pub failed: Vec<Failed>,
    /// Feeds that belonged to no sync any more, and were removed as well.
    #[serde(default)]
    pub leftovers: Vec<String>,
}

/// A system that could not be released.
#[derive(Clone, Debug, Serialize, serde::Deserialize)]
pub struct Failed {
    /// The system.
    pub system: String,
    /// The stable code of why.
    pub code: Code,
    /// Why.
    pub message: String,
}

/// An answer of one or more sentences.
#[derive(Debug, Serialize, serde::Deserialize)]
pub struct Said {
    /// The sentences.
    pub said: String,
}

fn plain(value: &impl Serialize) -> Result<serde_json::Value> {
    serde_json::to_value(value).map_err(|error| Error::new(Code::Internal, "an answer cannot be written down").because(error))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trial::Trial;
    use concord_engine::clock::SystemClock;

    #[tokio::test]
    async fn a_system_is_not_let_go_of_that_serves_a_sync_which_is_held_until_the_next_start() {
        let trial = Trial::new();
        setup::prepare(&trial.written, &*trial.store, &trial.systems()).await.unwrap();
        let released = async |held: &[&str]| {
            let (commands, _) = mpsc::channel(1);
            // Nobody is there to carry a release out.
            let (releases, _) = mpsc::channel(1);
            let (_, status) = watch::channel(Status::default());
            let held = Arc::new(held.iter().map(|name| (*name).to_owned()).collect());
            let answerer = Answerer {
                store: trial.store(),
                folder: trial.folder(),
                syncs: Arc::new(description::load(&*trial.store).await.unwrap()),
                running: Some(Running { commands, status, prepared: Arc::new(Prepared::default()), held, releases }),
                clock: Arc::new(SystemClock),
            };
            answerer.release(vec!["one".to_owned()], &["ready".to_owned()], false).await.unwrap_err()
        };
        let refused = released(&["late"]).await;
        assert!(refused.code == Code::ReleaseShared && refused.message.contains("late"), "{refused}");
        // One that does not run here keeps nobody from it.
        assert_eq!(released(&[]).await.code, Code::ControlFailed);
    }
}
