//! What a mapping does to a value on its way: a pipeline of transformations from one catalogue.
//! Pure: no clock, no I/O, no randomness; the same value and record always give the same answer or the same error.
//! Null passes through every transformation as null, except `expression` and a `map` with an entry for it.

pub(crate) mod arguments;
mod catalogue;
mod comparison;
mod dates;
mod expression;
mod normalise;
mod nulls;
mod phone;
mod step;
#[cfg(test)]
mod tests;
mod text;
mod typenames;

pub use catalogue::{Argument, CATALOGUE, Example, Transformation};
pub use dates::TimestampFormat;
pub use expression::Expression;
pub use normalise::{MatchKind, normalise_for_match};
pub use nulls::{NullPolicy, apply_null_policy};
pub(crate) use phone::{parse_region, to_e164};
pub use typenames::parse_type;

use crate::error::{Code, Error, Result};
use crate::record::Record;
use crate::schema::Type;
use crate::value::Value;
use serde::{Deserialize, Serialize};
use step::{Step, StepInverse};

/// The most transformations of one field (invariant 10).
pub const STEPS_MAX: usize = 32;

/// One transformation as a mapping names it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TransformSpec {
    /// The name, as the catalogue has it.
    pub name: String,
    /// An object of named arguments; anything else but null is the first argument.
    #[serde(default, skip_serializing_if = "serde_json::Value::is_null")]
    pub arguments: serde_json::Value,
}

impl TransformSpec {
    /// A transformation without arguments.
    pub fn new(name: impl Into<String>) -> TransformSpec {
        TransformSpec { name: name.into(), arguments: serde_json::Value::Null }
    }

    /// A transformation with arguments.
    pub fn with(name: impl Into<String>, arguments: serde_json::Value) -> TransformSpec {
        TransformSpec { name: name.into(), arguments }
    }
}

/// What is known where a pipeline is compiled.
#[derive(Clone, Debug, Default)]
pub struct Context {
    /// The type of the field that the value comes from.
    pub source: Option<Type>,
    /// The type of the field that it goes to.
    pub target: Option<Type>,
    /// The region of phone numbers that name none (`US`).
    pub region: Option<String>,
}

/// Transformations of one field, in order.
#[derive(Clone, Debug, Default)]
pub struct Pipeline {
    steps: Vec<Step>,
    /// What it was compiled from, as text: the same for pipelines that mean the same.
    meaning: String,
}

/// What a two-way sync does with a value on its way back.
#[derive(Clone, Debug)]
pub enum Inverse {
    /// This pipeline undoes it.
    Exact(Pipeline),
    /// Nothing needs to be undone: the other side's value is taken as it is, for it is in the normal form already.
    Normaliser,
    /// There is no way back; the field flows one way only. The sentence is for the plan.
    None(String),
}

impl Pipeline {
    /// Checks names and arguments and prepares what they need.
    pub fn compile(specs: &[TransformSpec], context: &Context) -> Result<Pipeline> {
        if specs.len() > STEPS_MAX {
            let message = format!("{} transformations of one field; at most {STEPS_MAX} are allowed", specs.len());
            return Err(Error::new(Code::TransformArgument, message));
        }
        let mut steps = Vec::with_capacity(specs.len());
        for (place, spec) in specs.iter().enumerate() {
            // Only the first step sees the source's type and only the last one the target's.
            let context = Context {
                source: context.source.clone().filter(|_| place == 0),
                target: context.target.clone().filter(|_| place + 1 == specs.len()),
                region: context.region.clone(),
            };
            steps.extend(catalogue::compile(spec, &context)?);
        }
        let region = context.region.as_ref().filter(|_| !steps.is_empty());
        let meaning = match (steps.is_empty(), serde_json::to_string(&(specs, region))) {
            (false, Ok(text)) => text,
            _ => String::new(),
        };
        Ok(Pipeline { steps, meaning })
    }

    /// What it does to a value, as a text that tells whether two pipelines mean the same, today and in a later version.
    pub fn meaning(&self) -> &str {
        &self.meaning
    }

    /// These steps, and then those of another.
    pub fn then(mut self, other: Pipeline) -> Pipeline {
        let meanings = [self.meaning, other.meaning];
        self.meaning = meanings.into_iter().filter(|meaning| !meaning.is_empty()).collect::<Vec<_>>().join(", then ");
        self.steps.extend(other.steps);
        self
    }

    /// The value after every step.
    pub fn apply(&self, value: &Value, record: &Record) -> Result<Value> {
        let mut current = value.clone();
        for step in &self.steps {
            current = step.apply(&current, record)?;
        }
        Ok(current)
    }

    /// The way back.
    pub fn inverse(&self) -> Inverse {
        let mut back = Vec::new();
        for step in self.steps.iter().rev() {
            match step.inverse() {
                StepInverse::Exact(step) => back.push(step),
                StepInverse::Normaliser => {}
                StepInverse::None(reason) => return Inverse::None(reason),
            }
        }
        match (back.is_empty(), self.steps.is_empty()) {
            (false, _) | (_, true) => {
                let meaning = if back.is_empty() { String::new() } else { format!("back through {}", self.meaning) };
                Inverse::Exact(Pipeline { steps: back, meaning })
            }
            (true, false) => Inverse::Normaliser,
        }
    }

    /// Whether different values may become the same one.
    pub fn is_lossy(&self) -> bool {
        self.steps.iter().any(Step::is_lossy)
    }

    /// Whether a loss at the target field is declared: one of the steps is a `cast`.
    pub fn allows_lossy_fit(&self) -> bool {
        self.steps.iter().any(|step| matches!(step, Step::Cast { .. }))
    }

    /// Whether it does nothing.
    pub fn is_identity(&self) -> bool {
        self.steps.is_empty()
    }

    /// The fields of the record that it reads besides its own value (`record` and `value` not counted).
    pub fn fields_read(&self) -> Vec<String> {
        let mut fields: Vec<String> = self.steps.iter().flat_map(Step::fields_read).collect();
        fields.sort();
        fields.dedup();
        fields
    }
}
