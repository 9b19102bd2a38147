//! A store whose disk is full: the process says so and stops, and goes on once there is space.

use crate::world::World;
use serde_json::json;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A small disk at a folder; taken away with the value.
struct Disk(PathBuf);

impl Disk {
    /// `None` where we may not mount one.
    fn at(folder: &Path) -> Option<Disk> {
        std::fs::create_dir_all(folder).unwrap();
        let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", "size=16m,mode=0700", "tmpfs"]).arg(folder).output();
        mounted.is_ok_and(|done| done.status.success()).then(|| Disk(folder.to_path_buf()))
    }

    fn filler(&self) -> PathBuf {
        self.0.join("filler")
    }

    /// Takes every byte that is left.
    fn fill(&self) {
        let mut file = std::fs::OpenOptions::new().create(true).append(true).open(self.filler()).unwrap();
        for piece in [64 << 10, 1 << 10, 1] {
            while file.write_all(&vec![b'x'; piece]).is_ok() {}
        }
    }

    fn make_space(&self) {
        std::fs::remove_file(self.filler()).unwrap();
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("--lazy").arg(&self.0).status();
    }
}

#[test]
fn a_full_disk_beneath_the_store_is_said_and_nothing_is_lost_once_there_is_space() {
    let world = World::new(&json!({}));
    let Some(disk) = Disk::at(&world.store()) else {
        // The gate's closing says so as well (tools/test.sh).
        eprintln!("left out: a disk of its own cannot be mounted here, which takes root");
        return;
    };
    world.crm.psql("INSERT INTO accounts (name, email) SELECT 'a' || n, 'a' || n || '@x.example' FROM generate_series(1, 50) n");
    let running = world.run(&["--auto-approve"]);
    running.until_level();
    disk.fill();
    // As much as needs space, on both sides.
    world.crm.psql(
        "UPDATE accounts SET phone = repeat(n.n::text, 100) FROM generate_series(8, 50) n WHERE email = 'a' || n || '@x.example'; \
         INSERT INTO accounts (name, email) SELECT 'b' || n, 'b' || n || '@x.example' FROM generate_series(1, 2000) n",
    );
    world.erp.psql("UPDATE customers SET town = 'Graz' WHERE mail LIKE 'a%'; DELETE FROM customers WHERE mail = 'a7@x.example'");
    let said = || std::fs::read_to_string(world.folder().join("run.log")).unwrap_or_default();
    let exit = running.end();
    assert!(exit == 3 && said().contains("CON-4002") && said().contains("Free space"), "{exit}: {}", said());

    // It does not begin either as long as there is none.
    let refused = world.concord(&["run", "FILE", "--once"]);
    assert!(refused.exit == 3 && refused.err.contains("CON-4002"), "{refused:?}");

    disk.make_space();
    let running = world.run(&[]);
    running.until_level();
    assert_eq!(world.erp.psql("SELECT count(*), count(DISTINCT mail), count(tel) FROM customers"), "2049|2049|43");
    assert_eq!(
        world.crm.psql("SELECT count(*), count(*) FILTER (WHERE length(phone) >= 100) FROM accounts WHERE city = 'Graz'"),
        "49|43"
    );
    let verified = world.concord(&["verify", "FILE", "--json"]);
    assert_eq!(verified.exit, 0, "{verified:?}");
    running.stop();
}
