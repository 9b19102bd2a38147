//! Records looked for by the values of fields: each value once, as many of them to a query as fit, and several queries to a
//! call.

use super::client::{Client, Need};
use super::ids;
use super::parts::PARTS_MAX;
use super::records::{Columns, Look, PAGE_MAX, first_pages, rest};
use super::schema::{FieldInfo, ID, Kind, Object};
use super::soql::{literal, quoted, select};
use concord_engine::change::Observation;
use concord_engine::error::{Code, Error, Result};
use concord_engine::record::FieldName;
use concord_engine::schema::Selection;
use concord_engine::value::Value;
use std::collections::{HashMap, VecDeque};
use std::ops::Range;

/// The most pages of one query (invariant 10).
const PAGES_MAX: usize = 50;
/// The most characters of a list of values. A query may have 100,000; the fields that it selects take their share, and the org
/// makes it longer before it carries it out.
const LIST_CHARS_MAX: usize = 40_000;
/// The same where each row has a term of its own, which the org takes longer to read.
const TERMS_CHARS_MAX: usize = 4_000;

/// About the characters of a value that is looked for, as a condition has it.
const VALUE_CHARS: usize = 40;

/// About how many rows of so many fields one call looks for.
pub(super) fn rows_a_call(fields: u64) -> u64 {
    let chars = if fields == 1 { LIST_CHARS_MAX } else { TERMS_CHARS_MAX };
    let of_call = u64::try_from(chars.saturating_mul(PARTS_MAX) / VALUE_CHARS).unwrap_or(1);
    (of_call / fields.max(1)).max(1)
}

/// What is looked for.
#[derive(Clone, Copy)]
pub(super) struct Search<'a> {
    /// The fields.
    pub by: &'a [FieldName],
    /// Their values, in rows.
    pub values: &'a [Vec<Value>],
    /// The most records for each row.
    pub limit: usize,
}

/// A row that is asked for, however often it was given.
struct Row<'a> {
    values: &'a [Value],
    /// What it says in a condition: a value of a list, or a term.
    text: String,
}

/// A query for some of the rows.
struct Query {
    condition: String,
    rows: Range<usize>,
    /// The last record of the page before.
    after: Option<String>,
    pages: usize,
}

/// Records by the values of fields. What it is for is asked before the first call: what was begun goes on.
pub(super) async fn find(
    client: &Client,
    object: &Object,
    selection: &Selection,
    search: &Search<'_>,
    behind: u64,
    need: Need,
) -> Result<Vec<Vec<Observation>>> {
    let Search { by, values, limit } = *search;
    let columns = Columns::new(object, fields(object, selection, by)?);
    let list = list_field(object, by);
    let (rows, places) = distinct(by, values, list.is_some())?;
    let mut found: Vec<Vec<Observation>> = vec![Vec::new(); rows.len()];
    let mut left = queries(&rows, list);
    let (doing, mut need) = (format!("searching {}", object.name), need);
    while !left.is_empty() {
        let round: Vec<Query> = left.drain(..left.len().min(PARTS_MAX)).collect();
        let texts: Vec<String> = round.iter().map(|query| query.text(object, &columns)).collect();
        let look = Look::new(behind);
        let pages = first_pages(client, &doing, &texts, std::mem::replace(&mut need, Need::Now)).await?;
        for (query, page) in round.into_iter().zip(pages) {
            let shown = rest(client, &doing, page).await?;
            let shown = shown.iter().map(|row| columns.read(row)).collect::<Result<Vec<_>>>()?;
            let last = shown.last().filter(|_| shown.len() >= PAGE_MAX).map(|last| last.id.clone());
            let of_query = || rows.iter().zip(0..).skip(query.rows.start).take(query.rows.len());
            for shown in shown {
                // Conditions compare texts without regard to case: here it counts.
                let matches = |row: &Row<'_>| {
                    let mut both = by.iter().zip(row.values);
                    both.all(|(name, value)| shown.record.get(name.as_str()).is_some_and(|held| held.equivalent(value)))
                };
                for (_, place) in of_query().filter(|(row, _)| matches(row)) {
                    if let Some(list) = found.get_mut(place).filter(|list: &&mut Vec<_>| list.len() < limit) {
                        list.push(look.observe(object, shown.clone()));
                    }
                }
            }
            let is_full = of_query().all(|(_, place)| found.get(place).is_some_and(|list| list.len() >= limit));
            // The answer has no end of its own: a text may be in any case, and a value be shared by everything there is.
            if let Some(last) = last.filter(|_| !is_full) {
                left.push_back(query.behind(last, object)?);
            }
        }
    }
    let of_place = |place: Option<usize>| place.and_then(|place| found.get(place).cloned()).unwrap_or_default();
    Ok(places.into_iter().map(of_place).collect())
}

/// What is read of each record: what is wanted, and what it is looked for by.
fn fields<'a>(object: &'a Object, selection: &Selection, by: &[FieldName]) -> Result<Vec<&'a FieldInfo>> {
    let mut fields = object.selected(selection)?;
    for name in by {
        let field = object
            .field(name.as_str())
            .ok_or_else(|| Error::new(Code::FieldMissing, format!("the object {} has no field {name}", object.name)))?;
        if !field.filterable {
            return Err(Error::new(
                Code::Unsupported,
                format!("records of {} cannot be looked for by {name}: it cannot stand in a condition", object.name),
            ));
        }
        if !fields.iter().any(|known| known.name == field.name) {
            fields.push(field);
        }
    }
    Ok(fields)
}

/// The only field that is looked for by, where its values can stand in a list.
fn list_field<'a>(object: &'a Object, by: &[FieldName]) -> Option<&'a str> {
    let [name] = by else { return None };
    let field = object.field(name.as_str())?;
    let is_listed = matches!(field.kind, Kind::Id | Kind::Text | Kind::Reference) && field.native != "multipicklist";
    is_listed.then_some(field.name.as_str())
}

/// Each row once, and where it stands there; `None` where no record can match.
fn distinct<'a>(by: &[FieldName], values: &'a [Vec<Value>], is_list: bool) -> Result<(Vec<Row<'a>>, Vec<Option<usize>>)> {
    let mut rows: Vec<Row<'a>> = Vec::new();
    let mut known: HashMap<String, usize> = HashMap::new();
    let mut places = Vec::with_capacity(values.len());
    for row in values {
        let text = match (row.as_slice(), is_list) {
            ([value], true) if !can_match(by, row) || *value == Value::Null => condition(by, row)?,
            ([value], true) => Some(literal(value)?),
            _ => condition(by, row)?,
        };
        places.push(text.map(|text| {
            *known.entry(text).or_insert_with_key(|text| {
                rows.push(Row { values: row, text: text.clone() });
                rows.len().saturating_sub(1)
            })
        }));
    }
    Ok((rows, places))
}

/// Queries for all of these rows, in their order.
fn queries(rows: &[Row<'_>], list: Option<&str>) -> VecDeque<Query> {
    let most = if list.is_some() { LIST_CHARS_MAX } else { TERMS_CHARS_MAX };
    let (mut queries, mut begin, mut chars) = (VecDeque::new(), 0_usize, 0_usize);
    for (place, row) in rows.iter().enumerate() {
        let more = row.text.chars().count().saturating_add(4);
        if place > begin && chars.saturating_add(more) > most {
            queries.push_back(Query::of(rows, begin..place, list));
            (begin, chars) = (place, 0);
        }
        chars = chars.saturating_add(more);
    }
    if begin < rows.len() {
        queries.push_back(Query::of(rows, begin..rows.len(), list));
    }
    queries
}

impl Query {
    fn of(all: &[Row<'_>], rows: Range<usize>, list: Option<&str>) -> Query {
        let texts = all.get(rows.clone()).unwrap_or_default().iter().map(|row| row.text.as_str());
        // Null stands in no list.
        let (terms, listed): (Vec<&str>, Vec<&str>) = texts.partition(|text| list.is_none() || text.starts_with('('));
        let listed = list.filter(|_| !listed.is_empty()).map(|name| format!("{name} IN ({})", listed.join(",")));
        let condition = terms.into_iter().map(str::to_owned).chain(listed).collect::<Vec<_>>().join(" OR ");
        Query { condition, rows, after: None, pages: 0 }
    }

    fn text(&self, object: &Object, columns: &Columns<'_>) -> String {
        let after = self.after.as_ref().map_or_else(String::new, |last| format!(" AND {ID} > {}", quoted(last)));
        let rest = format!("WHERE ({}){after} ORDER BY {ID} LIMIT {PAGE_MAX}", self.condition);
        select(&columns.names(), &object.name, &rest)
    }

    /// The same behind a record.
    fn behind(self, last: String, object: &Object) -> Result<Query> {
        let pages = self.pages.saturating_add(1);
        if pages >= PAGES_MAX {
            let message = format!("more than {} records of {} match", PAGES_MAX.saturating_mul(PAGE_MAX), object.name);
            return Err(Error::new(Code::Unsupported, message));
        }
        Ok(Query { after: Some(last), pages, ..self })
    }
}

/// Whether a record can show these values at all.
fn can_match(by: &[FieldName], row: &[Value]) -> bool {
    let is_no_id = |(name, value): (&FieldName, &Value)| name.as_str() == ID && !value.as_text().is_some_and(ids::is_id);
    !by.is_empty() && by.len() == row.len() && !by.iter().zip(row).any(is_no_id)
}

/// `(A = 'x' AND B = 1)`; `None` where no record can match.
fn condition(by: &[FieldName], row: &[Value]) -> Result<Option<String>> {
    if !can_match(by, row) {
        return Ok(None);
    }
    let terms =
        by.iter().zip(row).map(|(name, value)| Ok(format!("{name} = {}", literal(value)?))).collect::<Result<Vec<_>>>()?;
    Ok(Some(format!("({})", terms.join(" AND "))))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn conditions(by: &[FieldName], values: &[Vec<Value>], list: Option<&str>) -> (Vec<String>, Vec<Option<usize>>) {
        let (rows, places) = distinct(by, values, list.is_some()).unwrap();
        (queries(&rows, list).into_iter().map(|query| query.condition).collect(), places)
    }

    #[test]
    fn each_value_is_asked_for_once_and_null_in_no_list() {
        let values = ["a", "b", "a"].map(|text| vec![Value::text(text)]).into_iter().chain([vec![Value::Null]]);
        let values: Vec<Vec<Value>> = values.collect();
        let (asked, places) = conditions(&["Email".into()], &values, Some("Email"));
        assert_eq!(asked, ["(Email = null) OR Email IN ('a','b')"]);
        assert_eq!(places, [Some(0), Some(1), Some(0), Some(2)]);
    }

    #[test]
    fn rows_of_several_fields_have_a_term_each_and_what_is_no_id_none() {
        let by = ["A".into(), ID.into()];
        let row = |id: &str| vec![Value::text("x"), Value::text(id)];
        let (asked, places) = conditions(&by, &[row("001000000000001AAA"), row("no id")], None);
        assert_eq!(asked, ["(A = 'x' AND Id = '001000000000001AAA')"]);
        assert_eq!(places, [Some(0), None]);
        let (asked, places) = conditions(&[ID.into()], &[vec![Value::text("no id")]], Some(ID));
        assert!(asked.is_empty() && places == [None]);
    }

    #[test]
    fn no_query_is_longer_than_it_may_be_and_every_row_is_in_one() {
        let values: Vec<Vec<Value>> = (0..5_000).map(|n| vec![Value::text(format!("somebody.{n}@a-company.example"))]).collect();
        let (rows, _) = distinct(&["Email".into()], &values, true).unwrap();
        let asked = queries(&rows, Some("Email"));
        assert!(asked.iter().all(|query| query.condition.len() <= LIST_CHARS_MAX + 20) && asked.len() <= 5, "{}", asked.len());
        assert!(asked.iter().flat_map(|query| query.rows.clone()).eq(0..5_000));
    }
}
