//! An observation in the engine's terms: which sync and member it concerns, in the order of the sync's fields, with the
//! time of its edit. Plain data from plain data; decides nothing.

use crate::change::{EditTime, Image, Mark, Observation, stamp};
use crate::clock::Moment;
use crate::link::{Cells, FlightId, MemberIndex, Pending, Shown};
use crate::record::Record;
use crate::rules::{MemberRules, SyncRules};
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
            let time = edit_time(rules.members.get(member), &record, time, now);
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
pub(super) fn edit_time(member: Option<&MemberRules>, record: &Record, feed: EditTime, now: Moment) -> EditTime {
    let field = member.and_then(|member| member.edit_time_field.as_ref());
    let stamped = field.and_then(|field| {
        let value = record.get(field.as_str())?;
        let (at, granularity_micros) = stamp(value, member?.schema.field(field.as_str()).map(|field| &field.ty))?;
        Some(EditTime { at, granularity_micros, estimated: false })
    });
    let time = stamped.unwrap_or(feed);
    EditTime { at: time.at.min(now), ..time }
}
