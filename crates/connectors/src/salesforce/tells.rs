//! What an event says in the engine's terms: of a record, of when it was, and whether only a sweep can tell what it leaves out.

use super::event::{Change, ChangeEvent, Told};
use super::position::{Seen, fingerprint};
use super::schema::{FieldInfo, ID};
use super::sweep::{OVERLAP_SECONDS, Sweep};
use concord_engine::change::{EditTime, Mark, Version};
use concord_engine::clock::Moment;
use concord_engine::connector::Event;
use concord_engine::record::{FieldName, Record};
use concord_engine::value::Value;

/// Commits are stamped in milliseconds.
const MILLISECOND_MICROS: u32 = 1_000;

/// What one look at an event says about a record.
pub(super) struct TellsOf {
    pub record: Record,
    pub is_full: bool,
    pub must_read: bool,
}

/// A sweep for what an event does not name: everything since its commit, or everything at all.
pub(super) fn needs_sweep(event: &ChangeEvent) -> Option<Sweep> {
    let since = event.commit_ms.div_euclid(1_000).saturating_sub(OVERLAP_SECONDS);
    if event.change == Change::Overflow {
        return Some(Sweep::since(Some(since), Some(since)));
    }
    event.ids.iter().any(|id| id.ends_with('*')).then(|| Sweep::since(None, Some(since)))
}

pub(super) fn time_of(event: &ChangeEvent) -> EditTime {
    EditTime { at: Moment(event.commit_ms.saturating_mul(1_000)), granularity_micros: MILLISECOND_MICROS, estimated: false }
}

pub(super) fn version_of(event: &ChangeEvent, second: i64, mark: Option<&Mark>) -> Version {
    let ours = mark.and_then(|_| event.client()).map(fingerprint);
    Seen::Told { commit: event.commit, sequence: event.sequence, second, ours }.encode()
}

pub(super) fn told_of(event: &ChangeEvent, wanted: &[&FieldInfo]) -> TellsOf {
    let mut tells = TellsOf { record: Record::new(), is_full: true, must_read: false };
    for field in wanted.iter().filter(|field| field.name != ID) {
        match event.tells(field) {
            Told::Value(value) => drop(tells.record.set(FieldName::from(field.name.as_str()), value)),
            Told::Nothing => tells.is_full = false,
            Told::Read => tells.must_read = true,
        }
    }
    tells
}

/// About how many bytes an event takes.
pub(super) fn event_size(event: &Event) -> usize {
    match event {
        Event::Observed(one) | Event::Read(one) => one.image.record().map_or(64, |record| {
            record.iter().map(|(name, value)| name.as_str().len() + size(value)).sum::<usize>().saturating_add(64)
        }),
        _ => 64,
    }
}

fn size(value: &Value) -> usize {
    match value {
        Value::Text(text) | Value::Reference(text) => text.len().saturating_add(16),
        _ => 24,
    }
}
