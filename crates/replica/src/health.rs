//! How does the machine feel? What Linux tells of it in `/proc`, and the room on its disk.

use std::{fs, path::PathBuf, time::Duration};

use nigh_proto::report::Health;

/// Reads the machine's health; steal is the share since the sample before.
#[derive(Debug)]
pub(crate) struct Sampler {
    state_dir: PathBuf,
    cpu: Option<CpuTimes>,
}

/// Counters of `/proc/stat`, in ticks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct CpuTimes {
    total: u64,
    steal: u64,
}

impl Sampler {
    pub(crate) fn new(state_dir: PathBuf) -> Self {
        Self { state_dir, cpu: None }
    }

    /// How things stand; what the kernel does not tell is 0.
    pub(crate) fn sample(&mut self, uptime: Duration) -> Health {
        let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
        let cpu = cpu_times(&read("/proc/stat"));
        let steal = self.cpu.zip(cpu).map(|(before, now)| steal_ratio(before, now));
        self.cpu = cpu;
        Health {
            cpu_steal_ratio: steal.unwrap_or_default(),
            cpu_pressure_ratio: pressure_ratio(&read("/proc/pressure/cpu")),
            io_pressure_ratio: pressure_ratio(&read("/proc/pressure/io")),
            memory_pressure_ratio: pressure_ratio(&read("/proc/pressure/memory")),
            disk_free_bytes: nigh_durable::free_bytes(&self.state_dir).unwrap_or_default(),
            resident_bytes: resident_bytes(&read("/proc/self/status")),
            uptime_ms: u64::try_from(uptime.as_millis()).unwrap_or(u64::MAX),
        }
    }
}

/// The first line of `/proc/stat`: user nice system idle iowait irq softirq steal (proc(5)). Guest
/// times that follow are part of user and nice.
fn cpu_times(stat: &str) -> Option<CpuTimes> {
    let line = stat.lines().find_map(|line| line.strip_prefix("cpu "))?;
    let ticks: Vec<u64> = line.split_whitespace().take(8).map_while(|t| t.parse().ok()).collect();
    let &[.., steal] = ticks.as_slice() else { return None };
    (ticks.len() == 8).then(|| CpuTimes { total: ticks.iter().sum(), steal })
}

fn steal_ratio(before: CpuTimes, now: CpuTimes) -> f64 {
    let total = now.total.saturating_sub(before.total);
    let steal = now.steal.saturating_sub(before.steal).min(total);
    if total == 0 { 0.0 } else { steal as f64 / total as f64 }
}

/// `some avg10=1.23 …` as a ratio (Linux `accounting/psi`).
fn pressure_ratio(text: &str) -> f64 {
    let some = text.lines().find_map(|line| line.strip_prefix("some avg10="));
    let percent: Option<f64> = some.and_then(|rest| rest.split(' ').next()?.parse().ok());
    percent.map_or(0.0, |percent| (percent / 100.0).clamp(0.0, 1.0))
}

fn resident_bytes(status: &str) -> u64 {
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib: Option<u64> = line.and_then(|rest| rest.split_whitespace().next()?.parse().ok());
    kib.unwrap_or_default() * 1024
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steal_is_the_share_between_two_samples() {
        let before = cpu_times("cpu  10 0 10 80 0 0 0 0 0 0\ncpu0 1 1\n").unwrap();
        let now = cpu_times("cpu  20 0 20 130 0 0 0 30 9 9\n").unwrap();
        assert_eq!(steal_ratio(before, now), 0.3);
        assert_eq!(steal_ratio(now, now), 0.0);
        assert_eq!(steal_ratio(now, before), 0.0);
    }

    #[test]
    fn what_the_kernel_does_not_tell_is_zero() {
        assert_eq!(cpu_times("cpu  1 2 x"), None);
        assert_eq!(pressure_ratio(""), 0.0);
        assert_eq!(pressure_ratio("some avg10=12.50 avg60=0.00 avg300=0.00 total=1\n"), 0.125);
        assert_eq!(resident_bytes("VmRSS:\t  2048 kB\n"), 2 << 20);
    }
}
