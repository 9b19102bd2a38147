//! Everything that runs in one process: the engine with its reconciled syncs, and beside it each mirrored sync. One handle
//! for all of them: a request goes to whoever runs its sync, a status is put together of all. Decides about no record.

use super::kin::Ahead;
use super::run::Mirror;
use crate::error::{Code, Error, Result};
use crate::link::SyncId;
use crate::record::{SyncName, SystemName};
use crate::rules::SyncRules;
use crate::runtime::command::{Command, Request};
use crate::runtime::status::{Status, SyncStatus};
use crate::runtime::{self, Engine, Handle, Setup};
use crate::store::Store;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// How often the status is put together.
const STATUS_INTERVAL: Duration = Duration::from_millis(100);
/// The most requests that wait for one sync.
const REQUESTS_MAX: usize = 64;

/// Everything that is to run, not begun yet.
pub struct Fleet {
    engine: Option<(Handle, Engine)>,
    requests: mpsc::Receiver<Command>,
    shore: Shore,
}

/// What stays in sight of all that runs.
struct Shore {
    /// The mirrored syncs, and whether the first run of each is approved.
    mirrors: Vec<(Arc<Mirror>, bool)>,
    store: Arc<dyn Store>,
    publish: watch::Sender<Status>,
    /// The order of the configuration.
    order: Vec<SyncName>,
}

/// Puts everything together. `setup` has the syncs that are reconciled, `mirrored` the others; `order` all of them.
/// Nothing happens before [`Fleet::run`] is awaited.
///
/// # Errors
/// What the store says.
pub async fn fleet(setup: Setup, mirrored: Vec<Arc<SyncRules>>, order: Vec<SyncName>) -> Result<(Handle, Fleet)> {
    let store = Arc::clone(&setup.store);
    setup.reviews.go_on_behind(store.identity().await?.last_review);
    let mut mirrors = Vec::new();
    for rules in mirrored {
        let ends = ends(&rules, &setup.systems)?;
        let approved = setup.approvals.includes(&rules.name);
        let (store, clock) = (Arc::clone(&setup.store), Arc::clone(&setup.clock));
        let mirror = Mirror::new(rules, ends, store, clock, setup.options.clone(), setup.reviews.clone()).await?;
        mirrors.push((mirror, approved));
    }
    let all: BTreeMap<SyncName, Ahead> =
        mirrors.iter().map(|(mirror, _)| (mirror.rules.name.clone(), mirror.relatives.ahead(&mirror.shown))).collect();
    for (mirror, _) in &mut mirrors {
        mirror.relatives.relate(&mirror.rules.kin, &all);
    }
    let mirrors: Vec<_> = mirrors.into_iter().map(|(mirror, approved)| (Arc::new(mirror), approved)).collect();
    let engine = (!setup.syncs.is_empty() || mirrors.is_empty()).then(|| runtime::engine(setup));
    let (commands, requests) = mpsc::channel(REQUESTS_MAX);
    let (publish, status) = watch::channel(Status::default());
    Ok((Handle { commands, status }, Fleet { engine, requests, shore: Shore { mirrors, store, publish, order } }))
}

type Ends = (Arc<dyn crate::connector::Connector>, Arc<dyn crate::connector::Connector>);

fn ends(rules: &SyncRules, systems: &[(SystemName, Arc<dyn crate::connector::Connector>)]) -> Result<Ends> {
    let open = |place: usize| {
        let name = rules.members.get(place).map(|member| &member.system);
        let found = systems.iter().find(|(system, _)| Some(system) == name).map(|(_, connector)| Arc::clone(connector));
        found.ok_or_else(|| Error::new(Code::Internal, format!("a system of `{}` is not open", rules.name)))
    };
    Ok((open(0)?, open(1)?))
}

impl Fleet {
    /// Runs until the token is cancelled, until everything is level (`once`), or until the store fails.
    pub async fn run(self, shutdown: CancellationToken) -> Result<()> {
        let Fleet { engine, mut requests, shore } = self;
        let stop = shutdown.child_token();
        let mut tasks: JoinSet<Result<()>> = JoinSet::new();
        let mut routes: BTreeMap<SyncId, mpsc::Sender<Command>> = BTreeMap::new();
        let (engine, runs) = engine.unzip();
        let mut waiting = Vec::new();
        for (mirror, approved) in &shore.mirrors {
            let (route, own) = mpsc::channel(REQUESTS_MAX);
            routes.insert(mirror.rules.id, route);
            waiting.push((Arc::clone(mirror), *approved, own));
        }
        // What was asked before the start is there when it begins.
        while let Ok(command) = requests.try_recv() {
            shore.route(command, &routes, engine.as_ref()).await;
        }
        if let Some(engine) = runs {
            tasks.spawn(Engine::run(engine, stop.clone()));
        }
        for (mirror, approved, own) in waiting {
            let stop = stop.clone();
            tasks.spawn(async move {
                let ended = mirror.run(approved, stop, own).await;
                mirror.relatives.end();
                ended
            });
        }
        let mut tick = tokio::time::interval(STATUS_INTERVAL);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut failure = None;
        loop {
            tokio::select! {
                joined = tasks.join_next() => {
                    let Some(joined) = joined else { break };
                    let ended = joined.unwrap_or_else(|error| {
                        Err(Error::new(Code::Internal, "a sync's task ended abnormally").because(error))
                    });
                    if let Err(error) = ended {
                        // The store is everybody's: nobody can go on without it.
                        stop.cancel();
                        failure.get_or_insert(error);
                    }
                }
                Some(command) = requests.recv() => shore.route(command, &routes, engine.as_ref()).await,
                _ = tick.tick() => shore.publish(engine.as_ref()).await?,
            }
        }
        shore.publish(engine.as_ref()).await?;
        failure.map_or(Ok(()), Err)
    }
}

impl Shore {
    /// Hands a request to whoever runs its sync.
    async fn route(&self, command: Command, routes: &BTreeMap<SyncId, mpsc::Sender<Command>>, engine: Option<&Handle>) {
        let sync = match &command.request {
            Request::Pause(sync) | Request::Resume(sync) | Request::Reread(sync) => Ok(Some(*sync)),
            Request::Resolve(review, _) => self.store.review(*review).await.map(|review| review.map(|review| review.sync)),
        };
        let route = match &sync {
            Ok(Some(sync)) => routes.get(sync).or(engine.map(|engine| &engine.commands)),
            Ok(None) => engine.map(|engine| &engine.commands).or(routes.values().next()),
            Err(_) => None,
        };
        match (sync, route) {
            (Err(error), _) => drop(command.answer.send(Err(error))),
            // Where the other side is gone, so is the answer's sender: whoever asked learns of it.
            (Ok(_), Some(route)) => drop(route.send(command).await),
            (Ok(_), None) => drop(command.answer.send(Err(Error::new(Code::UnknownSync, "no such sync runs here")))),
        }
    }

    async fn publish(&self, engine: Option<&Handle>) -> Result<()> {
        let mut status = engine.map(|engine| engine.status.borrow().clone()).unwrap_or_default();
        for (mirror, _) in &self.mirrors {
            let (sync, feed) = mirror.status().await?;
            status.syncs.push(sync);
            status.feeds.extend(feed);
        }
        let place = |sync: &SyncStatus| self.order.iter().position(|name| name.as_str() == sync.name);
        status.syncs.sort_by_key(place);
        self.publish.send_replace(status);
        Ok(())
    }
}
