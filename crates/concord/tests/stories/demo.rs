//! The demo, as `make demo` starts it.

use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

/// The simulator, which cargo builds beside `concord` with the whole workspace.
fn simulator() -> PathBuf {
    let beside = Path::new(env!("CARGO_BIN_EXE_concord")).with_file_name("concord-sim-salesforce");
    assert!(beside.is_file(), "{} is not built: cargo build --package concord-simulators", beside.display());
    beside
}

/// A place of its own for whatever a demo makes.
struct Place(tempfile::TempDir);

impl Place {
    fn new() -> Place {
        let folder = tempfile::tempdir().unwrap();
        // PostgreSQL's user must be able to reach a folder below it.
        Command::new("chmod").arg("755").arg(folder.path()).status().unwrap();
        Place(folder)
    }

    fn demo(&self, program: &Path, arguments: &[&str]) -> Command {
        let mut command = Command::new(program);
        command.arg("demo").args(arguments).env("TMPDIR", self.0.path()).stdin(Stdio::null());
        command
    }

    fn is_empty(&self) -> bool {
        std::fs::read_dir(self.0.path()).unwrap().next().is_none()
    }

    /// The processes that were started with something below this place in their command line.
    fn processes(&self) -> Vec<u32> {
        let place = self.0.path().display().to_string();
        let all = std::fs::read_dir("/proc").unwrap().flatten();
        let numbers = all.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
        numbers
            .filter(|number| std::fs::read_to_string(format!("/proc/{number}/cmdline")).is_ok_and(|line| line.contains(&place)))
            .collect()
    }
}

fn texts(output: &Output) -> (String, String) {
    (String::from_utf8_lossy(&output.stdout).into_owned(), String::from_utf8_lossy(&output.stderr).into_owned())
}

/// Runs the demo for some seconds; it ends by itself, both sides equal, and leaves nothing behind.
fn demo(seconds: u32, arguments: &[&str], expected: &[&str]) {
    let place = Place::new();
    let mut command = place.demo(Path::new(env!("CARGO_BIN_EXE_concord")), arguments);
    let output = command.args(["--seconds", &seconds.to_string()]).output().unwrap();
    let (out, err) = texts(&output);
    assert!(output.status.success(), "{out}\n{err}");
    for expected in ["plan ", "Approved", "latency p50", "Both sides are equal"].iter().chain(expected) {
        assert!(out.contains(expected), "{expected:?} is not in\n{out}\n{err}");
    }
    assert!(place.is_empty() && place.processes().is_empty(), "the demo left something behind");
}

#[test]
fn the_demo_of_an_org_and_a_server_tells_what_arrives_and_what_is_refused_and_ends_equal() {
    simulator();
    let expected = [
        "was inserted in PostgreSQL: it is the account 001",
        "An account was renamed in PostgreSQL: Salesforce shows `Renamed in PostgreSQL`",
        "was made in Salesforce: it is the row ",
        "An account was renamed in Salesforce: PostgreSQL shows `Renamed in Salesforce`",
        "was deleted in PostgreSQL: its account is in Salesforce's bin",
        "An account was deleted in Salesforce: its row in PostgreSQL is gone",
        "Annual revenue is never below zero",
        "1 in review",
    ];
    demo(9, &[], &expected);
}

#[test]
fn the_demo_of_an_org_and_a_file_ends_equal_and_leaves_nothing_behind() {
    simulator();
    demo(4, &["--sqlite"], &["SQLite, as asked", "was inserted in SQLite: it is the account 001"]);
}

#[test]
fn the_demo_on_two_servers_ends_equal_and_leaves_nothing_behind() {
    demo(4, &["--pair", "postgres"], &[]);
}

#[test]
fn the_demo_on_two_files_ends_equal_and_leaves_nothing_behind() {
    demo(4, &["--pair", "postgres", "--sqlite"], &[]);
}

#[test]
fn a_demo_without_the_simulator_says_how_to_build_it() {
    let place = Place::new();
    let alone = place.0.path().join("concord");
    std::fs::copy(env!("CARGO_BIN_EXE_concord"), &alone).unwrap();
    let output = place.demo(&alone, &["--sqlite"]).env("PATH", "/usr/bin:/bin").output().unwrap();
    let (out, err) = texts(&output);
    assert_eq!(output.status.code(), Some(3), "{out}\n{err}");
    assert!(err.contains("CON-5011") && err.contains("cargo build --package concord-simulators"), "{err}");
    assert!(err.contains(&alone.with_file_name("concord-sim-salesforce").display().to_string()), "{err}");
}

/// Starts a demo and waits until it edits.
fn live(place: &Place, arguments: &[&str]) -> (Child, std::thread::JoinHandle<String>) {
    use std::io::{BufRead, BufReader, Read};
    let mut command = place.demo(Path::new(env!("CARGO_BIN_EXE_concord")), arguments);
    let mut child = command.process_group(0).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut out = BufReader::new(child.stdout.take().unwrap());
    let mut line = String::new();
    while !line.contains("stage live") {
        line.clear();
        assert!(out.read_line(&mut line).unwrap() > 0, "the demo ended before it was live");
    }
    // Read on, or the demo would wait for us.
    let rest = std::thread::spawn(move || {
        let mut rest = String::new();
        let _ = out.read_to_string(&mut rest);
        rest
    });
    (child, rest)
}

fn signal(name: &str, process: u32) {
    assert!(Command::new("kill").args([&format!("-{name}"), &process.to_string()]).status().unwrap().success());
}

#[test]
fn ctrl_c_leaves_nothing_running() {
    simulator();
    let place = Place::new();
    let (mut child, rest) = live(&place, &[]);
    assert!(!place.processes().is_empty(), "the demo's systems run");
    signal("INT", child.id());
    assert_eq!(child.wait().unwrap().code(), Some(0), "{}", rest.join().unwrap());
    assert!(place.is_empty() && place.processes().is_empty(), "the demo left something behind");
}

#[test]
fn a_demo_whose_simulator_dies_says_so_and_leaves_nothing_behind() {
    simulator();
    let place = Place::new();
    let (mut child, rest) = live(&place, &["--sqlite"]);
    let is_simulator = |number: &u32| {
        std::fs::read_to_string(format!("/proc/{number}/cmdline")).is_ok_and(|line| line.contains("concord-sim-salesforce"))
    };
    let simulators: Vec<u32> = place.processes().into_iter().filter(is_simulator).collect();
    assert_eq!(simulators.len(), 1);
    signal("KILL", simulators[0]);
    let mut err = String::new();
    std::io::Read::read_to_string(&mut child.stderr.take().unwrap(), &mut err).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(3), "{}\n{err}", rest.join().unwrap());
    assert!(err.contains("CON-5009"), "{err}");
    assert!(place.is_empty() && place.processes().is_empty(), "the demo left something behind");
}

#[test]
fn a_demo_that_is_killed_takes_its_systems_and_its_folder_along() {
    simulator();
    for arguments in [&["--sqlite"][..], &[]] {
        let place = Place::new();
        let (mut child, rest) = live(&place, arguments);
        signal("KILL", child.id());
        child.wait().unwrap();
        rest.join().unwrap();
        let is_gone = || place.processes().is_empty() && place.is_empty();
        crate::world::until("everything has ended", is_gone, || format!("{:?}", place.processes()));
    }
}
