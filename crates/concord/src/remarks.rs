//! What a person should know of a proven configuration that is no mistake of it: fields that came and that no mapping names, and
//! settings that say nothing in the mode in which a sync runs. Reads only.

use crate::setup::{Prepared, PreparedSync, Written};
use crate::terminal::Notice;
use concord_engine::error::Result;
use concord_engine::mirror::Mode;
use concord_engine::offer::{self, Known};
use concord_engine::store::Store;

/// Settings that a mirrored sync does not follow, and what happens instead.
const NOT_MIRRORED: [(&str, &str); 2] = [
    (
        "performance_settings/batch_size",
        "a mirrored sync writes together what has arrived, up to 16,000 changes; how many are carried side by side follows `parallelism`",
    ),
    (
        "error_handling/retry_strategy",
        "a mirrored sync that cannot go on begins again where it was, after pauses from 0.2 to 30 seconds and for as long as it \
         takes; a record that the target refuses waits in review at once",
    ),
];

/// All of it.
pub async fn of(prepared: &Prepared, written: &Written, store: &dyn Store) -> Result<Vec<Notice>> {
    let mut notices = Vec::new();
    for sync in &prepared.syncs {
        notices.extend(offers(prepared, written, store, sync).await?);
        notices.extend(unheeded(written, sync));
    }
    Ok(notices)
}

/// Fields that came since the mapping was written.
async fn offers(prepared: &Prepared, written: &Written, store: &dyn Store, sync: &PreparedSync) -> Result<Vec<Notice>> {
    let rules = &sync.rules;
    let left_out = written.config.syncs.iter().find(|own| own.name == rules.name).map(|own| own.exclude_fields.as_slice());
    let known = Known::load(store, rules).await?.leaving(left_out.unwrap_or_default());
    let mut notices = Vec::new();
    for (place, member) in rules.members.iter().enumerate() {
        for offer in known.offers(rules, place, &member.schema) {
            let to = offer::receiver(rules, &offer).and_then(|to| rules.members.get(to));
            let statement = match to {
                Some(to) => {
                    let kind = prepared.connector(&member.system)?.capabilities().kind;
                    prepared.connector(&to.system)?.field_statement(&to.object, &offer.field, kind)
                }
                None => None,
            };
            notices.push(Notice {
                code: String::new(),
                severity: "advice",
                message: offer::describe(rules, &offer, statement.as_deref()),
                place: Some(rules.name.to_string()),
                because: None,
                remedy: String::new(),
            });
        }
    }
    Ok(notices)
}

/// Settings that are written and say nothing of this sync.
fn unheeded(written: &Written, sync: &PreparedSync) -> Vec<Notice> {
    let index = written.config.syncs.iter().position(|own| own.name == sync.rules.name);
    let Some(index) = index.filter(|_| sync.mode == Mode::Mirror) else { return Vec::new() };
    let is_written = |key: &str| {
        let pointer = format!("/syncs/{index}/{key}");
        written.places.written(&pointer).then(|| written.places.at(&pointer))
    };
    let found = NOT_MIRRORED.iter().filter_map(|(key, instead)| Some((key, instead, is_written(key)?)));
    found
        .map(|(key, instead, place)| Notice {
            code: String::new(),
            severity: "warning",
            message: format!("`{}` says nothing of `{}`, which is mirrored: {instead}", key.replace('/', "."), sync.rules.name),
            place,
            because: None,
            remedy: String::new(),
        })
        .collect()
}
