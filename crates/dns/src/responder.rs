//! Which snapshot is current, and what is counted when it answers?

use std::{
    net::SocketAddr,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
};

use arc_swap::ArcSwapOption;

use crate::{
    answer::{Transport, answer},
    metrics::DnsMetrics,
    snapshot::Snapshot,
};

/// Answers packets from the snapshot that is current; shared by every listener.
#[derive(Debug)]
pub struct Responder {
    snapshot: ArcSwapOption<Snapshot>,
    metrics: DnsMetrics,
}

impl Responder {
    pub fn new(metrics: DnsMetrics) -> Self {
        Self { snapshot: ArcSwapOption::empty(), metrics }
    }

    /// Answers from `snapshot` from now on.
    pub fn publish(&self, snapshot: Arc<Snapshot>) {
        self.snapshot.store(Some(snapshot));
    }

    /// The snapshot that is current; none before there is any state.
    pub fn snapshot(&self) -> Option<Arc<Snapshot>> {
        self.snapshot.load_full()
    }

    /// The packet to send back, if any.
    pub(crate) fn respond(
        &self,
        packet: &[u8],
        source: SocketAddr,
        transport: Transport,
    ) -> Option<Vec<u8>> {
        let snapshot = self.snapshot.load();
        let snapshot = snapshot.as_deref();
        // A bug that one packet finds must not silence the listener for all others.
        let reply =
            catch_unwind(AssertUnwindSafe(|| answer(snapshot, packet, source.ip(), transport)));
        match reply {
            Ok(Some(reply)) => {
                let proto = if transport == Transport::Udp { "udp" } else { "tcp" };
                self.metrics.count_reply(&reply, snapshot, proto);
                Some(reply.bytes)
            }
            Ok(None) => {
                self.metrics.count_silence();
                None
            }
            Err(_) => {
                self.metrics.count_panic(source.ip());
                None
            }
        }
    }
}
