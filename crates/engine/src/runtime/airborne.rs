//! What is known of a flight once it has left, until it has landed. Plain data in memory: after a crash a flight is in doubt,
//! and what was answered is found out again.

use crate::change::Version;
use crate::clock::Moment;
use crate::connector::Operation;
use crate::flight::{Flight, Intent};
use crate::link::LinkId;
use crate::record::{FieldName, Key, Record};
use crate::value::Value;
use foldhash::fast::RandomState;
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;
use xxhash_rust::xxh3::xxh3_128;

/// A flight under way.
pub(crate) struct Airborne {
    pub flight: Arc<Flight>,
    pub sync: usize,
    /// Whether a first load has filled it.
    pub is_load: bool,
    /// Whether the call has come back (or belonged to an earlier run) and what is left of it is in doubt.
    pub in_doubt: bool,
    /// Whether the fence that is being waited for was set after the doubt arose.
    pub fenced: bool,
    /// Whether its records are being read, the feed having proven nothing.
    pub verifying: bool,
    /// Since when its records are read, time and again: they may still come to show what was written.
    pub read_since: Option<Moment>,
    /// Not looked at before: what it was to make may still come, or its feed is about to tell of it.
    pub again_at: Option<Moment>,
    /// What was answered for writes that the feed is yet to tell of, and when: see `settle`.
    pub answers: BTreeMap<LinkId, Answer>,
    /// Where the write for each link stands among the intents, in the order of the links.
    places: Vec<(LinkId, usize)>,
    /// Its creates by what they give; made when a feed first tells of one that it does not name.
    given: Option<Given>,
}

/// That a write happened, as the call said it.
#[derive(Clone)]
pub(crate) struct Answer {
    pub at: Moment,
    pub key: Key,
    pub image: Option<Record>,
    pub version: Version,
}

impl Airborne {
    /// A flight that sets out, or one of an earlier run, of which nobody knows what became.
    pub fn new(flight: Arc<Flight>, sync: usize, in_doubt: bool) -> Airborne {
        let mut places: Vec<(LinkId, usize)> =
            flight.intents.iter().enumerate().map(|(place, intent)| (intent.link, place)).collect();
        places.sort_unstable();
        Airborne {
            flight,
            sync,
            is_load: false,
            in_doubt,
            fenced: false,
            verifying: false,
            read_since: None,
            again_at: None,
            answers: BTreeMap::new(),
            places,
            given: None,
        }
    }

    /// Where the write for a link stands among the intents. A flight may have thousands, and a feed tells of each.
    pub fn place_of(&self, link: LinkId) -> Option<usize> {
        let at = self.places.partition_point(|(other, _)| *other < link);
        self.places.get(at).filter(|(other, _)| *other == link).map(|(_, place)| *place)
    }

    /// The write for a link.
    pub fn intent(&self, link: LinkId) -> Option<&Intent> {
        self.flight.intents.get(self.place_of(link)?)
    }

    /// The creates that give just what a record shows, by their places; those at the head may have been settled since. `full`:
    /// the record shows everything, so that what it leaves out it does not have.
    pub fn creates_of(&mut self, image: &Record, full: bool) -> Option<&mut VecDeque<usize>> {
        let given = self.given.get_or_insert_with(|| Given::of(&self.flight));
        given.places.get_mut(&print(&given.fields, image, full)?)
    }

    /// Whether any of its writes makes a record.
    pub fn creates(&self) -> bool {
        self.flight.intents.iter().any(|intent| matches!(intent.write.operation, Operation::Create { .. }))
    }
}

/// Creates by what they give, where all of them give the same fields.
struct Given {
    fields: Vec<FieldName>,
    places: HashMap<u128, VecDeque<usize>, RandomState>,
}

impl Given {
    fn of(flight: &Flight) -> Given {
        let creates = || {
            flight.intents.iter().enumerate().filter_map(|(place, intent)| match &intent.write.operation {
                Operation::Create { image, .. } => Some((place, image)),
                Operation::Update { .. } | Operation::Delete { .. } => None,
            })
        };
        let names = |image: &Record| image.iter().map(|(name, _)| name.clone()).collect::<Vec<FieldName>>();
        let fields = creates().next().map(|(_, image)| names(image)).unwrap_or_default();
        let mut given = Given { fields, places: HashMap::default() };
        let gives_these = |image: &Record| image.iter().map(|(name, _)| name).eq(given.fields.iter());
        if creates().all(|(_, image)| gives_these(image)) {
            for (place, image) in creates() {
                if let Some(print) = print(&given.fields, image, true) {
                    given.places.entry(print).or_default().push_back(place);
                }
            }
        }
        given
    }
}

/// A print of what a record shows of these fields, equal where the values are equivalent; none where it does not show one of
/// them. A feed that tells of a part leaves out what is empty.
fn print(fields: &[FieldName], image: &Record, full: bool) -> Option<u128> {
    let mut bytes = Vec::with_capacity(fields.len().saturating_mul(24));
    for field in fields {
        let begin = bytes.len();
        match image.get(field.as_str()) {
            Some(value) => value.write_canonical(&mut bytes),
            None if full => return None,
            None => Value::Null.write_canonical(&mut bytes),
        }
        let length = bytes.len().saturating_sub(begin);
        bytes.extend_from_slice(&length.to_ne_bytes());
    }
    Some(xxh3_128(&bytes))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::connector::Write;
    use crate::link::{FlightId, SyncId};

    fn image(fields: &[(&str, Value)]) -> Record {
        fields.iter().map(|(name, value)| (FieldName::from(*name), value.clone())).collect()
    }

    fn create(link: u64, fields: &[(&str, Value)]) -> Intent {
        let operation = Operation::Create { image: image(fields), absent_by: Vec::new() };
        let write = Write { id: link, operation };
        Intent { link: LinkId(link), write, decision: 1, edited: Moment::default() }
    }

    fn airborne(intents: Vec<Intent>) -> Airborne {
        let flight = Flight { id: FlightId(1), sync: SyncId(1), member: 0, hops: 0, opened: Moment::default(), intents };
        Airborne::new(Arc::new(flight), 0, false)
    }

    #[test]
    fn a_write_is_found_by_its_link_in_whatever_order_they_boarded() {
        let links = [7, 3, 9, 1];
        let airborne = airborne(links.iter().map(|link| create(*link, &[])).collect());
        for (place, link) in links.into_iter().enumerate() {
            assert_eq!(airborne.place_of(LinkId(link)), Some(place));
            assert_eq!(airborne.intent(LinkId(link)).map(|intent| intent.link), Some(LinkId(link)));
        }
        assert!([0, 2, 8, 10].iter().all(|link| airborne.place_of(LinkId(*link)).is_none()));
    }

    #[test]
    fn a_record_leads_to_the_creates_that_gave_what_it_shows() {
        let name = |text: &str| ("name", Value::text(text));
        let (none, ten) = (("size", Value::Null), ("size", Value::Int(10)));
        let mut airborne = airborne(vec![
            create(1, &[name("a"), ten.clone()]),
            create(2, &[name("b"), none.clone()]),
            create(3, &[name("a"), ten]),
        ]);
        let mut places = |fields: &[(&str, Value)], full| {
            airborne.creates_of(&image(fields), full).map(|places| places.iter().copied().collect::<Vec<_>>()).unwrap_or_default()
        };
        let float = Value::float(10.0);
        assert_eq!(
            places(&[("id", Value::text("x")), name("a"), ("size", float)], true),
            [0, 2],
            "by value, beside what it has besides"
        );
        assert_eq!(places(&[name("b"), none], true), [1]);
        assert_eq!(places(&[name("b")], false), [1], "a part leaves out what is empty");
        assert!(places(&[name("b")], true).is_empty());
        assert!(places(&[name("c"), ("size", Value::Null)], true).is_empty());
    }

    #[test]
    fn creates_of_different_fields_are_compared_one_by_one() {
        let mut airborne = airborne(vec![create(1, &[("name", Value::text("a"))]), create(2, &[])]);
        assert!(airborne.creates_of(&image(&[("name", Value::text("a"))]), true).is_none());
    }
}
