//! Planted bugs, by name, for showing that the simulation finds them. Compiled in only with the feature `failpoints`;
//! without it, nothing is ever active and every check folds away.

#[cfg(feature = "failpoints")]
thread_local! {
    static ACTIVE: std::cell::Cell<Option<&'static str>> = const { std::cell::Cell::new(None) };
}

/// Every bug that can be planted: its name and what it breaks.
pub const ALL: &[(&str, &str)] = &[
    ("guard_dropped", "updates carry no guard: an unseen edit at the target is written over"),
    (
        "echo_not_settled",
        "the mark of an open intent in the feed does not settle it: an edit and its revert around a crash are lost",
    ),
    ("unknown_taken_for_failed", "a write of unknown outcome is taken for one that never happened: a create is made twice"),
    ("pending_cleared_beyond_plan", "settling a write clears everything pending about the record, seen by the plan or not"),
    ("acknowledged_before_durable", "the source is acknowledged before the batch is durable"),
    ("stale_version_counts", "an observation older than the base is taken for an edit"),
    ("base_stays_behind", "a decision does not move the base of the member that it was read from"),
    ("reservation_ignored", "two records with one match value are created at once"),
    ("orphan_delete_forgotten", "a delete that comes before the read that showed the record is forgotten"),
    ("loser_not_recorded", "the value that loses a conflict is not in the ledger"),
    ("delete_unguarded", "deletes carry no guard: an edit made just before is lost"),
    ("returned_value_ignored", "what a trigger made of our write is not noticed"),
];

/// Whether this bug is planted now, on this thread.
#[cfg(feature = "failpoints")]
pub fn active(name: &str) -> bool {
    debug_assert!(ALL.iter().any(|(known, _)| *known == name), "no such mutant: {name}");
    ACTIVE.get() == Some(name)
}

/// Whether this bug is planted now: never, in a build without `failpoints`.
#[cfg(not(feature = "failpoints"))]
pub const fn active(_name: &str) -> bool {
    false
}

/// Plants a bug on this thread, or takes it away.
#[cfg(feature = "failpoints")]
pub fn activate(name: Option<&'static str>) {
    ACTIVE.set(name);
}
