//! Which numbers does this process show, and in which form?
//!
//! A role registers its own metrics in its own modules; here is the registry that gathers them,
//! with what every process has: its build, its resources and its tasks.

mod process;
mod tasks;

use std::{
    fmt,
    sync::{Arc, Mutex},
};

use prometheus_client::{encoding::text, metrics::info::Info, registry::Registry};

use crate::tasks::Tasks;

/// Every metric of one process; cheap to clone.
#[derive(Clone)]
pub struct Metrics(Arc<Mutex<Registry>>);

impl Metrics {
    /// A registry with `nigh_build_info{version,role}` and the `process_…` metrics.
    pub fn new(role: &'static str, version: &'static str) -> Self {
        let mut registry = Registry::default();
        registry.register(
            "nigh_build",
            "The version that runs",
            Info::new(vec![("version", version), ("role", role)]),
        );
        registry.register_collector(Box::new(process::ProcessCollector));
        Metrics(Arc::new(Mutex::new(registry)))
    }

    /// Lets a part of the role add its metrics.
    pub fn register<T>(&self, add: impl FnOnce(&mut Registry) -> T) -> T {
        add(&mut self.0.lock().expect("no code panics while it holds the registry"))
    }

    /// Shows how many tasks run, by name, and how many have panicked.
    pub fn watch_tasks(&self, tasks: &Tasks) {
        self.register(|registry| {
            registry.register_collector(Box::new(tasks::TaskCollector(tasks.clone())));
        });
    }

    /// All metrics in the `OpenMetrics` text format.
    pub fn encode(&self) -> Result<String, fmt::Error> {
        let mut page = String::new();
        text::encode(
            &mut page,
            &self.0.lock().expect("no code panics while it holds the registry"),
        )?;
        Ok(page)
    }
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Metrics")
    }
}
