//! The demo, as `make demo` starts it.

use std::process::Command;

/// Runs the demo for a few seconds; it ends by itself, both sides equal, and leaves nothing behind.
fn demo(arguments: &[&str]) {
    let folder = tempfile::tempdir().unwrap();
    // PostgreSQL's user must be able to reach a folder below it.
    Command::new("chmod").arg("755").arg(folder.path()).status().unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_concord"))
        .arg("demo")
        .args(["--seconds", "4"])
        .args(arguments)
        .env("TMPDIR", folder.path())
        .output()
        .unwrap();
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{out}\n{err}");
    for expected in ["plan ", "Approved", "latency p50", "Both sides are equal"] {
        assert!(out.contains(expected), "{expected:?} is not in\n{out}\n{err}");
    }
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0, "the demo left something behind");
}

#[test]
fn the_demo_on_two_servers_ends_equal_and_leaves_nothing_behind() {
    demo(&[]);
}

#[test]
fn the_demo_on_two_files_ends_equal_and_leaves_nothing_behind() {
    demo(&["--sqlite"]);
}
