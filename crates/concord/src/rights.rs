//! Whether the systems let a sync write what it is to write there: asked before a first run is approved, so that none is begun that
//! cannot be carried out. Changes nothing.

use crate::setup::{self, Prepared, PreparedSync};
use crate::terminal::Notice;
use concord_engine::error::{Code, Error, Result};
use std::time::Duration;

/// How long a system may take to tell of it.
const WAIT_MAX: Duration = Duration::from_secs(30);

/// What is missing for what a sync writes, each with the statement that grants it.
///
/// # Errors
/// Where a system cannot be asked.
pub async fn lacking(prepared: &Prepared, sync: &PreparedSync) -> Result<Vec<Notice>> {
    let mut found = Vec::new();
    for (system, involved) in &sync.involved {
        let connector = prepared.connector(system)?;
        let asked = tokio::time::timeout(WAIT_MAX, connector.check_writes(std::slice::from_ref(involved))).await;
        let late = |_| Error::new(Code::Unreachable, format!("`{system}` did not answer within {} seconds", WAIT_MAX.as_secs()));
        let findings = asked.map_err(late).and_then(|answer| answer);
        let findings = findings.map_err(|error| if error.at.is_some() { error } else { error.at(system.as_str()) })?;
        found.extend(findings.iter().map(|finding| setup::of_finding(system.as_str(), finding)));
    }
    Ok(found)
}

/// Why a first run cannot be carried out as things are; `None`: nothing that is missing stands in its way.
pub fn refusal(sync: &str, lacking: &[Notice]) -> Option<Error> {
    let told = |notice: &Notice| {
        let place = notice.place.as_ref().map(|place| format!("{place}: ")).unwrap_or_default();
        format!("{place}{}; run: {}", notice.message, notice.remedy)
    };
    let told: Vec<String> = lacking.iter().filter(|notice| notice.severity == "error").map(told).collect();
    let message = || format!("the first run of `{sync}` cannot be carried out: {}", told.join(" "));
    (!told.is_empty()).then(|| Error::new(Code::PrivilegeMissing, message()))
}

/// Refuses a sync that cannot write what its plan shows.
///
/// # Errors
/// `PrivilegeMissing` with the statements; where a system cannot be asked.
pub async fn may_write(prepared: &Prepared, sync: &PreparedSync) -> Result<()> {
    refusal(sync.rules.name.as_str(), &lacking(prepared, sync).await?).map_or(Ok(()), Err)
}
