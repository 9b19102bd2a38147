//! How a command reaches the process that runs: one JSON document a line, over a Unix socket beside the store.
//! The questions are the same whether something runs or not; [`crate::answers`] answers both. The socket lies in the
//! store's folder with rights for its owner alone: who may read the store may ask.

mod client;
mod server;

pub use client::ask;
pub use server::{Door, open, serve};

use concord_engine::connector::Involved;
use concord_engine::error::{Code, Error};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The file in the store's folder that names the socket of the process that runs.
const POINTER: &str = "control";
/// The socket in the store's folder.
const SOCKET: &str = "control.sock";
/// The longest path that a Unix socket can have, in bytes.
const SOCKET_PATH_BYTES_MAX: usize = 107;
/// The largest question or answer.
const LINE_BYTES_MAX: usize = 64 << 20;
/// How long a running process may take to answer; a verification reads both sides.
const ANSWER_WAIT_MAX: Duration = Duration::from_secs(24 * 3600);
/// The most conversations at once.
const CONVERSATIONS_MAX: usize = 64;

/// What a command can ask.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "ask", rename_all = "snake_case")]
pub enum Ask {
    /// How everything does.
    Status,
    /// Stop writing for a sync; its changes go on being recorded.
    Pause {
        /// The sync; `None`: all of them.
        sync: Option<String>,
    },
    /// Go on writing.
    Resume {
        /// The sync; `None`: all of them.
        sync: Option<String>,
    },
    /// What waits for a person.
    ReviewList {
        /// Of this sync alone.
        sync: Option<String>,
        /// Closed items, too.
        all: bool,
        /// The newest so many.
        limit: usize,
    },
    /// One review item, with what can be done about it.
    ReviewShow {
        /// Its number.
        id: u64,
    },
    /// Decide a review item.
    ReviewDecide {
        /// Its number.
        id: u64,
        /// How.
        decision: Decision,
    },
    /// The life of a record, or of one field of it.
    Explain {
        /// The sync.
        sync: String,
        /// The record's key, at any member.
        key: String,
        /// One canonical field alone.
        field: Option<String>,
        /// The newest so many rows.
        limit: usize,
    },
    /// Keep a secret.
    KeepSecret {
        /// Its name.
        name: String,
        /// The encrypted value.
        sealed: Vec<u8>,
        /// Whether the key of the other secrets is lost.
        #[serde(default)]
        new_key: bool,
    },
    /// Whether a secret could be kept.
    TrySecret {
        /// Its name.
        name: String,
        /// Something encrypted under that name.
        sealed: Vec<u8>,
    },
    /// Look at systems as `check --connect` does, in the sessions that the process has.
    Look {
        /// The objects to look at, by system.
        objects: BTreeMap<String, Vec<Involved>>,
    },
    /// Compare the members of a sync.
    Verify {
        /// The sync; `None`: all of them.
        sync: Option<String>,
        /// Those that are meant by all of them; empty: those that run.
        #[serde(default)]
        syncs: Vec<String>,
        /// Have what differs read and planned again.
        repair: bool,
    },
    /// Remove what was made in these systems, and run their syncs no longer.
    Release {
        /// The systems.
        systems: Vec<String>,
        /// The syncs that whoever asks knows of: no other one may be touched. Empty: all.
        #[serde(default)]
        syncs: Vec<String>,
        /// Also what was made there for syncs that the process does not run.
        #[serde(default)]
        leftovers: bool,
    },
}

/// How a person decides a review item, in the words of the command line.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "decision", rename_all = "snake_case")]
pub enum Decision {
    /// The value, or the view, of this system (or role).
    Take {
        /// The system or role.
        system: String,
    },
    /// These values, by canonical field.
    Give {
        /// Field and value; a value that is JSON `null` is no value.
        values: Vec<(String, serde_json::Value)>,
    },
    /// Bind to this candidate, counted from 1.
    Bind {
        /// Its number in the list.
        candidate: usize,
    },
    /// Treat the record as a new one.
    Create,
    /// Try again; for a mass change, let the deletes through.
    Retry,
    /// Leave it as it is.
    Ignore,
}

/// An answer on the wire.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Reply {
    Fine(serde_json::Value),
    Failed { code: Code, message: String, at: Option<String> },
}

impl From<Result<serde_json::Value, Error>> for Reply {
    fn from(result: Result<serde_json::Value, Error>) -> Reply {
        match result {
            Ok(value) => Reply::Fine(value),
            Err(error) => Reply::Failed { code: error.code, message: error.message, at: error.at },
        }
    }
}

impl From<Reply> for Result<serde_json::Value, Error> {
    fn from(reply: Reply) -> Result<serde_json::Value, Error> {
        match reply {
            Reply::Fine(value) => Ok(value),
            Reply::Failed { code, message, at } => Err(Error { at, ..Error::new(code, message) }),
        }
    }
}

fn pointer(folder: &Path) -> PathBuf {
    folder.join(POINTER)
}

fn failed(message: impl Into<String>, error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Error {
    Error::new(Code::ControlFailed, message).because(error)
}
