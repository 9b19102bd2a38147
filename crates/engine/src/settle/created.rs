//! Which create made a record that a feed tells of. The feed names the flight, and the flight may have made thousands: most
//! records show just what one create gave, and that one is found by it; a rule of the system's own may have made something else of
//! the others, which are compared one by one. Looks only.

use crate::capture::Incoming;
use crate::connector::Operation;
use crate::error::Result;
use crate::flight::Flight;
use crate::link::{FlightId, LinkId, MemberIndex, Shown};
use crate::record::{FieldName, Record};
use crate::runtime::core::Core;
use crate::runtime::desk::Desk;
use crate::value::Value;
use std::sync::Arc;

/// How many links are brought onto the desk at once: a feed tells of creates in about the order in which they were sent.
const LINKS_AHEAD: usize = 64;

impl Core {
    /// Which create of a flight made this record, if one did: the one whose image it shows best, else the only one left.
    pub(crate) async fn created_by(&mut self, desk: &mut Desk, flight: FlightId, one: &Incoming) -> Result<Option<LinkId>> {
        let Some(airborne) = self.flights.get(&flight) else { return Ok(None) };
        let member = airborne.flight.member;
        if member != one.pending.member || airborne.sync != one.sync {
            return Ok(None);
        }
        let planned = Arc::clone(&airborne.flight);
        let Some(image) = self.image_of(one.sync, &one.pending) else { return Ok(None) };
        let full = matches!(one.pending.shown, Shown::Present { full: true, .. });
        let full = full || crate::mutants::active("part_is_measured_by_the_whole");
        if let Some(id) = self.gave_just_that(desk, &planned, &image, full).await? {
            return Ok(Some(id));
        }
        desk.load_links(&self.store, creates(&planned).map(|(id, _)| id).collect()).await?;
        let open: Vec<(LinkId, &Record)> = creates(&planned).filter(|(id, _)| is_open(desk, *id, member, flight)).collect();
        // A trigger may have changed some of what was planned: the create of which the most is shown, the first of several.
        let mut best: Option<(usize, LinkId)> = None;
        for (id, planned) in &open {
            let alike = alike(&image, planned, full);
            let enough = alike.saturating_mul(2) >= planned.len();
            if enough && best.is_none_or(|(most, _)| alike > most) {
                best = Some((alike, *id));
            }
        }
        Ok(best.map(|(_, id)| id).or(if open.len() == 1 { open.first().map(|(id, _)| *id) } else { None }))
    }

    /// The first create that is left of those that gave just what a record shows.
    async fn gave_just_that(&mut self, desk: &mut Desk, flight: &Flight, image: &Record, full: bool) -> Result<Option<LinkId>> {
        let creates = self.flights.get_mut(&flight.id).and_then(|airborne| airborne.creates_of(image, full));
        let Some(places) = creates else { return Ok(None) };
        while let Some(place) = places.front().copied() {
            let Some(intent) = flight.intents.get(place) else { return Ok(None) };
            if desk.link(intent.link).is_none() {
                let next = flight.intents.iter().skip(place).take(LINKS_AHEAD).map(|intent| intent.link).collect();
                desk.load_links(&self.store, next).await?;
            }
            if is_open(desk, intent.link, flight.member, flight.id) {
                let Operation::Create { image: planned, .. } = &intent.write.operation else { return Ok(None) };
                return Ok((alike(image, planned, full) == planned.len()).then_some(intent.link));
            }
            // What has been settled once is not open again.
            places.pop_front();
        }
        Ok(None)
    }
}

/// The creates of a flight, with what they give.
fn creates(flight: &Flight) -> impl Iterator<Item = (LinkId, &Record)> {
    flight.intents.iter().filter_map(|intent| match &intent.write.operation {
        Operation::Create { image, .. } => Some((intent.link, image)),
        Operation::Update { .. } | Operation::Delete { .. } => None,
    })
}

/// Whether a flight's write for a link has not been settled.
fn is_open(desk: &Desk, link: LinkId, member: MemberIndex, flight: FlightId) -> bool {
    desk.link(link).and_then(|link| link.sides.get(member)).is_some_and(|side| side.flight == Some(flight))
}

/// How many of the values that a create gave a record shows. A feed that tells of a part leaves out what is empty.
fn alike(image: &Record, planned: &Record, full: bool) -> usize {
    let is_alike = |(field, value): &(&FieldName, &Value)| match image.get(field.as_str()) {
        Some(shown) => shown.equivalent(value),
        None => !full && value.is_null(),
    };
    planned.iter().filter(is_alike).count()
}
