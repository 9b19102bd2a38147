//! What a system puts into a record by itself, its key and the stamp of edits, is nobody's edit.

use super::script::check;
use super::support::{at, deleting, rules};
use crate::rules::{DeleteAgainstEdit, OnDelete};

#[test]
fn a_generated_key_that_is_owed_to_the_member_that_deletes_is_nobodys_edit() {
    let mut rules = deleting(rules(2, &["name", "number"]), OnDelete::Propagate, DeleteAgainstEdit::UpdateWins);
    rules.members[0].schema.key = vec!["number".into()];
    let number = at(&mut rules, 0, "number");
    (number.inward, number.creatable, number.updatable) = (false, false, false);
    at(&mut rules, 1, "number").outward = false;
    check(
        rules,
        "a edits name=Ada number=7
        b edits name=Ada
        decide
        b deletes
        decide
        write",
        "name=Ada by a (FirstSeen); number=7 by a (FirstSeen); b owes number
        deleted by b; a owes life
        a delete",
    );
}

#[test]
fn the_stamp_of_edits_alone_stands_against_no_delete() {
    let mut rules = deleting(rules(2, &["name", "stamp"]), OnDelete::Propagate, DeleteAgainstEdit::Manual);
    rules.members[0].edit_time_field = Some("stamp".into());
    let stamp = at(&mut rules, 0, "stamp");
    (stamp.inward, stamp.creatable, stamp.updatable) = (false, false, false);
    at(&mut rules, 1, "stamp").outward = false;
    let script = |edit: &str| {
        format!(
            "a edits name=Ada stamp=1
            b edits name=Ada stamp=1
            decide
            a edits {edit}
            b deletes
            decide
            write"
        )
    };
    check(
        rules.clone(),
        &script("stamp=2"),
        "name=Ada by a (FirstSeen); stamp=1 by a (FirstSeen)
        deleted by b; a owes life
        a delete",
    );
    check(
        rules,
        &script("name=Bea stamp=2"),
        "name=Ada by a (FirstSeen); stamp=1 by a (FirstSeen)
        name held for a CON-3007; stamp held for a CON-3007; held CON-3007
        no write",
    );
}
