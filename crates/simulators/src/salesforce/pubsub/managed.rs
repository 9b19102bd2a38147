//! Managed event subscriptions: the org keeps the place up to which a client has taken events in. Owns what is kept and where a
//! subscription begins; how an administrator makes them is in `rest::tooling`. What is refused has codes of our own making: the
//! vendor publishes none for it.

use super::proto::{CommitReplayRequest, CommitReplayResponse, Error, ErrorCode, ReplayPreset};
use super::service::status;
use super::subscription::number;
use crate::salesforce::events::EventLog;
use crate::salesforce::ids::Id;
use crate::salesforce::org::Org;
use std::collections::BTreeMap;
use std::sync::Arc;
use tonic::{Code, Status};

/// What the ids of managed subscriptions begin with.
const KEY_PREFIX: &str = "18x";

/// All of them.
#[derive(Debug, Default)]
pub struct ManagedSubscriptions {
    all: BTreeMap<Id, Managed>,
    numbers: u64,
}

/// One of them.
#[derive(Clone, Debug)]
pub struct Managed {
    pub name: String,
    pub label: String,
    pub topic: String,
    /// Where it begins before anything was committed.
    pub default_replay: ReplayPreset,
    /// Where it begins when what was committed is no longer kept.
    pub error_replay: ReplayPreset,
    pub runs: bool,
    /// The last place that was committed.
    pub committed: Option<u64>,
    /// A client has it.
    pub active: bool,
}

/// A client that has a managed subscription; it is free again when this is dropped.
pub struct Active {
    org: Arc<Org>,
    id: Id,
}

impl Managed {
    pub fn new(name: String, label: String, topic: String) -> Self {
        let (default_replay, error_replay) = (ReplayPreset::Latest, ReplayPreset::Latest);
        Self { name, label, topic, default_replay, error_replay, runs: true, committed: None, active: false }
    }

    /// Behind which place it begins now.
    pub fn begins(&self, events: &EventLog) -> u64 {
        let at = |preset: ReplayPreset| match preset {
            ReplayPreset::Earliest => events.earliest(),
            ReplayPreset::Latest | ReplayPreset::Custom => events.latest(),
        };
        match self.committed {
            None => at(self.default_replay),
            Some(place) if events.knows(place) => place,
            Some(_) => at(self.error_replay),
        }
    }

    /// An administrator lets it run or stops it; what was committed is forgotten then.
    pub fn set_runs(&mut self, runs: bool) {
        self.runs = runs;
        if !runs {
            self.committed = None;
        }
    }
}

impl ManagedSubscriptions {
    /// Adds one; none where there is one of that name.
    pub fn add(&mut self, managed: Managed) -> Option<Id> {
        if self.all.values().any(|known| known.name.eq_ignore_ascii_case(&managed.name)) {
            return None;
        }
        self.numbers += 1;
        let id = Id::new(KEY_PREFIX, self.numbers);
        self.all.insert(id, managed);
        Some(id)
    }

    pub fn all(&self) -> impl Iterator<Item = (&Id, &Managed)> {
        self.all.iter()
    }

    pub fn get_mut(&mut self, id: &Id) -> Option<&mut Managed> {
        self.all.get_mut(id)
    }

    /// By its id or its developer name.
    fn named(&self, id: &str, name: &str) -> Option<Id> {
        let id = Id::parse(id);
        let mut all = self.all.iter();
        all.find(|(own, known)| id == Some(**own) || (!name.is_empty() && known.name == name)).map(|(own, _)| *own)
    }
}

impl Active {
    /// Takes a managed subscription: which topic it is to, and behind which place it begins.
    pub fn take(org: &Arc<Org>, id: &str, name: &str, rpc_id: &str) -> Result<(Self, String, u64), Status> {
        let now_ms = org.clock.now_ms();
        let state = &mut *org.state();
        state.events.forget(now_ms);
        let unknown = || {
            let code = "sfdc.platform.eventbus.grpc.subscription.managed.not.found";
            status(Code::NotFound, code, "Unable to find the managed subscription.", rpc_id)
        };
        let id = state.managed.named(id, name).ok_or_else(unknown)?;
        let managed = state.managed.get_mut(&id).ok_or_else(unknown)?;
        if !managed.runs {
            return Err(stopped(rpc_id));
        }
        if managed.active {
            let code = "sfdc.platform.eventbus.grpc.subscription.managed.active";
            return Err(status(Code::FailedPrecondition, code, "Another client has the managed subscription.", rpc_id));
        }
        managed.active = true;
        let (topic, place) = (managed.topic.clone(), managed.begins(&state.events));
        Ok((Self { org: org.clone(), id }, topic, place))
    }

    /// Whether it still runs; an error where an administrator has stopped it.
    pub fn runs(&self, rpc_id: &str) -> Result<(), Status> {
        let state = &mut *self.org.state();
        let runs = state.managed.get_mut(&self.id).is_some_and(|managed| managed.runs);
        if runs { Ok(()) } else { Err(stopped(rpc_id)) }
    }

    /// Keeps a place, and says so, or what is wrong with it.
    pub fn commit(&self, request: &CommitReplayRequest) -> CommitReplayResponse {
        let state = &mut *self.org.state();
        let place = number(&request.replay_id).filter(|place| state.events.knows(*place));
        if let (Some(place), Some(managed)) = (place, state.managed.get_mut(&self.id)) {
            managed.committed = Some(place);
        }
        let error = match place {
            Some(_) => None,
            None => Some(Error { code: ErrorCode::Commit.into(), msg: "The Replay ID validation failed.".to_string() }),
        };
        CommitReplayResponse {
            commit_request_id: request.commit_request_id.clone(),
            replay_id: request.replay_id.clone(),
            error,
            process_time: self.org.clock.now_ms(),
        }
    }
}

impl Drop for Active {
    fn drop(&mut self) {
        if let Some(managed) = self.org.state().managed.get_mut(&self.id) {
            managed.active = false;
        }
    }
}

fn stopped(rpc_id: &str) -> Status {
    let code = "sfdc.platform.eventbus.grpc.subscription.managed.stopped";
    status(Code::FailedPrecondition, code, "The managed subscription is in the state STOP.", rpc_id)
}
