//! What a work takes: wall time, and the processor seconds of every process, told apart: the contender's own, the source's server
//! with all that works in it, the target's likewise.

use crate::Result;
use crate::server::Server;
use crate::usage;
use serde::Serialize;
use std::time::Instant;

/// What one work took.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Took {
    pub seconds: f64,
    /// Of the contender's process, or of this one and its children, which are the pipe or the program; for one that works
    /// inside the servers that says nothing.
    pub own_cpu: f64,
    /// Of the source's server: who reads its log and its tables.
    pub source_cpu: f64,
    /// Of the target's server: who writes, workers that apply changes included.
    pub target_cpu: f64,
}

/// What is used from a beginning to an end.
pub struct Watch<'a> {
    servers: [&'a Server; 2],
    begun: Instant,
    /// The process at the beginning, and what it had used.
    own: (Option<u32>, f64),
    used: [f64; 2],
    /// When it begun by the machine's clock.
    pub uptime: f64,
}

impl<'a> Watch<'a> {
    /// `pid`: the contender's process, where it runs already.
    pub fn begin(servers: [&'a Server; 2], pid: Option<u32>) -> Result<Watch<'a>> {
        let used = [cpu(servers[0])?, cpu(servers[1])?];
        Ok(Watch { servers, begun: Instant::now(), own: (pid, own_cpu(pid)?), used, uptime: usage::uptime_seconds()? })
    }

    pub fn end(&self, pid: Option<u32>) -> Result<Took> {
        let seconds = self.begun.elapsed().as_secs_f64();
        // A process that was started meanwhile began with nothing.
        let before = if pid == self.own.0 { self.own.1 } else { 0.0 };
        let [source, target] = self.servers;
        Ok(Took {
            seconds,
            own_cpu: own_cpu(pid)? - before,
            source_cpu: cpu(source)? - self.used[0],
            target_cpu: cpu(target)? - self.used[1],
        })
    }
}

fn own_cpu(pid: Option<u32>) -> Result<f64> {
    pid.map_or_else(|| usage::cpu_seconds_of_family(std::process::id()), usage::cpu_seconds)
}

fn cpu(server: &Server) -> Result<f64> {
    usage::cpu_seconds_of_family(server.pid())
}
