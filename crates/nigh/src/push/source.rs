//! Which commit is this folder, if it lies in a checkout?

use std::{path::Path, process::Stdio, time::Duration};

use nigh_proto::api::SourceView;
use tokio::process::Command;

use crate::environment::Ci;

/// How long git may take; the source is a note, and no push waits for it.
const GIT_TIMEOUT: Duration = Duration::from_secs(2);

/// What git or the CI system says; `None` when neither knows.
pub(crate) async fn source(dir: &Path, ci: &Ci) -> Option<SourceView> {
    let git = tokio::time::timeout(GIT_TIMEOUT, status(dir)).await.ok().flatten();
    let git = git.and_then(|text| parse(&text));
    match (git, ci) {
        // A CI system checks out a commit without its branch.
        (Some(git), ci) => {
            Some(SourceView { branch: git.branch.or_else(|| ci.branch.clone()), ..git })
        }
        (None, Ci { commit: Some(commit), branch, .. }) => Some(SourceView {
            commit: Some(commit.clone()),
            branch: branch.clone(),
            is_dirty: false,
        }),
        (None, _) => None,
    }
}

async fn status(dir: &Path) -> Option<String> {
    let mut git = Command::new("git");
    git.arg("-C").arg(dir);
    // Untracked files of this folder count; those elsewhere in the checkout are not pushed.
    git.args(["--no-optional-locks", "status", "--porcelain=v2", "--branch", "--", "."]);
    git.stdin(Stdio::null()).stderr(Stdio::null()).kill_on_drop(true);
    let output = git.output().await.ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Reads `git status --porcelain=v2 --branch`.
fn parse(text: &str) -> Option<SourceView> {
    let header = |name: &str| {
        text.lines().find_map(|line| line.strip_prefix("# ")?.strip_prefix(name)?.strip_prefix(' '))
    };
    let commit = header("branch.oid").filter(|oid| *oid != "(initial)")?;
    Some(SourceView {
        commit: Some(commit.to_owned()),
        branch: header("branch.head").filter(|head| *head != "(detached)").map(str::to_owned),
        is_dirty: text.lines().any(|line| !line.starts_with('#')),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_git_prints_is_read() {
        let clean = parse("# branch.oid abc\n# branch.head main\n").unwrap();
        assert_eq!((clean.commit.as_deref(), clean.branch.as_deref()), (Some("abc"), Some("main")));
        assert!(!clean.is_dirty);
        let detached = parse("# branch.oid abc\n# branch.head (detached)\n? new.html\n").unwrap();
        assert_eq!(detached.branch, None);
        assert!(detached.is_dirty);
        assert_eq!(parse("# branch.oid (initial)\n# branch.head main\n"), None);
        assert_eq!(parse(""), None);
    }
}
