//! A target that a sync names and that is not there: what is said of it has the statement that makes it, as the mapping and the
//! source want it. Nothing is made by itself.

use crate::setup::Prepared;
use crate::terminal::Notice;
use concord_engine::config::SyncConfig;
use concord_engine::error::{Code, Error, Result};
use concord_engine::plan::{self, MemberFacts};

/// The statement that makes the target of a sync whose source is as it is; `None` where its system has none.
///
/// # Errors
/// Where the target's system is not open.
pub fn made_by(prepared: &Prepared, sync: &SyncConfig, source: &MemberFacts) -> Result<Option<String>> {
    let Some((_, target)) = sync.pair() else { return Ok(None) };
    let wanted = plan::absent_target(sync, &source.schema, &target.object_name());
    let connector = prepared.connector(&target.system)?;
    Ok(connector.object_statement(&wanted, source.capabilities.kind).filter(|_| !wanted.fields.is_empty()))
}

/// Says that it is missing, and how it is made.
pub fn offer(notices: &mut Vec<Notice>, missing: &Error, made_by: Option<&str>) {
    let mut notice = Notice::of(missing);
    if let Some(statement) = made_by {
        notice.remedy = format!("Make it:  {statement}  Or correct its name, or grant the right to see it.");
    }
    notices.push(notice);
}

/// What a system has said of the same lack by itself, without knowing the sync, gets the longer remedy.
pub fn hand_over(known: &mut [Notice], more: &[Notice]) {
    let missing = Code::ObjectMissing.to_string();
    for notice in more.iter().filter(|notice| notice.code == missing) {
        let is_same = |known: &&mut Notice| known.code == notice.code && known.place == notice.place;
        if let Some(known) = known.iter_mut().find(is_same).filter(|known| known.remedy.len() < notice.remedy.len()) {
            known.remedy.clone_from(&notice.remedy);
        }
    }
}
