//! How much CPU and memory did a process use?

use std::{fs, time::Duration};

use anyhow::{Context, Result};

/// Linux counts CPU time in `USER_HZ`, which is 100 on every architecture that nigh is built for.
const TICK: Duration = Duration::from_millis(10);

/// User and system time of a process, all its threads together.
pub fn cpu_time(pid: u32) -> Result<Duration> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).context("process is gone")?;
    // The name in parentheses may hold spaces; fields are counted from behind it.
    let (_, fields) = stat.rsplit_once(") ").context("/proc/PID/stat has no name")?;
    let fields: Vec<&str> = fields.split(' ').collect();
    let ticks = fields[11].parse::<u32>()? + fields[12].parse::<u32>()?;
    Ok(TICK * ticks)
}

/// Resident memory now, in bytes.
pub fn resident_bytes(pid: u32) -> Result<u64> {
    status_kib(pid, "VmRSS:").map(|kib| kib * 1024)
}

/// The most memory that was ever resident, in bytes.
pub fn resident_peak_bytes(pid: u32) -> Result<u64> {
    status_kib(pid, "VmHWM:").map(|kib| kib * 1024)
}

fn status_kib(pid: u32, field: &str) -> Result<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).context("process is gone")?;
    let line = status.lines().find(|line| line.starts_with(field)).context("no such field")?;
    Ok(line.split_whitespace().nth(1).context("field has no value")?.parse()?)
}

/// The processes whose parent is `pid`.
pub fn children(pid: u32) -> Result<Vec<u32>> {
    let text = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"))?;
    text.split_whitespace().map(|child| Ok(child.parse()?)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_has_used_memory_and_some_time() {
        let pid = std::process::id();
        assert!(resident_bytes(pid).unwrap() > 1 << 20);
        assert!(resident_peak_bytes(pid).unwrap() >= 1 << 20);
        assert!(cpu_time(pid).unwrap() < Duration::from_secs(3600));
    }
}
