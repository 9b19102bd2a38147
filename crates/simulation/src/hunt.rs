//! Many seeds: over several threads, each with a runtime of its own; a run itself never leaves its thread.

use crate::drift::DRIFTS_FROM;
use crate::further::FURTHER_FROM;
use crate::run::{Report, run};
use concord_engine::mutants;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// About how many lines of progress a long sweep prints.
const PROGRESS_LINES: u64 = 50;
/// A sweep of fewer seeds prints none.
const PROGRESS_MIN: u64 = 1_000;
/// How many seeds a hunt plays in one kind of world before it turns to the other.
const HUNT_STEP: u64 = 250;

/// Runs the seeds `from..to` and gives back the reports that failed, in the order of the seeds; only the first one unless
/// told to keep going.
pub fn sweep(from: u64, to: u64, jobs: u64, mutant: Option<&'static str>, keep_going: bool) -> Vec<Report> {
    let next = AtomicU64::new(from);
    let done = AtomicU64::new(0);
    let every = ((to.saturating_sub(from)) / PROGRESS_LINES).max(PROGRESS_MIN);
    let stop = AtomicBool::new(false);
    let failures: Mutex<Vec<Report>> = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..jobs.max(1) {
            scope.spawn(|| {
                mutants::activate(mutant);
                loop {
                    let seed = next.fetch_add(1, Ordering::SeqCst);
                    if seed >= to || stop.load(Ordering::SeqCst) {
                        break;
                    }
                    let report = run(seed);
                    let played = done.fetch_add(1, Ordering::SeqCst) + 1;
                    if played.is_multiple_of(every) {
                        let failed = failures.lock().unwrap_or_else(PoisonError::into_inner).len();
                        eprintln!("{played} of {} seeds played, {failed} failed", to - from);
                    }
                    if let Some(first) = report.violations.first() {
                        let what: String = first.what.chars().take(200).collect();
                        eprintln!("seed {seed}: {}: record {}: {what}", first.invariant, first.record);
                        stop.store(!keep_going, Ordering::SeqCst);
                        failures.lock().unwrap_or_else(PoisonError::into_inner).push(report);
                    }
                }
                mutants::activate(None);
            });
        }
    });
    let mut failures = failures.into_inner().unwrap_or_else(PoisonError::into_inner);
    failures.sort_by_key(|report| report.seed);
    failures
}

/// Looks for the first seed from `from` on that finds a planted bug; how many seeds that took, and its report. A seed that
/// fails without the bug as well proves nothing about it and is passed over.
pub fn hunt(mutant: &'static str, from: u64, most: u64, jobs: u64) -> Option<(u64, Report)> {
    let mut next = from;
    while let Some(report) = sweep(next, from + most, jobs, Some(mutant), false).into_iter().next() {
        mutants::activate(None);
        if run(report.seed).violations.is_empty() {
            return Some((report.seed - from + 1, report));
        }
        next = report.seed + 1;
    }
    None
}

/// The same from `from` on, from where the worlds have further dimensions, and from where their schemas change, a part of the
/// seeds at a time: what one kind of world shows soon, another may never show.
pub fn hunt_everywhere(mutant: &'static str, from: u64, most: u64, jobs: u64) -> Option<(u64, Report)> {
    let mut starts = vec![from, FURTHER_FROM, DRIFTS_FROM];
    starts.dedup();
    let mut played = 0;
    let mut place = 0;
    while place < most {
        let step = HUNT_STEP.min(most - place);
        for start in &starts {
            if let Some((seeds, report)) = hunt(mutant, start + place, step, jobs) {
                return Some((played + seeds, report));
            }
            played += step;
        }
        place += step;
    }
    None
}
