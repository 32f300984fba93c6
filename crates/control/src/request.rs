//! On whose behalf is this being done?
//!
//! Every request has a [`Request`] that goes with it through the handler, the verbs and the
//! transaction, so that what is committed can say who asked for it. Work that nobody asked for has
//! none: then control itself is the actor.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, Ordering},
    },
};

use http::{Method, Uri};
use nigh_proto::Timestamp;

use crate::limits::Budget;

tokio::task_local! {
    static REQUEST: Arc<Request>;
}

/// One request while it is answered.
#[derive(Debug)]
pub(crate) struct Request {
    /// `req_…`, in the answer and in logs.
    pub(crate) id: String,
    pub(crate) method: Method,
    pub(crate) uri: Uri,
    /// The path with its variable segments as names, when there is such a route.
    pub(crate) route: Option<String>,
    pub(crate) address: Option<IpAddr>,
    pub(crate) at: Timestamp,
    actor: OnceLock<Actor>,
    budget: OnceLock<Budget>,
    is_recorded: AtomicBool,
}

/// Whoever changes something.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Actor {
    pub(crate) kind: ActorKind,
    pub(crate) id: Option<String>,
    pub(crate) name: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ActorKind {
    Token,
    Machine,
    /// A command on control's own host.
    Operator,
    Control,
}

impl ActorKind {
    pub(crate) const fn label(self) -> &'static str {
        match self {
            ActorKind::Token => "token",
            ActorKind::Machine => "machine",
            ActorKind::Operator => "operator",
            ActorKind::Control => "control",
        }
    }
}

impl Actor {
    pub(crate) fn control() -> Self {
        Actor { kind: ActorKind::Control, id: None, name: "control".to_owned() }
    }

    /// Whoever runs a command on control's own host.
    pub(crate) fn operator() -> Self {
        Actor { kind: ActorKind::Operator, id: None, name: "control's host".to_owned() }
    }
}

impl Request {
    pub(crate) fn new(
        id: String,
        method: Method,
        uri: Uri,
        route: Option<String>,
        address: Option<IpAddr>,
        at: Timestamp,
    ) -> Self {
        Self {
            id,
            method,
            uri,
            route,
            address,
            at,
            actor: OnceLock::new(),
            budget: OnceLock::new(),
            is_recorded: AtomicBool::new(false),
        }
    }

    /// The request that this task answers.
    pub(crate) fn current() -> Option<Arc<Request>> {
        REQUEST.try_with(Arc::clone).ok()
    }

    /// Answers it: whatever `answer` does is done on its behalf.
    pub(crate) async fn answer<F: Future>(self: &Arc<Self>, answer: F) -> F::Output {
        REQUEST.scope(Arc::clone(self), answer).await
    }

    /// Who asks, once that is known.
    pub(crate) fn actor(&self) -> Option<&Actor> {
        self.actor.get()
    }

    pub(crate) fn is_by(&self, actor: Actor) {
        let _ = self.actor.set(actor);
    }

    /// What the caller may still ask for, once that is known.
    pub(crate) fn budget(&self) -> Option<&Budget> {
        self.budget.get()
    }

    pub(crate) fn is_within(&self, budget: Budget) {
        let _ = self.budget.set(budget);
    }

    /// Whether what it changes still has to be recorded; an own word for it says more.
    pub(crate) fn wants_record(&self) -> bool {
        !self.method.is_safe() && self.actor().is_some() && !self.is_recorded()
    }

    pub(crate) fn is_recorded(&self) -> bool {
        self.is_recorded.load(Ordering::Relaxed)
    }

    pub(crate) fn was_recorded(&self) {
        self.is_recorded.store(true, Ordering::Relaxed);
    }
}

/// The network that an address is in, /24 or /48: nobody in particular.
pub(crate) fn masked(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(v4) => {
            let [a, b, c, _] = v4.octets();
            Ipv4Addr::new(a, b, c, 0).into()
        }
        IpAddr::V6(v6) => {
            let [a, b, c, ..] = v6.segments();
            Ipv6Addr::new(a, b, c, 0, 0, 0, 0, 0).into()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_name_a_network_only() {
        for (address, network) in [
            ("203.0.113.7", "203.0.113.0"),
            ("::ffff:203.0.113.7", "203.0.113.0"),
            ("2001:db8:1:2::3", "2001:db8:1::"),
        ] {
            assert_eq!(masked(address.parse().unwrap()).to_string(), network);
        }
    }
}
