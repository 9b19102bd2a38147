//! Child processes that never outlive the benchmark: each runs under a shell that ends it when its input closes, which
//! also happens when this process is killed. Never kills anything that was not started here.

use crate::Result;
use std::io::{BufRead as _, BufReader};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};

/// Starts `"$@"` with its output in the file `$1`, says its process number, and ends it by the signal `$2` when the input
/// closes. What `$3` names is removed then.
const KEEPER: &str = r#"log="$1" signal="$2" rubbish="$3"; shift 3
"$@" >>"$log" 2>&1 & child=$!
echo $child
read -r _
kill -"$signal" $child
wait $child
if [ -n "$rubbish" ]; then rm -rf "$rubbish"; fi"#;

/// A running child.
pub struct Kept {
    keeper: Child,
    pid: u32,
}

/// What to start, and how it ends.
pub struct Start<'a> {
    /// The program and its arguments.
    pub words: &'a [String],
    /// Where its output goes.
    pub log: &'a Path,
    /// The signal that ends it.
    pub signal: &'a str,
    /// What is removed afterwards.
    pub rubbish: Option<&'a Path>,
    /// Whether it runs as the server's user where we are root.
    pub as_server: bool,
}

impl Kept {
    /// Starts a child.
    pub fn start(start: &Start<'_>) -> Result<Kept> {
        let mut command = if start.as_server { as_server("sh") } else { Command::new("sh") };
        command.args(["-c", KEEPER, "sh"]).arg(start.log).arg(start.signal);
        command.arg(start.rubbish.unwrap_or(Path::new(""))).args(start.words);
        // A group of its own: Ctrl-C in a terminal reaches us alone, and we end the children in good order.
        command.process_group(0).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut keeper = command.spawn()?;
        let output = keeper.stdout.take().ok_or("the child has no output")?;
        let mut line = String::new();
        BufReader::new(output).read_line(&mut line)?;
        let pid = line.trim().parse().map_err(|_| "the child did not start")?;
        Ok(Kept { keeper, pid })
    }

    /// Its process number.
    pub fn pid(&self) -> u32 {
        self.pid
    }
}

impl Drop for Kept {
    /// Closing the keeper's input ends the child.
    fn drop(&mut self) {
        drop(self.keeper.stdin.take());
        let _ = self.keeper.wait();
    }
}

/// Whether we are root, whom PostgreSQL's server refuses to serve.
pub fn is_root() -> bool {
    std::fs::metadata("/proc/self").is_ok_and(|own| std::os::unix::fs::MetadataExt::uid(&own) == 0)
}

/// A command that runs as a user the server accepts.
pub fn as_server(program: &str) -> Command {
    if !is_root() {
        return Command::new(program);
    }
    let mut command = Command::new("runuser");
    command.args(["-u", "postgres", "--", program]).current_dir("/");
    command
}
