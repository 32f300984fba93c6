//! `nigh check`: what would edges make of this folder's rules?

use std::path::PathBuf;

use nigh_core::rules::{Notice, Parsed};
use nigh_proto::rules::{HeaderBlock, Redirect};
use serde::Serialize;

use crate::{
    cli::GlobalArgs,
    console::Console,
    environment::Environment,
    exit::Exit,
    failure::Failure,
    push::{WalkOptions, folder, walk},
    site_file::FoundSite,
    site_rules, units,
};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The folder
    dir: Option<PathBuf>,
    /// Warnings are mistakes too
    #[arg(long)]
    strict: bool,
}

/// The result, as scripts read it.
#[derive(Serialize)]
struct Report<'a> {
    redirects: &'a [Redirect],
    headers: &'a [HeaderBlock],
    warnings: &'a [Notice],
    errors: &'a [Notice],
}

pub(crate) fn run(
    args: &Args,
    global: &GlobalArgs,
    environment: &Environment,
    console: &Console,
) -> Result<Exit, Failure> {
    let config = global.config.as_deref().or(environment.config.as_deref());
    let (dir, FoundSite { file, .. }) = folder(args.dir.as_deref(), config)?;
    // Only to find rules that files shadow: names matter, bytes do not.
    let options = WalkOptions { ignore: file.site.ignore.clone(), allow_case_collisions: true };
    let (manifest, refused) = match walk(&dir, &options) {
        Ok(files) => (walk::names(&files), None),
        Err(failure) if failure.code.as_deref() == Some("folder_empty") => (None, None),
        Err(failure) => (None, Some(failure)),
    };
    let parsed = site_rules::read(&dir, &file, manifest.as_ref())?;
    print(&parsed, console);
    if let Some(failure) = refused {
        return Err(failure);
    }
    let is_strict = args.strict || file.rules.strict;
    let is_wrong = !parsed.errors.is_empty() || (is_strict && !parsed.warnings.is_empty());
    Ok(if is_wrong { Exit::Invalid } else { Exit::Ok })
}

fn print(parsed: &Parsed, console: &Console) {
    let Parsed { rules, warnings, errors } = parsed;
    let report = Report { redirects: &rules.redirects, headers: &rules.headers, warnings, errors };
    console.result(&report, |report| {
        let errors =
            report.errors.iter().map(|notice| format!("error: {}", site_rules::line(notice)));
        let warnings =
            report.warnings.iter().map(|notice| format!("warning: {}", site_rules::line(notice)));
        let summary = format!(
            "{}, {}: {}, {}",
            units::count(report.redirects.len() as u64, "redirect", "redirects"),
            units::count(report.headers.len() as u64, "header block", "header blocks"),
            units::count(report.errors.len() as u64, "error", "errors"),
            units::count(report.warnings.len() as u64, "warning", "warnings"),
        );
        errors.chain(warnings).chain([summary]).collect::<Vec<_>>().join("\n")
    });
}
