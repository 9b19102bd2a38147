//! How the rows of an answer look: fields in the order in which they were asked for, parents as objects, children as
//! answers of their own, compounds whole.

use super::bind::{Path, no_column, path};
use super::filter::value;
use super::parse::{Condition, Literal, Operator, OrderBy, Query, Selected};
use super::run::matching;
use crate::salesforce::errors::ApiError;
use crate::salesforce::ids::Id;
use crate::salesforce::record::Shared;
use crate::salesforce::schema::{Field, Kind, Object};
use crate::salesforce::state::Data;
use crate::salesforce::values::Value;
use serde::ser::SerializeMap;
use serde::{Serialize, Serializer};
use std::sync::Arc;

/// Most rows of a query that asks for all fields.
const ALL_FIELDS_ROWS_MAX: usize = 200;

/// What each row shows.
#[derive(Clone, Debug)]
pub struct Plan {
    pub object: Arc<Object>,
    outs: Vec<Out>,
}

#[derive(Clone, Debug)]
enum Out {
    Field(Path),
    Compound(Arc<Field>),
    Parent { name: String, place: usize, plan: Plan },
    Children { name: String, field: usize, query: Box<Query>, plan: Plan },
}

/// One row of an answer.
#[derive(Clone, Debug)]
pub struct Row {
    /// Object and id; none for an aggregate.
    of: Option<(Arc<Object>, Id)>,
    cells: Vec<(String, Cell)>,
}

#[derive(Clone, Debug)]
enum Cell {
    Value(Value),
    Compound(Vec<(&'static str, Value)>),
    Parent(Option<Row>),
    Children(Vec<Row>),
}

impl Plan {
    /// Resolves what a query selects.
    pub fn new(data: &Data, object: &Arc<Object>, query: &Query, now_ms: i64) -> Result<Self, ApiError> {
        let mut plan = Self { object: object.clone(), outs: Vec::new() };
        for selected in &query.select {
            match selected {
                Selected::Field(name) => plan.add(data, name)?,
                Selected::Fields(which) => {
                    if which != "STANDARD" && query.limit.is_none_or(|limit| limit > ALL_FIELDS_ROWS_MAX) {
                        let message = "The SOQL FIELDS function must have a LIMIT of at most 200";
                        return Err(ApiError::bad("MALFORMED_QUERY", message));
                    }
                    for (_, field) in object.fields() {
                        if which == "ALL" || (which == "CUSTOM") == field.custom {
                            plan.add(data, &field.name)?;
                        }
                    }
                }
                Selected::Children(children) => plan.add_children(data, children, now_ms)?,
                Selected::Aggregate { function, .. } => {
                    return Err(ApiError::bad("MALFORMED_QUERY", format!("unexpected token: '{function}'")));
                }
            }
        }
        Ok(plan)
    }

    /// A plan that shows these fields of a record.
    pub fn of_fields(data: &Data, object: &Arc<Object>, names: &[&str]) -> Result<Self, ApiError> {
        let mut plan = Self { object: object.clone(), outs: Vec::new() };
        for name in names {
            plan.add(data, name)?;
        }
        Ok(plan)
    }

    /// A plan that shows every field of a record.
    pub fn of_all(object: &Arc<Object>) -> Self {
        let out = |(place, field): (usize, &Arc<Field>)| {
            if field.kind.is_compound() {
                Out::Compound(field.clone())
            } else {
                Out::Field(Path { steps: Vec::new(), place, field: field.clone() })
            }
        };
        Self { object: object.clone(), outs: object.fields().map(out).collect() }
    }

    fn add(&mut self, data: &Data, name: &str) -> Result<(), ApiError> {
        if let Some((first, rest)) = name.split_once('.') {
            // Proves the whole way, with the vendor's words where it is wrong.
            path(&data.schema, &self.object, name)?;
            let (place, field) = self.object.relationship(first).ok_or_else(|| no_column(first, &self.object.name))?;
            let name = field.relationship_name.clone().unwrap_or_default();
            let target = field.reference_to.first().and_then(|to| data.schema.object(to));
            let target = target.ok_or_else(|| no_column(first, &self.object.name))?.clone();
            let known = self.outs.iter_mut().find_map(|out| match out {
                Out::Parent { name: own, plan, .. } if *own == name => Some(plan),
                _ => None,
            });
            if let Some(plan) = known {
                return plan.add(data, rest);
            }
            let mut plan = Self { object: target, outs: Vec::new() };
            plan.add(data, rest)?;
            self.outs.push(Out::Parent { name, place, plan });
            return Ok(());
        }
        let (place, field) = self.object.field(name).ok_or_else(|| no_column(name, &self.object.name))?;
        if field.kind.is_compound() {
            self.outs.push(Out::Compound(field.clone()));
            return Ok(());
        }
        let twice = self.outs.iter().any(|out| matches!(out, Out::Field(path) if path.place == place));
        if !twice {
            self.outs.push(Out::Field(Path { steps: Vec::new(), place, field: field.clone() }));
        }
        Ok(())
    }

    fn add_children(&mut self, data: &Data, query: &Query, now_ms: i64) -> Result<(), ApiError> {
        let mut children = data.schema.children(&self.object.name);
        let named = |field: &Field| field.child_relationship.as_deref().is_some_and(|own| own.eq_ignore_ascii_case(&query.from));
        let (child, field) = children.find(|(_, field)| named(field)).ok_or_else(|| {
            ApiError::bad("INVALID_TYPE", format!("Didn't understand relationship '{}' in FROM part of query call", query.from))
        })?;
        let (place, _) = child.field(&field.name).ok_or_else(ApiError::not_found)?;
        let plan = Self::new(data, child, query, now_ms)?;
        // Proves the condition now, so that the refusal comes before any row.
        matching(data, now_ms, child, query.condition.as_ref(), false)?;
        let name = field.child_relationship.clone().unwrap_or_default();
        self.outs.push(Out::Children { name, field: place, query: Box::new(query.clone()), plan });
        Ok(())
    }

    /// The columns of a flat answer; an error where something is not flat.
    pub fn columns(&self) -> Result<Vec<String>, ApiError> {
        let mut names = Vec::new();
        for out in &self.outs {
            match out {
                Out::Field(path) => names.push(path.field.name.clone()),
                Out::Parent { name, plan, .. } => {
                    names.extend(plan.columns()?.into_iter().map(|column| format!("{name}.{column}")));
                }
                Out::Compound(_) => {
                    return Err(ApiError::bad("API_ERROR", "Selecting compound data not supported in Bulk Query"));
                }
                Out::Children { .. } => {
                    return Err(ApiError::bad("API_ERROR", "Subqueries are not supported in Bulk Query"));
                }
            }
        }
        Ok(names)
    }

    /// A record as cells of a flat answer.
    pub fn cells(&self, data: &Data, record: &Shared, cells: &mut Vec<String>) {
        for out in &self.outs {
            match out {
                Out::Field(path) => cells.push(value(&data.store, &self.object, record, path).csv()),
                Out::Parent { place, plan, .. } => {
                    let parent = record.get(*place).as_id().and_then(|id| data.store.get(&plan.object.name, &id));
                    match parent {
                        Some(parent) => plan.cells(data, parent, cells),
                        None => cells.extend(plan.columns().unwrap_or_default().iter().map(|_| String::new())),
                    }
                }
                Out::Compound(_) | Out::Children { .. } => {}
            }
        }
    }

    /// A record as a row.
    pub fn row(&self, data: &Data, record: &Shared, now_ms: i64) -> Row {
        let cell = |out: &Out| match out {
            Out::Field(path) => (path.field.name.clone(), Cell::Value(value(&data.store, &self.object, record, path))),
            Out::Compound(field) => (field.name.clone(), compound(&self.object, record, field)),
            Out::Parent { name, place, plan } => {
                let parent = record.get(*place).as_id().and_then(|id| data.store.get(&plan.object.name, &id));
                (name.clone(), Cell::Parent(parent.map(|parent| plan.row(data, parent, now_ms))))
            }
            Out::Children { name, field, query, plan } => {
                (name.clone(), Cell::Children(children(data, now_ms, record.id, *field, query, plan)))
            }
        };
        Row { of: Some((self.object.clone(), record.id)), cells: self.outs.iter().map(cell).collect() }
    }
}

fn children(data: &Data, now_ms: i64, parent: Id, field: usize, query: &Query, plan: &Plan) -> Vec<Row> {
    let Some(reference) = plan.object.at(field) else { return Vec::new() };
    let mine =
        Condition::Compare { field: reference.name.clone(), operator: Operator::Equal, value: Literal::Text(parent.to_string()) };
    let all = Condition::And(std::iter::once(mine).chain(query.condition.clone()).collect());
    let mut records = matching(data, now_ms, &plan.object, Some(&all), false).unwrap_or_default();
    for OrderBy { field, descending, .. } in query.order_by.iter().rev() {
        if let Ok(path) = path(&data.schema, &plan.object, field) {
            let key = |record: &Shared| value(&data.store, &plan.object, record, &path);
            records.sort_by(|a, b| if *descending { key(b).order(&key(a)) } else { key(a).order(&key(b)) });
        }
    }
    records.truncate(query.limit.unwrap_or(usize::MAX));
    records.iter().map(|record| plan.row(data, record, now_ms)).collect()
}

/// The parts of a compound by the names that they have in it: (part, end of the field's name).
pub const ADDRESS_PARTS: [(&str, &str); 8] = [
    ("city", "City"),
    ("country", "Country"),
    ("geocodeAccuracy", "GeocodeAccuracy"),
    ("latitude", "Latitude"),
    ("longitude", "Longitude"),
    ("postalCode", "PostalCode"),
    ("state", "State"),
    ("street", "Street"),
];

fn compound(object: &Object, record: &Shared, field: &Field) -> Cell {
    let part = |ends: &str| {
        let found = object.parts(&field.name).find(|(_, part)| part.name.trim_end_matches("__s").ends_with(ends));
        found.map_or(Value::Null, |(place, _)| record.get(place).clone())
    };
    let parts: Vec<(&'static str, Value)> = if field.kind == Kind::Location {
        vec![("latitude", part("Latitude")), ("longitude", part("Longitude"))]
    } else {
        ADDRESS_PARTS.iter().map(|(name, ends)| (*name, part(ends))).collect()
    };
    if parts.iter().all(|(_, value)| value.is_null()) { Cell::Value(Value::Null) } else { Cell::Compound(parts) }
}

impl Row {
    /// A row of an aggregate.
    pub fn aggregate(cells: Vec<(String, Value)>) -> Self {
        Self { of: None, cells: cells.into_iter().map(|(name, value)| (name, Cell::Value(value))).collect() }
    }
}

#[derive(Serialize)]
struct Attributes<'a> {
    #[serde(rename = "type")]
    kind: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    url: Option<String>,
}

#[derive(Serialize)]
struct ChildRows<'a> {
    #[serde(rename = "totalSize")]
    total_size: usize,
    done: bool,
    records: Vec<Versioned<'a>>,
}

/// A row as an answer of an API version shows it.
pub struct Versioned<'a>(pub &'a Row, pub &'a str);

impl Serialize for Versioned<'_> {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let Versioned(row, version) = self;
        let mut map = to.serialize_map(Some(row.cells.len() + 1))?;
        let attributes = match &row.of {
            Some((object, id)) => {
                Attributes { kind: &object.name, url: Some(format!("/services/data/v{version}/sobjects/{}/{id}", object.name)) }
            }
            None => Attributes { kind: "AggregateResult", url: None },
        };
        map.serialize_entry("attributes", &attributes)?;
        for (name, cell) in &row.cells {
            match cell {
                Cell::Value(value) => map.serialize_entry(name, value)?,
                Cell::Compound(parts) => map.serialize_entry(name, &Parts(parts))?,
                Cell::Parent(parent) => map.serialize_entry(name, &parent.as_ref().map(|row| Versioned(row, version)))?,
                Cell::Children(rows) if rows.is_empty() => map.serialize_entry(name, &())?,
                Cell::Children(rows) => {
                    let records: Vec<Versioned<'_>> = rows.iter().map(|row| Versioned(row, version)).collect();
                    map.serialize_entry(name, &ChildRows { total_size: rows.len(), done: true, records })?;
                }
            }
        }
        map.end()
    }
}

struct Parts<'a>(&'a [(&'static str, Value)]);

impl Serialize for Parts<'_> {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_map(self.0.iter().map(|(name, value)| (name, value)))
    }
}
