//! How does this machine feel?
//!
//! The parsers are pure; [`Sampler`] reads `/proc` for them. What cannot be read (no pressure
//! stall information, another kernel) counts as zero: a machine is never called ill for want of a file.

use std::{
    fs,
    path::{Path, PathBuf},
    time::Instant,
};

use nigh_proto::report::Health;

/// CPU time of all cores since the boot, in ticks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CpuTimes {
    pub total: u64,
    /// What the host took away.
    pub steal: u64,
}

impl CpuTimes {
    /// Reads `/proc/stat` (`proc_stat(5)`).
    pub fn parse(text: &str) -> Option<Self> {
        let line = text.lines().find_map(|line| line.strip_prefix("cpu "))?;
        let ticks: Vec<u64> =
            line.split_ascii_whitespace().map_while(|field| field.parse().ok()).collect();
        // Guest time, the last two fields, is part of user time already.
        let total = ticks.iter().take(8).fold(0u64, |sum, tick| sum.saturating_add(*tick));
        (ticks.len() >= 4)
            .then(|| CpuTimes { total, steal: ticks.get(7).copied().unwrap_or_default() })
    }

    /// The share of the time since `earlier` that was stolen, 0 to 1.
    pub fn steal_ratio_since(&self, earlier: &CpuTimes) -> f64 {
        let total = self.total.saturating_sub(earlier.total);
        let steal = self.steal.saturating_sub(earlier.steal).min(total);
        if total == 0 { 0.0 } else { steal as f64 / total as f64 }
    }
}

/// Reads `some avg10` of a file in `/proc/pressure` as a share of 0 to 1.
pub fn parse_pressure(text: &str) -> Option<f64> {
    let line = text.lines().find_map(|line| line.strip_prefix("some "))?;
    let average = line.split_ascii_whitespace().find_map(|field| field.strip_prefix("avg10="))?;
    let percent: f64 = average.parse().ok()?;
    (0.0..=100.0).contains(&percent).then_some(percent / 100.0)
}

/// Reads `VmRSS` of `/proc/self/status`, in bytes.
pub fn parse_resident(text: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
}

/// Measures, and remembers what the last measurement needs.
#[derive(Debug)]
pub struct Sampler {
    dir: PathBuf,
    started: Instant,
    cpu: CpuTimes,
    steal_ratio: f64,
}

impl Sampler {
    /// Measures the disk that `dir` lies on; `started` is when the machine's role began.
    pub fn new(dir: &Path, started: Instant) -> Self {
        Sampler { dir: dir.to_owned(), started, cpu: cpu_times(), steal_ratio: 0.0 }
    }

    /// How things stand at `now`. Reads small files and may wait for the disk.
    pub fn sample(&mut self, now: Instant) -> Health {
        let cpu = cpu_times();
        // Shorter than a tick says nothing.
        if cpu.total > self.cpu.total {
            self.steal_ratio = cpu.steal_ratio_since(&self.cpu);
            self.cpu = cpu;
        }
        let uptime_ms = now.saturating_duration_since(self.started).as_millis();
        Health {
            cpu_steal_ratio: self.steal_ratio,
            cpu_pressure_ratio: pressure("cpu"),
            io_pressure_ratio: pressure("io"),
            memory_pressure_ratio: pressure("memory"),
            disk_free_bytes: nigh_durable::free_bytes(&self.dir).unwrap_or_default(),
            resident_bytes: read("/proc/self/status")
                .and_then(|text| parse_resident(&text))
                .unwrap_or_default(),
            uptime_ms: u64::try_from(uptime_ms).unwrap_or(u64::MAX),
        }
    }
}

fn cpu_times() -> CpuTimes {
    read("/proc/stat").and_then(|text| CpuTimes::parse(&text)).unwrap_or_default()
}

fn pressure(resource: &str) -> f64 {
    let text = read(&format!("/proc/pressure/{resource}"));
    text.and_then(|text| parse_pressure(&text)).unwrap_or_default()
}

fn read(path: &str) -> Option<String> {
    fs::read_to_string(path).ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn steal_is_the_eighth_field_and_guest_time_is_not_counted_twice() {
        let text = "cpu  100 5 50 800 10 1 4 30 20 10\ncpu0 1 2 3 4\nintr 5\n";
        let times = CpuTimes::parse(text).unwrap();
        assert_eq!(times, CpuTimes { total: 1000, steal: 30 });
        let later = CpuTimes { total: 1100, steal: 55 };
        assert_eq!(later.steal_ratio_since(&times), 0.25);
        assert_eq!(times.steal_ratio_since(&later), 0.0);
    }

    #[test]
    fn pressure_is_the_share_of_the_last_ten_seconds() {
        let text = "some avg10=12.50 avg60=1.00 avg300=0.00 total=5\nfull avg10=99.00 total=1\n";
        assert_eq!(parse_pressure(text), Some(0.125));
        assert_eq!(parse_pressure("some avg10=900.0"), None);
        assert_eq!(parse_pressure("some avg10=NaN"), None);
    }

    #[test]
    fn this_machine_can_be_measured() {
        let dir = tempfile::tempdir().unwrap();
        let started = Instant::now();
        let health = Sampler::new(dir.path(), started).sample(Instant::now());
        assert!(health.resident_bytes > 100_000 && health.disk_free_bytes > 0, "{health:?}");
        assert!((0.0..=1.0).contains(&health.cpu_steal_ratio));
    }

    proptest! {
        #[test]
        fn any_text_is_measured_or_not_and_never_a_panic(text in "(cpu |some avg10=|VmRSS:)?[ 0-9.a-z\n]{0,80}") {
            if let Some(times) = CpuTimes::parse(&text) {
                prop_assert!((0.0..=1.0).contains(&times.steal_ratio_since(&CpuTimes::default())));
            }
            if let Some(ratio) = parse_pressure(&text) {
                prop_assert!((0.0..=1.0).contains(&ratio));
            }
            let _ = parse_resident(&text);
        }
    }
}
