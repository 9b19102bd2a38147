//! What the feed tells in a shape that does not suit the rules: either the source has changed under them, which is a person's to put
//! right, or the feed is older than what the source, and the rules with it, have become since. Then it is gone on with, as far as
//! what was told in that shape says all that has happened to the records.

use super::carry::SOURCE;
use super::run::{Mirror, Work};
use super::stream::End;
use crate::capture::drift;
use crate::error::{Code, Error};
use crate::link::MemberIndex;
use crate::record::FieldName;
use crate::rules::{MemberField, SyncRules};
use crate::schema::{Field, Schema, Type};
use crate::value::{TypeFit, type_fit};
use std::mem::discriminant;

/// What is true of records that are told in a shape of the past.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Past {
    /// Their values are carried like all others.
    Suits,
    /// What was told is a part of them, or of another kind: the rest came about when the source was changed, and no feed tells of that.
    Lacks,
    /// They were told apart by another key.
    OtherKey,
}

/// Holds a shape of the past against the rules.
fn past(rules: &SyncRules, shape: &Schema) -> Past {
    if rules.members.get(SOURCE).is_none_or(|source| source.schema.key != shape.key) {
        return Past::OtherKey;
    }
    // Into a type that holds them all the server changed no value; into any other it may have changed each.
    let is_held = |told: &Type, now: &Type| discriminant(told) == discriminant(now) && type_fit(told, now) == TypeFit::Always;
    let is_told = |at: &MemberField| shape.field(at.name.as_str()).is_some_and(|told| is_held(&told.ty, &at.ty));
    let is_looked_at = |name: &FieldName| {
        let now = rules.members.get(SOURCE).and_then(|source| source.schema.field(name.as_str()));
        now.zip(shape.field(name.as_str())).is_some_and(|(now, told)| is_held(&told.ty, &now.ty))
    };
    let is_filtered_alike = rules.filter.as_ref().is_none_or(|filter| filter.fields().iter().all(is_looked_at));
    match is_filtered_alike && rules.fields.iter().filter_map(|field| field.members.get(SOURCE)?.as_ref()).all(is_told) {
        true => Past::Suits,
        false => Past::Lacks,
    }
}

impl Mirror {
    /// The source looks so: what it has gained, and no mapping names, is offered.
    pub(super) fn offer(&self, shape: &Schema) {
        let kind = self.source.capabilities().kind;
        let statement =
            |to: MemberIndex, field: &Field| self.target.field_statement(&self.rules.members.get(to)?.object, field, kind);
        self.shown.lock().offers.look(&self.rules, SOURCE, shape, statement);
    }

    /// Whether what is told in a shape that does not suit is gone on with; else how it ends.
    pub(super) async fn judge(&self, work: &Work, shape: &Schema) -> Result<(), End> {
        let system = self.rules.members.get(SOURCE).map(|source| source.system.to_string()).unwrap_or_default();
        let stop = |code: Code, what: String| Err(End::Stop(Error::new(code, what).at(system.clone())));
        let drifted = |shape: &Schema| drift(&self.rules, SOURCE, shape);
        let now = match self.source.schema(&shape.object).await {
            Ok(now) => drifted(&now),
            Err(error) if error.code == Code::ObjectMissing => drifted(shape),
            Err(error) => return Err(End::Stop(self.of(SOURCE)(error))),
        };
        if let Some(what) = now {
            return stop(Code::SchemaDrift, what);
        }
        match past(&self.rules, shape) {
            Past::Suits => Ok(()),
            // Everything is carried again behind it.
            Past::Lacks if work.progress.again => Ok(()),
            Past::Lacks => Err(End::Again),
            Past::OtherKey => {
                let what = format!(
                    "changes of {} from before its key or its name was changed are not told in a way that could be carried any more",
                    self.source_object()
                );
                stop(Code::FeedGap, what)
            }
        }
    }
}
