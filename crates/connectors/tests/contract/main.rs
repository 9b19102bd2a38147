//! What every connector promises, as tests: one suite, one driver per connector, a test per sentence of the contract.
//! Nothing here knows a vendor beyond its driver; nothing waits by sleeping: a feed is read with a bounded wait, or up
//! to a fence.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test says what went wrong by panicking"
)]

mod cases;
mod driver;
mod drivers;
mod servers;
mod world;

/// Runs every case on one driver.
macro_rules! suite {
    ($name:ident, $driver:ty) => {
        mod $name {
            suite! { @cases $driver;
                lifecycle::prepare_is_idempotent,
                lifecycle::objects_join_and_leave_a_running_feed,
                lifecycle::a_table_without_a_key_is_refused,
                lifecycle::a_missing_object_and_a_missing_field_are_named,
                lifecycle::a_feed_whose_storage_was_removed_is_a_gap_and_never_begun_anew,
                lifecycle::an_accepted_gap_begins_anew,
                lifecycle::release_leaves_nothing_behind,
                lifecycle::release_of_one_object_leaves_the_others_captured,
                lifecycle::check_changes_nothing_and_finds_what_is_missing,
                lifecycle::every_version_of_a_later_life_stands_behind_those_of_an_earlier_one,
                feed::a_feed_resumes_from_every_position_with_the_same_events,
                feed::nothing_is_lost_or_doubled_behind_an_acknowledged_position,
                feed::changes_of_one_record_come_in_their_order,
                feed::a_batch_never_exceeds_its_limits,
                feed::an_idle_feed_answers_with_an_empty_batch_in_time,
                feed::an_edit_and_its_revert_are_both_shown,
                feed::a_key_change_shows_the_old_key,
                feed::a_making_is_told_only_of_what_was_made,
                feed::a_delete_is_shown_by_its_key,
                feed::emptying_a_table_is_shown,
                feed::a_rolled_back_change_is_never_shown,
                feed::a_dropped_call_of_next_loses_nothing,
                feed::a_cut_connection_is_made_anew_and_loses_nothing,
                feed::edit_times_lie_between_before_and_after,
                feed::health_tells_the_position,
                drift::an_added_column_is_announced_and_changes_go_on,
                drift::dropping_an_unmapped_column_is_announced_and_changes_go_on,
                drift::renaming_a_mapped_column_is_announced_before_images_that_lack_it,
                writes::an_echo_carries_its_mark_and_an_outside_edit_does_not,
                writes::an_update_is_written_when_its_guard_holds,
                writes::an_update_is_missed_when_its_guard_does_not_hold,
                writes::a_guard_of_null_holds_for_null_only,
                writes::a_delete_is_guarded_alike,
                writes::a_write_to_an_absent_record_is_missed,
                writes::a_create_collides_by_its_key,
                writes::a_create_collides_by_its_match_fields,
                writes::a_create_returns_the_generated_key,
                writes::one_bad_row_fails_alone,
                writes::results_are_tied_to_ids_whatever_the_order,
                writes::a_write_may_change_the_key,
                writes::a_locked_record_is_locked_and_not_written,
                writes::a_written_version_stands_between_earlier_and_later_changes,
                writes::what_a_trigger_makes_of_our_write_is_returned_and_marked,
                writes::a_fence_is_behind_every_earlier_write,
                reads::a_read_answers_in_the_order_asked,
                reads::a_read_stands_in_order_with_the_stream,
                reads::find_answers_with_none_one_or_many,
                reads::a_null_is_found_by_null_alone,
                reads::a_snapshot_resumes_and_covers_each_record_once,
                reads::a_snapshot_under_writers_and_the_feed_together_are_complete,
                reads::composite_keys_are_snapshot_read_and_written,
                reads::odd_names_are_no_obstacle,
                reads::count_is_about_right,
                types::values_come_back_exactly_through_feed_read_and_write,
                types::a_value_that_does_not_fit_is_refused_alone,
            }
        }
    };
    (@cases $driver:ty; $($module:ident :: $case:ident,)*) => {
        $(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $case() {
                crate::cases::$module::$case::<$driver>().await;
            }
        )*
    };
}

suite!(sqlite, crate::drivers::sqlite::SqliteDriver);
suite!(postgres, crate::drivers::postgres::PostgresDriver);

/// What applies to a hosted product. Left out, for nothing of the kind is there: keys that are given, ordered or changed, tables
/// without a key or with a composite one, names that need quoting, transactions of an outside user, an empty text beside
/// null, storage that `prepare` makes and `release` removes, bytes of a log that is kept for us, several objects in one
/// feed. Left out, for a record's stamps are whole seconds and an absence has none: cases that ask for the order of a read
/// and an event of the same second (the engine is told that it is not known, and reads again). What stands for them is in
/// `tests/salesforce`.
mod salesforce {
    suite! { @cases crate::drivers::salesforce::SalesforceDriver;
        lifecycle::prepare_is_idempotent,
        lifecycle::a_missing_object_and_a_missing_field_are_named,
        lifecycle::check_changes_nothing_and_finds_what_is_missing,
        lifecycle::every_version_of_a_later_life_stands_behind_those_of_an_earlier_one,
        feed::changes_of_one_record_come_in_their_order,
        feed::a_batch_never_exceeds_its_limits,
        feed::an_idle_feed_answers_with_an_empty_batch_in_time,
        feed::an_edit_and_its_revert_are_both_shown,
        feed::a_delete_is_shown_by_its_key,
        feed::emptying_a_table_is_shown,
        feed::a_rolled_back_change_is_never_shown,
        feed::a_dropped_call_of_next_loses_nothing,
        feed::a_cut_connection_is_made_anew_and_loses_nothing,
        feed::edit_times_lie_between_before_and_after,
        drift::dropping_an_unmapped_column_is_announced_and_changes_go_on,
        writes::an_echo_carries_its_mark_and_an_outside_edit_does_not,
        writes::an_update_is_written_when_its_guard_holds,
        writes::an_update_is_missed_when_its_guard_does_not_hold,
        writes::a_delete_is_guarded_alike,
        writes::a_write_to_an_absent_record_is_missed,
        writes::a_create_collides_by_its_match_fields,
        writes::a_create_returns_the_generated_key,
        writes::one_bad_row_fails_alone,
        writes::results_are_tied_to_ids_whatever_the_order,
        writes::a_locked_record_is_locked_and_not_written,
        writes::a_written_version_stands_between_earlier_and_later_changes,
        reads::a_read_answers_in_the_order_asked,
        reads::find_answers_with_none_one_or_many,
        reads::count_is_about_right,
        types::values_come_back_exactly_through_feed_read_and_write,
        types::a_value_that_does_not_fit_is_refused_alone,
    }
}
