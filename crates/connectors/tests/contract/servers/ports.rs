//! Ports for servers of tests that must know theirs before they start. A port that was merely free a moment ago may be
//! taken by another test's server, or by anybody's outgoing connection, before the server has come that far.
#![allow(dead_code, reason = "each test binary uses a part of it")]

use std::fs::File;
use std::net::TcpListener;

/// Below the range that systems take the ports of outgoing connections from.
const RANGE: std::ops::Range<u16> = 20_000..30_000;

/// A port of this machine that no other test takes while this is held, in whatever process it runs.
#[derive(Debug)]
pub struct Port {
    number: u16,
    /// Locked; the lock ends with the file, and with the process.
    _held: File,
}

impl Port {
    /// One that nobody listens on.
    pub fn take() -> Port {
        let user = std::env::var("USER").unwrap_or_default();
        let folder = std::env::temp_dir().join(format!("concord-test-ports{user}"));
        std::fs::create_dir_all(&folder).unwrap();
        // Processes begin at different places: they seldom try each other's ports.
        let begin = usize::try_from(std::process::id()).unwrap().wrapping_mul(37) % RANGE.len();
        let mut numbers = RANGE.cycle().skip(begin).take(RANGE.len());
        let free = |number: u16| {
            let held = File::create(folder.join(number.to_string())).ok()?;
            held.try_lock().ok()?;
            TcpListener::bind(("127.0.0.1", number)).ok()?;
            Some(Port { number, _held: held })
        };
        numbers.find_map(free).expect("a free port below 30000")
    }

    /// Its number.
    pub fn number(&self) -> u16 {
        self.number
    }
}

impl std::fmt::Display for Port {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.number.fmt(f)
    }
}
