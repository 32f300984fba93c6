//! What is a process busy with?

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric},
    metrics::{MetricType, counter::ConstCounter, gauge::ConstGauge},
};

use crate::tasks::Tasks;

#[derive(Debug)]
pub(super) struct TaskCollector(pub(super) Tasks);

impl Collector for TaskCollector {
    fn encode(&self, mut page: DescriptorEncoder) -> Result<(), std::fmt::Error> {
        let mut family = page.encode_descriptor(
            "nigh_process_tasks",
            "Tasks that run, by name",
            None,
            MetricType::Gauge,
        )?;
        for (task, count) in self.0.running() {
            let count = ConstGauge::new(i64::try_from(count).unwrap_or(i64::MAX));
            count.encode(family.encode_family(&[("task", task)])?)?;
        }
        let panics = ConstCounter::new(self.0.panicked());
        panics.encode(page.encode_descriptor(
            "nigh_process_task_panics",
            "Tasks that panicked since the start",
            None,
            panics.metric_type(),
        )?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn running_tasks_and_panics_are_on_the_page() {
        let tasks = Tasks::new();
        let metrics = crate::Metrics::new("edge", "1.2.3");
        metrics.watch_tasks(&tasks);
        tasks.spawn("unlucky", async { panic!("as the test wants") });
        tasks.spawn("idle", std::future::pending());
        while tasks.panicked() == 0 || !tasks.running().contains_key("idle") {
            tokio::task::yield_now().await;
        }
        let page = metrics.encode().unwrap();
        assert!(page.contains("nigh_process_tasks{task=\"idle\"} 1\n"), "{page}");
        assert!(page.contains("nigh_process_task_panics_total 1\n"), "{page}");
    }
}
