//! What the scripts in `tools` promise, tried where nothing is installed.

use super::root;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::process::{Command, Output};

/// Puts a program into a folder that does nothing.
fn put(folder: &Path, program: &str) {
    let path = folder.join(program);
    std::fs::write(&path, "#!/bin/sh\n").unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
}

/// What the demo needs, set up on a machine that has these programs alone.
fn set_up(programs: &Path) -> Output {
    let mut command = Command::new("/bin/bash");
    command.args(["tools/setup.sh", "--server-only"]).current_dir(root()).env_clear().env("PATH", programs);
    command.output().unwrap()
}

#[test]
fn the_demo_asks_for_a_compiler_as_well_as_for_a_server() {
    let folder = tempfile::tempdir().unwrap();
    let dirname = ["/usr/bin/dirname", "/bin/dirname"].into_iter().find(|path| Path::new(path).exists()).unwrap();
    symlink(dirname, folder.path().join("dirname")).unwrap();
    put(folder.path(), "initdb");
    let without = set_up(folder.path());
    let said = String::from_utf8_lossy(&without.stderr).into_owned();
    assert!(!without.status.success() && said.contains("a C compiler is missing"), "{said}");
    put(folder.path(), "cc");
    let with = set_up(folder.path());
    assert!(with.status.success(), "{}", String::from_utf8_lossy(&with.stderr));
}
