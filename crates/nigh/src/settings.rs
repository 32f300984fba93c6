//! Which of flag, environment, `nigh.toml` and user configuration wins?
//!
//! In that order, for each value by itself.

use std::{path::PathBuf, time::Duration};

use nigh_client::{Client, ClientConfig, Trust};
use nigh_proto::SiteName;

use crate::{
    cli::GlobalArgs,
    environment::Environment,
    exit::Exit,
    failure::Failure,
    user_config::{Profile, UserConfig},
};

/// Where control listens unless somebody says otherwise.
const DEFAULT_API_URL: &str = "https://127.0.0.1:8443";

/// Everything that commands about a control need to know.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    pub(crate) api_url: String,
    pub(crate) site: Option<String>,
    token: Option<String>,
    token_file: Option<PathBuf>,
    ca_file: Option<PathBuf>,
    pub(crate) timeout: Option<Duration>,
    pub(crate) is_yes: bool,
    pub(crate) may_ask: bool,
}

impl Settings {
    /// `site_file` is the site's name in `nigh.toml`.
    pub(crate) fn new(
        args: &GlobalArgs,
        environment: &Environment,
        site_file: Option<&str>,
    ) -> Result<Self, Failure> {
        let profile = args.profile.as_deref().or(environment.profile.as_deref());
        let user = UserConfig::read(environment.config_home.as_deref())?.profile(profile)?;
        Ok(Self::resolve(args, environment, site_file, user))
    }

    fn resolve(
        args: &GlobalArgs,
        environment: &Environment,
        site_file: Option<&str>,
        user: Profile,
    ) -> Self {
        let site_file = site_file.map(str::to_owned);
        let first_url = args.api_url.clone().or_else(|| environment.api_url.clone());
        // A token file that was named on the command line is nearer than a token of the environment.
        let token = environment.token.clone().filter(|_| args.token_file.is_none());
        let token_file =
            args.token_file.clone().or_else(|| environment.token_file.clone()).or(user.token_file);
        Self {
            api_url: first_url
                .or(user.api_url.map(|urls| urls.to_string()))
                .unwrap_or_else(|| DEFAULT_API_URL.to_owned()),
            site: args
                .site
                .clone()
                .or_else(|| environment.site.clone())
                .or(site_file)
                .or(user.site),
            token,
            token_file,
            ca_file: args.ca_file.clone().or_else(|| environment.ca_file.clone()).or(user.ca_file),
            timeout: args.timeout,
            is_yes: args.yes,
            may_ask: environment.is_stdin_terminal
                && !environment.ci.is_ci
                && !args.non_interactive,
        }
    }

    /// A client of the control that is meant.
    pub(crate) fn client(&self) -> Result<Client, Failure> {
        let trust = match &self.ca_file {
            None => Trust::Platform,
            Some(path) => Trust::Only(std::fs::read(path).map_err(|error| {
                Failure::new(Exit::Usage, format!("the CA file {} cannot be read", path.display()))
                    .caused_by(&error)
                    .hint("check NIGH_CA_FILE, --ca-file or ca_file in the user configuration")
            })?),
        };
        let config = ClientConfig {
            api_url: self.api_url.clone(),
            token: self.token()?,
            trust,
            user_agent: concat!("nigh/", env!("CARGO_PKG_VERSION")).to_owned(),
        };
        Client::new(&config).map_err(|error| Failure::of_config(&error))
    }

    fn token(&self) -> Result<Option<String>, Failure> {
        if let Some(token) = &self.token {
            return Ok(Some(token.trim().to_owned()));
        }
        let Some(path) = &self.token_file else { return Ok(None) };
        let text = std::fs::read_to_string(path).map_err(|error| {
            Failure::new(Exit::Auth, format!("the token file {} cannot be read", path.display()))
                .caused_by(&error)
                .hint("check NIGH_TOKEN_FILE, --token-file or token_file in the user configuration")
        })?;
        Ok(Some(text.trim().to_owned()))
    }

    /// The site that a command is about.
    pub(crate) fn site(&self) -> Result<SiteName, Failure> {
        let name = self.site.as_deref().ok_or_else(|| {
            Failure::new(Exit::Usage, "no site was named")
                .why("neither --site nor NIGH_SITE nor [site] name in nigh.toml is set")
                .hint("name one: --site NAME; nigh site list shows those there are")
        })?;
        site_name(name)
    }

    /// Asks before something is lost. `--yes` answers; without a terminal the answer is no.
    pub(crate) fn confirm(&self, question: &str) -> Result<(), Failure> {
        if self.is_yes {
            return Ok(());
        }
        if !self.may_ask {
            return Err(Failure::new(
                Exit::Usage,
                format!("{question} Nobody is there to confirm it"),
            )
            .hint("say --yes when it is meant"));
        }
        eprint!("{question} Type yes to go on: ");
        let mut answer = String::new();
        let _ = std::io::stdin().read_line(&mut answer);
        match answer.trim() {
            "yes" | "y" => Ok(()),
            _ => {
                Err(Failure::new(Exit::Interrupted, "nothing was done").why("it was not confirmed"))
            }
        }
    }
}

/// Reads the name of a site.
pub(crate) fn site_name(name: &str) -> Result<SiteName, Failure> {
    name.parse().map_err(|error: nigh_proto::names::InvalidSiteName| {
        Failure::new(Exit::Usage, format!("{name:?} cannot be a site")).caused_by(&error)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_source_wins_for_each_value_by_itself() {
        let user = Profile {
            api_url: Some("https://user".parse().unwrap()),
            site: Some("user".to_owned()),
            ca_file: Some("/user/ca".into()),
            ..Profile::default()
        };
        let mut args = GlobalArgs::default();
        let mut environment = Environment::default();
        let site = |args: &GlobalArgs, environment: &Environment, file| {
            Settings::resolve(args, environment, file, user.clone()).site.unwrap()
        };
        assert_eq!(site(&args, &environment, None), "user");
        assert_eq!(site(&args, &environment, Some("file")), "file");
        environment.site = Some("environment".to_owned());
        assert_eq!(site(&args, &environment, Some("file")), "environment");
        args.site = Some("flag".to_owned());
        assert_eq!(site(&args, &environment, Some("file")), "flag");

        let settings = Settings::resolve(&args, &environment, None, user);
        assert_eq!(settings.api_url, "https://user");
        assert_eq!(settings.ca_file, Some("/user/ca".into()));
    }

    #[test]
    fn a_token_file_on_the_command_line_wins_over_a_token_in_the_environment() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("token");
        std::fs::write(&file, "nigh_pat_file\n").unwrap();
        let environment =
            Environment { token: Some("nigh_pat_env".to_owned()), ..Environment::default() };
        let mut args = GlobalArgs::default();
        let token = |args: &GlobalArgs| {
            Settings::resolve(args, &environment, None, Profile::default()).token().unwrap()
        };
        assert_eq!(token(&args).as_deref(), Some("nigh_pat_env"));
        args.token_file = Some(file);
        assert_eq!(token(&args).as_deref(), Some("nigh_pat_file"));
    }
}
