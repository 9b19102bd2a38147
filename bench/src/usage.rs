//! What processes have used, as the kernel counts it: processor time, the most memory, the machine's load.
//! Linux only; a figure that cannot be read is an error, never a zero.

use crate::Result;

/// Ticks of processor time in a second, the same on every Linux that Rust runs on.
const TICKS_PER_SECOND: f64 = 100.0;

/// The fields of `/proc/PID/stat` behind the name: the parent, and the ticks of the process and of its ended children.
struct Stat {
    parent: u32,
    own: f64,
    ended_children: f64,
}

fn stat(pid: u32) -> Option<Stat> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, rest) = text.rsplit_once(')')?;
    let fields: Vec<&str> = rest.split_whitespace().collect();
    let number = |place: usize| fields.get(place)?.parse::<f64>().ok();
    Some(Stat { parent: fields.get(1)?.parse().ok()?, own: number(11)? + number(12)?, ended_children: number(13)? + number(14)? })
}

/// Processor seconds of one process so far.
pub fn cpu_seconds(pid: u32) -> Result<f64> {
    let stat = stat(pid).ok_or_else(|| format!("process {pid} is gone"))?;
    Ok(stat.own / TICKS_PER_SECOND)
}

/// Processor seconds of a process and its children, those that have ended included.
pub fn cpu_seconds_of_family(pid: u32) -> Result<f64> {
    let head = stat(pid).ok_or_else(|| format!("process {pid} is gone"))?;
    let mut ticks = head.own + head.ended_children;
    for entry in std::fs::read_dir("/proc")? {
        let child = entry?.file_name().to_str().and_then(|name| name.parse().ok()).and_then(stat);
        if let Some(child) = child.filter(|child| child.parent == pid) {
            ticks += child.own + child.ended_children;
        }
    }
    Ok(ticks / TICKS_PER_SECOND)
}

/// The most memory that a process has held at once, in megabytes.
pub fn peak_memory_mb(pid: u32) -> Result<f64> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:")).ok_or("the kernel does not say the peak of memory")?;
    let kilobytes: f64 = line.trim().trim_end_matches("kB").trim().parse()?;
    Ok(kilobytes / 1024.0)
}

/// How many processes want a processor, over the last minute.
pub fn machine_load() -> Result<f64> {
    let text = std::fs::read_to_string("/proc/loadavg")?;
    Ok(text.split_whitespace().next().ok_or("the machine's load is empty")?.parse()?)
}

/// Seconds since the machine was started: the clock that samples of a profile have as well.
pub fn uptime_seconds() -> Result<f64> {
    let text = std::fs::read_to_string("/proc/uptime")?;
    Ok(text.split_whitespace().next().ok_or("the time since the start is empty")?.parse()?)
}
