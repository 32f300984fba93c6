//! Sites and releases for a control that is to be measured, through its API.

use std::time::Duration;

use anyhow::Result;
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use nigh_client::Client;
use nigh_core::blob::PackBuilder;
use nigh_proto::{
    Digest, Entry, Manifest, ReleaseId, SiteName,
    api::{NewRelease, NewSite, ReleaseState},
    rules::RuleSet,
};
use tokio::time::timeout;

/// Requests under way at once.
const AT_ONCE: usize = 8;
/// How long a site may take.
const DEADLINE: Duration = Duration::from_secs(120);
/// How often it is looked for: the time is not what is measured.
const POLL: Duration = Duration::from_millis(20);

/// `sites` sites called `site-0000` and so on, each with `releases` releases.
pub async fn preload(client: &Client, sites: usize, releases: usize) -> Result<()> {
    let sites = (0..sites).map(|number| site(client, number, releases));
    stream::iter(sites).buffer_unordered(AT_ONCE).try_collect().await
}

async fn site(client: &Client, number: usize, releases: usize) -> Result<()> {
    let name: SiteName = format!("site-{number:04}").parse()?;
    client.create_site(&NewSite { name: name.clone(), hosts: Vec::new() }).await?;
    let mut last = None;
    for release in 0..releases {
        last = Some(push(client, &name, &format!("release {release}")).await?);
    }
    match last {
        Some(last) => timeout(DEADLINE, live(client, &name, &last)).await?,
        None => Ok(()),
    }
}

/// Waits until `release` is live: what goes live later would be measured with the rest.
async fn live(client: &Client, site: &SiteName, release: &ReleaseId) -> Result<()> {
    while client.release(site, release.as_str()).await?.state != ReleaseState::Active {
        tokio::time::sleep(POLL).await;
    }
    Ok(())
}

/// Pushes a site of one page, to go live.
pub async fn push(client: &Client, site: &SiteName, page: &str) -> Result<ReleaseId> {
    let digest = Digest::of(page.as_bytes());
    let entry = Entry {
        path: "index.html".parse()?,
        digest,
        size_bytes: page.len() as u64,
        content_type: None,
    };
    let new = NewRelease {
        manifest: Manifest::new(vec![entry])?.encode(),
        rules: RuleSet::default(),
        message: None,
        source: None,
        preview: None,
    };
    let begun = client.begin_release(site, &new).await?;
    if !begun.missing.is_empty() {
        let mut pack = PackBuilder::new(1);
        pack.push(digest, page.as_bytes())?;
        client.upload_pack(pack.finish().into()).await?;
    }
    client.finalize_release(site, &begun.release.id, true).await?;
    Ok(begun.release.id)
}
