//! `nigh rollback`: the release before is live again. No bytes move.

use nigh_proto::ReleaseId;

use super::{App, release};
use crate::{exit::Exit, failure::Failure, follow::Wait};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The release to go back to: its id, or the end of it; the one before otherwise
    release: Option<String>,
    /// What to wait for
    #[arg(long, value_enum, default_value_t)]
    wait: Wait,
}

pub(crate) async fn run(args: &Args, app: &App<'_>) -> Result<Exit, Failure> {
    let site = app.settings.site()?;
    let what = || format!("{site} was not rolled back");
    let target = match &args.release {
        None => None,
        Some(name) => match name.parse::<ReleaseId>() {
            Ok(id) => Some(id),
            // An end of an id: ask control which release it is.
            Err(_) => match app.client.release(&site, name).await {
                Ok(view) => Some(view.id),
                Err(error) => return Err(release::failure_of(&site, what(), &error, app).await),
            },
        },
    };
    match app.client.roll_back(&site, target).await {
        Ok(view) => release::report(&site, view, args.wait, app).await,
        Err(error) => Err(release::failure_of(&site, what(), &error, app).await),
    }
}
