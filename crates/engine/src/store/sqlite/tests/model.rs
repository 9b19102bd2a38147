//! The store as plain maps: slow, obvious, and sharing no code with the real one.

use super::{MEMBERS, Picture, SYNCS};
use crate::change::Position;
use crate::clock::Moment;
use crate::flight::Flight;
use crate::ledger::LedgerRow;
use crate::link::{FlightId, Life, Link, LinkId, MemberIndex, Pending, ReviewId, Standing, SyncId};
use crate::record::{FeedName, SystemName};
use crate::review::Review;
use crate::store::{Address, Ages, Counts, Transaction};
use std::collections::{BTreeMap, HashMap};

#[derive(Clone, Debug, Default)]
pub(super) struct Model {
    positions: BTreeMap<(SystemName, FeedName), Position>,
    links: BTreeMap<LinkId, Link>,
    keys: HashMap<Address, LinkId>,
    pending: BTreeMap<Address, Pending>,
    owed: HashMap<(LinkId, MemberIndex), (SyncId, Moment)>,
    reservations: HashMap<(SyncId, Vec<u8>), LinkId>,
    flights: BTreeMap<FlightId, Flight>,
    ledger: Vec<LedgerRow>,
    reviews: BTreeMap<ReviewId, Review>,
    settings: BTreeMap<String, Vec<u8>>,
    last_numbers: (u64, u64, u64),
}

impl Model {
    pub(super) fn apply(&mut self, transaction: Transaction) {
        for (system, feed, position) in transaction.positions {
            self.positions.insert((system, feed), position);
        }
        for link in transaction.links {
            self.last_numbers.0 = self.last_numbers.0.max(link.id.0);
            self.links.insert(link.id, Link::clone(&link));
        }
        for id in transaction.forgotten {
            self.forget(id);
        }
        for (address, link) in transaction.keys {
            put(&mut self.keys, address, link);
        }
        for (address, pending) in transaction.pending {
            match pending {
                Some(pending) => self.pending.insert(address, pending),
                None => self.pending.remove(&address),
            };
        }
        for (sync, member, link, due) in transaction.owed {
            put(&mut self.owed, (link, member), due.map(|due| (sync, due)));
        }
        for (sync, value, link) in transaction.reservations {
            put(&mut self.reservations, (sync, value), link);
        }
        for flight in transaction.opened {
            self.last_numbers.1 = self.last_numbers.1.max(flight.id.0);
            self.flights.insert(flight.id, Flight::clone(&flight));
        }
        for id in transaction.closed {
            self.flights.remove(&id);
        }
        self.ledger.extend(transaction.ledger);
        for review in transaction.reviews {
            self.last_numbers.2 = self.last_numbers.2.max(review.id.0);
            self.reviews.insert(review.id, review);
        }
        for (id, at, how) in transaction.closed_reviews {
            if let Some(review) = self.reviews.get_mut(&id) {
                review.closed = Some((at, how));
            }
        }
        for (name, value) in transaction.settings {
            match value {
                Some(value) => self.settings.insert(name, value),
                None => self.settings.remove(&name),
            };
        }
    }

    fn forget(&mut self, id: LinkId) {
        self.links.remove(&id);
        self.keys.retain(|_, link| *link != id);
        self.owed.retain(|(link, _), _| *link != id);
    }

    pub(super) fn expire(&mut self, ages: &Ages) -> u64 {
        let rows = |model: &Model| model.ledger.len() + model.reviews.len() + model.links.len();
        let rows_before = rows(self);
        self.ledger.retain(|row| row.at >= ages.of(row.sync));
        self.reviews.retain(|_, review| review.closed.as_ref().is_none_or(|(at, _)| *at >= ages.of(review.sync)));
        let expired: Vec<LinkId> =
            self.links.values().filter(|link| self.is_expired(link, ages.tombstones)).map(|link| link.id).collect();
        for id in expired {
            self.forget(id);
        }
        (rows_before - rows(self)) as u64
    }

    fn is_expired(&self, link: &Link, before: Moment) -> bool {
        let is_old = matches!(link.life, Life::Deleted { at, .. } if at < before);
        let has_work = link.held.is_some()
            || link
                .sides
                .iter()
                .any(|side| side.owes_life || !side.owes.is_empty() || side.flight.is_some() || side.blocked.is_some())
            || link.sides.iter().any(|side| matches!(side.standing, Standing::Present | Standing::Marked))
            || self.owed.keys().any(|(owing, _)| *owing == link.id)
            || self.keys.iter().any(|(address, held)| *held == link.id && self.pending.contains_key(address));
        is_old && !has_work
    }

    pub(super) fn picture(&self, addresses: &[Address], values: &[Vec<u8>]) -> Picture {
        let mut picture = Picture {
            last_numbers: self.last_numbers,
            positions: self.positions.iter().map(|((s, f), p)| (s.clone(), f.clone(), p.clone())).collect(),
            flights: self.flights.values().cloned().collect(),
            settings: self.settings.clone().into_iter().collect(),
            reviews: self.reviews.values().rev().cloned().collect(),
            open_reviews: self.reviews.values().rev().filter(|review| review.closed.is_none()).cloned().collect(),
            ledger: self.ledger.iter().rev().cloned().collect(),
            keys: addresses.iter().filter_map(|a| Some((a.clone(), *self.keys.get(a)?))).collect(),
            ..Picture::default()
        };
        for sync in SYNCS {
            picture.links.extend(self.links.values().filter(|link| link.sync == sync).cloned());
            let pending = self.pending.iter().filter(|(address, _)| address.sync == sync);
            picture.pending.extend(pending.map(|(address, pending)| (address.clone(), pending.clone())));
            let holders = values.iter().map(|value| self.reservations.get(&(sync, value.clone())).copied());
            picture.reserved.push((sync, holders.collect()));
            for member in MEMBERS {
                let debts = self.debts(sync, member);
                let next = debts.first().map(|(due, _)| *due);
                picture.owed.push((sync, member, debts.into_iter().map(|(_, link)| link).collect(), next));
            }
            picture.counts.push(self.counts(sync));
        }
        picture
    }

    fn debts(&self, sync: SyncId, member: MemberIndex) -> Vec<(Moment, LinkId)> {
        let of_member = self.owed.iter().filter(|((_, m), (s, _))| *m == member && *s == sync);
        let mut debts: Vec<_> = of_member.map(|((link, _), (_, due))| (*due, *link)).collect();
        debts.sort();
        debts
    }

    fn counts(&self, sync: SyncId) -> Counts {
        let per_member = |count: &dyn Fn(MemberIndex) -> usize| {
            MEMBERS.into_iter().map(|m| (m, count(m) as u64)).filter(|(_, n)| *n > 0).collect()
        };
        Counts {
            links: self.links.values().filter(|link| link.sync == sync).count() as u64,
            live: self.links.values().filter(|link| link.sync == sync && link.life == Life::Live).count() as u64,
            pending: per_member(&|m| self.pending.keys().filter(|a| a.sync == sync && a.member == m).count()),
            owed: per_member(&|m| self.debts(sync, m).len()),
            waiting: 0,
            reviews: self.reviews.values().filter(|r| r.sync == sync && r.closed.is_none()).count() as u64,
            ledger: self.ledger.iter().filter(|row| row.sync == sync).count() as u64,
        }
    }
}

fn put<K: std::hash::Hash + Eq, V>(map: &mut HashMap<K, V>, key: K, value: Option<V>) {
    match value {
        Some(value) => map.insert(key, value),
        None => map.remove(&key),
    };
}
