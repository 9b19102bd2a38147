//! Seeds: as many worlds as `CONCORD_SIM_SEEDS` says, each played to its end and judged.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test may fail where it stands")]

use concord_engine::mutants;
use concord_simulation::drift::{DRIFTS_FROM, Drift};
use concord_simulation::further::FURTHER_FROM;
use concord_simulation::hunt::sweep;
use concord_simulation::run::{run, run_on_files};
use concord_simulation::scripted::{self, Finder};
use concord_simulation::world::World;

/// Worlds that are played on the real store, in files.
const FILES: std::ops::Range<u64> = 10_000..10_040;

/// Worlds in which something once went wrong, beyond those that are always played.
const ONCE_BROKEN: [u64; 26] = [
    49_250, 64_921, 90_566, 92_344, 93_130, 120_376, 121_166, 127_558, 128_881, 130_757, 132_644, 133_501, 134_771, 136_736,
    139_748, 141_400, 142_367, 143_216, 160_443, 164_533, 166_269, 172_240, 172_643, 182_441, 184_127, 200_039,
];

fn seeds() -> u64 {
    std::env::var("CONCORD_SIM_SEEDS").ok().and_then(|text| text.parse().ok()).unwrap_or(3_000)
}

fn jobs() -> u64 {
    std::thread::available_parallelism().map_or(1, |count| u64::try_from(count.get()).unwrap())
}

#[test]
fn every_invariant_holds_in_every_world() {
    // Half of them are worlds of the first dimensions alone, and half have all.
    let half = seeds() / 2;
    let mut failures = sweep(0, half, jobs(), None, true);
    failures.extend(sweep(FURTHER_FROM, FURTHER_FROM + half, jobs(), None, true));
    for report in &failures {
        for violation in &report.violations {
            println!("seed {}: {}: record {}: {}", report.seed, violation.invariant, violation.record, violation.what);
        }
        println!("replay: cargo run -p concord-simulation -- --seed {}", report.seed);
    }
    assert!(failures.is_empty());
}

#[test]
fn every_invariant_holds_on_the_real_store_as_well() {
    for seed in FILES {
        let folder = tempfile::tempdir().unwrap();
        let report = run_on_files(seed, folder.path());
        assert!(report.violations.is_empty(), "seed {seed}, on files: {:?}", report.violations);
    }
}

#[test]
fn every_invariant_holds_where_one_was_broken_once() {
    for seed in ONCE_BROKEN {
        let report = run(seed);
        assert!(report.violations.is_empty(), "seed {seed}: {:?}", report.violations);
    }
}

/// Worlds that show what a planted bug does.
#[test]
fn a_seed_that_shows_a_planted_bug_finds_it() {
    let found_by_seed = scripted::FOUND_BY.iter().filter_map(|(name, finder)| match finder {
        Finder::Seed(seed) => Some((*name, *seed)),
        Finder::Test(_) => None,
    });
    let found_by_seed: Vec<(&str, u64)> = found_by_seed.collect();
    assert!(found_by_seed.len() >= 2, "{found_by_seed:?}");
    for (mutant, seed) in found_by_seed {
        mutants::activate(Some(mutant));
        let report = run(seed);
        mutants::activate(None);
        assert!(!report.violations.is_empty(), "{mutant} goes unnoticed in seed {seed}");
    }
}

#[test]
fn of_every_bug_that_takes_a_script_it_is_told_which_test_shows_it() {
    let tests = [env!("CARGO_MANIFEST_DIR"), "/tests/interleavings"].concat();
    let planted = [env!("CARGO_MANIFEST_DIR"), "/../engine/src/reconcile/tests/planted.rs"].concat();
    let folder = std::fs::read_dir(tests).unwrap().map(|entry| entry.unwrap().path());
    let sources: Vec<String> = folder.chain([planted.into()]).map(|path| std::fs::read_to_string(path).unwrap()).collect();
    let told: Vec<&str> = scripted::FOUND_BY.iter().map(|(name, _)| *name).collect();
    let planted: Vec<&str> = mutants::SCRIPTED.iter().map(|(name, _)| *name).collect();
    assert_eq!(told, planted);
    for (name, finder) in scripted::FOUND_BY {
        let Finder::Test(test) = finder else { continue };
        let is_shown = |source: &String| source.contains(&format!("fn {test}()")) && source.contains(&format!("\"{name}\""));
        assert!(sources.iter().any(is_shown), "{test} does not plant {name}");
    }
    assert_eq!(scripted::mutant("looks_uncounted"), Some("looks_uncounted"));
    assert_eq!(scripted::mutant("guard_dropped"), Some("guard_dropped"));
    assert_eq!(scripted::mutant("nonsense"), None);
}

#[test]
fn the_same_seed_is_the_same_run_line_by_line() {
    for seed in [1, 2, 3, 5, 8, 13, 21, 34] {
        let first = run(seed);
        let again = std::thread::spawn(move || run(seed)).join().unwrap();
        assert_eq!(first.trace, again.trace, "seed {seed}");
        assert_eq!(first.hash, again.hash, "seed {seed}");
        assert_ne!(first.hash, run(seed + 1).hash);
    }
}

#[test]
fn every_kind_of_change_of_a_schema_occurs_in_the_worlds_that_have_them() {
    let worlds = || (DRIFTS_FROM..DRIFTS_FROM + 400).map(World::from_seed);
    let kinds: Vec<Drift> = worlds().filter_map(|world| world.further.drifts).flat_map(|drifts| drifts.kinds).collect();
    for kind in [Drift::Anew, Drift::Renamed, Drift::Narrowed, Drift::Added, Drift::Dropped] {
        assert!(kinds.contains(&kind), "{kind:?} never occurs");
    }
    assert!((FURTHER_FROM..FURTHER_FROM + 400).all(|seed| World::from_seed(seed).further.drifts.is_none()));
}

#[test]
fn the_emptiness_of_a_column_made_anew_taken_for_an_edit_is_found() {
    let planted = mutants::ALL.iter().map(|(name, _)| *name).find(|name| *name == "emptiness_is_an_edit").unwrap();
    assert!(!sweep(DRIFTS_FROM, DRIFTS_FROM + 2_000, jobs(), Some(planted), false).is_empty());
}

#[test]
fn a_dropped_guard_is_found() {
    let planted = mutants::ALL.iter().map(|(name, _)| *name).find(|name| *name == "guard_dropped").unwrap();
    assert!(!sweep(0, 2_000, jobs(), Some(planted), false).is_empty());
}
