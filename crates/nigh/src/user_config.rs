//! What has this user set for all sites? `$XDG_CONFIG_HOME/nigh/config.toml`.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use nigh_client::ControlUrls;
use serde::Deserialize;

use crate::{exit::Exit, failure::Failure, suggest, toml_file};

/// The file: named profiles, and which of them applies.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct UserConfig {
    /// The profile that applies when nothing else names one.
    profile: Option<String>,
    profiles: BTreeMap<String, Profile>,
}

/// One control and how to reach it. Relative paths are relative to the file.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Profile {
    /// One address of control, or those of several controls.
    pub(crate) api_url: Option<ControlUrls>,
    pub(crate) token_file: Option<PathBuf>,
    pub(crate) ca_file: Option<PathBuf>,
    pub(crate) site: Option<String>,
}

impl UserConfig {
    /// Reads the file below `config_home`, if there is one.
    pub(crate) fn read(config_home: Option<&Path>) -> Result<Self, Failure> {
        let path = config_home.map(|home| home.join("nigh").join("config.toml"));
        let Some(path) = path.filter(|path| path.exists()) else { return Ok(Self::default()) };
        let mut config: UserConfig = toml_file::read(&path)?;
        let folder = path.parent().unwrap_or(Path::new("/"));
        for profile in config.profiles.values_mut() {
            for file in [&mut profile.token_file, &mut profile.ca_file].into_iter().flatten() {
                *file = folder.join(&*file);
            }
        }
        Ok(config)
    }

    /// The profile called `name`, or the one that the file names, or `default`, or an empty one.
    pub(crate) fn profile(&self, name: Option<&str>) -> Result<Profile, Failure> {
        let named = name.or(self.profile.as_deref());
        match self.profiles.get(named.unwrap_or("default")) {
            Some(profile) => Ok(profile.clone()),
            None => match named {
                None => Ok(Profile::default()),
                Some(name) => Err(self.no_profile(name)),
            },
        }
    }

    fn no_profile(&self, name: &str) -> Failure {
        let known = self.profiles.keys().map(String::as_str);
        let failure = Failure::new(Exit::Usage, format!("there is no profile {name:?}"))
            .why("the user configuration has no [profiles] table of that name");
        match suggest::did_you_mean(name, known) {
            Some(hint) => failure.hint(hint),
            None => failure.hint("see the file nigh/config.toml below ~/.config"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn profiles_are_found_by_name_and_relative_files_beside_the_configuration() {
        let home = tempfile::tempdir().unwrap();
        let dir = home.path().join("nigh");
        std::fs::create_dir(&dir).unwrap();
        let text = "profile = \"work\"\n[profiles.work]\napi_url = \"https://a\"\ntoken_file = \"t\"\n[profiles.home]";
        std::fs::write(dir.join("config.toml"), text).unwrap();

        let config = UserConfig::read(Some(home.path())).unwrap();
        let work = config.profile(None).unwrap();
        assert_eq!(work.api_url, Some("https://a".parse().unwrap()));
        let text = "[profiles.work]\napi_url = [\"https://a\", \"https://b\"]";
        let several: UserConfig = toml::from_str(text).unwrap();
        assert_eq!(several.profiles["work"].api_url, Some("https://a,https://b".parse().unwrap()));
        assert_eq!(work.token_file, Some(dir.join("t")));
        assert_eq!(config.profile(Some("home")).unwrap(), Profile::default());
        assert_eq!(config.profile(Some("hmoe")).unwrap_err().hints, ["did you mean home?"]);
    }

    #[test]
    fn no_file_is_an_empty_profile() {
        let home = tempfile::tempdir().unwrap();
        let config = UserConfig::read(Some(home.path())).unwrap();
        assert_eq!(config.profile(None).unwrap(), Profile::default());
    }
}
