//! Fields that name records of another sync: what is agreed is the record, and each member is written its key there.

use super::support::{at, rules, text};
use crate::change::{EditTime, Version};
use crate::clock::Moment;
use crate::connector::Operation;
use crate::error::Code;
use crate::ledger::Rule;
use crate::link::{Cells, FlightId, Link, LinkId, MemberIndex, Pending, Shown, Standing, SyncId};
use crate::reconcile::{
    Choice, Decision, Known, Need, Outcome, Patch, Ruling, Uniqueness, Written, decide_knowing, patch_knowing, settle,
};
use crate::record::{Key, Record};
use crate::references::{
    Awaited, Reference, References, ReferredMember, Unknown, awaited, canonical, frees_what_is_held, names_another,
};
use crate::rules::SyncRules;
use crate::value::Value;

const PARENT: LinkId = LinkId(7);

/// Contacts of two members with a name and an account, which names a record of another sync.
fn contacts() -> SyncRules {
    let mut rules = rules(2, &["name", "account"]);
    let member = |member| Some(ReferredMember { member, key: text(None) });
    rules.fields[1].reference = Some(Reference { sync: SyncId(9), name: "accounts".into(), members: vec![member(0), member(1)] });
    rules
}

/// An account that stands under these keys.
fn account(keys: [Option<&str>; 2]) -> Link {
    let mut link = Link::new(PARENT, SyncId(9), 1, 2, 1, 1);
    for (side, key) in link.sides.iter_mut().zip(keys) {
        side.key = key.map(|key| Key(vec![Value::text(key)]));
        side.standing = if key.is_some() { Standing::Present } else { Standing::Absent };
    }
    link
}

fn known(rules: &SyncRules, account: &Link) -> References {
    let mut known = References::default();
    known.meet(account);
    let reference = rules.fields[1].reference.as_ref().unwrap();
    for (member, side) in account.sides.iter().enumerate() {
        if let Some(key) = &side.key {
            known.learn(reference.named(member, &key.0[0]).unwrap().address, account.id);
        }
    }
    known
}

fn seen(member: MemberIndex, key: &str, name: &str, account: Option<&str>, version: u8) -> Pending {
    let time = EditTime { at: Moment(i64::from(version)), granularity_micros: 1, estimated: false };
    let cells: Cells = vec![Some(Value::text(name)), Some(account.map_or(Value::Null, Value::text))];
    Pending {
        sync: SyncId(1),
        member,
        key: Key(vec![Value::text(key)]),
        old_key: None,
        shown: Shown::Present { times: vec![Some(time); cells.len()], cells, full: true, anew: false },
        version: Version(vec![version]),
        hops: 0,
        echo: false,
        arrived: Moment(i64::from(version)),
        layout: 1,
    }
}

fn contact() -> Link {
    Link::new(LinkId(50), SyncId(1), 1, 2, 2, 2)
}

fn outcome(rules: &SyncRules, link: &Link, pending: &[Option<Pending>], references: &References) -> Outcome {
    let known = Known { unique: &Uniqueness::Known(Vec::new()), references };
    decide_knowing(rules, link, pending, None, known, Moment(1_000), &mut 1)
}

#[track_caller]
fn decided(rules: &SyncRules, link: &Link, pending: &[Option<Pending>], references: &References) -> Decision {
    match outcome(rules, link, pending, references) {
        Outcome::Decided(decision) => *decision,
        Outcome::Needs(need) => panic!("needs {need:?}"),
    }
}

#[track_caller]
fn written(rules: &SyncRules, link: &Link, member: MemberIndex, references: &References) -> Operation {
    match patch_knowing(rules, link, member, references) {
        Patch::Write(operation) => operation,
        other => panic!("not written: {other:?}"),
    }
}

fn done(rules: &SyncRules, link: &Link, member: MemberIndex, key: &str, operation: &Operation) -> Link {
    let written = Written {
        operation,
        key: Key(vec![Value::text(key)]),
        image: None,
        times: Vec::new(),
        version: Version(vec![9]),
        hops: 0,
        planned: link.decision,
    };
    settle(rules, link, member, &written, Moment(2_000)).0
}

/// A contact that stands on both sides and names the account there.
fn pair(rules: &SyncRules, references: &References) -> Link {
    let made = decided(rules, &contact(), &[Some(seen(0, "c1", "Ann", Some("a-left"), 1)), None], references).link;
    let create = written(rules, &made, 1, references);
    done(rules, &made, 1, "c2", &create)
}

#[test]
fn what_is_agreed_is_the_record_and_each_side_is_written_its_own_key_of_it() {
    let rules = contacts();
    let references = known(&rules, &account([Some("a-left"), Some("a-right")]));
    let decision = decided(&rules, &contact(), &[Some(seen(0, "c1", "Ann", Some("a-left"), 1)), None], &references);
    assert_eq!(decision.link.groups[1].agreed.as_ref().unwrap().values, [canonical(PARENT)]);
    let Operation::Create { image, .. } = written(&rules, &decision.link, 1, &references) else { panic!("no create") };
    assert_eq!(image.get("account"), Some(&Value::text("a-right")));

    let link = pair(&rules, &references);
    assert!(link.sides[1].owes.is_empty());
    // The echo is no news, nor is the same record told by the other side.
    let echo = decided(&rules, &link, &[None, Some(seen(1, "c2", "Ann", Some("a-right"), 12))], &references);
    assert!(!echo.substantive, "{echo:#?}");
}

#[test]
fn a_record_that_nobody_knows_is_asked_for_before_anything_is_decided() {
    let rules = contacts();
    let pending = [Some(seen(0, "c1", "Ann", Some("a-left"), 1)), None];
    match outcome(&rules, &contact(), &pending, &References::default()) {
        Outcome::Needs(Need::Referred(unknown)) => assert_eq!(unknown[0].key.to_string(), "a-left"),
        other => panic!("{other:?}"),
    }
    // A null asks for nothing, and a delete is followed whatever the record named.
    decided(&rules, &contact(), &[Some(seen(0, "c1", "Ann", None, 1)), None], &References::default());
    let references = known(&rules, &account([Some("a-left"), Some("a-right")]));
    let gone = Shown::Gone { time: EditTime { at: Moment(5), granularity_micros: 1, estimated: false } };
    let gone = Pending { shown: gone, ..seen(0, "c1", "Ann", Some("elsewhere"), 5) };
    let decision = decided(&rules, &pair(&rules, &references), &[Some(gone), None], &References::default());
    assert!(decision.link.sides[1].owes_life);
}

#[test]
fn a_reference_that_leads_nowhere_holds_its_field_alone_and_is_decided_when_the_record_comes() {
    let rules = contacts();
    let references = known(&rules, &account([Some("a-left"), Some("a-right")]));
    let link = pair(&rules, &references);
    let pending = [Some(seen(0, "c1", "Anna", Some("nowhere"), 20)), None];
    let mut refused = references.clone();
    let nowhere = rules.fields[1].reference.as_ref().unwrap().named(0, &Value::text("nowhere")).unwrap();
    refused.refuse(nowhere.address.clone());
    let held = decided(&rules, &link, &pending, &refused);
    assert_eq!(held.reviews[0].code, Code::ReferenceUnknown.to_string());
    assert!(held.reviews[0].message.contains("the record nowhere of accounts"), "{}", held.reviews[0].message);
    // The name flows on.
    let Operation::Update { set, .. } = written(&rules, &held.link, 1, &refused) else { panic!("no update") };
    assert_eq!(set, Record::from_iter([("name".into(), Value::text("Anna"))]));
    let link =
        done(&rules, &held.link, 1, "c2", &Operation::Update { key: Key(vec![Value::text("c2")]), set, guard: Record::new() });
    // Nothing has come: it stays held, is awaited, and other news is decided all the same.
    assert_eq!(awaited(&rules, &link, &references), [Awaited::Key(nowhere.address.clone())]);
    assert!(!frees_what_is_held(&rules, &link, &references));
    let other = decided(&rules, &link, &[None, Some(seen(1, "c2", "Annie", Some("a-right"), 30))], &references);
    assert_eq!(other.link.groups[0].agreed.as_ref().unwrap().values, [Value::text("Annie")]);
    assert!(other.link.groups[1].held.is_some());

    let mut came = references.clone();
    let mut late = account([Some("nowhere"), Some("b-right")]);
    late.id = LinkId(8);
    came.meet(&late);
    came.learn(nowhere.address, LinkId(8));
    assert!(frees_what_is_held(&rules, &link, &came));
    let decision = decided(&rules, &link, &[None, None], &came);
    assert_eq!(decision.link.groups[1].agreed.as_ref().unwrap().values, [canonical(LinkId(8))]);
    assert_eq!(decision.closed.len(), 1, "the item is over");
    let Operation::Update { set, .. } = written(&rules, &decision.link, 1, &came) else { panic!("no update") };
    assert_eq!(set.get("account"), Some(&Value::text("b-right")));
}

#[test]
fn a_create_waits_for_its_parent_and_an_update_leaves_the_reference_out_and_owes_it() {
    let rules = contacts();
    let absent = account([Some("a-left"), None]);
    let references = known(&rules, &absent);
    let new = decided(&rules, &contact(), &[Some(seen(0, "c1", "Ann", Some("a-left"), 1)), None], &references).link;
    assert!(matches!(patch_knowing(&rules, &new, 1, &references), Patch::Awaits));
    assert_eq!(awaited(&rules, &new, &references), [Awaited::Record(PARENT)]);

    let there = known(&rules, &account([Some("a-left"), Some("a-right")]));
    let link = pair(&rules, &there);
    let mut references = there.clone();
    let mut later = account([Some("b-left"), None]);
    later.id = LinkId(8);
    references.meet(&later);
    references.learn(rules.fields[1].reference.as_ref().unwrap().named(0, &Value::text("b-left")).unwrap().address, LinkId(8));
    let moved = decided(&rules, &link, &[Some(seen(0, "c1", "Anna", Some("b-left"), 20)), None], &references).link;
    let update = written(&rules, &moved, 1, &references);
    let Operation::Update { set, .. } = &update else { panic!("no update") };
    assert_eq!(set, &Record::from_iter([("name".into(), Value::text("Anna"))]));
    let settled = done(&rules, &moved, 1, "c2", &update);
    assert_eq!(settled.sides[1].owes, [1], "what was left out is still owed");
    assert!(matches!(patch_knowing(&rules, &settled, 1, &references), Patch::Awaits));
    later.sides[1].key = Some(Key(vec![Value::text("b-right")]));
    later.sides[1].standing = Standing::Present;
    references.meet(&later);
    let Operation::Update { set, .. } = written(&rules, &settled, 1, &references) else { panic!("no update") };
    assert_eq!(set, Record::from_iter([("account".into(), Value::text("b-right"))]));
}

#[test]
fn in_a_circle_it_is_made_without_the_reference_and_given_it_with_one_more_write() {
    let rules = contacts();
    let absent = account([Some("a-left"), None]);
    let mut references = known(&rules, &absent);
    let new = decided(&rules, &contact(), &[Some(seen(0, "c1", "Ann", Some("a-left"), 1)), None], &references).link;
    references.close_circle(1, PARENT);
    let create = written(&rules, &new, 1, &references);
    let Operation::Create { image, .. } = &create else { panic!("no create") };
    assert_eq!(image.get("account"), Some(&Value::Null));
    let mut flying = new.clone();
    flying.sides[1].flight = Some(FlightId(1));
    assert_eq!(awaited(&rules, &flying, &references), []);
    let made = done(&rules, &new, 1, "c2", &create);
    assert_eq!(made.sides[1].owes, [1]);
    // Its own null does not come back as an edit.
    let echo = decided(&rules, &made, &[None, Some(seen(1, "c2", "Ann", None, 12))], &references);
    assert!(!echo.substantive, "{echo:#?}");
    let there = known(&rules, &account([Some("a-left"), Some("a-right")]));
    let patch = written(&rules, &made, 1, &there);
    let Operation::Update { set, .. } = &patch else { panic!("no update") };
    assert_eq!(set, &Record::from_iter([("account".into(), Value::text("a-right"))]));
    let whole = done(&rules, &made, 1, "c2", &patch);
    assert!(whole.sides[1].owes.is_empty());
    let echo = decided(&rules, &whole, &[None, Some(seen(1, "c2", "Ann", Some("a-right"), 13))], &there);
    assert!(!echo.substantive, "{echo:#?}");
}

#[test]
fn a_field_that_may_not_be_null_is_not_left_out() {
    let mut rules = contacts();
    let field = rules.members[1].schema.fields.iter_mut().find(|field| field.name.as_str() == "account").unwrap();
    field.nullable = false;
    let mut references = known(&rules, &account([Some("a-left"), None]));
    let new = decided(&rules, &contact(), &[Some(seen(0, "c1", "Ann", Some("a-left"), 1)), None], &references).link;
    references.close_circle(1, PARENT);
    assert!(matches!(patch_knowing(&rules, &new, 1, &references), Patch::Awaits));
    references.tie_knot(1, PARENT);
    let Patch::Rejected(error) = patch_knowing(&rules, &new, 1, &references) else { panic!("not refused") };
    assert_eq!(error.code, Code::ReferenceKnot);
    at(&mut rules, 1, "account").inward = false;
    assert!(matches!(patch_knowing(&rules, &new, 1, &references), Patch::Write(_)), "what is not written waits for nothing");
}

#[test]
fn a_parents_new_key_is_no_edit_of_its_children() {
    let rules = contacts();
    let references = known(&rules, &account([Some("a-left"), Some("a-right")]));
    let link = pair(&rules, &references);
    let renamed = known(&rules, &account([Some("new-left"), Some("a-right")]));
    let decision = decided(&rules, &link, &[Some(seen(0, "c1", "Ann", Some("new-left"), 20)), None], &renamed);
    assert_eq!(decision.link.sides[0].base[1], Some(Value::text("new-left")), "its base moves on");
    assert!(decision.link.sides.iter().all(|side| side.owes.is_empty()) && decision.ledger.is_empty());
    // A child whose own system did not follow is not written either: nobody edited it.
    let name = decided(&rules, &link, &[None, Some(seen(1, "c2", "Anna", Some("a-right"), 21))], &renamed);
    let Operation::Update { set, .. } = written(&rules, &name.link, 0, &renamed) else { panic!("no update") };
    assert_eq!(set, Record::from_iter([("name".into(), Value::text("Anna"))]));
}

#[test]
fn the_same_record_named_on_both_sides_is_no_conflict_and_another_is_one() {
    let rules = contacts();
    let references = known(&rules, &account([Some("a-left"), Some("a-right")]));
    let link = pair(&rules, &references);
    let mut two = references.clone();
    let mut other = account([Some("b-left"), Some("b-right")]);
    other.id = LinkId(8);
    two.meet(&other);
    for (member, key) in [(0, "b-left"), (1, "b-right")] {
        two.learn(rules.fields[1].reference.as_ref().unwrap().named(member, &Value::text(key)).unwrap().address, LinkId(8));
    }
    let same = [Some(seen(0, "c1", "Ann", Some("b-left"), 20)), Some(seen(1, "c2", "Ann", Some("b-right"), 21))];
    let decision = decided(&rules, &link, &same, &two);
    assert!(decision.ledger.is_empty() && decision.link.sides.iter().all(|side| side.owes.is_empty()), "{decision:#?}");
    let apart = [Some(seen(0, "c1", "Ann", Some("b-left"), 20)), Some(seen(1, "c2", "Ann", None, 21))];
    let decision = decided(&rules, &link, &apart, &two);
    assert_eq!(decision.link.groups[1].agreed.as_ref().unwrap().values, [Value::Null], "the later edit stands");
    assert_eq!(decision.ledger.len(), 1);
}

#[test]
fn a_reference_cleared_with_its_record_is_no_edit_that_stands_against_a_delete() {
    let rules = contacts();
    let account = account([Some("a-left"), Some("a-right")]);
    let link = pair(&rules, &known(&rules, &account));
    let gone = Shown::Gone { time: EditTime { at: Moment(5), granularity_micros: 1, estimated: false } };
    let gone = Some(Pending { shown: gone, ..seen(0, "c1", "Ann", None, 20) });
    let cleared = [gone.clone(), Some(seen(1, "c2", "Ann", None, 21))];
    let mut dead = account.clone();
    dead.life = crate::link::Life::Deleted { by: 0, at: Moment(4) };
    let followed = decided(&rules, &link, &cleared, &known(&rules, &dead));
    assert!(followed.reviews.is_empty() && followed.link.sides[1].owes_life, "{followed:#?}");
    // Cleared while that record lives, or edited besides: somebody did that.
    assert_eq!(decided(&rules, &link, &cleared, &known(&rules, &account)).reviews.len(), 1);
    let edited = [gone, Some(seen(1, "c2", "Anna", None, 21))];
    assert_eq!(decided(&rules, &link, &edited, &known(&rules, &dead)).reviews.len(), 1);
}

fn named(rules: &SyncRules, member: MemberIndex, key: &str) -> Unknown {
    rules.fields[1].reference.as_ref().unwrap().named(member, &Value::text(key)).unwrap()
}

fn deleted(mut account: Link) -> Link {
    account.life = crate::link::Life::Deleted { by: 0, at: Moment(4) };
    account.sides.iter_mut().for_each(|side| side.standing = Standing::Gone);
    account
}

/// The account was deleted under the key a-left, and what is told of that key is about another record.
fn known_after_delete(rules: &SyncRules) -> References {
    let mut known = known(rules, &deleted(account([Some("a-left"), Some("a-right")])));
    known.leave(named(rules, 0, "a-left").address);
    known
}

/// Another account stands under that key.
fn known_made_anew(rules: &SyncRules) -> References {
    let mut made = account([Some("a-left"), Some("b-right")]);
    made.id = LinkId(8);
    let mut known = known(rules, &made);
    known.meet(&deleted(account([None, Some("a-right")])));
    known
}

#[test]
fn a_new_reference_is_never_taken_for_a_record_that_was_deleted_under_that_key() {
    let rules = contacts();
    let after = known_after_delete(&rules);
    let address = named(&rules, 0, "a-left").address;
    let new = [Some(seen(0, "c1", "Ann", Some("a-left"), 1)), None];
    match outcome(&rules, &contact(), &new, &after) {
        Outcome::Needs(Need::Referred(unknown)) => assert_eq!(unknown, [named(&rules, 0, "a-left")]),
        other => panic!("{other:?}"),
    }
    // Looked for and not there: a person is asked, and it goes on when another one comes under the key.
    let mut refused = after.clone();
    refused.refuse(address.clone());
    let held = decided(&rules, &contact(), &new, &refused);
    assert_eq!(held.reviews[0].code, Code::ReferenceUnknown.to_string());
    assert_eq!(awaited(&rules, &held.link, &after), [Awaited::Key(address), Awaited::Record(PARENT)]);
    assert!(!frees_what_is_held(&rules, &held.link, &after));
    let anew = known_made_anew(&rules);
    assert!(frees_what_is_held(&rules, &held.link, &anew));
    let decision = decided(&rules, &held.link, &[None, None], &anew);
    assert_eq!(decision.link.groups[1].agreed.as_ref().unwrap().values, [canonical(LinkId(8))]);
    // What was agreed before is no news: it says what it said.
    let link = pair(&rules, &known(&rules, &account([Some("a-left"), Some("a-right")])));
    let other = decided(&rules, &link, &[Some(seen(0, "c1", "Anna", Some("a-left"), 20)), None], &after);
    assert!(other.reviews.is_empty() && other.link.sides[1].owes == [0], "{other:#?}");
}

#[test]
fn what_was_agreed_about_a_deleted_record_is_agreed_anew_when_another_one_comes_under_its_key() {
    let rules = contacts();
    let before = known(&rules, &account([Some("a-left"), None]));
    let new = decided(&rules, &contact(), &[Some(seen(0, "c1", "Ann", Some("a-left"), 1)), None], &before).link;
    let after = known_after_delete(&rules);
    let Patch::Rejected(error) = patch_knowing(&rules, &new, 1, &after) else { panic!("not refused") };
    assert_eq!(error.code, Code::ReferenceNotKept);
    assert_eq!(awaited(&rules, &new, &after), [Awaited::Key(named(&rules, 0, "a-left").address), Awaited::Record(PARENT)]);
    assert!(!names_another(&rules, &new, 1, &after));
    let anew = known_made_anew(&rules);
    assert!(names_another(&rules, &new, 1, &anew));
    let decision = decided(&rules, &new, &[None, None], &anew);
    assert_eq!(decision.link.groups[1].agreed.as_ref().unwrap().values, [canonical(LinkId(8))]);
    assert!(!names_another(&rules, &decision.link, 1, &anew));
    let Operation::Create { image, .. } = written(&rules, &decision.link, 1, &anew) else { panic!("no create") };
    assert_eq!(image.get("account"), Some(&Value::text("b-right")));
}

#[test]
fn a_record_that_is_made_anew_waits_for_what_its_own_fields_refer_to() {
    let mut rules = contacts();
    let references = known(&rules, &account([Some("a-left"), Some("a-right")]));
    let mut link = pair(&rules, &references);
    at(&mut rules, 1, "account").inward = false;
    link.sides[1].standing = Standing::Gone;
    link.sides[1].owes_life = true;
    let mut waits = references.clone();
    let mut coming = account([Some("a-left"), None]);
    coming.sides[1].owes_life = true;
    waits.meet(&coming);
    assert!(matches!(patch_knowing(&rules, &link, 1, &waits), Patch::Awaits));
    assert_eq!(awaited(&rules, &link, &waits), [Awaited::Record(PARENT)], "somebody wakes it");
    assert!(matches!(patch_knowing(&rules, &link, 1, &references), Patch::Write(_)));
}

#[test]
fn a_reference_to_what_is_not_kept_keeps_no_other_field_from_being_written() {
    let rules = contacts();
    let there = known(&rules, &account([Some("a-left"), Some("a-right")]));
    let link = pair(&rules, &there);
    let mut references = there.clone();
    let mut lost = account([Some("b-left"), None]);
    lost.id = LinkId(8);
    lost.life = crate::link::Life::Detached { at: Moment(3) };
    references.meet(&lost);
    references.learn(named(&rules, 0, "b-left").address, LinkId(8));
    let moved = decided(&rules, &link, &[Some(seen(0, "c1", "Anna", Some("b-left"), 20)), None], &references).link;
    let update = written(&rules, &moved, 1, &references);
    let Operation::Update { set, .. } = &update else { panic!("no update") };
    assert_eq!(set, &Record::from_iter([("name".into(), Value::text("Anna"))]));
    let settled = done(&rules, &moved, 1, "c2", &update);
    assert_eq!(settled.sides[1].owes, [1], "what was left out is still owed, and said next");
    let Patch::Rejected(error) = patch_knowing(&rules, &settled, 1, &references) else { panic!("not refused") };
    assert_eq!((error.code, error.at.as_deref()), (Code::ReferenceNotKept, Some("account")));
}

#[test]
fn a_reference_that_leads_nowhere_and_is_left_is_made_nowhere_until_the_record_changes() {
    let rules = contacts();
    let mut refused = References::default();
    refused.refuse(named(&rules, 0, "nowhere").address);
    let held = decided(&rules, &contact(), &[Some(seen(0, "c1", "Ann", Some("nowhere"), 1)), None], &refused).link;
    let known = Known { unique: &Uniqueness::Waived, references: &refused };
    let leave = Ruling::Group(1, Choice::Leave);
    let left = match decide_knowing(&rules, &held, &[None, None], Some(&leave), known, Moment(1_000), &mut 5) {
        Outcome::Decided(decision) => *decision,
        other => panic!("{other:?}"),
    };
    assert_eq!(left.closed.len(), 1, "the item is over");
    assert_eq!(left.link.groups[1].agreed.as_ref().unwrap().rule, Rule::LeftRefused);
    assert!(matches!(patch_knowing(&rules, &left.link, 1, &refused), Patch::Waits));
    let mut came = account([Some("nowhere"), Some("a-right")]);
    came.id = LinkId(8);
    let came = self::known(&rules, &came);
    let changed = decided(&rules, &left.link, &[Some(seen(0, "c1", "Anna", Some("nowhere"), 2)), None], &came).link;
    assert!(matches!(patch_knowing(&rules, &changed, 1, &came), Patch::Write(_)), "{changed:#?}");
}
