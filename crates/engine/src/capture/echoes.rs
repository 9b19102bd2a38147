//! Echoes of writes that their answers have settled already. What such an echo shows is what was taken into account then,
//! so it is known by a print of that and costs no look at the record; whatever shows anything else is looked at.
//! Never takes an edit for an echo: only the first event of our own transaction about a record is compared, and a print
//! that is not there (let go, or forgotten with a restart) only means that the record is looked at.

use super::incoming::Incoming;
use crate::link::{Cells, FlightId, Life, LinkId, MemberIndex, Shown, Standing};
use crate::runtime::bounds::ECHOES_MAX;
use crate::runtime::core::Core;
use crate::runtime::desk::{Desk, address};
use crate::store::Address;
use foldhash::fast::RandomState;
use std::collections::HashMap;
use xxhash_rust::xxh3::Xxh3Default;

/// What is expected of the feeds: by the print of a record and the flight that wrote it, the print of what it shows.
/// The older half is let go when the younger one is full.
#[derive(Default)]
pub(crate) struct Echoes {
    young: HashMap<u128, u128, RandomState>,
    old: HashMap<u128, u128, RandomState>,
}

impl Echoes {
    fn expect(&mut self, place: u128, shown: u128) {
        if self.young.len() >= ECHOES_MAX / 2 {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(place, shown);
    }

    /// Whether an observation is an echo that tells nothing. It is expected no longer then, nor if it tells something.
    fn confirms(&mut self, one: &Incoming) -> bool {
        let Some(flight) = one.echo_of else { return false };
        let place = place(&one.address, flight);
        let expected = self.young.remove(&place).or_else(|| self.old.remove(&place));
        match &one.pending.shown {
            Shown::Present { cells, .. } => {
                one.old_address.is_none() && expected.is_some_and(|expected| expected == shown(cells))
            }
            Shown::Gone { .. } => false,
        }
    }

    /// The feeds may begin anew from an earlier place: what they tell then is looked at.
    pub fn forget(&mut self) {
        *self = Echoes::default();
    }
}

impl Core {
    /// A write has been settled by its answer: its echo, if it shows the base as it is now, will be no news.
    pub(crate) fn expect_echo(&mut self, desk: &Desk, link: LinkId, member: MemberIndex, flight: FlightId) {
        let Some(link) = desk.link(link).filter(|link| link.life == Life::Live) else { return };
        let Some(side) = link.sides.get(member).filter(|side| side.standing == Standing::Present) else { return };
        let Some(key) = &side.key else { return };
        let address = address(link.sync, member, key);
        let settled = desk.slot(&address).is_some_and(|slot| slot.link == Some(link.id) && slot.pending.is_none());
        if settled {
            self.echoes.expect(place(&address, flight), shown(&side.base));
        }
    }

    /// Leaves out what only confirms what was settled.
    pub(super) fn without_known_echoes(&mut self, mut arrived: Vec<Incoming>) -> Vec<Incoming> {
        arrived.retain(|one| !self.echoes.confirms(one));
        arrived
    }
}

fn place(address: &Address, flight: FlightId) -> u128 {
    let mut print = Xxh3Default::new();
    print.update(&address.sync.0.to_ne_bytes());
    print.update(&address.member.to_ne_bytes());
    print.update(&flight.0.to_ne_bytes());
    print.update(&address.key);
    print.digest128()
}

/// Equal where the same cells are shown, with equivalent values: an answer and a feed may write one number in two ways.
fn shown(cells: &Cells) -> u128 {
    let mut print = Xxh3Default::new();
    let mut value = Vec::with_capacity(64);
    for cell in cells {
        value.clear();
        if let Some(cell) = cell {
            cell.write_canonical(&mut value);
        }
        print.update(&value.len().to_ne_bytes());
        print.update(&value);
    }
    print.digest128()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::change::{EditTime, Version};
    use crate::clock::Moment;
    use crate::link::{Pending, SyncId};
    use crate::record::Key;
    use crate::value::Value;

    const FLIGHT: FlightId = FlightId(7);

    fn cells(name: &str) -> Cells {
        vec![Some(Value::text(name)), None]
    }

    fn echo(number: i64, flight: FlightId, name: &str) -> Incoming {
        let key = Key(vec![Value::Int(number)]);
        let time = EditTime { at: Moment(1), granularity_micros: 1, estimated: false };
        Incoming {
            sync: 0,
            address: address(SyncId(1), 1, &key),
            old_address: None,
            pending: Pending {
                sync: SyncId(1),
                member: 1,
                key,
                old_key: None,
                shown: Shown::Present { cells: cells(name), times: vec![Some(time), None], full: true, anew: false },
                version: Version(vec![1]),
                hops: 1,
                echo: true,
                arrived: Moment(1),
                layout: 1,
            },
            echo_of: Some(flight),
            read: false,
            ahead: false,
            tells_whose: true,
        }
    }

    fn expecting(number: i64, name: &str) -> Echoes {
        let mut echoes = Echoes::default();
        echoes.expect(place(&echo(number, FLIGHT, name).address, FLIGHT), shown(&cells(name)));
        echoes
    }

    #[test]
    fn an_echo_that_shows_what_was_settled_tells_nothing_and_is_expected_once() {
        let mut echoes = expecting(1, "Ada");
        assert!(!echoes.confirms(&echo(2, FLIGHT, "Ada")), "another record");
        assert!(!echoes.confirms(&echo(1, FlightId(8), "Ada")), "another write");
        assert!(!echoes.confirms(&Incoming { echo_of: None, ..echo(1, FLIGHT, "Ada") }), "a person's edit");
        assert!(echoes.confirms(&echo(1, FLIGHT, "Ada")));
        assert!(!echoes.confirms(&echo(1, FLIGHT, "Ada")));
    }

    #[test]
    fn what_is_shown_counts_and_not_how_it_is_written() {
        let of = |value: Value| shown(&vec![Some(value), None]);
        assert_eq!(of(Value::Int(5)), of(Value::float(5.0)));
        assert_ne!(of(Value::Int(5)), of(Value::Int(6)));
        assert_ne!(of(Value::Null), shown(&vec![None, None]), "what is not shown is not null");
        assert_ne!(of(Value::text("a")), shown(&vec![None, Some(Value::text("a"))]), "each in its place");
    }

    #[test]
    fn behind_a_trigger_that_changed_the_record_nothing_is_taken_for_the_echo() {
        let mut echoes = expecting(1, "Ada");
        assert!(!echoes.confirms(&echo(1, FLIGHT, "ADA")));
        assert!(!echoes.confirms(&echo(1, FLIGHT, "Ada")), "the trigger put it back: what it did before is pending");
        let mut echoes = expecting(1, "Ada");
        let mut gone = echo(1, FLIGHT, "Ada");
        gone.pending.shown = Shown::Gone { time: EditTime { at: Moment(1), granularity_micros: 1, estimated: false } };
        assert!(!echoes.confirms(&gone));
        assert!(!echoes.confirms(&echo(1, FLIGHT, "Ada")), "the trigger removed it and made it anew");
        let mut moved = echo(1, FLIGHT, "Ada");
        moved.old_address = Some(echo(2, FLIGHT, "Ada").address);
        assert!(!expecting(1, "Ada").confirms(&moved), "it has another key now");
    }

    #[test]
    fn the_oldest_are_let_go_when_there_are_too_many() {
        let mut echoes = expecting(1, "Ada");
        for more in 0..ECHOES_MAX {
            echoes.expect(u128::try_from(more).unwrap(), 0);
        }
        assert!(echoes.young.len() + echoes.old.len() <= ECHOES_MAX);
        assert!(!echoes.confirms(&echo(1, FLIGHT, "Ada")));
    }
}
