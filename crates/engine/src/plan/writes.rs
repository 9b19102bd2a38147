//! What a sync may do to the records of its two members, as far as the configuration tells without the systems: enough to ask
//! them for the rights that it takes.

use super::fields;
use crate::config::{OnDelete, SyncConfig};
use crate::connector::Writes;

/// What a sync does at its source and at its target.
pub fn writes(sync: &SyncConfig) -> (Writes, Writes) {
    let (to_target, to_source) = fields::flows(sync);
    let of = |receives: bool| Writes {
        creates: receives,
        updates: receives,
        deletes: receives && sync.on_delete == OnDelete::Propagate,
    };
    (of(to_source), of(to_target))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(settings: &str) -> (Writes, Writes) {
        let text = format!(
            r#"{{ "name": "accounts", "source": {{ "system": "crm", "object": "a" }}, "target": {{ "system": "erp", "object": "b" }}, {settings} }}"#
        );
        writes(&serde_json::from_str::<SyncConfig>(&text).unwrap())
    }

    #[test]
    fn a_side_is_written_where_records_flow_to_it_and_loses_records_only_where_deletes_do() {
        let all = Writes { creates: true, updates: true, deletes: true };
        let kept = Writes { deletes: false, ..all };
        assert_eq!(of(r#""sync_type": "bidirectional""#), (all, all));
        assert_eq!(of(r#""sync_type": "one_way""#), (Writes::default(), all));
        assert_eq!(of(r#""sync_type": "one_way", "target_to_source": true"#), (all, Writes::default()));
        assert_eq!(of(r#""sync_type": "bidirectional", "on_delete": "soft_delete", "soft_delete_field": "gone""#), (kept, kept));
        assert_eq!(of(r#""sync_type": "one_way", "on_delete": "ignore""#), (Writes::default(), kept));
    }
}
