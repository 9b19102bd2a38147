//! Finds the records that a query asks for. Uses an index where the condition names ids or unique values, and reads the
//! whole table otherwise.

use super::bind::{Binder, Bound, path};
use super::filter::{meets, value};
use super::parse::{self, Condition, Operator, OrderBy, Query, Selected};
use super::rows::{Plan, Row};
use crate::salesforce::errors::ApiError;
use crate::salesforce::record::Shared;
use crate::salesforce::schema::{Object, place};
use crate::salesforce::state::Data;
use crate::salesforce::values::Value;
use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Most rows that may be skipped.
const OFFSET_MAX: usize = 2_000;

/// What a query found.
#[derive(Clone, Debug)]
pub enum Found {
    Records { plan: Arc<Plan>, records: Vec<Shared> },
    Count(usize),
    Aggregates(Vec<Row>),
}

/// Runs a query. `with_deleted`: records in the bin count too.
pub fn run(data: &Data, now_ms: i64, text: &str, with_deleted: bool) -> Result<Found, ApiError> {
    let query = parse::query(text).map_err(malformed)?;
    run_query(data, now_ms, &query, with_deleted || query.all_rows)
}

/// The refusal of a query that cannot be read.
pub fn malformed(message: String) -> ApiError {
    ApiError::bad("MALFORMED_QUERY", message)
}

fn run_query(data: &Data, now_ms: i64, query: &Query, with_deleted: bool) -> Result<Found, ApiError> {
    let object = data.schema.object(&query.from).ok_or_else(|| no_object(&query.from))?.clone();
    if query.offset > OFFSET_MAX {
        let message = format!("Maximum SOQL offset allowed is {OFFSET_MAX}");
        return Err(ApiError::bad("NUMBER_OUTSIDE_VALID_RANGE", message));
    }
    let aggregates = query.select.iter().any(|selected| matches!(selected, Selected::Aggregate { .. }));
    let plan = if aggregates { None } else { Some(Arc::new(Plan::new(data, &object, query, now_ms)?)) };
    let order = order_paths(data, &object, &query.order_by)?;
    let mut records = matching(data, now_ms, &object, query.condition.as_ref(), with_deleted)?;
    if let Some(plan) = plan {
        sort(data, &object, &mut records, &order);
        let records = records.into_iter().skip(query.offset).take(query.limit.unwrap_or(usize::MAX)).collect();
        return Ok(Found::Records { plan, records });
    }
    match query.select.as_slice() {
        [Selected::Aggregate { function, field: None, .. }] if function == "COUNT" && query.group_by.is_empty() => {
            Ok(Found::Count(records.len().min(query.limit.unwrap_or(usize::MAX))))
        }
        _ => aggregate(data, &object, query, &records),
    }
}

fn no_object(name: &str) -> ApiError {
    ApiError::bad(
        "INVALID_TYPE",
        format!(
            "sObject type '{name}' is not supported. If you are attempting to use a custom object, be sure to append the '__c' \
             after the entity name. Please reference your WSDL or the describe call for the appropriate names."
        ),
    )
}

/// Records that meet a condition, by id.
pub fn matching(
    data: &Data,
    now_ms: i64,
    object: &Arc<Object>,
    condition: Option<&Condition>,
    with_deleted: bool,
) -> Result<Vec<Shared>, ApiError> {
    let inner = |query: &Query| inner_values(data, now_ms, query);
    let binder = Binder { schema: &data.schema, now_ms, inner: &inner };
    let bound = condition.map(|condition| binder.bind(object, condition)).transpose()?;
    let Some(table) = data.store.table(&object.name) else { return Ok(Vec::new()) };
    let wanted = |record: &&Shared| {
        (with_deleted || !record.is_deleted())
            && !table.hides(&record.id)
            && bound.as_ref().is_none_or(|bound| meets(&data.store, object, record, bound))
    };
    let candidates = bound.as_ref().and_then(|bound| narrow(data, object, bound, with_deleted));
    Ok(match candidates {
        Some(candidates) => candidates.iter().filter(wanted).cloned().collect(),
        None => table.all().filter(wanted).cloned().collect(),
    })
}

/// The records among which the answer must be, where the condition names ids or unique values.
fn narrow(data: &Data, object: &Object, bound: &Bound, with_deleted: bool) -> Option<Vec<Shared>> {
    let table = data.store.table(&object.name)?;
    let (path, keys): (_, Vec<String>) = match bound {
        Bound::And(all) => return all.iter().find_map(|one| narrow(data, object, one, with_deleted)),
        Bound::Compare { path, operator: Operator::Equal, value } => (path, vec![value.index_key(false)?]),
        Bound::In { path, keys, null: false, negated: false } => (path, keys.iter().cloned().collect()),
        _ => return None,
    };
    if !path.steps.is_empty() {
        return None;
    }
    let mut found: Vec<Shared> = if path.place == place::ID {
        let ids = keys.iter().filter_map(|key| super::super::ids::Id::parse(key));
        ids.filter_map(|id| table.get(&id).cloned()).collect()
    } else if !with_deleted && path.field.external_id && !path.field.case_sensitive {
        let ids = keys.iter().flat_map(|key| table.find(path.place, key));
        ids.filter_map(|id| table.get(id).cloned()).collect()
    } else {
        return None;
    };
    found.sort_by_key(|record| record.id);
    Some(found)
}

/// The values of the one field that a query inside a condition selects.
fn inner_values(data: &Data, now_ms: i64, query: &Query) -> Result<Vec<Value>, ApiError> {
    let [Selected::Field(name)] = query.select.as_slice() else {
        return Err(malformed("A semi join sub-select must select one field".to_string()));
    };
    let object = data.schema.object(&query.from).ok_or_else(|| no_object(&query.from))?;
    let path = path(&data.schema, object, name)?;
    let records = matching(data, now_ms, object, query.condition.as_ref(), false)?;
    Ok(records.iter().map(|record| value(&data.store, object, record, &path)).filter(|value| !value.is_null()).collect())
}

type Order = (super::bind::Path, bool, bool);

fn order_paths(data: &Data, object: &Arc<Object>, order_by: &[OrderBy]) -> Result<Vec<Order>, ApiError> {
    let resolve = |order: &OrderBy| {
        let path = path(&data.schema, object, &order.field)?;
        if !path.field.filterable() {
            let message = format!("field '{}' can not be sorted in a query call", path.field.name);
            return Err(malformed(message));
        }
        Ok((path, order.descending, order.nulls_last))
    };
    order_by.iter().map(resolve).collect()
}

fn sort(data: &Data, object: &Object, records: &mut [Shared], order: &[Order]) {
    if order.is_empty() {
        return;
    }
    let keys =
        |record: &Shared| -> Vec<Value> { order.iter().map(|(path, ..)| value(&data.store, object, record, path)).collect() };
    let compare = |a: &Vec<Value>, b: &Vec<Value>| {
        for ((a, b), (_, descending, nulls_last)) in a.iter().zip(b).zip(order) {
            let ordering = match (a.is_null(), b.is_null()) {
                (true, true) => Ordering::Equal,
                (true, false) if *nulls_last => Ordering::Greater,
                (true, false) => Ordering::Less,
                (false, true) if *nulls_last => Ordering::Less,
                (false, true) => Ordering::Greater,
                _ if *descending => b.order(a),
                _ => a.order(b),
            };
            if ordering != Ordering::Equal {
                return ordering;
            }
        }
        Ordering::Equal
    };
    let mut keyed: Vec<(Vec<Value>, Shared)> = records.iter().map(|record| (keys(record), record.clone())).collect();
    keyed.sort_by(|a, b| compare(&a.0, &b.0));
    for (slot, (_, record)) in records.iter_mut().zip(keyed) {
        *slot = record;
    }
}

fn aggregate(data: &Data, object: &Arc<Object>, query: &Query, records: &[Shared]) -> Result<Found, ApiError> {
    let group_paths = query.group_by.iter().map(|name| path(&data.schema, object, name)).collect::<Result<Vec<_>, _>>()?;
    let mut groups: BTreeMap<Vec<String>, Vec<&Shared>> = BTreeMap::new();
    for record in records {
        let key = group_paths.iter().map(|path| value(&data.store, object, record, path).csv()).collect();
        groups.entry(key).or_default().push(record);
    }
    if groups.is_empty() && group_paths.is_empty() {
        groups.insert(Vec::new(), Vec::new());
    }
    let mut rows = Vec::new();
    for members in groups.values() {
        let mut cells = Vec::new();
        let mut unnamed = 0;
        for selected in &query.select {
            match selected {
                Selected::Field(name) => {
                    let path = path(&data.schema, object, name)?;
                    if !query.group_by.iter().any(|grouped| grouped.eq_ignore_ascii_case(name)) {
                        return Err(malformed(format!("Field must be grouped or aggregated: {name}")));
                    }
                    let own = members.first().map_or(Value::Null, |record| value(&data.store, object, record, &path));
                    cells.push((path.field.name.clone(), own));
                }
                Selected::Aggregate { function, field, alias } => {
                    let values = match field {
                        Some(name) => {
                            let path = path(&data.schema, object, name)?;
                            members.iter().map(|record| value(&data.store, object, record, &path)).collect()
                        }
                        None => vec![Value::Bool(true); members.len()],
                    };
                    let name = alias.clone().unwrap_or_else(|| {
                        unnamed += 1;
                        format!("expr{}", unnamed - 1)
                    });
                    cells.push((name, reduce(function, values)));
                }
                _ => return Err(malformed("unexpected token: '('".to_string())),
            }
        }
        rows.push(Row::aggregate(cells));
    }
    rows.truncate(query.limit.unwrap_or(usize::MAX));
    Ok(Found::Aggregates(rows))
}

fn reduce(function: &str, values: Vec<Value>) -> Value {
    let mut values: Vec<Value> = values.into_iter().filter(|value| !value.is_null()).collect();
    let count = |values: &[Value]| Value::Int(i64::try_from(values.len()).unwrap_or(i64::MAX));
    let total = |values: &[Value]| values.iter().filter_map(Value::as_number).sum::<f64>();
    values.sort_by(Value::order);
    match function {
        "COUNT" => count(&values),
        "COUNT_DISTINCT" => {
            values.dedup_by(|a, b| a.order(b) == Ordering::Equal);
            count(&values)
        }
        "MIN" => values.into_iter().next().unwrap_or(Value::Null),
        "MAX" => values.into_iter().next_back().unwrap_or(Value::Null),
        _ if values.is_empty() => Value::Null,
        "SUM" => Value::Double(total(&values)),
        #[allow(clippy::cast_precision_loss, reason = "a table has far fewer rows than 2^52")]
        _ => Value::Double(total(&values) / values.len() as f64),
    }
}
