//! What does the configuration of a role say, and is it one that can work?
//!
//! The roles own their configuration and its defaults. `keys` says what every key means, `print` shows
//! a configuration with that; here a file is read and, when a value cannot work, its line is found.

mod keys;
mod print;

use std::path::Path;

use nigh_control::{ControlConfig, config::InvalidConfig};
use nigh_daemon::{LogConfig, TcpListen, logging};
use nigh_dns::DnsConfig;
use nigh_edge::EdgeConfig;
use serde::{Serialize, de::DeserializeOwned};

use crate::{exit::Exit, failure::Failure, toml_file};

pub(crate) use print::{effective, template};

use keys::{Key, Kind};

/// What every role's configuration has.
pub(crate) trait RoleConfig: DeserializeOwned + Serialize + Send + 'static {
    /// Every key, in the order in which they are printed.
    const KEYS: &'static [Key];

    fn ops(&self) -> &TcpListen;
    fn log(&self) -> &LogConfig;
    fn wrong(&self) -> Option<Wrong>;

    /// Why a file that the configuration names, and that is there, cannot be used.
    fn unusable_file(&self) -> Option<String> {
        None
    }
}

/// A value that cannot work.
#[derive(Debug)]
pub(crate) struct Wrong {
    why: String,
    place: Place,
}

/// Where in a file something is.
#[derive(Debug)]
enum Place {
    /// At this key.
    Key(&'static str),
    /// At the first line with this text.
    Text(String),
}

macro_rules! role_config {
    ($config:ty, $keys:expr, $error:ident => $place:expr $(, $more:item)?) => {
        impl RoleConfig for $config {
            const KEYS: &'static [Key] = $keys;

            fn ops(&self) -> &TcpListen {
                &self.ops.listen
            }

            fn log(&self) -> &LogConfig {
                &self.log
            }

            fn wrong(&self) -> Option<Wrong> {
                if let Err($error) = self.check() {
                    return Some(Wrong { why: $error.to_string(), place: $place });
                }
                let error = logging::check(&self.log).err()?;
                Some(Wrong { why: error.to_string(), place: Place::Key("log.filter") })
            }

            $($more)?
        }
    };
}

role_config!(ControlConfig, keys::CONTROL, error => match &error {
    InvalidConfig::Value { key, .. } => Place::Key(key),
    InvalidConfig::Network { network } | InvalidConfig::Location { network } => {
        Place::Text(format!("\"{network}\""))
    }
    InvalidConfig::Zone { zone, .. } => Place::Text(format!("\"{zone}\"")),
});
role_config!(EdgeConfig, keys::EDGE, error => Place::Key(error.key));
role_config!(DnsConfig, keys::DNS, error => Place::Key(error.key), fn unusable_file(&self) -> Option<String> {
    self.geoip.unusable_file().map(|error| error.to_string())
});

/// Reads and checks a role's configuration.
pub(crate) fn load<C: RoleConfig>(path: &Path, role: &str) -> Result<C, Failure> {
    let text = std::fs::read_to_string(path).map_err(|error| {
        Failure::new(Exit::Usage, format!("{} cannot be read", path.display()))
            .caused_by(&error)
            .hint("name the file: --config FILE")
            .hint(format!("or begin one: nigh serve {role} --print-config > {role}.toml"))
    })?;
    parse(&text, path, role)
}

fn parse<C: RoleConfig>(text: &str, path: &Path, role: &str) -> Result<C, Failure> {
    let config: C = toml_file::parse(text, path).map_err(with_examples::<C>)?;
    let Some(Wrong { why, place }) = config.wrong() else { return Ok(config) };
    let place = match line_of(text, &place) {
        Some(line) => format!("{}:{line}", path.display()),
        None => path.display().to_string(),
    };
    Err(Failure::new(Exit::Invalid, format!("{place} is not valid"))
        .why(why)
        .code("value_invalid")
        .hint(format!("see what keys mean and their defaults: nigh serve {role} --print-config")))
}

/// A missing key's hint, with a value such as the key may have.
fn with_examples<C: RoleConfig>(mut failure: Failure) -> Failure {
    for key in C::KEYS {
        if let Kind::Needed(example) = key.kind {
            let name = key.path.rsplit('.').next().unwrap_or(key.path);
            for hint in &mut failure.hints {
                if *hint == format!("add {name} = …") {
                    *hint = format!("add {name} = {example}    # {}", key.means);
                }
            }
        }
    }
    failure
}

/// The line, counted from 1, of a place in a TOML file.
fn line_of(text: &str, place: &Place) -> Option<usize> {
    let found = match place {
        // A rule about two keys names both; the first is shown.
        Place::Key(keys) => {
            let key = keys.split([' ', ',']).next().unwrap_or_default();
            toml_file::keys(text).position(|found| found.as_deref() == Some(key))
        }
        Place::Text(part) => text.lines().position(|line| line.contains(part.as_str())),
    };
    found.map(|index| index + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failure<C: RoleConfig + std::fmt::Debug>(text: &str) -> Failure {
        parse::<C>(text, Path::new("x.toml"), "control").unwrap_err()
    }

    #[test]
    fn a_value_that_cannot_work_is_shown_with_its_line() {
        let control = "state_dir = \"/s\"\n";
        for (more, line, word) in [
            ("[sites]\nkeep_releases = 0\n", 3, "sites.keep_releases"),
            ("sites.keep_releases = 0\n", 2, "sites.keep_releases"),
            ("[log]\nfilter = \"in=fo=x\"\n", 3, "log filter"),
            ("[database]\nurl = \"mysql://x\"\n", 3, "sqlite:"),
            (
                "[[networks]]\nregion = \"a\"\nnetwork = \"10.0.0.0/8\"\nedge = \"b\"\n",
                4,
                "exactly one",
            ),
            ("[[zones]]\nname = \"a.test\"\nname_servers = [\"..\"]\n", 3, "a.test"),
        ] {
            let failure = failure::<ControlConfig>(&format!("{control}{more}"));
            assert_eq!(&*failure.what, format!("x.toml:{line} is not valid"), "{failure:?}");
            assert!(failure.why[0].contains(word), "{failure:?}");
            assert!(!failure.hints.is_empty());
        }
    }

    #[test]
    fn a_missing_key_is_shown_with_an_example() {
        let failure = failure::<ControlConfig>("[sites]\n");
        assert!(failure.hints[0].starts_with("add state_dir = \"/var/lib/nigh/control\""));
    }

    #[test]
    fn a_rule_about_two_keys_is_shown_at_the_first() {
        let edge = "state_dir = \"/s\"\nname = \"fra1\"\nregion = \"eu\"\nlatitude = 95\n\
                    longitude = 8\n[control]\nurl = \"https://c:8444\"\n";
        assert_eq!(&*failure::<EdgeConfig>(edge).what, "x.toml:4 is not valid");
    }
}
