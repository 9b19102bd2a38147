//! The tour of README.md, pasted line by line as a reader does.

use crate::postgres::ports::Port;
use crate::world::until;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn section() -> String {
    let text = std::fs::read_to_string(root().join("README.md")).unwrap();
    let from = text.find("## A tour in five minutes").unwrap();
    let to = from + text[from..].find("## Where to read on").unwrap();
    text[from..to].to_string()
}

/// A reader's shell: the tour's folder, the built binary first in the path, ports that nobody else uses.
struct Reader {
    folder: tempfile::TempDir,
    ports: [Port; 2],
    background: Option<Child>,
}

impl Reader {
    fn new() -> Reader {
        let folder = tempfile::tempdir().unwrap();
        // PostgreSQL's user must be able to reach a folder below it.
        Command::new("chmod").arg("755").arg(folder.path()).status().unwrap();
        let reader = Reader { folder, ports: [Port::take(), Port::take()], background: None };
        for name in ["accounts.json", "servers.sh"] {
            std::fs::copy(root().join("examples/tour").join(name), reader.folder.path().join(name)).unwrap();
        }
        let config = reader.folder.path().join("accounts.json");
        let text = std::fs::read_to_string(&config).unwrap();
        std::fs::write(config, reader.on_free_ports(&text)).unwrap();
        reader
    }

    fn on_free_ports(&self, text: &str) -> String {
        text.replace("7431", &self.ports[0].to_string()).replace("7432", &self.ports[1].to_string())
    }

    fn shell(&self, line: &str) -> Command {
        let binary = Path::new(env!("CARGO_BIN_EXE_concord")).parent().unwrap();
        let path = format!("{}:{}", binary.display(), std::env::var("PATH").unwrap());
        let mut command = Command::new("bash");
        command.args(["-c", &format!("exec {}", self.on_free_ports(line))]).current_dir(self.folder.path());
        command.env("PATH", path).env("TMPDIR", self.folder.path());
        command.env("CRM_PORT", self.ports[0].to_string()).env("ERP_PORT", self.ports[1].to_string()).stdin(Stdio::null());
        command
    }

    fn says(&self, line: &str) -> Output {
        self.shell(line).output().unwrap()
    }

    fn shows(&self, line: &str, wanted: &str) {
        let last = std::cell::RefCell::new(String::new());
        let so = || {
            let output = self.says(line);
            *last.borrow_mut() = format!("{}{}", text(&output.stdout), text(&output.stderr));
            last.borrow().contains(wanted)
        };
        until(&format!("`{line}` shows {wanted:?}"), so, || last.borrow().clone());
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        if let Some(child) = &mut self.background {
            let _ = child.kill();
            let _ = child.wait();
        }
        let _ = self.says("./servers.sh stop");
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// What a reader must see after some of the lines, by how they begin.
const SHOWN: [(&str, &str); 7] = [
    ("concord check --connect", "fine: accounts"),
    ("psql -h 127.0.0.1 -p 7432 -U postgres erp -c \"SELECT", "+1 617 555 0199"),
    ("concord status", "accounts live, level"),
    ("concord review list", "conflict"),
    ("concord review show", "Blue Harbour Ltd"),
    ("concord explain", "+1 617 555 0101 → +1 617 555 0199"),
    ("concord verify", "accounts equal"),
];

#[test]
fn the_tour_of_the_readme_can_be_pasted() {
    let mut reader = Reader::new();
    let section = section();
    let lines: Vec<&str> = section.lines().filter_map(|line| line.strip_prefix("$ ")).collect();
    let mut plan = String::new();
    for line in lines {
        let line = match line.strip_prefix("cd examples/tour && ") {
            Some(rest) => rest,
            None if line.starts_with("cargo build") => continue,
            None => line,
        };
        let filled = line.replace("PLAN", &plan);
        if let Some((_, wanted)) = SHOWN.iter().find(|(begin, _)| line.starts_with(begin)) {
            reader.shows(&filled, wanted);
        } else if line.starts_with("concord run") {
            reader.background = Some(reader.shell(&filled).stderr(Stdio::null()).spawn().unwrap());
            reader.shows("concord status", "accounts live");
        } else {
            let output = reader.says(&filled);
            let said = text(&output.stdout);
            assert!(output.status.success(), "{line}\n{said}{}", text(&output.stderr));
            if line.starts_with("concord plan") {
                plan = said.split_whitespace().nth(1).unwrap().to_string();
            }
        }
    }
    let ended = reader.background.take().unwrap().wait().unwrap();
    assert!(ended.success(), "a run whose syncs are released ends well: {ended}");
    assert!(!reader.folder.path().join("concord-tour").exists());
}

#[test]
fn the_tour_shows_the_file_that_it_uses() {
    let file = std::fs::read_to_string(root().join("examples/tour/accounts.json")).unwrap();
    assert!(section().contains(&format!("```json\n{file}```")));
}
