//! Bulk API 2.0: jobs that take or give whole tables as CSV. Owns the jobs; what is done to a record is `dml`'s, what a
//! query finds is `soql`'s.

pub mod csv;
pub mod ingest;
pub mod query;
mod work;

pub use work::process;

use super::ids::Id;
use std::collections::BTreeMap;

/// Jobs that are kept.
#[derive(Debug, Default)]
pub struct Jobs {
    pub ingest: BTreeMap<Id, ingest::Job>,
    pub query: BTreeMap<Id, query::Job>,
    numbers: u64,
    /// Uploaded and not yet processed.
    pub waiting: Vec<Id>,
    /// Jobs stay where they are until they are let go.
    pub held: bool,
}

impl Jobs {
    fn new_id(&mut self) -> Id {
        self.numbers += 1;
        Id::new("750", self.numbers)
    }
}
