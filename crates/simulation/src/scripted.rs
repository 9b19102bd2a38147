//! Planted bugs that only an interleaving written by hand brings to light: what shows each.

use concord_engine::mutants;

/// What shows a planted bug.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Finder {
    /// One seed.
    Seed(u64),
    /// The test of this name, which plays a script.
    Test(&'static str),
}

/// Every bug of [`mutants::SCRIPTED`], with what shows it.
pub const FOUND_BY: &[(&str, Finder)] = &[
    ("standstill_forgotten", Finder::Test("a_sync_that_a_failed_write_stopped_stands_still_until_a_person_lets_it_go_on")),
    ("absence_ahead_trusted", Finder::Test("a_record_that_a_feed_looked_for_under_the_key_that_it_had_is_not_gone")),
    ("verified_edit_is_new", Finder::Test("an_edit_that_the_read_shows_which_verifies_a_write_is_as_old_as_the_feed_told")),
    ("looks_uncounted", Finder::Seed(172_240)),
    ("ruling_forgotten", Finder::Test("a_ruling_on_a_record_that_is_being_written_outlives_a_kill")),
    ("anew_unnoticed", Finder::Test("a_feed_that_begins_anew_and_nobody_was_asked_has_what_came_before_read")),
    ("verdict_without_end", Finder::Test("what_goes_away_after_a_mass_delete_was_let_through_is_asked_about_anew")),
    ("gap_proves_absence", Finder::Test("a_write_that_lies_in_an_accepted_gap_is_not_taken_for_an_edit")),
    ("old_life_versions_kept", Finder::Test("a_system_restored_from_an_older_copy_has_its_say_again")),
    ("old_life_strangers_kept", Finder::Test("a_stranger_that_went_in_a_gap_is_made_nowhere")),
    ("unmarked_create_is_a_stranger", Finder::Test("a_record_that_is_deleted_before_its_create_was_answered_stays_away")),
    ("refused_contends_unseen", Finder::Seed(182_441)),
    ("held_of_the_gone_unsaid", Finder::Test("no_planted_bug_of_the_merge_passes_its_example")),
    ("half_a_write_is_none", Finder::Test("a_write_in_a_gap_of_which_a_trigger_made_something_else_is_no_edit")),
    ("given_up_unsaid", Finder::Test("two_links_of_one_record_become_one_and_what_is_given_up_is_in_the_ledger")),
    ("halves_stay_apart", Finder::Test("two_links_of_one_record_become_one_and_what_is_given_up_is_in_the_ledger")),
    ("mark_hides_edit", Finder::Test("an_edit_that_a_mark_of_deletion_went_over_is_in_the_ledger")),
    (
        "part_is_measured_by_the_whole",
        Finder::Test("records_that_are_told_of_in_part_are_known_as_those_that_a_lost_answer_made"),
    ),
    ("guard_forgets", Finder::Test("a_mass_delete_that_a_crash_cuts_in_two_is_still_a_mass_delete")),
    ("sweep_runs_ahead", Finder::Test("a_kill_while_linked_records_are_asked_after_overlooks_none")),
    ("before_the_beginning_is_news", Finder::Test("what_was_over_before_the_sync_began_is_no_news_when_it_is_told_again")),
    ("poison_stops_all", Finder::Test("a_record_that_cannot_be_read_keeps_no_other_from_being_loaded")),
    ("debts_of_the_held_stay", Finder::Test("what_is_owed_of_records_whose_delete_is_in_question_stands_in_nobodys_way")),
    ("stranger_asks_on", Finder::Test("a_record_made_anew_before_its_delete_is_let_through_waits_with_it_and_not_in_a_circle")),
    ("key_taken_unnoticed", Finder::Test("a_create_under_the_key_of_a_record_that_is_gone_unseen_is_not_taken_for_that_record")),
    ("gap_leaves_pending", Finder::Test("what_came_while_a_gap_stopped_the_sync_is_decided_when_it_goes_on")),
    (
        "own_create_taken_for_match",
        Finder::Test("a_record_that_our_unanswered_create_has_made_is_not_bound_as_a_strangers_match"),
    ),
    (
        "older_read_meets_wish",
        Finder::Test("a_read_from_before_an_observation_of_unknown_order_does_not_stand_in_for_the_one_after_it"),
    ),
    (
        "absence_of_a_stranger_trusted",
        Finder::Test("a_record_that_was_asked_after_as_a_stranger_and_is_known_by_now_has_not_gone_because_its_key_has"),
    ),
    ("displaced_forgotten", Finder::Test("a_kill_between_the_halves_of_a_swap_of_keys_confuses_nobody")),
    ("unordered_forgotten", Finder::Test("what_cannot_be_ordered_is_read_although_a_kill_comes_first")),
    ("sent_forgotten", Finder::Test("what_an_unanswered_create_gave_overwrites_no_edit")),
    ("doubt_superseded", Finder::Test("a_create_that_may_have_happened_is_not_made_again_because_the_record_changes")),
    ("read_hides_unseen", Finder::Test("a_reading_that_is_newer_than_a_write_does_not_hide_the_edit_that_the_write_went_over")),
    ("unseen_cleared", Finder::Test("an_edit_that_a_write_went_over_wins_by_the_rules_all_the_same")),
    ("unguarded_settled_by_answer", Finder::Test("an_edit_that_a_write_went_over_wins_by_the_rules_all_the_same")),
    ("unsaid_taken_for_written", Finder::Test("what_is_put_back_at_once_is_not_taken_to_be_as_we_wrote_it")),
    (
        "reservation_ignored",
        Finder::Test("a_record_typed_in_again_while_it_is_being_made_is_known_for_a_double_before_it_is_written"),
    ),
    ("reservation_ends_untold", Finder::Seed(143_216)),
    ("unheard_bound", Finder::Test("a_record_that_was_just_given_another_key_is_not_bound_to_a_double_of_its_counterpart")),
    ("unmarked_unseen", Finder::Test("a_mark_is_not_taken_off_where_the_record_was_made_anew_beside_it")),
    ("left_over_is_a_match", Finder::Test("what_is_left_of_a_record_with_its_mark_is_no_match_of_one_made_anew")),
    ("doubles_stay", Finder::Test("a_double_of_a_record_that_goes_is_a_record_of_its_own")),
    ("spill_forgotten", Finder::Test("more_strangers_than_there_is_room_for_all_come_through")),
    ("people_behind_loads", Finder::Test("what_people_do_is_written_before_what_a_first_load_has_put_on_the_list")),
    ("loads_wait_with_edits", Finder::Test("a_first_load_goes_on_while_edits_are_gathered")),
    ("calls_unshared", Finder::Test("syncs_that_write_to_one_system_share_the_calls_that_it_has_left")),
];

/// What shows a bug, where it takes more than many seeds.
pub fn finder(mutant: &str) -> Option<Finder> {
    FOUND_BY.iter().find(|(name, _)| *name == mutant).map(|(_, finder)| *finder)
}

/// The planted bug of this name.
pub fn mutant(name: &str) -> Option<&'static str> {
    mutants::ALL.iter().chain(mutants::SCRIPTED).map(|(known, _)| *known).find(|known| *known == name)
}
