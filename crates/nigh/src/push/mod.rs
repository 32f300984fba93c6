//! `nigh push`: a folder becomes the site that every edge serves.
//!
//! `walk` finds the files and refuses what no edge could serve. `hash` reads them, `digest_cache` spares
//! reading those that did not change, `local` is both together: what lies here. `source` asks git where
//! it came from. `packs` and `upload` carry what control misses, `dry_run` only tells it, `report`
//! says how it went, `progress` how it goes.

mod digest_cache;
mod dry_run;
mod hash;
mod local;
mod packs;
mod progress;
mod release;
mod report;
mod source;
mod upload;
pub(crate) mod walk;

use std::{
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use clap::ValueHint;
use nigh_daemon::Signals;
use nigh_proto::PreviewName;

pub(crate) use walk::{WalkOptions, walk};

use crate::{
    cli::GlobalArgs, commands::App, console::Console, environment::Environment, exit::Exit,
    failure::Failure, follow::Wait, site_file::FoundSite, units,
};

/// How long a push may take unless `--timeout` says otherwise.
pub(crate) const TIMEOUT_DEFAULT: Duration = Duration::from_secs(600);

#[derive(Clone, Debug, Default, clap::Args)]
pub(crate) struct Args {
    /// The folder; `publish` of nigh.toml, or this folder, otherwise
    #[arg(value_hint = ValueHint::DirPath)]
    pub(crate) dir: Option<PathBuf>,
    /// Give the release a host of its own instead of the site's
    #[arg(long, value_name = "NAME", num_args = 0..=1)]
    pub(crate) preview: Option<Option<PreviewName>>,
    /// How long a preview lives: 12h, 7d
    #[arg(long, value_name = "DURATION", value_parser = units::parse_duration, requires = "preview")]
    pub(crate) expires: Option<Duration>,
    /// What is new, for people
    #[arg(long, short)]
    pub(crate) message: Option<String>,
    /// What to wait for
    #[arg(long, value_enum, default_value_t)]
    pub(crate) wait: Wait,
    /// Only say what would be new, changed and removed
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Warnings about rules refuse the push
    #[arg(long)]
    pub(crate) strict: bool,
    /// Make the site when it is not there yet
    #[arg(long)]
    pub(crate) create: bool,
    /// Push files whose names differ only in case
    #[arg(long)]
    pub(crate) allow_case_collisions: bool,
    /// Read every file again instead of trusting the cache of digests
    #[arg(long)]
    pub(crate) no_cache: bool,
}

/// A push that is to be made.
#[derive(Debug)]
pub(crate) struct Push<'a> {
    pub(crate) app: App<'a>,
    pub(crate) args: Args,
    pub(crate) dir: PathBuf,
    pub(crate) found: FoundSite,
    pub(crate) environment: Environment,
    pub(crate) started: Instant,
    pub(crate) deadline: Instant,
}

pub(crate) async fn run(
    args: Args,
    global: GlobalArgs,
    environment: Environment,
    console: &Console,
) -> Result<Exit, Failure> {
    let started = Instant::now();
    let config = global.config.as_deref().or(environment.config.as_deref());
    if let (None, Some(Some(name))) = (&args.dir, &args.preview)
        && Path::new(name.as_str()).is_dir()
    {
        return Err(folder_or_name(name));
    }
    let (dir, found) = folder(args.dir.as_deref(), config)?;
    let app = App::new(&global, &environment, found.file.site.name.as_deref(), console)?;
    let deadline = started + app.settings.timeout.unwrap_or(TIMEOUT_DEFAULT);
    let push = Push { app, args, dir, found, environment, started, deadline };
    let mut signals = Signals::install().map_err(|error| {
        Failure::new(Exit::Failure, "Ctrl-C could not be listened for").caused_by(&error)
    })?;
    tokio::select! {
        result = release::push(&push) => result,
        _ = signals.next() => Err(interrupted(&push)),
    }
}

/// `--preview public` where `public` is a folder: pushing this folder instead would be a bad surprise.
fn folder_or_name(name: &PreviewName) -> Failure {
    Failure::new(Exit::Usage, format!("{name} may be the folder or the preview's name"))
        .why("--preview takes the word after it as a name, and there is a folder of that name")
        .hint(format!("nigh push {name} --preview, or nigh push . --preview={name}"))
}

fn interrupted(push: &Push<'_>) -> Failure {
    let failure = Failure::new(Exit::Interrupted, "the push was interrupted");
    if push.args.dry_run {
        return failure;
    }
    failure
        .why("nothing has changed for visitors, unless a release was already on its way to the edges")
        .hint("repeat the command: what control has already is not sent again")
}

/// The folder that is meant, and the site file that goes with it.
pub(crate) fn folder(
    dir: Option<&Path>,
    config: Option<&Path>,
) -> Result<(PathBuf, FoundSite), Failure> {
    let here = Path::new(".");
    let folders = [dir.unwrap_or(here), here];
    let found = FoundSite::find(config, &folders)?;
    let dir = match dir {
        Some(dir) => dir.to_owned(),
        None => found.publish().unwrap_or_else(|| here.to_owned()),
    };
    let failed = || Failure::new(Exit::Invalid, format!("{} cannot be pushed", dir.display()));
    match std::fs::metadata(&dir) {
        Err(error) => Err(failed()
            .caused_by(&error)
            .code("folder_missing")
            .hint("check the path of the folder")),
        Ok(metadata) if !metadata.is_dir() => Err(failed()
            .why("it is not a folder")
            .code("not_a_folder")
            .hint("name the folder that the file lies in")),
        Ok(_) => match dir.canonicalize() {
            Ok(dir) => Ok((dir, found)),
            Err(error) => Err(failed().caused_by(&error)),
        },
    }
}
