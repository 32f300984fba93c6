//! What would a push change?

use nigh_proto::Manifest;
use serde::Serialize;

use super::Push;
use crate::{exit::Exit, failure::Failure, units};

/// The difference between what is live and what lies here.
#[derive(Debug, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Difference {
    pub(crate) new: Vec<String>,
    pub(crate) changed: Vec<String>,
    pub(crate) removed: Vec<String>,
    pub(crate) unchanged: u64,
    /// The size of all new and changed files.
    pub(crate) bytes: u64,
}

/// How many paths of each kind people are shown.
const PATHS_SHOWN: usize = 10;

/// Compares a folder with what is live.
pub(crate) fn compare(live: &Manifest, local: &Manifest) -> Difference {
    let mut difference = Difference::default();
    for entry in local.entries() {
        let path = entry.path.to_string();
        match live.get(entry.path.as_str()) {
            Some(old) if old.digest == entry.digest => {
                difference.unchanged += 1;
                continue;
            }
            Some(_) => difference.changed.push(path),
            None => difference.new.push(path),
        }
        difference.bytes += entry.size_bytes;
    }
    let gone = live.entries().iter().filter(|entry| local.get(entry.path.as_str()).is_none());
    difference.removed = gone.map(|entry| entry.path.to_string()).collect();
    difference
}

/// Prints what a push of `local` would change.
pub(crate) async fn run(push: &Push<'_>, local: &Manifest) -> Result<Exit, Failure> {
    let site = push.app.settings.site()?;
    let live = match push.app.client.manifest(&site, "active").await {
        Ok(text) => Manifest::parse(&text).map_err(|error| {
            Failure::new(Exit::Failure, "what is live could not be read").caused_by(&error)
        })?,
        // Nothing is live yet: everything is new. A site that is not there is a mistake.
        Err(error) if error.status() == Some(404) && error.code() != Some("site_unknown") => {
            Manifest::default()
        }
        Err(error) => {
            let what = format!("what is live on {site} is not known");
            return Err(Failure::of_call(what, &error));
        }
    };
    let difference = compare(&live, local);
    push.app.console.result(&difference, describe);
    Ok(Exit::Ok)
}

fn describe(difference: &Difference) -> String {
    let Difference { new, changed, removed, unchanged, bytes } = difference;
    let mut lines = Vec::new();
    for (mark, paths) in [("+", new), ("~", changed), ("-", removed)] {
        lines.extend(paths.iter().take(PATHS_SHOWN).map(|path| format!("{mark} {path}")));
        if paths.len() > PATHS_SHOWN {
            lines.push(format!(
                "{mark} … and {} more (all of them with --json)",
                paths.len() - PATHS_SHOWN
            ));
        }
    }
    lines.push(format!(
        "{} new, {} changed, {} removed, {unchanged} unchanged; {} of files would be new to visitors",
        new.len(),
        changed.len(),
        removed.len(),
        units::bytes(*bytes),
    ));
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use nigh_proto::{Digest, Entry};

    use super::*;

    fn manifest(files: &[(&str, &str)]) -> Manifest {
        let entry = |(path, text): &(&str, &str)| Entry {
            path: path.parse().unwrap(),
            digest: Digest::of(text.as_bytes()),
            size_bytes: text.len() as u64,
            content_type: None,
        };
        Manifest::new(files.iter().map(entry).collect()).unwrap()
    }

    #[test]
    fn new_changed_and_removed_files_are_told_apart() {
        let live = manifest(&[("a", "1"), ("b", "1"), ("c", "1")]);
        let local = manifest(&[("a", "1"), ("b", "22"), ("d", "333")]);
        let difference = compare(&live, &local);
        assert_eq!(difference.new, ["d"]);
        assert_eq!(difference.changed, ["b"]);
        assert_eq!(difference.removed, ["c"]);
        assert_eq!((difference.unchanged, difference.bytes), (1, 5));
    }
}
