//! The way of one field between a member's terms and canonical terms, and back. Pure.
//! Says no rather than change a value on its own: what does not fit is an error for review (invariant 8).

use crate::error::{Code, Error, Result};
use crate::link::{Cells, FieldIndex, MemberIndex};
use crate::record::{FieldName, Record};
use crate::references::References;
use crate::rules::{MemberField, SyncRules};
use crate::transform::{NullPolicy, Pipeline};
use crate::value::{Fit, Value, fit};

/// How one member's field becomes the canonical one, and back.
#[derive(Clone, Debug, Default)]
pub struct Mapping {
    /// To canonical terms; `None` = as it is.
    pub to: Option<Pipeline>,
    /// From canonical terms; `None` = as it is.
    pub from: Option<Pipeline>,
    /// What a null of this member means to the others.
    pub nulls: NullPolicy,
    /// What a null of the others means to this member.
    pub nulls_from: NullPolicy,
}

impl Mapping {
    /// The mapping that changes nothing.
    pub fn identity() -> Mapping {
        Mapping::default()
    }

    /// What it does to a value, both ways, as a text that is the same for mappings that mean the same; empty for the mapping
    /// that changes nothing.
    pub fn meaning(&self) -> String {
        let way = |pipeline: &Option<Pipeline>| pipeline.as_ref().map_or("", Pipeline::meaning).to_owned();
        let parts = [way(&self.to), way(&self.from), self.nulls.meaning(), self.nulls_from.meaning()];
        if parts.iter().all(String::is_empty) { String::new() } else { parts.join("|") }
    }

    /// The canonical value of what a member shows; `None` when nothing flows (a null that is to be skipped).
    pub fn to_canonical(&self, value: &Value, record: impl FnOnce() -> Record) -> Result<Option<Value>> {
        let Some(value) = of_null(&self.nulls, value) else { return Ok(None) };
        match &self.to {
            None => Ok(Some(value)),
            Some(pipeline) => pipeline.apply(&value, &record()).map(Some),
        }
    }

    /// What a member should show for a canonical value; `None` when nothing flows.
    pub fn from_canonical(&self, value: &Value, record: impl FnOnce() -> Record) -> Result<Option<Value>> {
        let Some(value) = of_null(&self.nulls_from, value) else { return Ok(None) };
        match &self.from {
            None => Ok(Some(value)),
            Some(pipeline) => pipeline.apply(&value, &record()).map(Some),
        }
    }
}

/// The value, or what stands for it where it is null; `None` where nothing flows. An empty value of a type is written as
/// a default by the plan, which knows the type.
fn of_null(policy: &NullPolicy, value: &Value) -> Option<Value> {
    match (value, policy) {
        (Value::Null, NullPolicy::Skip) => None,
        (Value::Null, NullPolicy::Default(default)) => Some(default.clone()),
        (value, _) => Some(value.clone()),
    }
}

/// What member `m` shows, as a record of its own field names, for expressions that look at other fields.
pub fn member_record(rules: &SyncRules, member: MemberIndex, cells: &Cells) -> Record {
    rules
        .fields
        .iter()
        .zip(cells)
        .filter_map(|(field, cell)| {
            let at = field.members.get(member)?.as_ref()?;
            Some((at.name.clone(), cell.clone()?))
        })
        .collect()
}

/// Canonical values by canonical names, for validation and expressions.
pub fn canonical_record(rules: &SyncRules, values: &[Option<Value>]) -> Record {
    rules
        .fields
        .iter()
        .zip(values)
        .filter_map(|(field, value)| Some((FieldName::from(field.name.as_str()), value.clone()?)))
        .collect()
}

/// As [`wanted`], of a field that may name a record of another sync.
///
/// # Errors
/// As [`wanted`], and what [`References::key_at`] says.
pub fn wanted_at(
    rules: &SyncRules,
    references: &References,
    member: MemberIndex,
    field: FieldIndex,
    value: &Value,
    record: impl FnOnce() -> Record,
) -> Result<Option<Value>> {
    let Some(at) = rules.at(member, field) else { return Ok(None) };
    match rules.fields.get(field).and_then(|field| field.reference.as_ref()) {
        Some(reference) if !value.is_null() => fitting(at, references.key_at(reference, member, value)?).map(Some),
        _ => wanted(at, value, record),
    }
}

/// What a member should show for a canonical value, in a form that its field can hold; `None` when nothing flows.
///
/// # Errors
/// `ValueDoesNotFit` where the field cannot hold it and no lossy rule is declared; what the transformation says else.
pub fn wanted(at: &MemberField, value: &Value, record: impl FnOnce() -> Record) -> Result<Option<Value>> {
    let Some(mapped) = at.mapping.from_canonical(value, record)? else { return Ok(None) };
    fitting(at, mapped).map(Some)
}

fn fitting(at: &MemberField, mapped: Value) -> Result<Value> {
    match fit(&mapped, &at.ty) {
        Fit::Exact => Ok(mapped),
        Fit::Lossless(value) => Ok(value),
        Fit::Lossy { value, .. } if at.lossy => Ok(value),
        Fit::Lossy { how, .. } => {
            Err(Error::new(Code::ValueDoesNotFit, format!("a value does not fit {} ({}): {how}", at.name, at.native())))
        }
        Fit::Impossible(reason) => {
            Err(Error::new(Code::ValueDoesNotFit, format!("a value does not fit {} ({}): {reason}", at.name, at.native())))
        }
    }
}

/// A cell of `cells`, or `None` when it is not known.
pub fn cell(cells: &Cells, field: FieldIndex) -> Option<&Value> {
    cells.get(field)?.as_ref()
}
