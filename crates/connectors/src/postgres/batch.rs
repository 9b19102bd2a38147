//! A batch of writes as statements: grouped by shape, in an order that two batches share, and so that no two writes of
//! one statement touch the same record. Pure: nothing here speaks to the server.

use super::guarded::{self, Guarded, Kind, Statement};
use super::insert::{self, Create};
use super::schema::{Column, Table};
use super::types;
use concord_engine::connector::{Operation, Write};
use concord_engine::error::{Code, Error, Result};
use concord_engine::record::{FieldName, Key, Record};
use concord_engine::value::Value;
use std::collections::{BTreeMap, HashMap};

/// What statements are grouped by. Later groups see what earlier ones wrote.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct GroupKey {
    /// Which write of the same record this is.
    round: usize,
    kind: Kind,
    fields: Vec<FieldName>,
    /// The guard's fields, or the match fields.
    conditions: Vec<FieldName>,
    nulls: Vec<bool>,
}

/// The statements of some writes, and the writes that can be told to fail before anything is sent.
pub struct Planned {
    /// In the order in which they run.
    pub statements: Vec<Statement>,
    /// Writes that fail by themselves.
    pub failed: Vec<(usize, Error)>,
}

/// Plans the writes at `places`. `singly`: each create by a statement of its own.
pub fn plan(table: &Table, shown: &[&Column], writes: &[Write], places: &[usize], singly: bool) -> Result<Planned> {
    let mut planned = Planned { statements: Vec::new(), failed: Vec::new() };
    let mut groups: BTreeMap<GroupKey, Vec<usize>> = BTreeMap::new();
    let mut seen: HashMap<Vec<Option<String>>, usize> = HashMap::new();
    for &place in places {
        let Some(write) = writes.get(place) else { continue };
        // Writes that cannot even be put into words fail alone, before they could spoil a statement for others.
        if let Err(error) = sayable(table, write) {
            planned.failed.push((place, error));
            continue;
        }
        let round = seen.entry(identity(table, write)?).or_insert(0);
        groups.entry(group_key(table, write, *round, singly)).or_default().push(place);
        *round += 1;
    }
    for (key, members) in groups {
        if key.kind == Kind::CreateOne {
            for place in members {
                planned.statements.push(statement(table, shown, writes, &[place], key.kind)?);
            }
        } else {
            planned.statements.push(statement(table, shown, writes, &members, key.kind)?);
        }
    }
    Ok(planned)
}

/// Whether a write can be put into words: its columns may be written, its values have a text.
fn sayable(table: &Table, write: &Write) -> Result<()> {
    let texts = |record: &Record| {
        for (name, value) in record.iter() {
            types::encodes(&table.require(name)?.field.ty, value)?;
        }
        Ok::<(), Error>(())
    };
    let keyed = |key: &Key| {
        let columns = table.key_columns()?;
        if columns.len() != key.0.len() {
            let message = format!("a key of {} values for {}, whose key has {}", key.0.len(), table.schema.object, columns.len());
            return Err(Error::new(Code::SchemaDrift, message));
        }
        columns.iter().zip(&key.0).try_for_each(|(column, value)| types::encodes(&column.field.ty, value))
    };
    match &write.operation {
        Operation::Create { image, absent_by } => {
            insert::given(table, image)?;
            absent_by.iter().try_for_each(|name| table.require(name).map(|_| ()))?;
            texts(image)
        }
        Operation::Update { key, set, guard } => {
            guarded::settable(table, set)?;
            keyed(key).and_then(|()| texts(set)).and_then(|()| texts(guard))
        }
        Operation::Delete { key, guard } => keyed(key).and_then(|()| texts(guard)),
    }
}

fn kind(table: &Table, write: &Write, singly: bool) -> Kind {
    match &write.operation {
        Operation::Delete { .. } => Kind::Delete,
        Operation::Update { .. } => Kind::Update,
        Operation::Create { image, .. } if singly || !insert::gives_key(table, image) => Kind::CreateOne,
        Operation::Create { .. } => Kind::Create,
    }
}

fn group_key(table: &Table, write: &Write, round: usize, singly: bool) -> GroupKey {
    let kind = kind(table, write, singly);
    let (fields, conditions, nulls) = match &write.operation {
        Operation::Create { image, absent_by } => insert::shape(&Create { place: 0, image, absent_by }),
        Operation::Update { key, set, guard } => {
            let (fields, guards) = guarded::shape(&Guarded { place: 0, key, set: Some(set), guard });
            (fields.unwrap_or_default(), guards, Vec::new())
        }
        Operation::Delete { key, guard } => {
            let (_, guards) = guarded::shape(&Guarded { place: 0, key, set: None, guard });
            (Vec::new(), guards, Vec::new())
        }
    };
    GroupKey { round, kind, fields, conditions, nulls }
}

/// What two writes of one record have in common: the key, or for a create the values that tell it apart.
fn identity(table: &Table, write: &Write) -> Result<Vec<Option<String>>> {
    let by_fields = |fields: &[FieldName], image: &Record| {
        let columns = fields.iter().map(|name| table.require(name)).collect::<Result<Vec<&Column>>>()?;
        let values: Vec<Value> = fields.iter().map(|name| image.get(name.as_str()).cloned().unwrap_or(Value::Null)).collect();
        guarded::texts(&columns, &values)
    };
    match &write.operation {
        Operation::Create { image, absent_by } if !absent_by.is_empty() => {
            let mut identity = vec![Some("match".to_owned())];
            identity.extend(by_fields(absent_by, image)?);
            Ok(identity)
        }
        Operation::Create { image, .. } if insert::gives_key(table, image) => {
            let mut identity = vec![Some("key".to_owned())];
            identity.extend(by_fields(&table.schema.key, image)?);
            Ok(identity)
        }
        // Nothing tells it from another: each is one of its own, by its id.
        Operation::Create { .. } => Ok(vec![Some("id".to_owned()), Some(write.id.to_string())]),
        Operation::Update { key, .. } | Operation::Delete { key, .. } => {
            let mut identity = vec![Some("key".to_owned())];
            identity.extend(guarded::texts(&table.key_columns()?, &key.0)?);
            Ok(identity)
        }
    }
}

/// The statement of the writes at these places, which are of one shape.
fn statement(table: &Table, shown: &[&Column], writes: &[Write], places: &[usize], kind: Kind) -> Result<Statement> {
    let mut creates = Vec::new();
    let mut guarded = Vec::new();
    for &place in places {
        match writes.get(place).map(|write| &write.operation) {
            Some(Operation::Create { image, absent_by }) => creates.push(Create { place, image, absent_by }),
            Some(Operation::Update { key, set, guard }) => guarded.push(Guarded { place, key, set: Some(set), guard }),
            Some(Operation::Delete { key, guard }) => guarded.push(Guarded { place, key, set: None, guard }),
            None => {}
        }
    }
    match (kind, creates.first()) {
        (Kind::CreateOne, Some(create)) => insert::one(table, shown, create),
        (Kind::Create, _) => insert::many(table, shown, &creates),
        _ => guarded::statement(table, shown, &guarded),
    }
}
