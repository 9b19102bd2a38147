//! An observation in the engine's terms: which sync and member it concerns, in the order of the sync's fields, with the
//! time of its edit. Plain data from plain data; decides nothing.

use crate::change::{EditTime, Image, Mark, Observation, stamp};
use crate::clock::Moment;
use crate::link::{Cells, FlightId, MemberIndex, Pending, Shown};
use crate::record::{FieldName, Record};
use crate::rules::{MemberField, SyncRules};
use crate::runtime::desk::address;
use crate::store::Address;

/// An observation in the engine's terms.
pub(crate) struct Incoming {
    pub sync: usize,
    pub address: Address,
    pub old_address: Option<Address>,
    pub pending: Pending,
    /// The flight of ours that it is the echo of.
    pub echo_of: Option<FlightId>,
    /// Whether it was read rather than told by a feed.
    pub read: bool,
    /// Whether a feed has read it where it could not tell: it may be newer than what the feed has yet to tell.
    pub ahead: bool,
    /// Whether a mark would show if the write was ours. What a feed has read where it could not tell carries none.
    pub tells_whose: bool,
}

/// Turns an observation into the engine's terms. `store` is the store's id, which tells our own marks.
pub(crate) fn incoming(
    rules: &SyncRules,
    sync: usize,
    member: MemberIndex,
    observation: Observation,
    now: Moment,
    store: &str,
    read: bool,
) -> Incoming {
    let Observation { key, old_key, image, version, time, mark, .. } = observation;
    let ours = mark.as_ref().filter(|mark| mark.store == store && mark.sync == rules.name.as_str());
    let echo_of = ours.map(|mark| FlightId(mark.intent));
    let hops = mark.as_ref().map_or(0, |mark: &Mark| mark.hops.saturating_add(1));
    let full = matches!(image, Image::Full(_));
    let tells_whose = mark.is_some() || !(read || time.estimated);
    let shown = match image {
        Image::Deleted => Shown::Gone { time },
        Image::Full(record) | Image::Partial(record) => {
            let time = edit_time(rules, member, &record, time, now);
            let cells: Cells =
                (0..rules.fields.len()).map(|field| record.get(rules.at(member, field)?.name.as_str()).cloned()).collect();
            let times = cells.iter().map(|cell| cell.as_ref().map(|_| time)).collect();
            Shown::Present { cells, times, full, anew: false }
        }
    };
    let old_address = old_key.as_ref().map(|old| address(rules.id, member, old));
    Incoming {
        sync,
        address: address(rules.id, member, &key),
        old_address,
        echo_of,
        read,
        ahead: false,
        tells_whose,
        pending: Pending {
            sync: rules.id,
            member,
            key,
            old_key,
            shown,
            version,
            hops,
            echo: echo_of.is_some(),
            arrived: now,
            layout: rules.layout,
        },
    }
}

/// The time of an edit: the configured field where the record shows it, the feed's otherwise; never later than now.
///
/// The feed's also where it is exact and the field tells nothing more: as a copy of another member's stamps, which an edit
/// here leaves as it is, or as a coarser stamp of the same moment.
///
/// A stamp that a read shows is an estimate: it is of the record's last edit, and the field may have been edited before that (of a
/// copy, also behind it). The feed may yet tell.
fn edit_time(rules: &SyncRules, member: MemberIndex, record: &Record, feed: EditTime, now: Moment) -> EditTime {
    let side = rules.members.get(member);
    let field = side.and_then(|side| side.edit_time_field.as_ref());
    let stamped = field.and_then(|field| {
        let value = record.get(field.as_str())?;
        let (at, granularity_micros) = stamp(value, side?.schema.field(field.as_str()).map(|field| &field.ty))?;
        let is_a_copy = is_a_copy(rules, member, field);
        let stamped = EditTime { at, granularity_micros, estimated: feed.estimated };
        let tells_less = is_a_copy || is_coarser(stamped, feed);
        Some(if tells_less && !feed.estimated { feed } else { stamped })
    });
    let time = stamped.unwrap_or(feed);
    EditTime { at: time.at.min(now), ..time }
}

/// Whether what this member shows in a field comes from other members alone.
fn is_a_copy(rules: &SyncRules, member: MemberIndex, field: &FieldName) -> bool {
    let here = |at: &&MemberField| at.name == *field;
    rules.fields.iter().filter_map(|field| field.members.get(member)?.as_ref()).find(here).is_some_and(|at| !at.outward)
}

/// Whether a stamp is of the moment that the feed tells, and coarser: a record is stamped a little before it is committed.
fn is_coarser(stamped: EditTime, feed: EditTime) -> bool {
    let behind = feed.at.micros().saturating_sub(stamped.at.micros());
    let grain = i64::from(stamped.granularity_micros);
    stamped.granularity_micros > feed.granularity_micros && (0..grain.saturating_mul(2)).contains(&behind)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::change::Version;
    use crate::reconcile::refine_times;
    use crate::reconcile::tests::support::rules;
    use crate::record::Key;
    use crate::schema::Type;
    use crate::value::{TimestampTz, Value};

    const NOW: Moment = Moment(2_000_000_000);
    const SECOND: u32 = 1_000_000;

    /// A sync whose members stamp their edits in whole seconds in the field `at`.
    fn stamping() -> SyncRules {
        let mut rules = rules(2, &["name", "at"]);
        for member in &mut rules.members {
            member.edit_time_field = Some("at".into());
            member.schema.fields[2].ty = Type::TimestampTz { fraction_digits: 0 };
        }
        rules
    }

    fn time(rules: &SyncRules, stamped_micros: i64, feed: EditTime) -> EditTime {
        let mut record = Record::new();
        record.set("at".into(), Value::TimestampTz(TimestampTz::from_micros(stamped_micros)));
        edit_time(rules, 0, &record, feed, NOW)
    }

    fn exact(at: i64) -> EditTime {
        EditTime { at: Moment(at), granularity_micros: 1_000, estimated: false }
    }

    #[test]
    fn an_edit_has_the_time_of_its_field() {
        let stamped = EditTime { at: Moment(500_000_000), granularity_micros: SECOND, estimated: false };
        assert_eq!(time(&stamping(), 500_000_000, exact(900_000_000)), stamped);
        assert_eq!(
            time(&stamping(), 500_000_000, exact(499_999_999)),
            stamped,
            "a stamp that is later than the commit is the user's own"
        );
        assert_eq!(time(&stamping(), 3_000_000_000, exact(900_000_000)).at, NOW, "never later than now");
    }

    #[test]
    fn a_coarse_stamp_of_the_moment_that_the_feed_tells_is_known_as_finely_as_the_feed_tells_it() {
        assert_eq!(time(&stamping(), 500_000_000, exact(500_730_000)), exact(500_730_000));
        assert_eq!(time(&stamping(), 500_000_000, exact(501_020_000)), exact(501_020_000), "committed in the next second");
        let read = EditTime { estimated: true, ..exact(500_730_000) };
        assert_eq!(time(&stamping(), 500_000_000, read).granularity_micros, SECOND, "a read tells when it read");
    }

    #[test]
    fn a_copy_of_the_other_sides_stamps_tells_nothing_of_an_edit_here() {
        let mut rules = stamping();
        if let Some(at) = &mut rules.fields[1].members[0] {
            at.outward = false;
        }
        assert_eq!(time(&rules, 500_000_000, exact(900_000_000)), exact(900_000_000));
        let read = EditTime { estimated: true, ..exact(900_000_000) };
        let shown = time(&rules, 500_000_000, read);
        assert_eq!(shown.at, Moment(500_000_000), "it is better than the time of a read");
        assert!(shown.estimated, "and may be older than an edit that the feed has yet to tell of");
    }

    /// A record of this name as a read or an event shows it.
    fn seen(rules: &SyncRules, stamped_micros: i64, told: EditTime) -> Pending {
        let mut record = Record::new();
        record.set("name".into(), Value::text("Ada"));
        record.set("at".into(), Value::TimestampTz(TimestampTz::from_micros(stamped_micros)));
        let observation = Observation {
            object: rules.members[0].object.clone(),
            key: Key(vec![Value::text("1")]),
            old_key: None,
            image: Image::Full(record),
            made: false,
            version: Version::default(),
            time: told,
            mark: None,
        };
        incoming(rules, 0, 0, observation, NOW, "store", told.estimated).pending
    }

    fn time_of_the_name(pending: &Pending) -> Option<EditTime> {
        let Shown::Present { times, .. } = &pending.shown else { panic!("the record is there") };
        times[0]
    }

    #[test]
    fn the_stamp_of_a_record_that_a_read_shows_is_an_estimate_of_each_field_until_the_feed_tells_more() {
        let rules = stamping();
        let mut read = seen(&rules, 900_000_000, EditTime { estimated: true, ..exact(901_000_000) });
        let stamped = EditTime { at: Moment(900_000_000), granularity_micros: SECOND, estimated: true };
        assert_eq!(time_of_the_name(&read), Some(stamped), "another field may have been edited last");
        // The name was edited earlier, as its event tells.
        let event = seen(&rules, 400_000_000, exact(400_300_000));
        assert!(refine_times(&rules, &mut read, &event));
        assert_eq!(time_of_the_name(&read), Some(exact(400_300_000)));
    }
}
