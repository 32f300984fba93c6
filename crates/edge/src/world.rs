//! What does this edge answer with on each host, now?
//!
//! A [`World`] is made as a whole and replaced as a whole, so a request sees one release of its
//! site from its beginning to its end.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use nigh_proto::{
    ReleaseId, SiteName, Timestamp,
    state::{EdgeState, PreviewRef, SiteState},
};

use crate::{
    load::{Loaded, grace_until},
    metrics::SiteCounters,
};

/// Every host and what it serves.
#[derive(Debug, Default)]
pub(crate) struct World {
    hosts: HashMap<Box<str>, Arc<Serving>>,
    /// What authorities are answered, by host and token.
    challenges: HashMap<Box<str>, HashMap<Box<str>, Box<str>>>,
    /// Whether there is a state at all.
    pub(crate) has_state: bool,
}

/// What one host serves.
#[derive(Debug)]
pub(crate) struct Serving {
    pub(crate) site: SiteName,
    pub(crate) https_redirect: bool,
    /// `None` until the first release of the site is here.
    pub(crate) release: Option<Arc<Loaded>>,
    /// Releases before it, newest first.
    pub(crate) grace: Vec<Grace>,
    pub(crate) preview: Option<Preview>,
    pub(crate) counters: Arc<SiteCounters>,
}

/// A release whose immutable files stay reachable for a while.
#[derive(Debug)]
pub(crate) struct Grace {
    pub(crate) until: Timestamp,
    pub(crate) loaded: Arc<Loaded>,
}

/// What is special about a preview.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Preview {
    pub(crate) expires_at: Option<Timestamp>,
}

impl Serving {
    /// Whether it is a preview that may not be served any more.
    pub(crate) fn is_expired(&self, now: impl FnOnce() -> Timestamp) -> bool {
        match self.preview {
            Some(Preview { expires_at: Some(expires_at) }) => expires_at <= now(),
            _ => false,
        }
    }
}

/// Releases in memory.
pub(crate) type Releases = HashMap<ReleaseId, Arc<Loaded>>;
/// The release that each site serves, or served when this edge last ran.
pub(crate) type Served = BTreeMap<SiteName, ReleaseId>;

impl World {
    /// What `host`, in lower case and without port, serves.
    pub(crate) fn serving(&self, host: &str) -> Option<&Arc<Serving>> {
        self.hosts.get(host)
    }

    /// What `state` asks for, as far as `releases` allow. A site whose active release is not here
    /// goes on with the one in `served`.
    pub(crate) fn plan(
        state: &EdgeState,
        releases: &Releases,
        served: &Served,
        counters: impl Fn(&SiteName) -> Arc<SiteCounters>,
    ) -> World {
        let mut hosts = HashMap::new();
        for site in &state.sites {
            let counters = counters(&site.name);
            let serving = Arc::new(serve_site(site, releases, served, Arc::clone(&counters)));
            for host in &site.hosts {
                hosts.insert(host.as_str().into(), Arc::clone(&serving));
            }
            for preview in &site.previews {
                let serving = serve_preview(site, preview, releases, Arc::clone(&counters));
                hosts.insert(preview.host.as_str().into(), Arc::new(serving));
            }
        }
        let mut challenges = HashMap::<Box<str>, HashMap<_, _>>::new();
        for challenge in &state.http_challenges {
            let of_host = challenges.entry(challenge.host.as_str().into()).or_default();
            of_host.insert(
                challenge.token.as_str().into(),
                challenge.key_authorization.as_str().into(),
            );
        }
        World { hosts, challenges, has_state: true }
    }

    /// The key authorization that an authority wants to see for `token` of `host`.
    pub(crate) fn challenge(&self, host: &str, token: &str) -> Option<&str> {
        Some(self.challenges.get(host)?.get(token)?)
    }
}

/// The release that `site` is to serve with what is here.
pub(crate) fn choose<'r>(
    site: &SiteState,
    releases: &'r Releases,
    served: &Served,
) -> Option<&'r Arc<Loaded>> {
    let active = site.active.as_ref()?;
    let before = served.get(&site.name);
    // What was served once was complete then; missing blobs are damage, and healed one by one.
    let may_serve = |loaded: &&Arc<Loaded>| {
        loaded.is_complete || before.is_some_and(|before| before == loaded.release.id())
    };
    let here = |id: &ReleaseId| releases.get(id).filter(may_serve);
    here(active).or_else(|| here(before?)).or_else(|| {
        let mut grace = site.releases.iter().filter(|release| grace_until(release).is_some());
        grace.find_map(|release| here(&release.id))
    })
}

fn serve_site(
    site: &SiteState,
    releases: &Releases,
    served: &Served,
    counters: Arc<SiteCounters>,
) -> Serving {
    let release = choose(site, releases, served).cloned();
    let id = release.as_ref().map(|loaded| loaded.release.id());
    let grace = site.releases.iter().filter(|reference| Some(&reference.id) != id);
    let grace = grace.filter_map(|reference| {
        let until = grace_until(reference)?;
        Some(Grace { until, loaded: Arc::clone(releases.get(&reference.id)?) })
    });
    Serving {
        site: site.name.clone(),
        https_redirect: site.https_redirect,
        grace: grace.collect(),
        release,
        preview: None,
        counters,
    }
}

fn serve_preview(
    site: &SiteState,
    preview: &PreviewRef,
    releases: &Releases,
    counters: Arc<SiteCounters>,
) -> Serving {
    let release = releases.get(&preview.release).filter(|loaded| loaded.is_complete);
    Serving {
        site: site.name.clone(),
        https_redirect: site.https_redirect,
        release: release.cloned(),
        grace: Vec::new(),
        preview: Some(Preview { expires_at: preview.expires_at }),
        counters,
    }
}
