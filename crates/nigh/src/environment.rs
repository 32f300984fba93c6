//! Which environment variables matter, and what do they say?
//!
//! The only place that reads the environment; everything else is given this value.

use std::{
    ffi::OsString,
    io::IsTerminal,
    path::{Path, PathBuf},
};

/// Every variable that nigh looks at.
#[derive(Clone, Debug, Default)]
pub(crate) struct Environment {
    pub(crate) api_url: Option<String>,
    pub(crate) token: Option<String>,
    pub(crate) token_file: Option<PathBuf>,
    pub(crate) ca_file: Option<PathBuf>,
    pub(crate) site: Option<String>,
    pub(crate) profile: Option<String>,
    pub(crate) config: Option<PathBuf>,
    pub(crate) log: Option<String>,
    /// `NO_COLOR` is set to anything but the empty string.
    pub(crate) no_color: bool,
    pub(crate) clicolor_force: bool,
    pub(crate) ci: Ci,
    pub(crate) config_home: Option<PathBuf>,
    pub(crate) cache_home: Option<PathBuf>,
    pub(crate) notify_socket: Option<OsString>,
    pub(crate) watchdog_usec: Option<String>,
    pub(crate) watchdog_pid: Option<String>,
    pub(crate) listen_fd_names: Option<String>,
    pub(crate) is_stdin_terminal: bool,
    pub(crate) is_stderr_terminal: bool,
}

/// What a CI system says of the commit that it builds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Ci {
    pub(crate) is_ci: bool,
    pub(crate) commit: Option<String>,
    pub(crate) branch: Option<String>,
}

/// Help for `nigh help environment`.
pub(crate) const VARIABLES: [(&str, &str); 13] = [
    ("NIGH_API_URL", "where control's API is: https://HOST:PORT"),
    ("NIGH_TOKEN", "the API token"),
    ("NIGH_TOKEN_FILE", "a file with the API token, when NIGH_TOKEN is not set"),
    ("NIGH_CA_FILE", "the authority, in PEM form, that signed control's certificate"),
    ("NIGH_SITE", "the site that commands are about"),
    ("NIGH_PROFILE", "which profile of the user configuration applies"),
    ("NIGH_CONFIG", "the configuration file: nigh.toml, or that of a role"),
    ("NIGH_LOG", "log filter of a role, such as info,nigh_edge=debug"),
    ("NO_COLOR", "no colours when set"),
    ("CLICOLOR_FORCE", "colours even when the output is no terminal"),
    ("CI", "never ask, print no progress bars"),
    ("XDG_CONFIG_HOME", "where nigh/config.toml is; ~/.config otherwise"),
    ("XDG_CACHE_HOME", "where digests of unchanged files are kept; ~/.cache otherwise"),
];

impl Environment {
    pub(crate) fn read() -> Self {
        let home = path("HOME");
        let under_home = |name: &str| home.as_deref().map(|home: &Path| home.join(name));
        Self {
            api_url: text("NIGH_API_URL"),
            token: text("NIGH_TOKEN"),
            token_file: path("NIGH_TOKEN_FILE"),
            ca_file: path("NIGH_CA_FILE"),
            site: text("NIGH_SITE"),
            profile: text("NIGH_PROFILE"),
            config: path("NIGH_CONFIG"),
            log: text("NIGH_LOG"),
            no_color: text("NO_COLOR").is_some(),
            clicolor_force: text("CLICOLOR_FORCE").is_some_and(|value| value != "0"),
            ci: Ci::read(),
            config_home: path("XDG_CONFIG_HOME").or_else(|| under_home(".config")),
            cache_home: path("XDG_CACHE_HOME").or_else(|| under_home(".cache")),
            notify_socket: std::env::var_os("NOTIFY_SOCKET"),
            watchdog_usec: text("WATCHDOG_USEC"),
            watchdog_pid: text("WATCHDOG_PID"),
            listen_fd_names: text("LISTEN_FDNAMES"),
            is_stdin_terminal: std::io::stdin().is_terminal(),
            is_stderr_terminal: std::io::stderr().is_terminal(),
        }
    }
}

impl Ci {
    /// GitHub, GitLab, Gitea and its kin, Woodpecker, `CircleCI`, Jenkins and Drone.
    fn read() -> Self {
        let first = |names: &[&str]| names.iter().find_map(|name| text(name));
        Self {
            is_ci: text("CI").is_some_and(|value| value != "false"),
            commit: first(&[
                "GITHUB_SHA",
                "CI_COMMIT_SHA",
                "CIRCLE_SHA1",
                "GIT_COMMIT",
                "DRONE_COMMIT",
            ]),
            branch: first(&[
                "GITHUB_HEAD_REF",
                "GITHUB_REF_NAME",
                "CI_COMMIT_BRANCH",
                "CIRCLE_BRANCH",
                "GIT_BRANCH",
                "DRONE_BRANCH",
            ]),
        }
    }
}

/// A variable that is set, UTF-8 and not empty.
fn text(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

fn path(name: &str) -> Option<PathBuf> {
    std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from)
}
