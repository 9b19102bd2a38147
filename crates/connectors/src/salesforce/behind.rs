//! A look behind the events of a feed, now and then: what each record shows that was touched. Where the vendor has lost an
//! event, or an administrator had switched them off for a while, nothing else would ever say so (invariant 1); nor does a later
//! event of the record, which shows only the fields that changed with it. So everything that was touched is handed on as a read,
//! once for each stamp, a call for thousands of records; of what shows nothing new the engine makes nothing. Each pass reaches
//! back behind the last, for records become visible a while after their stamp; behind a mass change, of which that would read
//! all again and again, only some do.

use super::capture::SalesforceChanges;
use super::client::{Client, Need};
use super::position::Place;
use super::records::{Columns, Look, PAGE_MAX, ShownRecord, rows};
use super::schema::{FieldInfo, ID, Object, SYSTEM_MODSTAMP};
use super::soql;
use super::sweep::{self, OVERLAP_SECONDS};
use concord_engine::change::Observation;
use concord_engine::error::{Class, Result};
use std::collections::HashMap;
use std::time::Duration;
use tokio::time::Instant;

/// How often is looked where no sync says so.
pub(super) const LOOK_EVERY: Duration = Duration::from_secs(300);
/// How often it is asked what was deleted for good: by less than what a look reaches back behind the last.
const DELETES_EVERY_SECONDS: i64 = OVERLAP_SECONDS / 2;
/// While so much was touched that the reach behind the last pass takes several pages, passes of that reach are so far apart; those
/// between them look at what is new, and count for nothing else.
const REACH_EVERY_SECONDS: i64 = OVERLAP_SECONDS / 2;
/// A look that was admitted goes on for so many pages: it is a look of one call, mostly, and of very many after a pause.
const PAGES_ADMITTED: u32 = 10;
/// What was touched less than so many seconds ago may still be told of.
const TOLD_WITHIN_SECONDS: i64 = 60;
/// Between two pages of a pass the feed has its turn.
const PAGE_PAUSE: Duration = Duration::from_millis(20);
/// The org tells for 30 days of what was deleted.
const DELETES_TOLD_SECONDS: i64 = 29 * 86_400;
/// A record's stamp that is younger than this when it is read may be given to another change still.
const STAMP_SETTLES_SECONDS: i64 = 5;
/// The most records of which it is remembered that a look has handed them on: further ones are handed on again.
const GIVEN_MAX: usize = 56_000;

/// A record that was touched.
pub(super) struct Touched {
    /// What it shows; its second is the one in which anything last touched it, the org itself, too.
    pub shown: ShownRecord,
    /// The second of its last edit, or of its delete: an event tells of that.
    pub edited: i64,
}

/// The records that were touched, as a condition says, with these fields; deletes count.
pub(super) async fn touched(client: &Client, object: &Object, fields: &[&FieldInfo], rest: &str) -> Result<Vec<Touched>> {
    let columns = Columns::new(object, fields.to_vec());
    let mut names = columns.names();
    if object.field("IsDeleted").is_some() && !names.contains(&"IsDeleted") {
        names.push("IsDeleted");
    }
    let text = soql::select(&names, &object.name, rest);
    let found = rows(client, &format!("looking at {}", object.name), &text, true, Need::Now).await?;
    let mut all = Vec::with_capacity(found.len());
    for row in &found {
        let shown = columns.read(row)?;
        let edited = if shown.deleted { shown.second } else { shown.edited.micros().div_euclid(1_000_000) };
        all.push(Touched { shown, edited });
    }
    Ok(all)
}

/// How far a feed has been looked behind, and when the next look is due.
pub(super) struct Behind {
    pub at: Instant,
    every: Duration,
    /// Up to which second it has been asked what is not in the bin any more: a call of its own, for what is rare.
    deletes_upto: Option<i64>,
    /// The pass under way.
    pass: Option<Pass>,
    /// How many pages may still be looked at before it is asked again whether there are calls for it.
    admitted: u32,
    /// Records that were handed on, with their stamps, as far back as the next pass reaches.
    given: HashMap<String, i64>,
    /// Up to which second what is new was looked at by a pass that did not reach back.
    skimmed: i64,
}

/// A look at everything that was touched between two moments, page by page.
#[derive(Clone)]
struct Pass {
    /// Edits in this second or later, and before the goal, are looked for.
    from: i64,
    goal: i64,
    /// Whether it does not reach back behind the last: what became visible late is left to the next one that does, which begins
    /// where it would have without this one.
    skims: bool,
    /// Whether everything that was touched has been looked at, and it goes on with what is not in the bin any more.
    deletes: bool,
    /// The last record that was looked at: its second and its id.
    last: Option<(i64, String)>,
    /// How many records were found of which no event had told.
    untold: usize,
}

/// A page of a pass.
struct Page {
    found: Vec<Found>,
    /// The last record that was looked at, where the page does not end the part.
    next: Option<(i64, String)>,
}

/// A record that was edited or deleted.
struct Found {
    id: String,
    /// The second of its edit, or of its delete.
    second: i64,
    /// What it shows, with its stamp; nothing of one that is not even in the bin.
    shown: Option<(Observation, i64)>,
}

impl Behind {
    /// Behind a place: what the last look left over is due when the next one would have been, whoever made the last.
    pub fn from(place: &Place, now: i64, every: Duration) -> Behind {
        let since = now.saturating_sub(TOLD_WITHIN_SECONDS).saturating_sub(place.looked_upto());
        let since = Duration::from_secs(u64::try_from(since).unwrap_or(0));
        Behind {
            at: Instant::now() + every.saturating_sub(since),
            every,
            deletes_upto: None,
            pass: None,
            admitted: 0,
            given: HashMap::new(),
            skimmed: 0,
        }
    }
}

impl Behind {
    /// The next pass behind a place, up to a second that is past; `None` where there is nothing to look at yet.
    fn next(&self, place: &Place, goal: i64) -> Option<Pass> {
        let pass = Pass::behind(place, goal)?;
        let looked = place.looked_upto();
        if self.given.len() < PAGE_MAX || goal.saturating_sub(looked) >= REACH_EVERY_SECONDS {
            return Some(pass);
        }
        let from = self.skimmed.max(looked);
        (goal > from).then_some(Pass { from, skims: true, ..pass })
    }

    /// Whether a record was handed on with this stamp; remembers that it is now, where no other change can have the stamp.
    fn is_given(&mut self, id: &str, stamped: i64, settled: i64) -> bool {
        let known = self.given.get(id) == Some(&stamped);
        if !known && stamped < settled && (self.given.len() < GIVEN_MAX || self.given.contains_key(id)) {
            self.given.insert(id.to_owned(), stamped);
        }
        known
    }
}

impl Pass {
    /// The pass behind a place, up to a second that is past; `None` where there is nothing to look at yet.
    fn behind(place: &Place, goal: i64) -> Option<Pass> {
        let began = place.begun_ms.max(place.floor_ms).div_euclid(1_000);
        let looked = place.looked_upto();
        let from = looked.saturating_sub(OVERLAP_SECONDS).max(began);
        (goal > looked).then_some(Pass { from, goal, skims: false, deletes: false, last: None, untold: 0 })
    }

    /// The next records that were edited or deleted. What was touched behind the goal counts: the org may have touched it
    /// again, behind an edit that no event told of.
    async fn page(&self, client: &Client, object: &Object, fields: &[&FieldInfo], behind: u64) -> Result<Page> {
        let page = match self.deletes {
            true => self.deleted(client, object).await?,
            false => self.touched(client, object, fields, behind).await?,
        };
        // What only the org itself has touched (a recalculation) was edited before, and no event tells of it.
        let found = page.found.into_iter().filter(|one| (self.from..self.goal).contains(&one.second)).collect();
        Ok(Page { found, ..page })
    }

    async fn touched(&self, client: &Client, object: &Object, fields: &[&FieldInfo], behind: u64) -> Result<Page> {
        let condition = match &self.last {
            Some((second, id)) => {
                let (at, id) = (soql::moment(*second), soql::quoted(id));
                format!("{SYSTEM_MODSTAMP} > {at} OR ({SYSTEM_MODSTAMP} = {at} AND {ID} > {id})")
            }
            None => format!("{SYSTEM_MODSTAMP} >= {}", soql::moment(self.from)),
        };
        let rest = format!("WHERE {condition} ORDER BY {SYSTEM_MODSTAMP}, {ID} LIMIT {PAGE_MAX}");
        let look = Look::new(behind);
        let found = touched(client, object, fields, &rest).await?;
        let next = found.last().filter(|_| found.len() >= PAGE_MAX).map(|last| (last.shown.second, last.shown.id.clone()));
        let of = |Touched { shown, edited }| {
            let (id, stamped) = (shown.id.clone(), shown.second);
            Found { id, second: edited, shown: Some((look.observe(object, shown), stamped)) }
        };
        Ok(Page { found: found.into_iter().map(of).collect(), next })
    }

    /// Of what is not in the bin any more no query tells.
    async fn deleted(&self, client: &Client, object: &Object) -> Result<Page> {
        let since = self.from.max(client.org_seconds().saturating_sub(DELETES_TOLD_SECONDS));
        let (gone, next) = sweep::deleted(client, object, since, self.last.as_ref()).await?;
        Ok(Page { found: gone.into_iter().map(|(second, id)| Found { id, second, shown: None }).collect(), next })
    }
}

impl SalesforceChanges {
    /// Whether a look stands in for the events, and has not come to its end.
    pub(super) fn is_looking(&self) -> bool {
        self.undelivered.lasts() && self.behind.pass.is_some() && self.undelivered.why().is_none()
    }

    /// Looks at a page, and hands on what it shows. A look that fails is made again after a while, where it was: the
    /// feed goes on.
    pub(super) async fn look_behind(&mut self) {
        // Where nothing is told nothing needs to be left time to be.
        let told_within = if self.undelivered.lasts() { 0 } else { TOLD_WITHIN_SECONDS };
        let goal = self.shared.client.org_seconds().saturating_sub(told_within);
        let goal = self.behind.pass.as_ref().map_or(goal, |pass| pass.goal);
        // Behind a pause events may be on their way still that tell.
        let until = self.shared.may_tell_until(&self.feed).filter(|until| *until > Instant::now() && told_within > 0);
        if let Some(until) = until.filter(|_| self.ahead.commit_ms.div_euclid(1_000) < goal) {
            self.behind.at = until;
            return;
        }
        let every = match self.undelivered.lasts() {
            true => self.behind.every.min(self.shared.client.settings.poll_every),
            false => self.behind.every,
        };
        let looked = self.look_on(goal).await;
        self.undelivered.looked(looked.as_ref().map(|_| ()).map_err(Clone::clone));
        let wait = match looked {
            Ok(true) => PAGE_PAUSE.min(every),
            Ok(false) => every,
            // While calls are short the look waits, and passes nothing over.
            Err(error) if error.class() == Class::Throttled => {
                tracing::debug!(feed = %self.feed, error = error.chain(), "the look behind the events waits");
                every
            }
            Err(error) => {
                tracing::warn!(feed = %self.feed, error = error.chain(), "what no event told of could not be looked for");
                every
            }
        };
        self.behind.at = Instant::now() + wait;
    }

    /// Looks at the next page. Says whether there is another one.
    async fn look_on(&mut self, goal: i64) -> Result<bool> {
        let object = self.shared.object(&self.object).await?;
        let pass = self.behind.pass.clone().or_else(|| self.behind.next(&self.ahead, goal));
        let Some(mut pass) = pass.filter(|_| object.field(SYSTEM_MODSTAMP).is_some_and(|stamp| stamp.filterable)) else {
            return Ok(false);
        };
        // Where nothing else tells of people's edits a look is no less urgent than an event.
        let events_tell = !self.undelivered.lasts();
        if self.behind.admitted == 0 && events_tell {
            self.shared.client.usage().admit_look(&object.name)?;
            self.behind.admitted = PAGES_ADMITTED;
        }
        self.behind.admitted = self.behind.admitted.saturating_sub(1);
        let page = pass.page(&self.shared.client, &object, &self.wanted(&object), self.shared.behind(&self.object)).await;
        let Page { found, next } = self.shared.forget_after(&self.object, page)?;
        let (mut untold, mut forgotten) = (0_usize, 0_usize);
        let (mut to_read, mut to_hand_on) = (Vec::new(), Vec::new());
        for Found { id, second, shown } in found {
            let told = self.shared.has_shown(&self.feed, &id, second);
            match told {
                Some(true) => {}
                Some(false) if events_tell => untold = untold.saturating_add(1),
                Some(false) => {}
                None => forgotten = forgotten.saturating_add(1),
            }
            match shown {
                // The event that has told of it may not have been its only one.
                Some((observation, stamped)) => to_hand_on.push((id, second, observation, stamped)),
                None if told != Some(true) => to_read.push((id, second)),
                None => {}
            }
        }
        if !to_read.is_empty() {
            self.read_untold(to_read, true).await?;
        }
        // From here on nothing waits: the page is passed and handed on as one.
        let settled = self.shared.client.org_seconds().saturating_sub(STAMP_SETTLES_SECONDS);
        for (id, second, observation, stamped) in to_hand_on {
            if self.behind.is_given(&id, stamped, settled) {
                continue;
            }
            let event = self.undelivered.told(observation);
            self.push(event, vec![(id, second)]);
        }
        if untold > 0 {
            tracing::warn!(feed = %self.feed, records = untold, "records had changed and no event told of them: they were read");
        }
        if forgotten > 0 && events_tell {
            tracing::debug!(feed = %self.feed, records = forgotten, "records were read whose events may have come before");
        }
        pass.untold = pass.untold.saturating_add(untold);
        let upto = self.behind.deletes_upto;
        let are_due = !pass.skims && upto.is_none_or(|upto| pass.goal.saturating_sub(upto) >= DELETES_EVERY_SECONDS);
        let goes_on = next.is_some() || (!pass.deletes && are_due);
        if pass.untold > 0 || !goes_on {
            self.shared.found_untold(&self.feed, pass.untold);
        }
        if pass.deletes && !goes_on {
            self.behind.deletes_upto = Some(pass.goal);
        }
        if !goes_on {
            self.behind.admitted = 0;
            self.behind.skimmed = pass.goal;
            // No later pass reaches further back.
            let looked = if pass.skims { self.ahead.looked_upto() } else { pass.goal };
            let oldest = looked.saturating_sub(OVERLAP_SECONDS);
            self.behind.given.retain(|_, stamp| *stamp >= oldest);
        }
        self.looked((!goes_on && !pass.skims).then_some(pass.goal));
        pass.deletes |= next.is_none();
        pass.last = next;
        self.behind.pass = goes_on.then_some(pass);
        Ok(goes_on)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_feed_that_is_opened_anew_looks_when_the_last_look_says() {
        let every = Duration::from_secs(300);
        let place = Place { looked_ms: 10_000_000, ..Place::default() };
        let due_in = |now: i64| Behind::from(&place, now, every).at.saturating_duration_since(Instant::now());
        assert!(due_in(10_060) > Duration::from_secs(299));
        assert!((Duration::from_secs(199)..=Duration::from_secs(200)).contains(&due_in(10_160)));
        assert_eq!(due_in(20_000), Duration::ZERO);
    }

    #[test]
    fn behind_a_mass_change_most_passes_look_at_what_is_new_and_every_stamp_is_reached_back_to() {
        let mut behind = Behind::from(&Place::default(), 0, Duration::from_secs(30));
        let mut place = Place { looked_ms: 10_000_000, ..Place::default() };
        let of = |behind: &Behind, place: &Place, goal| behind.next(place, goal).map(|pass| (pass.from, pass.skims));
        assert_eq!(of(&behind, &place, 10_030), Some((9_400, false)), "little was touched");
        behind.given.extend((0..PAGE_MAX).map(|number| (number.to_string(), 9_990)));
        assert_eq!(of(&behind, &place, 10_030), Some((10_000, true)));
        behind.skimmed = 10_030;
        assert_eq!(of(&behind, &place, 10_030), None, "nothing is new");
        assert_eq!(of(&behind, &place, 10_060), Some((10_030, true)));
        assert_eq!(of(&behind, &place, 10_300), Some((9_400, false)), "as far back as if none had skimmed");
        place.looked_ms = 10_300_000;
        behind.skimmed = 10_300;
        assert_eq!(of(&behind, &place, 10_330), Some((10_300, true)));
        behind.given.clear();
        assert_eq!(of(&behind, &place, 10_330), Some((9_700, false)));
    }

    #[test]
    fn a_pass_reaches_back_behind_the_last_and_never_behind_the_beginning() {
        let place = Place { begun_ms: 9_000_000, looked_ms: 10_000_000, ..Place::default() };
        let of = |place: &Place, goal| Pass::behind(place, goal).map(|pass| (pass.from, pass.goal));
        assert_eq!(of(&place, 10_300), Some((9_400, 10_300)));
        assert_eq!(of(&Place { looked_ms: 9_200_000, ..place.clone() }, 9_500), Some((9_000, 9_500)));
        assert_eq!(of(&place, 10_000), None, "nothing is new");
        assert_eq!(of(&Place { begun_ms: 11_000_000, ..place }, 11_300), Some((11_000, 11_300)), "begun anew since");
    }
}
