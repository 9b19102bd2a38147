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
    ("orphan_delete_forgotten", "a delete that comes before the read that showed the record is forgotten"),
    ("loser_not_recorded", "the value that loses a conflict is not in the ledger"),
    ("delete_unguarded", "deletes carry no guard: an edit made just before is lost"),
    ("returned_value_ignored", "what a trigger made of our write is not noticed"),
    ("returned_value_trusted", "what a trigger made of our write becomes the base, and never reaches the others"),
    ("guard_narrowed", "the guard holds only the fields that are set: an unseen edit of another field slips into the base"),
    ("create_unguarded", "creates are not guarded by absence of their match"),
    ("key_change_as_insert", "a changed key is taken for a new record"),
    ("unknown_order_trusted", "an observation of unknown order counts without being read again"),
    ("unknown_taken_for_success", "a write of unknown outcome is taken for one that happened"),
    ("collision_ignored", "a create that collides is dropped instead of being matched"),
    ("debt_forgotten", "a write that met a lock is dropped"),
    ("lookup_skipped", "a new record's match is not looked for"),
    ("two_flights_per_link", "a link is planned again while a write of it is under way"),
    ("delete_forgotten", "a record deleted and made anew within one fold does not say so"),
    ("own_create_taken_for_stranger", "a record that our create under way has made is taken for one of somebody else's"),
    ("stranger_without_tombstone", "a record that went before it was identified is not remembered: its feed brings it back"),
    ("priority_reversed", "the last of the priority list wins"),
    ("first_write_wins", "the earliest edit wins"),
    ("owed_value_no_contender", "an agreed value that is still owed is written over without contending"),
    ("flow_ignored", "edits flow from members and fields from which they should not"),
    (
        "emptiness_is_an_edit",
        "what a column shows that was dropped and made anew is taken for an edit of what the first one held",
    ),
];

/// Bugs that only an interleaving written by hand brings to light, each found by the test that plants it.
pub const SCRIPTED: &[(&str, &str)] = &[
    ("standstill_forgotten", "a sync that a failed write stopped goes on by itself after a restart"),
    ("absence_ahead_trusted", "a record that a feed looked for under its old key, and that has moved, counts as deleted"),
    ("verified_edit_is_new", "an edit that the read shows which verifies a write is taken to have been made at that moment"),
    ("looks_uncounted", "a place that another record has is looked at for ever before a mark of deletion is taken off"),
    ("ruling_forgotten", "what a person decided about a busy record does not outlive a crash"),
    ("anew_unnoticed", "a feed that begins anew without a gap that anybody was asked about has nothing read again"),
    ("verdict_without_end", "what a person let through also lets through what goes away before it is carried out"),
    ("gap_proves_absence", "a feed that began anew is taken to prove that a write before its gap never happened"),
    ("old_life_versions_kept", "versions of a system's life before an accepted gap are compared with those after it"),
    ("old_life_strangers_kept", "a record that nobody knew before an accepted gap is made elsewhere, though it went in the gap"),
    ("unmarked_create_is_a_stranger", "what a create in doubt made is met as a stranger, and its delete tells nothing"),
    (
        "refused_contends_unseen",
        "a value that validation refuses contends unjudged once the member that showed it has lost the record",
    ),
    ("held_of_the_gone_unsaid", "a value held for a person is given up without a word once its record is gone"),
    ("half_a_write_is_none", "a write in doubt of which a trigger made something else counts as one that never was"),
    ("given_up_unsaid", "what a person gives up that no member has any more is not in the ledger"),
    ("halves_stay_apart", "two halves of one record, each made anew at one member, stand in each other's way for good"),
    ("mark_hides_edit", "an edit that an unguarded mark of deletion went over is forgotten"),
    ("part_is_measured_by_the_whole", "a record that our create made is a stranger where its feed leaves out what is empty"),
    ("guard_forgets", "deletes counted by the mass-change guard before a crash do not count after it"),
    ("sweep_runs_ahead", "the progress of asking after linked records is durable before the answers are in"),
    ("before_the_beginning_is_news", "what a feed told of before a sync began counts when it is told again"),
    ("poison_stops_all", "a batch that fails because of one record is tried again as a whole"),
    ("debts_of_the_held_stay", "what is owed of a record that waits for a person is taken up again and again"),
    ("stranger_asks_on", "a stranger whose match waits for a person is looked for again and again"),
    ("key_taken_unnoticed", "a record that we make under a key is taken for the one that had the key before"),
    ("gap_leaves_pending", "what came while a gap stopped the sync is not looked at when it goes on"),
    ("own_create_taken_for_match", "a record that our create under way has made is bound as a stranger's match"),
    (
        "older_read_meets_wish",
        "a read that was asked for before an observation was let go of counts as the one made in its place",
    ),
    (
        "absence_of_a_stranger_trusted",
        "a record that is known by now is taken for deleted where it was asked after as a stranger",
    ),
    ("displaced_forgotten", "a record that was pushed off its key is not known any more after a crash"),
    ("unordered_forgotten", "an observation given up for a read is lost where a crash comes before the read's answer"),
    ("sent_forgotten", "what a create gave of which no answer came is taken for a stranger's edit"),
    ("doubt_superseded", "a create of which only a person can tell whether it happened is made again when the record changes"),
    ("read_hides_unseen", "what is read while a write without a guard is under way hides what the write went over"),
    ("unseen_cleared", "what a member without guards showed before our write is taken to be gone"),
    ("unguarded_settled_by_answer", "a write without a guard is settled before the feed has said what it went over"),
    ("unsaid_taken_for_written", "what an echo leaves unsaid, for a trigger has put it back, is taken to be as we wrote it"),
    ("reservation_ignored", "two records with one match value are created at once"),
    (
        "reservation_ends_untold",
        "a record that went before we made one of its match value in its place is made elsewhere, for its feed tells of it late",
    ),
    ("unheard_bound", "a record that has just been given another key is bound as a stranger's match"),
    ("unmarked_unseen", "a mark of deletion is taken off though the record has been made anew beside it"),
    ("left_over_is_a_match", "what is left of a record, marked as deleted, is taken for a match"),
    ("doubles_stay", "a person is asked about a double of a record that is gone"),
    ("spill_forgotten", "what found no room on a list of the engine's is never taken up again"),
    ("people_behind_loads", "what people did waits behind everything that a first load has put on the list of debts"),
    ("loads_wait_with_edits", "a first load stands still while people's edits are gathered because calls are short"),
    ("calls_unshared", "each of the syncs that write to a system spaces its writes as if it had the calls for itself"),
];

/// Whether this bug is planted now, on this thread.
#[cfg(feature = "failpoints")]
pub fn active(name: &str) -> bool {
    debug_assert!(ALL.iter().chain(SCRIPTED).any(|(known, _)| *known == name), "no such mutant: {name}");
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
