//! `nigh demo`: a whole CDN on this machine, to try things on.
//!
//! The fleet is the one that tests use; here it gets a site, a tour of commands, and an end at Ctrl-C.

use std::path::{Path, PathBuf};

use nigh_daemon::Signals;
use nigh_proto::api::NewSite;
use nigh_testkit::{Fleet, place::PLACES};

use crate::{
    cli::GlobalArgs,
    console::Console,
    demo::{sample, tour::Tour},
    environment::Environment,
    exit::Exit,
    failure::{CallContext, Failure},
    push, units,
};

#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Args {
    /// The folder to push; a sample otherwise
    dir: Option<PathBuf>,
    /// How many edges, each in another region
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u8).range(1..=PLACES.len() as i64))]
    edges: u8,
    /// Keep everything in this folder for the next demo there
    #[arg(long, value_name = "DIR")]
    state: Option<PathBuf>,
}

/// The site that the demo pushes to.
const SITE: &str = "demo";
/// With less than this free a fleet cannot start: each store keeps a reserve.
const FREE_MIN_BYTES: u64 = 1 << 30;

pub(crate) async fn run(args: Args, console: &Console) -> Result<Exit, Failure> {
    let failed = |error: &(dyn std::error::Error + 'static)| {
        Failure::new(Exit::Failure, "the demo could not start").caused_by(error)
    };
    let mut signals = Signals::install().map_err(|error| failed(&error))?;
    let started = tokio::select! {
        started = start(&args, console) => started?,
        // Dropping what has started so far ends it.
        _ = signals.next() => return Ok(Exit::Interrupted),
    };
    let Demo { fleet, tour } = started;
    console.result(&tour, Tour::describe);
    signals.next().await;
    console.note("stopping");
    let stopping = async { fleet.stop().await };
    tokio::select! {
        stopped = stopping => stopped.map_err(|error| failed(error.as_ref()))?,
        // A second Ctrl-C: whatever is left is killed when the fleet is dropped.
        _ = signals.next() => {}
    }
    if args.state.is_none() {
        console.note("everything is stopped and its folder is removed");
    }
    Ok(Exit::Ok)
}

struct Demo {
    fleet: Fleet,
    tour: Tour,
}

async fn start(args: &Args, console: &Console) -> Result<Demo, Failure> {
    let folder = args.state.clone().unwrap_or_else(std::env::temp_dir);
    check_space(&folder)?;
    if let Some(dir) = &args.dir {
        // A mistake in the folder is told before anything is started.
        push::folder(Some(dir), None)?;
    }
    let edges = usize::from(args.edges);
    console.note(&format!(
        "starting control, a DNS server and {}",
        units::count(u64::from(args.edges), "edge", "edges")
    ));
    let fleet = start_fleet(edges, args.state.as_deref()).await?;
    let host = make_site(&fleet).await?;
    let site_dir = match &args.dir {
        Some(dir) => dir.clone(),
        None => sample::write(&fleet.dir().join("site")).map_err(|error| {
            Failure::new(Exit::Failure, "the sample site could not be written").caused_by(&error)
        })?,
    };
    console.note(&format!("pushing {}", site_dir.display()));
    push_site(&fleet, &site_dir).await?;
    let tour = Tour::of(&fleet, SITE, &host, &site_dir).map_err(|error| unstarted(&error))?;
    Ok(Demo { fleet, tour })
}

async fn start_fleet(edges: usize, state: Option<&Path>) -> Result<Fleet, Failure> {
    let binary = std::env::current_exe().map_err(|error| {
        Failure::new(Exit::Failure, "this program cannot find itself").caused_by(&error)
    })?;
    let mut builder = Fleet::builder(binary).edges(edges);
    if let Some(dir) = state {
        builder = builder.keep_in(dir);
    }
    builder.start().await.map_err(|error| unstarted(&error))
}

/// A fleet that did not start; the child's own words are among the causes.
fn unstarted(error: &anyhow::Error) -> Failure {
    let text = format!("{error:#}");
    let failure = Failure::new(Exit::Failure, "the demo could not start").why(text.clone());
    if text.contains("cannot listen on") {
        failure.hint("a kept demo wants its old ports: stop whatever has them, or choose another --state folder")
    } else if text.contains("No space left") || text.contains("is full") {
        failure.hint("free some disk space, or choose a --state folder on another disk")
    } else {
        failure
    }
}

fn check_space(folder: &Path) -> Result<(), Failure> {
    let existing = folder.ancestors().find(|ancestor| ancestor.exists()).unwrap_or(Path::new("."));
    let existing = if existing.as_os_str().is_empty() { Path::new(".") } else { existing };
    let free = nigh_durable::free_bytes(existing).map_err(|error| {
        Failure::new(Exit::Failure, format!("{} cannot be used", folder.display()))
            .caused_by(&error)
    })?;
    if free >= FREE_MIN_BYTES {
        return Ok(());
    }
    let (free, least) = (units::bytes(free), units::bytes(FREE_MIN_BYTES));
    Err(Failure::new(Exit::Failure, "the demo could not start")
        .why(format!("the disk of {} has {free} left, and a fleet wants {least}", folder.display()))
        .code("disk_full")
        .hint("free some disk space, or choose a --state folder on another disk"))
}

/// Makes the site, unless a kept demo has it already; its default host.
async fn make_site(fleet: &Fleet) -> Result<String, Failure> {
    let name: nigh_proto::SiteName = crate::settings::site_name(SITE)?;
    let new = NewSite { name: name.clone(), hosts: Vec::new() };
    let site = match fleet.client().create_site(&new).await {
        Err(error) if error.code() == Some("site_taken") => fleet.client().site(&name).await,
        made => made,
    };
    let site = site.or_fail(|| format!("site {SITE} was not made"))?;
    Ok(site.default_host.to_string())
}

async fn push_site(fleet: &Fleet, dir: &Path) -> Result<(), Failure> {
    let args = push::Args { dir: Some(dir.to_owned()), ..push::Args::default() };
    let environment = Environment {
        api_url: Some(fleet.client().api_url().to_owned()),
        token: Some(fleet.token().to_owned()),
        ca_file: Some(fleet.ca_file()),
        site: Some(SITE.to_owned()),
        ..Environment::default()
    };
    let global = GlobalArgs { site: Some(SITE.to_owned()), ..GlobalArgs::default() };
    push::run(args, global, environment, &Console::silent()).await.map(drop)
}
