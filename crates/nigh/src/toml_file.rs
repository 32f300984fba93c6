//! How is a TOML file read, and what is said when a key is not known?

use std::path::Path;

use serde::de::DeserializeOwned;

use crate::{exit::Exit, failure::Failure, suggest};

/// Reads `path` as a `T`.
pub(crate) fn read<T: DeserializeOwned>(path: &Path) -> Result<T, Failure> {
    let text = std::fs::read_to_string(path).map_err(|error| {
        Failure::new(Exit::Usage, format!("{} cannot be read", path.display())).caused_by(&error)
    })?;
    parse(&text, path)
}

/// Reads `text` as a `T`; `path` is only named.
pub(crate) fn parse<T: DeserializeOwned>(text: &str, path: &Path) -> Result<T, Failure> {
    toml::from_str(text).map_err(|error| invalid(text, path, &error))
}

fn invalid(text: &str, path: &Path, error: &toml::de::Error) -> Failure {
    let line = error.span().map(|span| 1 + text[..span.start].matches('\n').count());
    let place = line
        .map_or_else(|| path.display().to_string(), |line| format!("{}:{line}", path.display()));
    let failure = Failure::new(Exit::Invalid, format!("{place} is not valid")).why(error.message());
    match unknown_key(error.message()) {
        Some((key, known)) => {
            let failure = failure.code("unknown_key");
            match suggest::did_you_mean(key, known) {
                Some(hint) => failure.hint(hint),
                None => {
                    failure.hint("remove the key; a key that does nothing is refused on purpose")
                }
            }
        }
        None => failure,
    }
}

/// The key and the known ones, from serde's message: unknown field `a`, expected one of `b`, `c`.
fn unknown_key(message: &str) -> Option<(&str, Vec<&str>)> {
    let rest = message.strip_prefix("unknown field `")?;
    let (key, rest) = rest.split_once('`')?;
    Some((key, rest.split('`').skip(1).step_by(2).collect()))
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Sample {
        #[expect(dead_code, reason = "only its name matters")]
        state_dir: String,
        #[serde(default)]
        #[expect(dead_code, reason = "only its name matters")]
        listen: Option<String>,
    }

    fn failure(text: &str) -> Failure {
        parse::<Sample>(text, Path::new("edge.toml")).unwrap_err()
    }

    #[test]
    fn an_unknown_key_is_refused_with_its_line_and_a_suggestion() {
        let failure = failure("state_dir = \"/s\"\nlisten_on = \"x\"\n");
        assert_eq!(&*failure.what, "edge.toml:2 is not valid");
        assert_eq!(failure.hints, ["did you mean listen?"]);
        assert_eq!(failure.exit, Exit::Invalid);
    }

    #[test]
    fn broken_toml_is_refused_with_its_line() {
        assert_eq!(&*failure("state_dir = \"/s\"\n= 3").what, "edge.toml:2 is not valid");
    }

    #[test]
    fn a_missing_key_is_named() {
        assert!(failure("listen = \"x\"").why[0].contains("state_dir"));
    }
}
