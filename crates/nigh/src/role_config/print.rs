//! A configuration as a file, every key with what it means.

use toml::{Table, Value};

use super::{
    RoleConfig,
    keys::{Key, Kind},
};

/// The configuration that applies, as a TOML file that reads back as the same.
pub(crate) fn effective<C: RoleConfig>(config: &C) -> Result<String, toml::ser::Error> {
    let shown = Table::try_from(config)?;
    let mut out = String::new();
    // Keys with a value of their own tell the default beside it.
    let defaults = defaults::<C>(&shown).unwrap_or_default();
    for key in C::KEYS {
        match key.kind {
            Kind::Table => table(&mut out, key),
            Kind::List => list(&mut out, key, C::KEYS, &shown)?,
            Kind::Value | Kind::Needed(_) | Kind::Example(_) => {
                if !is_in_list(key, C::KEYS) {
                    let default = find(&defaults, key.path);
                    value(&mut out, key, find(&shown, key.path), default);
                }
            }
        }
    }
    Ok(out)
}

/// A file to begin with: examples of what is needed, defaults of all else.
pub(crate) fn template<C: RoleConfig>() -> Option<C> {
    let lines = C::KEYS.iter().filter_map(|key| match key.kind {
        Kind::Needed(example) => Some(format!("{} = {example}\n", key.path)),
        _ => None,
    });
    toml::from_str(&lines.collect::<String>()).ok()
}

/// Every default, made by the role itself from the values that it needs.
fn defaults<C: RoleConfig>(shown: &Table) -> Option<Table> {
    let lines = C::KEYS.iter().filter_map(|key| match key.kind {
        Kind::Needed(_) => Some(format!("{} = {}\n", key.path, find(shown, key.path)?)),
        _ => None,
    });
    let config: C = toml::from_str(&lines.collect::<String>()).ok()?;
    Table::try_from(&config).ok()
}

fn table(out: &mut String, key: &Key) {
    out.push_str(&format!("\n# {}\n[{}]\n", key.means, key.path));
}

fn value(out: &mut String, key: &Key, shown: Option<&Value>, default: Option<&Value>) {
    let name = last(key.path);
    let is_default = matches!(key.kind, Kind::Needed(_) | Kind::Example(_)) || shown == default;
    match default.filter(|_| !is_default) {
        Some(default) => out.push_str(&format!("# {} Default: {default}\n", key.means)),
        None => out.push_str(&format!("# {}\n", key.means)),
    }
    match (shown, key.kind) {
        (Some(shown), _) => out.push_str(&format!("{name} = {shown}\n")),
        (None, Kind::Example(example)) => out.push_str(&format!("# {name} = {example}\n")),
        (None, _) => {}
    }
}

/// A pattern of the table in comments, then every one that there is.
fn list(out: &mut String, key: &Key, keys: &[Key], shown: &Table) -> Result<(), toml::ser::Error> {
    out.push_str(&format!("\n# {}\n# [[{}]]\n", key.means, key.path));
    for inner in keys.iter().filter(|inner| parent(inner.path) == key.path) {
        if let Kind::Example(example) = inner.kind {
            let line = format!("{} = {example}", last(inner.path));
            out.push_str(&format!("# {line:<36} # {}\n", inner.means));
        }
    }
    // Lists within lists are shown with the outer one, after the last pattern.
    let root = key.path.split('.').next().unwrap_or_default();
    let is_last = keys.iter().rfind(|key| key.kind == Kind::List && key.path.starts_with(root));
    let Some(value) = shown.get(root).filter(|_| is_last.is_some_and(|last| last.path == key.path))
    else {
        return Ok(());
    };
    if value.as_array().is_some_and(|entries| !entries.is_empty()) {
        let one = Table::from_iter([(root.to_owned(), value.clone())]);
        out.push_str(&format!("\n{}", toml::to_string(&one)?));
    }
    Ok(())
}

fn is_in_list(key: &Key, keys: &[Key]) -> bool {
    keys.iter().any(|list| list.kind == Kind::List && list.path == parent(key.path))
}

fn parent(path: &str) -> &str {
    path.rsplit_once('.').map_or("", |(parent, _)| parent)
}

fn last(path: &str) -> &str {
    path.rsplit('.').next().unwrap_or(path)
}

fn find<'a>(table: &'a Table, path: &str) -> Option<&'a Value> {
    match path.split_once('.') {
        None => table.get(path),
        Some((first, rest)) => find(table.get(first)?.as_table()?, rest),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use nigh_control::ControlConfig;
    use nigh_dns::DnsConfig;
    use nigh_edge::EdgeConfig;

    use super::*;

    /// The keys that the role accepts in the table `path`, from its own words on an unknown one.
    fn accepted<C: RoleConfig>(path: &str) -> BTreeSet<String> {
        let needed = C::KEYS.iter().filter_map(|key| match key.kind {
            Kind::Needed(example) => Some(format!("{} = {example}\n", key.path)),
            _ => None,
        });
        let mut whole: Table = toml::from_str(&needed.collect::<String>()).unwrap();
        insert(&mut whole, C::KEYS, path);
        let Err(error) = toml::from_str::<C>(&toml::to_string(&whole).unwrap()) else {
            panic!("[{path}] accepts any key");
        };
        let message = error.message();
        let known = message.strip_prefix("unknown field `zzz`, expected").expect(message);
        known.split('`').skip(1).step_by(2).map(str::to_owned).collect()
    }

    /// Puts the key `zzz` into the table `path`, which is made.
    fn insert(into: &mut Table, keys: &[Key], path: &str) {
        let mut at = into;
        let mut so_far = String::new();
        for segment in path.split('.').filter(|segment| !segment.is_empty()) {
            so_far = format!("{so_far}{}{segment}", if so_far.is_empty() { "" } else { "." });
            let is_list = keys.iter().any(|key| key.path == so_far && key.kind == Kind::List);
            let empty = Value::Table(Table::new());
            let empty = if is_list { Value::Array(vec![empty]) } else { empty };
            at = match at.entry(segment).or_insert(empty) {
                Value::Array(tables) => tables[0].as_table_mut().unwrap(),
                other => other.as_table_mut().unwrap(),
            };
            // What stands in a list has keys of its own that it needs.
            if is_list && segment == "zones" {
                at.insert("name".to_owned(), "a.test".into());
            }
        }
        at.insert("zzz".to_owned(), 1.into());
    }

    fn every_key_is_described<C: RoleConfig>() {
        let tables = C::KEYS.iter().filter(|key| matches!(key.kind, Kind::Table | Kind::List));
        for path in tables.map(|key| key.path).chain([""]) {
            let described: BTreeSet<String> = C::KEYS
                .iter()
                .filter(|key| parent(key.path) == path)
                .map(|key| last(key.path).to_owned())
                .collect();
            assert_eq!(described, accepted::<C>(path), "[{path}]");
        }
    }

    #[test]
    fn every_key_that_a_role_accepts_is_described_and_no_other() {
        every_key_is_described::<ControlConfig>();
        every_key_is_described::<EdgeConfig>();
        every_key_is_described::<DnsConfig>();
    }

    /// What is printed reads back as the same, with every key in it.
    fn reads_back<C: RoleConfig>(config: &C) -> String {
        let printed = effective(config).unwrap();
        let again: C =
            toml::from_str(&printed).unwrap_or_else(|error| panic!("{error}\n{printed}"));
        assert_eq!(Table::try_from(&again).unwrap(), Table::try_from(config).unwrap());
        for key in C::KEYS {
            assert!(printed.contains(key.means), "{} is not in\n{printed}", key.path);
            assert!(printed.contains(last(key.path)), "{} is not in\n{printed}", key.path);
        }
        printed
    }

    #[test]
    fn what_is_printed_reads_back_as_the_same() {
        reads_back(&template::<ControlConfig>().unwrap());
        reads_back(&template::<EdgeConfig>().unwrap());
        reads_back(&template::<DnsConfig>().unwrap());
        let text = "state_dir = \"/s\"\n[sites]\nkeep_releases = 3\n[[zones]]\nname = \"a.test\"\n\
                    [[zones.records]]\nname = \"@\"\ntype = \"MX\"\n\
                    value = { preference = 1, exchange = \"mx\" }\n\
                    [[networks]]\nnetwork = \"10.0.0.0/8\"\nedge = \"e\"\n";
        let printed = reads_back::<ControlConfig>(&toml::from_str(text).unwrap());
        assert!(printed.contains("Default: 50\nkeep_releases = 3\n"), "{printed}");
    }

    /// Examples that are only comments can be used as they are.
    #[test]
    fn every_example_is_accepted() {
        fn uncommented<C: RoleConfig>() {
            let printed = effective(&template::<C>().unwrap()).unwrap();
            let names: Vec<String> = C::KEYS
                .iter()
                .flat_map(|key| [format!("# {} = ", last(key.path)), format!("# [[{}]]", key.path)])
                .collect();
            let lines = printed.lines().map(|line| {
                match names.iter().any(|name| line.starts_with(name.as_str())) {
                    // A network is at one place only.
                    true if line.starts_with("# edge =") || line.starts_with("# location =") => {
                        line
                    }
                    true => &line[2..],
                    false => line,
                }
            });
            let text = lines.collect::<Vec<_>>().join("\n");
            let config: C = toml::from_str(&text).unwrap_or_else(|error| panic!("{error}\n{text}"));
            assert!(config.wrong().is_none(), "{:?}", config.wrong());
        }
        uncommented::<ControlConfig>();
        uncommented::<EdgeConfig>();
        uncommented::<DnsConfig>();
    }
}
