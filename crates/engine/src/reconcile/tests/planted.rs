//! Planted bugs: each that concerns the merge, with an example that does not pass while it is there.

use super::{conflicts, flow, folding, rejects};
use crate::mutants::activate;
use std::panic::catch_unwind;

const CAUGHT_BY: &[(&str, fn())] = &[
    ("delete_forgotten", folding::a_delete_replaces_all_and_a_record_made_after_it_says_so),
    ("delete_forgotten", folding::a_record_made_anew_shows_nothing_of_its_predecessor),
    ("returned_value_trusted", flow::what_a_system_makes_of_our_write_is_an_edit_by_that_system),
    ("owed_value_no_contender", conflicts::an_agreed_value_that_is_still_owed_contends),
    ("priority_reversed", conflicts::the_named_member_wins_if_it_contends),
    ("first_write_wins", conflicts::the_latest_edit_wins_and_the_loser_is_in_the_ledger),
    ("held_of_the_gone_unsaid", rejects::a_refused_value_of_a_member_whose_record_has_gone_is_in_the_ledger_when_another_wins),
    ("refused_contends_unseen", rejects::a_refused_value_that_a_person_left_contends_no_more_once_its_record_is_gone),
    ("flow_ignored", flow::a_field_flows_only_from_its_owner),
    ("flow_ignored", flow::an_edit_against_the_flow_is_written_over_kept_or_asked_about),
];

#[test]
fn no_planted_bug_of_the_merge_passes_its_example() {
    for (mutant, example) in CAUGHT_BY {
        example();
        activate(Some(mutant));
        let outcome = catch_unwind(*example);
        activate(None);
        assert!(outcome.is_err(), "{mutant} passed");
    }
}
