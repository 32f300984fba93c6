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
    parse_with(text, path, &[])
}

/// The same; `instead` says of keys that people may expect, by their whole name, what to do instead.
pub(crate) fn parse_with<T: DeserializeOwned>(
    text: &str,
    path: &Path,
    instead: &[(&str, &str)],
) -> Result<T, Failure> {
    toml::from_str(text).map_err(|error| invalid(text, path, &error, instead))
}

fn invalid(text: &str, path: &Path, error: &toml::de::Error, instead: &[(&str, &str)]) -> Failure {
    let start = error.span().map(|span| span.start);
    let line = start.map(|start| 1 + text[..start].matches('\n').count());
    let place = line
        .map_or_else(|| path.display().to_string(), |line| format!("{}:{line}", path.display()));
    let failure = Failure::new(Exit::Invalid, format!("{place} is not valid"));
    let key = line.and_then(|line| keys(text).nth(line - 1).flatten());
    let message = error.message();
    if let Some((unknown, known)) = unknown_key(message) {
        let failure = failure.why(message).code("unknown_key");
        let known_instead = instead.iter().find(|(name, _)| key.as_deref() == Some(name));
        if let Some((_, hint)) = known_instead {
            return failure.hint(*hint);
        }
        return match suggest::did_you_mean(unknown, known) {
            Some(hint) => failure.hint(hint),
            None => failure.hint("remove the key; a key that does nothing is refused on purpose"),
        };
    }
    if let Some(missing) = message.strip_prefix("missing field `") {
        let missing = missing.split('`').next().unwrap_or_default();
        return failure
            .why(format!("the key {missing} is missing"))
            .hint(format!("add {missing} = …"));
    }
    let failure = match &key {
        Some(key) => failure.why(format!("{key}: {message}")),
        None => failure.why(message),
    };
    if let Some((word, known)) = unknown(message, "unknown variant `") {
        let all = || format!("write one of {}", known.join(", "));
        let hint = suggest::did_you_mean(word, known.iter().copied()).unwrap_or_else(all);
        return failure.hint(hint);
    }
    if message.starts_with("duplicate key") {
        return failure.hint("keep one of the two");
    }
    key.as_deref().and_then(unit).into_iter().fold(failure, Failure::hint)
}

/// What the value of a key should look like, told by the unit in its name.
fn unit(key: &str) -> Option<&'static str> {
    let units = [
        ("_ms", "write a whole number of milliseconds: 1 h is 3600000"),
        ("_s", "write a whole number of seconds"),
        ("_bytes", "write a whole number of bytes: 1 MiB is 1048576"),
        ("listen", "write \"IP:PORT\", such as \"127.0.0.1:8443\""),
    ];
    units.into_iter().find(|(end, _)| key.ends_with(end)).map(|(_, hint)| hint)
}

/// For each line the whole name of the key that is set there, or of the table that begins there.
pub(crate) fn keys(text: &str) -> impl Iterator<Item = Option<String>> {
    let mut table = String::new();
    text.lines().map(move |line| {
        let line = line.trim();
        if let Some(name) = line.strip_prefix('[').and_then(|rest| rest.split(']').next()) {
            table = name.trim_start_matches('[').trim().to_owned();
            return Some(table.clone());
        }
        let (key, _) = line.split_once('=')?;
        let key = key.trim();
        let is_bare = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
        if key.is_empty() || !key.chars().all(is_bare) {
            return None;
        }
        Some(if table.is_empty() { key.to_owned() } else { format!("{table}.{key}") })
    })
}

/// The key and the known ones, from serde's message: unknown field `a`, expected one of `b`, `c`.
fn unknown_key(message: &str) -> Option<(&str, Vec<&str>)> {
    unknown(message, "unknown field `")
}

fn unknown<'m>(message: &'m str, begins: &str) -> Option<(&'m str, Vec<&'m str>)> {
    let rest = message.strip_prefix(begins)?;
    let (word, rest) = rest.split_once('`')?;
    Some((word, rest.split('`').skip(1).step_by(2).collect()))
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
    fn a_word_that_is_not_one_of_several_is_refused_with_those() {
        #[derive(Debug, Deserialize)]
        struct Log {
            #[expect(dead_code, reason = "only its words matter")]
            format: Format,
        }
        #[derive(Debug, Deserialize)]
        #[serde(rename_all = "snake_case")]
        enum Format {
            Text,
            Json,
        }
        for (word, hint) in [("jsno", "did you mean json?"), ("xml", "write one of text, json")] {
            let text = format!("format = \"{word}\"\n");
            let failure = parse::<Log>(&text, Path::new("x.toml")).unwrap_err();
            assert_eq!(failure.hints, [hint]);
            assert!(failure.why[0].starts_with("format: "), "{failure:?}");
        }
        assert_eq!(failure("listen = \"a\"\nlisten = \"b\"").hints, ["keep one of the two"]);
    }

    #[test]
    fn a_missing_key_is_named() {
        let failure = failure("listen = \"x\"");
        assert_eq!(failure.why, ["the key state_dir is missing"]);
        assert_eq!(failure.hints, ["add state_dir = …"]);
    }

    #[test]
    fn a_value_of_the_wrong_kind_is_refused_with_its_key_and_its_unit() {
        #[derive(Debug, Deserialize)]
        struct Outer {
            #[expect(dead_code, reason = "only its name matters")]
            sites: Inner,
        }
        #[derive(Debug, Deserialize)]
        struct Inner {
            #[expect(dead_code, reason = "only its name matters")]
            grace_ms: u64,
        }
        let text = "# one\n[sites]\ngrace_ms = \"1h\"\n";
        let failure = parse::<Outer>(text, Path::new("control.toml")).unwrap_err();
        assert_eq!(&*failure.what, "control.toml:3 is not valid");
        assert!(failure.why[0].starts_with("sites.grace_ms: invalid type"), "{failure:?}");
        assert!(failure.hints[0].contains("milliseconds"), "{failure:?}");
    }
}
