//! How much of the machine does this process use?
//!
//! Read from `/proc` at each scrape, with the names that Prometheus' own clients use. What cannot
//! be read is left out: half a page of metrics is better than none.

use std::fs;

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric},
    metrics::{counter::ConstCounter, gauge::ConstGauge},
};

/// Clock ticks per second in `/proc`: the kernel's `USER_HZ`, 100 on every architecture we build for.
const TICKS_PER_SECOND: f64 = 100.0;

#[derive(Debug)]
pub(super) struct ProcessCollector;

impl Collector for ProcessCollector {
    fn encode(&self, mut page: DescriptorEncoder) -> Result<(), std::fmt::Error> {
        let stat = fs::read_to_string("/proc/self/stat").ok();
        let stat = stat.as_deref().and_then(Stat::parse);
        if let Some(stat) = &stat {
            let cpu = ConstCounter::new(stat.cpu_seconds);
            write(&mut page, "process_cpu_seconds", "CPU time used, user and system", &cpu)?;
            let threads = ConstGauge::new(stat.threads);
            write(&mut page, "process_threads", "Threads of this process", &threads)?;
        }
        if let Some(start) = stat.and_then(|stat| Some(stat.start_seconds + boot_time_seconds()?)) {
            let start = ConstGauge::new(start);
            write(&mut page, "process_start_time_seconds", "Start, in Unix time", &start)?;
        }
        if let Some(bytes) = resident_bytes() {
            let bytes = ConstGauge::new(bytes);
            write(&mut page, "process_resident_memory_bytes", "Memory held", &bytes)?;
        }
        if let Ok(open) = fs::read_dir("/proc/self/fd") {
            let open = ConstGauge::new(i64::try_from(open.count()).unwrap_or(i64::MAX));
            write(&mut page, "process_open_fds", "Open files and sockets", &open)?;
        }
        if let Some(limit) = rustix::process::getrlimit(rustix::process::Resource::Nofile).current {
            let limit = ConstGauge::new(i64::try_from(limit).unwrap_or(i64::MAX));
            write(&mut page, "process_max_fds", "Files and sockets allowed", &limit)?;
        }
        Ok(())
    }
}

fn write(
    page: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    metric: &impl EncodeMetric,
) -> Result<(), std::fmt::Error> {
    metric.encode(page.encode_descriptor(name, help, None, metric.metric_type())?)
}

/// What `/proc/self/stat` says (`proc_pid_stat(5)`).
#[derive(Debug, PartialEq)]
struct Stat {
    cpu_seconds: f64,
    threads: i64,
    /// Since the machine booted.
    start_seconds: f64,
}

impl Stat {
    fn parse(text: &str) -> Option<Self> {
        // The second field is the program's name in parentheses and may hold any character.
        let (_, after_name) = text.rsplit_once(") ")?;
        let fields: Vec<&str> = after_name.split_ascii_whitespace().collect();
        // `fields[0]` is the third field of the manual page.
        let ticks = |number: usize| fields.get(number - 3)?.parse::<f64>().ok();
        Some(Self {
            cpu_seconds: (ticks(14)? + ticks(15)?) / TICKS_PER_SECOND,
            threads: fields.get(20 - 3)?.parse().ok()?,
            start_seconds: ticks(22)? / TICKS_PER_SECOND,
        })
    }
}

fn boot_time_seconds() -> Option<f64> {
    let text = fs::read_to_string("/proc/stat").ok()?;
    text.lines().find_map(|line| line.strip_prefix("btime "))?.parse().ok()
}

fn resident_bytes() -> Option<i64> {
    let text = fs::read_to_string("/proc/self/status").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.trim().strip_suffix(" kB")?.parse::<i64>().ok().map(|kib| kib * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_name_with_spaces_and_parentheses_does_not_shift_the_fields() {
        let text = "42 (a (b) c) S 1 42 42 0 -1 4194560 1 2 3 4 250 50 0 0 20 0 7 0 12345 1 2";
        let stat = Stat { cpu_seconds: 3.0, threads: 7, start_seconds: 123.45 };
        assert_eq!(Stat::parse(text), Some(stat));
    }

    #[test]
    fn this_process_has_memory_files_and_a_start() {
        let page = crate::Metrics::new("edge", "1.2.3").encode().unwrap();
        let value = |name: &str| -> f64 {
            let line = page.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
            line.unwrap_or_else(|| panic!("{name} is missing in {page}")).parse().unwrap()
        };
        assert!(page.contains("nigh_build_info{version=\"1.2.3\",role=\"edge\"} 1"), "{page}");
        assert!(value("process_resident_memory_bytes") > 100_000.0);
        assert!(value("process_open_fds") >= 3.0);
        assert!(value("process_max_fds") >= value("process_open_fds"));
        assert!(value("process_threads") >= 1.0);
        assert!(value("process_cpu_seconds_total") >= 0.0);
        let now = crate::Clock::system().now().duration_since(std::time::UNIX_EPOCH).unwrap();
        let age = now.as_secs_f64() - value("process_start_time_seconds");
        assert!((-2.0..3600.0).contains(&age), "{age} s old");
    }
}
