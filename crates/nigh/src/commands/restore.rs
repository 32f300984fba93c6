//! `nigh restore`: control is itself again, from a backup or from what machines hold.

use std::{
    fs::File,
    io::BufReader,
    path::{Path, PathBuf},
    time::SystemTime,
};

use clap::ValueHint;
use nigh_control::{
    ControlConfig,
    backup::{self, Restored},
};
use nigh_proto::{MachineName, Timestamp};

use super::{App, takeover};
use crate::{
    cli::GlobalArgs, console::Console, environment::Environment, exit::Exit, failure::Failure,
    role_config, units,
};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The backup, for a control that is stopped, on its own machine
    #[arg(value_hint = ValueHint::FilePath, required_unless_present = "from_edges")]
    file: Option<PathBuf>,
    /// Without a backup: have a running control take over what machines hold that joined it
    #[arg(long, conflicts_with = "file")]
    from_edges: bool,
    /// Only show what would be taken over
    #[arg(long, requires = "from_edges")]
    pub(super) dry_run: bool,
    /// Go by the state of this machine, instead of the newest; may be repeated
    #[arg(long, requires = "from_edges", value_name = "MACHINE")]
    pub(super) by: Vec<MachineName>,
    /// Let go of DNS zones that control's configuration does not name
    #[arg(long, requires = "from_edges")]
    pub(super) without_zones: bool,
    /// Take nothing over: what machines hold is to be dropped
    #[arg(long, requires = "from_edges", conflicts_with_all = ["dry_run", "by", "without_zones"])]
    pub(super) drop: bool,
}

/// Where control's configuration usually is.
const CONFIG_FILE: &str = "/etc/nigh/control.toml";

pub(crate) async fn run(
    args: &Args,
    global: &GlobalArgs,
    environment: &Environment,
    console: &Console,
) -> Result<Exit, Failure> {
    let Some(file) = &args.file else {
        return takeover::run(args, &App::new(global, environment, None, console)?).await;
    };
    let config_file = global.config.as_deref().or(environment.config.as_deref());
    let config_file = config_file.unwrap_or(Path::new(CONFIG_FILE));
    let config: ControlConfig = role_config::load(config_file, "control")?;
    let what = || format!("{} was not restored", file.display());
    let backup =
        File::open(file).map_err(|error| Failure::new(Exit::Failure, what()).caused_by(&error))?;
    let now = SystemTime::from(Timestamp::from_unix_ms(units::now_ms()));
    let restored = backup::restore(&config, BufReader::new(backup), now).await;
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
