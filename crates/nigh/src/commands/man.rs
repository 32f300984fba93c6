//! `nigh man`: the manual pages of every command, for packages.

use std::path::PathBuf;

use clap::{CommandFactory, ValueHint};

use crate::{cli::Cli, console::Console, exit::Exit, failure::Failure};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The folder to write them to; it is made when it is not there
    #[arg(value_name = "DIR", value_hint = ValueHint::DirPath)]
    dir: PathBuf,
}

/// Writes `nigh.1`, `nigh-push.1` and so on, one page for each command.
pub(crate) fn run(args: &Args, console: &Console) -> Result<Exit, Failure> {
    let dir = &args.dir;
    std::fs::create_dir_all(dir)
        .and_then(|()| clap_mangen::generate_to(Cli::command(), dir))
        .map_err(|error| {
            let what = format!("the manual pages were not written to {}", dir.display());
            Failure::new(Exit::Failure, what).caused_by(&error)
        })?;
    console.result(&serde_json::json!({ "dir": dir }), |_| {
        format!("the manual pages are in {}", dir.display())
    });
    Ok(Exit::Ok)
}
