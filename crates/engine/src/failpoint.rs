//! Named points at which a test can kill the process, so that recovery from a death at exactly that point can be shown.
//! Compiled in only with the feature `failpoints`: `CONCORD_FAILPOINT=name:3` kills the process with SIGKILL's effect (no
//! unwinding, no clean-up) at the third passing of that point.

/// Every point, in the order in which a change passes them.
pub const ALL: &[&str] = &[
    "captured_before_durable",
    "durable_before_acknowledge",
    "durable_before_apply",
    "applied_before_settle",
    "settled_before_durable",
    "settled_durable",
    "chunk_before_durable",
    "found_before_durable",
    "prepared_before_durable",
];

/// Every point of a mirror sync, in the order in which they are passed.
pub const MIRROR: &[&str] = &[
    "mirror_prepared",
    "mirror_begun_in_target",
    "mirror_view_kept",
    "mirror_indexes_aside",
    "mirror_range_loaded",
    "mirror_indexes_built",
    "mirror_loaded",
    "mirror_before_write",
    "mirror_lanes_written",
    "mirror_written",
    "mirror_acknowledged",
];

/// Passes a point.
#[cfg(feature = "failpoints")]
pub fn pass(name: &str) {
    use std::sync::OnceLock;
    use std::sync::atomic::{AtomicU64, Ordering};
    static ARMED: OnceLock<Option<(String, u64)>> = OnceLock::new();
    static PASSED: AtomicU64 = AtomicU64::new(0);
    debug_assert!(ALL.contains(&name) || MIRROR.contains(&name), "no such failpoint: {name}");
    let armed = ARMED.get_or_init(|| {
        let text = std::env::var("CONCORD_FAILPOINT").ok()?;
        let (name, count) = text.split_once(':').unwrap_or((&text, "1"));
        Some((name.to_owned(), count.parse().unwrap_or(1)))
    });
    let Some((wanted, count)) = armed else { return };
    if wanted == name && PASSED.fetch_add(1, Ordering::SeqCst).saturating_add(1) == *count {
        kill();
    }
}

/// As SIGKILL does: nothing is flushed, nothing unwound.
#[cfg(feature = "failpoints")]
fn kill() {
    let id = std::process::id().to_string();
    let _ = std::process::Command::new("kill").args(["-9", &id]).status();
    std::process::abort();
}

/// Passes a point: nothing, in a build without `failpoints`.
#[cfg(not(feature = "failpoints"))]
pub const fn pass(_name: &str) {}
