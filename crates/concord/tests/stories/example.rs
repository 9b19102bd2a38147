//! The example on Salesforce, run as its page says, line by line, on the systems that its script starts.

use crate::postgres::ports::Port;
use crate::world::until;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// The lines to paste.
fn lines() -> Vec<String> {
    let page = std::fs::read_to_string(root().join("docs/connectors/salesforce.md")).unwrap();
    let from = page.find("## Trying it without an account").unwrap();
    let to = from + page[from..].find("## Not done yet").unwrap();
    page[from..to].lines().filter_map(|line| line.strip_prefix("$ ")).map(str::to_owned).collect()
}

/// A reader's shell in a copy of the examples' folder, with ports that nobody else uses.
struct Reader {
    folder: tempfile::TempDir,
    ports: [(&'static str, &'static str, Port); 3],
    background: Option<Child>,
}

impl Reader {
    fn new() -> Reader {
        let folder = tempfile::tempdir().unwrap();
        // PostgreSQL's user must be able to reach a folder below it.
        Command::new("chmod").arg("755").arg(folder.path()).status().unwrap();
        let port = |name, usual| (name, usual, Port::take());
        let ports = [port("SF_PORT", "7440"), port("SF_EVENTS_PORT", "7443"), port("ERP_PORT", "7433")];
        let reader = Reader { folder, ports, background: None };
        let script = "salesforce-accounts.sh";
        std::fs::copy(root().join("examples").join(script), reader.folder.path().join(script)).unwrap();
        let text = std::fs::read_to_string(root().join("examples/salesforce-accounts.json")).unwrap();
        std::fs::write(reader.folder.path().join("salesforce-accounts.json"), reader.on_free_ports(&text)).unwrap();
        reader
    }

    fn on_free_ports(&self, text: &str) -> String {
        self.ports.iter().fold(text.to_owned(), |text, (_, usual, free)| text.replace(usual, &free.to_string()))
    }

    fn shell(&self, line: &str) -> Command {
        let binaries = Path::new(env!("CARGO_BIN_EXE_concord")).parent().unwrap();
        let path = format!("{}:{}", binaries.display(), std::env::var("PATH").unwrap());
        let mut command = Command::new("bash");
        command.args(["-c", &format!("exec {}", self.on_free_ports(line))]).current_dir(self.folder.path());
        command.env("PATH", path).env("TMPDIR", self.folder.path()).stdin(Stdio::null());
        command.envs(self.ports.iter().map(|(name, _, free)| (*name, free.to_string())));
        command
    }

    fn says(&self, line: &str) -> String {
        let Output { status, stdout, stderr } = self.shell(line).output().unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        assert!(status.success(), "{line}\n{}{}", text(&stdout), text(&stderr));
        text(&stdout)
    }

    fn shows(&self, line: &str, wanted: &str) {
        until(&format!("`{line}` shows {wanted:?}"), || self.says(line).contains(wanted), || self.says(line));
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        if let Some(child) = &mut self.background {
            let _ = child.kill();
            let _ = child.wait();
        }
        let _ = self.shell("./salesforce-accounts.sh stop").output();
    }
}

#[test]
fn the_example_on_an_org_runs_as_it_stands() {
    let mut reader = Reader::new();
    let rows = "psql -AtX -h 127.0.0.1 -p 7433 -U postgres erp -c \"SELECT account_name, length(sf_id), last_sync FROM accounts ORDER BY account_name\"";
    let mut plan = String::new();
    for line in lines() {
        let line = line.strip_prefix("cd examples && ").unwrap_or(&line).replace("PLAN", &plan);
        if line.starts_with("cargo build") {
            continue;
        }
        if line.starts_with("concord run") {
            reader.background = Some(reader.shell(&line).stderr(Stdio::null()).spawn().unwrap());
            // Three accounts were in the org, two rows in the database.
            for name in ["Alder Foods|18|", "Blue Harbour|18|", "Crag Motors|18|", "Dune Optics|18|", "Elm Textiles|18|"] {
                reader.shows(rows, name);
            }
            continue;
        }
        if line.starts_with("concord review") {
            reader.shows(&line, "Annual revenue is never below zero");
            continue;
        }
        let said = reader.says(&line);
        if line.starts_with("concord plan") {
            plan = said.split_whitespace().nth(1).unwrap().to_owned();
        } else if line.contains("'Fern Press'") {
            reader.shows(rows, "Fern Press|18|");
        } else if line.contains("Gorse Energy") {
            reader.shows(rows, "Gorse Energy|18|");
        } else if line.starts_with("concord verify") {
            assert!(said.contains("equal"), "{said}");
        }
    }
    let mut running = reader.background.take().unwrap();
    assert!(Command::new("kill").args(["-INT", &running.id().to_string()]).status().unwrap().success());
    assert!(running.wait().unwrap().success());
    reader.says("./salesforce-accounts.sh stop");
    assert!(!reader.folder.path().join("salesforce-accounts").exists());
}
