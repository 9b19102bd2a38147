//! Bulk API 2.0: jobs that take or give whole tables as CSV. Owns the jobs; what is done to a record is `dml`'s, what a
//! query finds is `soql`'s.

pub mod csv;
pub mod ingest;
pub mod query;
mod work;

pub use work::process;

use super::ids::Id;
use super::rest::{Call, Sub};
use serde_json::{Value as Json, json};
use std::collections::BTreeMap;

/// Jobs that are kept.
#[derive(Debug)]
pub struct Jobs {
    pub ingest: BTreeMap<Id, ingest::Job>,
    pub query: BTreeMap<Id, query::Job>,
    numbers: u64,
    /// Uploaded and not yet processed.
    pub waiting: Vec<Id>,
    /// Jobs stay where they are until they are let go.
    pub held: bool,
    /// How many jobs a page of their list shows.
    pub page: usize,
}

/// As many as the vendor's.
const PAGE: usize = 1_000;

impl Default for Jobs {
    fn default() -> Self {
        let (ingest, query, waiting) = Default::default();
        Self { ingest, query, waiting, numbers: 0, held: false, page: PAGE }
    }
}

impl Jobs {
    /// A page of a list of jobs, and where the next one is.
    fn listed(&self, call: &Call<'_>, sub: &Sub<'_>, room: &str, all: Vec<Json>) -> Json {
        let start = sub.parameter("queryLocator").and_then(|text| text.parse().ok()).unwrap_or(0_usize);
        let end = start.saturating_add(self.page.max(1));
        let next = (end < all.len()).then(|| call.url(&format!("jobs/{room}?queryLocator={end}")));
        let records: Vec<Json> = all.into_iter().skip(start).take(self.page.max(1)).collect();
        json!({"done": next.is_none(), "nextRecordsUrl": next, "records": records})
    }

    fn new_id(&mut self) -> Id {
        self.numbers += 1;
        Id::new("750", self.numbers)
    }
}
