//! Records that stand in each other's way: one takes a unique value that another is about to let go of, or two exchange
//! theirs. Told one by one, none of them can be carried; here they find their places, in the transaction that is open.
//! What cannot be placed stays as it is, and refused: no record is lost or doubled.

use super::client::{Lease, column};
use super::schema::{Column, Table};
use super::steps::{attempt, concerns_records, given, put, unnest};
use concord_engine::error::{Code, Error, Result};
use concord_engine::mirror::batch::{Last, Step};
use concord_engine::mirror::bulk::Helper;
use concord_engine::record::{FieldName, Key, Record};
use concord_engine::value::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use tokio_postgres::types::ToSql;

/// How often it is looked whether one that was refused can be carried now. What is left are chains told backwards and rings.
const PASSES_MAX: usize = 3;
/// How often it is tried which of those that stand in each other's way can be placed.
const TRIES_MAX: usize = 500;

/// A record to be placed: which step it comes from, its key, and all that it shows.
struct Waiting {
    place: usize,
    key: Key,
    record: Record,
}

impl Waiting {
    fn step(&self) -> Step {
        Step::Put { key: self.key.clone(), record: self.record.clone(), made: false }
    }
}

/// Places what was refused because a value of it was there already, where that is possible now; `refused` are places among
/// the steps. One of which the steps say more later on is left alone.
pub async fn place(
    lease: &mut Lease<'_>,
    table: &Table,
    steps: &[Step],
    refused: &mut Vec<(usize, Error)>,
    helper: &dyn Helper,
    doing: &str,
) -> Result<()> {
    if refused.is_empty() {
        return Ok(());
    }
    let last = Last::of(steps);
    let failed: BTreeSet<usize> = refused.iter().map(|(place, _)| *place).collect();
    // What a later step says in full is said.
    refused.retain(|(place, _)| !last.replaced(steps, *place, &failed));
    let mut waiting = Vec::new();
    for (place, _) in refused.iter().filter(|(place, error)| error.code == Code::AlreadyThere && last.is_last(steps, *place)) {
        let whole = match steps.get(*place) {
            Some(step @ Step::Put { .. }) => vec![step.clone()],
            Some(Step::Rekey { to, set, whole: true, .. }) => {
                vec![Step::Put { key: to.clone(), record: set.clone(), made: false }]
            }
            Some(Step::Change { key, .. } | Step::Rekey { to: key, .. }) => helper.whole(std::slice::from_ref(key)).await?.0,
            _ => continue,
        };
        for step in whole {
            if let Step::Put { key, record, .. } = step {
                waiting.push(Waiting { place: *place, key, record });
            }
        }
    }
    let mut placed = BTreeSet::new();
    for _ in 0..PASSES_MAX {
        let mut left = Vec::with_capacity(waiting.len());
        let before = placed.len();
        for one in waiting {
            match attempt(lease, table, (&[one.step()], false), helper, doing).await? {
                None => drop(placed.insert(one.place)),
                Some(_) => left.push(one),
            }
        }
        waiting = left;
        if placed.len() == before {
            break;
        }
    }
    let mut shapes: BTreeMap<Vec<FieldName>, Vec<Waiting>> = BTreeMap::new();
    for one in waiting {
        shapes.entry(one.record.iter().map(|(name, _)| name.clone()).collect()).or_default().push(one);
    }
    for (fields, group) in shapes {
        let together = Together { table, fields: &fields, doing };
        placed.extend(together.place(lease, group).await?);
    }
    refused.retain(|(place, _)| !placed.contains(place));
    Ok(())
}

/// Records of one shape that are taken away and put in their places at once.
struct Together<'a> {
    table: &'a Table,
    fields: &'a [FieldName],
    doing: &'a str,
}

impl Together<'_> {
    /// Places as many of them as can be; gives back which.
    async fn place(&self, lease: &mut Lease<'_>, mut group: Vec<Waiting>) -> Result<Vec<usize>> {
        let mut tries = 0;
        while group.len() > 1 {
            let there = self.there(lease, &group).await?;
            if self.is_placed(lease, &group, &there, &vec![true; group.len()], true).await? {
                return Ok(group.into_iter().map(|one| one.place).collect());
            }
            // Somebody else has a value of some of them: which of them find a place when all of them have left theirs?
            let mut fits = vec![false; group.len()];
            let mut parts: Vec<Range<usize>> = std::iter::once(0..group.len()).collect();
            while let Some(part) = parts.pop() {
                tries += 1;
                if tries > TRIES_MAX {
                    return Ok(Vec::new());
                }
                set(&mut fits, &part, true);
                if self.is_placed(lease, &group, &there, &fits, false).await? {
                    continue;
                }
                set(&mut fits, &part, false);
                if part.len() > 1 {
                    let middle = part.start.saturating_add(part.len() / 2);
                    parts.push(middle..part.end);
                    parts.push(part.start..middle);
                }
            }
            let before = group.len();
            group = group.into_iter().zip(fits).filter(|(_, fits)| *fits).map(|(one, _)| one).collect();
            if group.len() == before {
                break;
            }
        }
        Ok(Vec::new())
    }

    /// Which of them the table holds, under their keys.
    async fn there(&self, lease: &mut Lease<'_>, group: &[Waiting]) -> Result<Vec<bool>> {
        let key = self.table.key_columns()?;
        let rows: Vec<&[Value]> = group.iter().map(|one| one.key.0.as_slice()).collect();
        let same: Vec<String> = key.iter().enumerate().map(|(at, column)| column.equals("t", &format!("v.c{at}"))).collect();
        let name = self.table.name.sql();
        let sql = format!("SELECT v.n FROM {} JOIN {name} AS t ON {}", unnest(key.len()), same.join(" AND "));
        let arrays = super::read::columns_of(&key, &rows)?;
        let parameters: Vec<&(dyn ToSql + Sync)> = arrays.iter().map(|array| array as _).collect();
        let rows = lease.query(&sql, &parameters, self.doing).await?;
        let found = rows.iter().map(|row| column::<i64>(row, 0)).collect::<Result<BTreeSet<i64>>>()?;
        Ok((1..).take(group.len()).map(|number: i64| found.contains(&number)).collect())
    }

    /// Takes all of them away and puts those that are chosen in their places; `stays`: else it was to see whether it can be.
    async fn is_placed(
        &self,
        lease: &mut Lease<'_>,
        group: &[Waiting],
        there: &[bool],
        chosen: &[bool],
        stays: bool,
    ) -> Result<bool> {
        lease.execute("SAVEPOINT together", self.doing).await?;
        let done = self.exchange(lease, group, there, chosen).await;
        let refused = match done {
            Ok(()) => false,
            Err(error) if concerns_records(&error) => true,
            Err(error) => return Err(error),
        };
        let back = if stays && !refused { "" } else { "ROLLBACK TO SAVEPOINT together; " };
        lease.execute(&format!("{back}RELEASE SAVEPOINT together"), self.doing).await?;
        Ok(!refused)
    }

    async fn exchange(&self, lease: &mut Lease<'_>, group: &[Waiting], there: &[bool], chosen: &[bool]) -> Result<()> {
        let (sql, arrays) = self.statement(group, there, chosen)?;
        let parameters: Vec<&(dyn ToSql + Sync)> = arrays.iter().map(|array| array as _).collect();
        lease.query(&sql, &parameters, self.doing).await?;
        let new = group.iter().zip(there).zip(chosen).filter(|((_, there), chosen)| !**there && **chosen);
        let new: Vec<Step> = new.map(|((one, _), _)| one.step()).collect();
        if new.is_empty() {
            return Ok(());
        }
        let fields: Vec<&FieldName> = self.fields.iter().collect();
        let made = put(self.table, &fields, &new.iter().collect::<Vec<_>>())?;
        super::steps::run(lease, &made, self.doing).await.map(drop)
    }

    /// One statement, so that columns that no mapping names stay as they are. The order makes it take all of them away before
    /// it puts the first one down.
    fn statement(&self, group: &[Waiting], there: &[bool], chosen: &[bool]) -> Result<(String, Vec<Vec<Option<String>>>)> {
        let columns = self.fields.iter().map(|field| self.table.require(field)).collect::<Result<Vec<&Column>>>()?;
        let own = self.table.columns.iter().filter(|own| !own.generated && !columns.iter().any(|column| column.sql == own.sql));
        let own: Vec<&Column> = own.collect();
        let mut same = Vec::new();
        for key in self.table.key_columns()? {
            let at = columns.iter().position(|column| column.sql == key.sql);
            let at = at.ok_or_else(|| Error::new(Code::Internal, "a record without its key"))?;
            same.push(key.equals("t", &format!("v.c{at}")));
        }
        let name = self.table.name.sql();
        let kept: Vec<String> = own.iter().enumerate().map(|(at, own)| format!(", t.{} AS o{at}", own.sql)).collect();
        let into: Vec<&str> = columns.iter().chain(&own).map(|column| column.sql.as_str()).collect();
        let values = columns.iter().enumerate().map(|(at, column)| given(column, at));
        let values: Vec<String> = values.chain((0..own.len()).map(|at| format!("v.o{at}"))).collect();
        let sql = format!(
            "WITH v AS (SELECT * FROM {}), gone AS (DELETE FROM {name} AS t USING v WHERE {} RETURNING v.*{}) \
             INSERT INTO {name} ({}) OVERRIDING SYSTEM VALUE SELECT {} FROM (SELECT * FROM gone ORDER BY n) AS v WHERE v.c{} = 't'",
            unnest(columns.len().saturating_add(1)),
            same.join(" AND "),
            kept.concat(),
            into.join(", "),
            values.join(", "),
            columns.len(),
        );
        let present = || group.iter().zip(there).zip(chosen).filter(|((_, there), _)| **there);
        let rows: Vec<Vec<&Value>> = present().map(|((one, _), _)| one.record.iter().map(|(_, value)| value).collect()).collect();
        let rows: Vec<&[&Value]> = rows.iter().map(Vec::as_slice).collect();
        let mut arrays = super::read::columns_of(&columns, &rows)?;
        arrays.push(present().map(|(_, chosen)| Some(if *chosen { "t" } else { "f" }.to_owned())).collect());
        Ok((sql, arrays))
    }
}

fn set(flags: &mut [bool], part: &Range<usize>, to: bool) {
    if let Some(flags) = flags.get_mut(part.clone()) {
        flags.fill(to);
    }
}
