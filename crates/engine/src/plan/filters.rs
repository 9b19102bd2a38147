//! Which records take part: the conditions of the source and of the sync, held against the source's fields.

use super::compile::Subject;
use super::notes::Notes;
use crate::config::Filter;
use crate::error::Code;
use crate::filter::{Condition, parse};
use crate::record::FieldName;

/// The conditions that were written, with their places below the sync. Both are over the source's fields, whose names are the sync's.
/// Those that cannot be carried out have been refused before.
fn written<'a>(subject: &Subject<'a>) -> impl Iterator<Item = (&'static str, &'a str)> + use<'a> {
    let of_source = subject.sync.source.as_ref().and_then(|source| source.filter.as_ref());
    let all = [("/source/filter", of_source), ("/filter", subject.sync.filter.as_ref())];
    all.into_iter().filter_map(|(path, filter)| match filter? {
        Filter::Condition(condition) => Some((path, condition.as_str())),
        Filter::Share(_) => None,
    })
}

/// What every record must satisfy to take part.
pub(super) fn filter(subject: &Subject<'_>, notes: &mut Notes<'_>) -> Option<Condition> {
    let mut whole: Option<Condition> = None;
    for (path, text) in written(subject) {
        let bound = match parse(text) {
            Ok(expression) => Condition::new(expression, subject.schema(0)),
            Err(mistake) => {
                let message = format!("the condition cannot be understood, at {mistake}");
                notes.error(path, Code::ConfigBadExpression, message, Code::ConfigBadExpression.remedy());
                continue;
            }
        };
        match bound {
            Ok(condition) => {
                whole = Some(match whole {
                    Some(before) => before.and(condition),
                    None => condition,
                });
            }
            Err(all) => {
                for unfit in all {
                    let remedy = unfit.remedy.unwrap_or_else(|| Code::PlanFilterUnusable.remedy().to_owned());
                    notes.error(path, Code::PlanFilterUnusable, format!("in the condition, at {}", unfit.mistake), remedy);
                }
            }
        }
    }
    whole
}

/// The fields that it looks at: they are read even where no mapping names them.
pub(super) fn fields(subject: &Subject<'_>) -> Vec<FieldName> {
    let conditions = written(subject).filter_map(|(_, text)| Condition::new(parse(text).ok()?, subject.schema(0)).ok());
    conditions.flat_map(|condition| condition.fields().to_vec()).collect()
}
