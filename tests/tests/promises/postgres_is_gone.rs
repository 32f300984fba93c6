//! PostgreSQL may go away while machines and pushes go on: control says so, edges serve on, nothing is
//! lost, and everything goes on when it is back.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use nigh_client::{Call, Method};
use nigh_testkit::tree;
use nigh_tests::{
    Cdn,
    cdn::{SITE, fleet, folder, noise},
    eventually,
    patience::SOON,
    proxy::{Line, Proxy},
};

const LARGE_BYTES: usize = 24 << 20;
const HOLD_AFTER: u64 = 18 << 20;

#[tokio::test(flavor = "multi_thread")]
async fn pushes_wait_edges_serve_on_and_nothing_is_lost() -> Result<()> {
    let mut cdn = Cdn::of(fleet(2).own_postgres()).await?;
    let live = folder(&[("index.html", "live before"), ("about.html", "about")])?;
    let first = cdn.push(live.path()).await?;
    let api = cdn.fleet.control_listener("api")?;
    let proxy = Proxy::to(api, Line::HoldAfter(HOLD_AFTER)).await?;
    let next = folder(&[("index.html", "live after")])?;
    tree::write(next.path(), "film.mp4", &noise(7, LARGE_BYTES))?;
    let next_dir = next.path().to_string_lossy().into_owned();
    let push = ["push", &next_dir, "--site", SITE, "--json"];
    let push = cdn.person.with("NIGH_API_URL", proxy.api_url()).start(&push)?;
    proxy.has_sent(HOLD_AFTER, Duration::from_secs(60)).await?;

    let database = cdn.fleet.database().context("it is on PostgreSQL")?.clone();
    database.cluster().halt()?;
    proxy.set(Line::Open);

    let sites = Call::new(Method::GET, &["v1", "sites"]);
    eventually("control says that its database is away", 2 * SOON, async || {
        let answer = cdn.fleet.client().answer(&sites).await?;
        let text = String::from_utf8_lossy(&answer.body);
        ensure!(answer.status == 503, "{}: {text}", answer.status);
        assert!(text.contains("\"database_unavailable\""), "{text}");
        assert!(answer.headers.contains_key("retry-after"), "{:?}", answer.headers);
        Ok(())
    })
    .await;
    // One that begins only now waits as well.
    let preview = folder(&[("index.html", "a preview")])?;
    let preview_dir = preview.path().to_string_lossy().into_owned();
    let second = ["push", &preview_dir, "--site", SITE, "--preview", "late", "--json"];
    let second = cdn.person.start(&second)?;
    cdn.serves(live.path()).await?;
    cdn.kill("nyc").await?;
    cdn.restart("nyc").await?;
    cdn.serves(live.path()).await?;

    database.cluster().resume()?;

    // The edge that was started meanwhile could not dial in; it may lag when a release goes live.
    let push = push.end().await?;
    assert!(matches!(push.code, Some(0 | 7)), "{push}");
    let pushed = push.json()?;
    assert_eq!(pushed["state"], "active", "{pushed}");
    let second = second.end().await?;
    assert!(matches!(second.code, Some(0 | 7)), "{second}");
    cdn.fleet.all_current().await?;
    cdn.serves(next.path()).await?;
    let kept = cdn.release(&first.release).await?;
    assert_eq!(kept.state.label(), "superseded");
    cdn.person.run(&["audit", "--verify"]).await?.expect(0);
    cdn.push(live.path()).await?;
    cdn.serves(live.path()).await?;
    cdn.fleet.stop().await
}
