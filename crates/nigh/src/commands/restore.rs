//! `nigh restore`: a backup becomes a control again, on the machine that control is to run on.

use std::{
    fs::File,
    io::BufReader,
    path::{Path, PathBuf},
};

use clap::ValueHint;
use nigh_control::{
    ControlConfig,
    backup::{self, Restored},
};

use crate::{
    cli::GlobalArgs, console::Console, environment::Environment, exit::Exit, failure::Failure,
    role_config, units,
};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The backup
    #[arg(value_hint = ValueHint::FilePath)]
    file: PathBuf,
}

/// Where control's configuration usually is.
const CONFIG_FILE: &str = "/etc/nigh/control.toml";

pub(crate) async fn run(
    args: &Args,
    global: &GlobalArgs,
    environment: &Environment,
    console: &Console,
) -> Result<Exit, Failure> {
    let config_file = global.config.as_deref().or(environment.config.as_deref());
    let config_file = config_file.unwrap_or(Path::new(CONFIG_FILE));
    let config: ControlConfig = role_config::load(config_file, "control")?;
    let what = || format!("{} was not restored", args.file.display());
    let file = File::open(&args.file)
        .map_err(|error| Failure::new(Exit::Failure, what()).caused_by(&error))?;
    let restored = backup::restore(&config, BufReader::new(file)).await;
    let restored =
        restored.map_err(|error| Failure::new(Exit::Failure, what()).caused_by(&error))?;
    console.result(&restored, describe);
    Ok(Exit::Ok)
}

fn describe(restored: &Restored) -> String {
    let then = match restored.has_blobs {
        true => "Start control; machines find it again by themselves.",
        false => "Start control; edges give back the blobs that they hold.",
    };
    format!(
        "restored {} and {} of {}\n{then}",
        units::count(restored.rows, "row", "rows"),
        units::count(restored.blobs, "blob", "blobs"),
        restored.created_at,
    )
}
