//! Sees to it that nothing outlives a demo that is killed: a shell that waits at the end of a pipe. The pipe ends with the demo,
//! however that ends; then the shell ends the servers below the demo's folder, and removes the folder. A demo that ends in good
//! order has done both itself, and says so.

use std::io::Write;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};

/// Waits for a line, which says that nothing is left to do. Without one: each server is told to end at once (SIGQUIT), is waited
/// for, ten seconds at the most, and the folder goes.
const SCRIPT: &str = r#"
read -r done && exit 0
for file in "$1"/*/data/postmaster.pid; do
    [ -f "$file" ] && read -r process < "$file" || continue
    kill -QUIT "$process" || continue
    tries=0
    while kill -0 "$process" && [ "$tries" -lt 100 ]; do sleep 0.1; tries=$((tries + 1)); done
done
rm -rf "$1"
"#;

/// The shell.
pub struct Watcher(Child);

impl Watcher {
    /// Watches over a folder of ours; `None` where there is no shell, and nobody does.
    pub fn over(folder: &Path) -> Option<Watcher> {
        let mut shell = Command::new("/bin/sh");
        shell.args(["-c", SCRIPT, "concord-demo-watcher"]).arg(folder);
        // A group of its own: Ctrl-C at the terminal is not for it.
        shell.process_group(0).current_dir("/").stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
        shell.spawn().ok().map(Watcher)
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        let told = self.0.stdin.take().is_some_and(|mut pipe| pipe.write_all(b"done\n").is_ok());
        if !told {
            let _ = self.0.kill();
        }
        let _ = self.0.wait();
    }
}
