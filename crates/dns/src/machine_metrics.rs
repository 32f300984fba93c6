//! What does this machine know of itself, at the moment somebody asks?
//!
//! The names are those of every machine; an edge has them too.

use std::fmt;

use nigh_replica::Replica;
use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric},
    metrics::{MetricType, gauge::ConstGauge},
};

/// Reads gauges when they are asked for.
#[derive(Debug)]
pub(crate) struct MachineCollector {
    pub(crate) replica: Replica,
}

impl Collector for MachineCollector {
    fn encode(&self, mut page: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let revision = self.replica.state().borrow().as_ref().map(|state| state.revision().0);
        let health = self.replica.health();
        let not_after = self.replica.certificate_not_after();
        for (name, help, value) in [
            (
                "nigh_machine_control_connected",
                "Whether the stream from control is open",
                f64::from(u8::from(self.replica.is_connected())),
            ),
            (
                "nigh_machine_revision",
                "The revision on this disk",
                revision.unwrap_or_default() as f64,
            ),
            (
                "nigh_machine_cpu_steal_ratio",
                "CPU time that the host took away",
                health.cpu_steal_ratio,
            ),
            (
                "nigh_machine_certificate_not_after_seconds",
                "When the certificate ends that this machine shows to control; 0 before it joined",
                not_after.map_or(0.0, |end| end.unix_ms() as f64 / 1000.0),
            ),
            (
                "nigh_machine_clock_ahead_seconds",
                "How far this clock is ahead of control's; negative when it is behind",
                self.replica.clock_ahead_ms().unwrap_or_default() as f64 / 1000.0,
            ),
        ] {
            let gauge = ConstGauge::new(value);
            gauge.encode(page.encode_descriptor(name, help, None, MetricType::Gauge)?)?;
        }
        let (name, help) = ("nigh_machine_pressure_ratio", "Pressure stall over 10 s");
        let mut pressure = page.encode_descriptor(name, help, None, MetricType::Gauge)?;
        for (resource, value) in [
            ("cpu", health.cpu_pressure_ratio),
            ("io", health.io_pressure_ratio),
            ("memory", health.memory_pressure_ratio),
        ] {
            let gauge = ConstGauge::new(value);
            gauge.encode(pressure.encode_family(&[("resource", resource)])?)?;
        }
        Ok(())
    }
}
