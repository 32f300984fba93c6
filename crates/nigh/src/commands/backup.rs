//! `nigh backup`: everything that control knows in one file, checked before it has its name.

use std::{
    fs::File,
    io::{BufReader, Seek as _, Write as _},
    path::{Path, PathBuf},
};

use clap::ValueHint;
use nigh_control::backup::{self, Restored};
use serde::Serialize;

use super::App;
use crate::{
    exit::Exit,
    failure::{CallContext as _, Failure},
    units,
};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The file to write
    #[arg(value_hint = ValueHint::FilePath)]
    file: PathBuf,
    /// Leave the bytes of releases out: edges give back what they hold
    #[arg(long)]
    no_blobs: bool,
}

#[derive(Debug, Serialize)]
struct Written<'a> {
    file: &'a Path,
    bytes: u64,
    #[serde(flatten)]
    holds: Restored,
}

pub(crate) async fn run(args: &Args, app: &App<'_>) -> Result<Exit, Failure> {
    let what = || format!("{} was not written", args.file.display());
    let mut download = app.client.backup(!args.no_blobs).await.or_fail(what)?;
    let unwritable = |error: std::io::Error| {
        Failure::new(Exit::Failure, what())
            .caused_by(&error)
            .hint("is there room, and may you write there?")
    };
    let dir = args.file.parent().filter(|dir| !dir.as_os_str().is_empty());
    let dir = dir.unwrap_or(Path::new("."));
    // Beside its place, for its owner only; it has its name when it is whole.
    let mut file = tempfile::NamedTempFile::new_in(dir).map_err(unwritable)?;
    let mut bytes = 0;
    while let Some(piece) = download.chunk().await.or_fail(what)? {
        bytes += piece.len() as u64;
        file.write_all(&piece).map_err(unwritable)?;
    }
    file.rewind().map_err(unwritable)?;
    let holds = checked(file.as_file(), what)?;
    file.as_file().sync_all().map_err(unwritable)?;
    file.persist(&args.file).map_err(|error| unwritable(error.error))?;
    app.console.result(&Written { file: &args.file, bytes, holds }, describe);
    Ok(Exit::Ok)
}

/// What arrived, read to its end.
fn checked(file: &File, what: impl Fn() -> String) -> Result<Restored, Failure> {
    backup::check(BufReader::new(file)).map_err(|error| {
        Failure::new(Exit::Failure, what()).caused_by(&error).hint("control's log may say more")
    })
}

fn describe(written: &Written<'_>) -> String {
    let Written { file, bytes, holds } = written;
    let blobs = match holds.has_blobs {
        true => format!("and {}", units::count(holds.blobs, "blob", "blobs")),
        false => "and no blobs".to_owned(),
    };
    format!(
        "{} holds {} {blobs}, {}\nKeep control's secret.key beside it, but not in the same place: \
         private keys in the backup are sealed with it.",
        file.display(),
        units::count(holds.rows, "row", "rows"),
        units::bytes(*bytes),
    )
}
