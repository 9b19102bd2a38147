//! A sync that a failed write stopped (`fallback_action: stop_sync`) stands still until a person lets it go on: a restart is
//! no person.

use super::core::{Core, SyncState};
use crate::error::{Code, Error, Result};
use crate::link::SyncId;

/// The setting that says why a sync stands still.
pub fn setting(id: SyncId) -> String {
    format!("stopped/{}", id.0)
}

/// What such a setting says.
pub fn read(bytes: &[u8]) -> Option<Error> {
    let (number, message) = postcard::from_bytes::<(u16, String)>(bytes).ok()?;
    let code = Code::ALL.iter().find(|code| code.number() == number).copied().unwrap_or(Code::TargetRejected);
    Some(Error::new(code, message))
}

impl SyncState {
    /// Whether decisions are made and written now.
    pub(crate) fn active(&self) -> bool {
        self.approved && !self.paused && self.why_stopped().is_none() && self.rewound.is_empty() && self.shut_until.is_none()
    }

    /// Why it stopped, if it did.
    pub(crate) fn why_stopped(&self) -> Option<&Error> {
        self.stopped.as_ref().or(self.standstill.as_ref())
    }
}

impl Core {
    /// Stops a sync for good. What it is told goes on being recorded.
    pub(crate) fn stand_still(&mut self, sync: usize, error: &Error) {
        let Some(state) = self.syncs.get_mut(sync) else { return };
        state.standstill = Some(error.clone());
        let kept = postcard::to_stdvec(&(error.code.number(), &error.message)).ok();
        self.transaction.settings.push((setting(state.rules.id), kept));
    }

    /// A person lets it go on.
    pub(crate) fn stand_still_no_longer(&mut self, sync: usize) {
        let Some(state) = self.syncs.get_mut(sync) else { return };
        (state.stopped, state.standstill) = (None, None);
        self.transaction.settings.push((setting(state.rules.id), None));
    }

    /// A sync that stood still when an earlier run ended.
    pub(crate) async fn restore_standstill(&mut self, sync: usize) -> Result<()> {
        let Some(id) = self.rules(sync).map(|rules| rules.id) else { return Ok(()) };
        let kept = self.store.setting(&setting(id)).await?.and_then(|bytes| read(&bytes));
        if let Some(state) = self.syncs.get_mut(sync).filter(|_| !crate::mutants::active("standstill_forgotten")) {
            state.standstill = kept;
        }
        Ok(())
    }
}
