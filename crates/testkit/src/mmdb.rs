//! How is a GeoIP database made, when the real ones may not be shipped?
//!
//! Writes the MaxMind DB format 2.0 with records in the shape of GeoLite2-City: a binary tree over
//! the bits of an address, IPv4 at `::/96`, whose leaves point into a data section. Autonomous
//! systems, a database of their own at MaxMind, lie in the same records.
//! The format: <https://maxmind.github.io/MaxMind-DB/>.

mod tree;
mod value;

use std::{collections::HashMap, io::Write, path::Path};

use anyhow::{Context, ensure};
use ipnet::IpNet;

use tree::Tree;
use value::Value;

/// What the database knows about one network; empty text and `None` are left out.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Record {
    /// English name.
    pub city: String,
    /// ISO 3166-1 alpha-2, upper case.
    pub country_iso: String,
    /// Two letters as MaxMind writes them: AF, AN, AS, EU, NA, OC, SA.
    pub continent: String,
    /// Degrees, north and east positive.
    pub latitude: f64,
    pub longitude: f64,
    /// Autonomous system number.
    pub asn: Option<u32>,
    /// Who runs the autonomous system.
    pub organization: String,
}

/// How wide a pointer in the tree is, which bounds the size of the database.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RecordSize {
    Bits24,
    Bits28,
}

/// Sixteen zero bytes part the tree from the data.
const SEPARATOR: [u8; 16] = [0; 16];
const METADATA_MARKER: &[u8] = b"\xab\xcd\xefMaxMind.com";

/// The bytes of a database. A network within another one wins over it; `build_unix_s` is the time
/// that readers are told it was built at.
///
/// # Errors
/// When a network is listed twice, or when the database is too large for `record_size`.
pub fn encode(
    networks: &[(IpNet, Record)],
    record_size: RecordSize,
    build_unix_s: u64,
) -> anyhow::Result<Vec<u8>> {
    let mut offsets = HashMap::new();
    let mut data = Vec::new();
    let mut leaves = Vec::with_capacity(networks.len());
    for (network, record) in networks {
        let mut bytes = Vec::new();
        city_value(record).write(&mut bytes);
        let offset = *offsets.entry(bytes).or_insert_with_key(|bytes| {
            let offset = data.len();
            data.extend_from_slice(bytes);
            offset
        });
        leaves.push((*network, offset));
    }
    let tree = Tree::build(&leaves)?;
    ensure!(
        tree.node_count() + SEPARATOR.len() + data.len() < record_size.limit(),
        "{} networks need wider records than {record_size:?}",
        networks.len()
    );
    let mut file = Vec::new();
    tree.write(record_size, &mut file);
    file.extend_from_slice(&SEPARATOR);
    file.extend_from_slice(&data);
    file.extend_from_slice(METADATA_MARKER);
    metadata(tree.node_count(), record_size, build_unix_s).write(&mut file);
    Ok(file)
}

/// Puts a database at `path` in one step: a reader that has the old one mapped keeps it whole.
pub fn write(path: &Path, networks: &[(IpNet, Record)], build_unix_s: u64) -> anyhow::Result<()> {
    let bytes = encode(networks, RecordSize::Bits28, build_unix_s)?;
    let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty());
    let dir = dir.unwrap_or_else(|| Path::new("."));
    let doing = || format!("could not write the GeoIP database {}", path.display());
    let mut file = tempfile::NamedTempFile::new_in(dir).with_context(doing)?;
    file.write_all(&bytes).with_context(doing)?;
    file.persist(path).with_context(doing)?;
    Ok(())
}

impl RecordSize {
    const fn bits(self) -> u16 {
        match self {
            RecordSize::Bits24 => 24,
            RecordSize::Bits28 => 28,
        }
    }

    /// The first number that does not fit.
    const fn limit(self) -> usize {
        1 << self.bits()
    }
}

fn city_value(record: &Record) -> Value {
    let names = |name: &str| Value::map([("names", Value::map([("en", Value::text(name))]))]);
    let code = |key: &'static str, code: &str| Value::map([(key, Value::text(code))]);
    let location = Value::map([
        ("latitude", Value::Double(record.latitude)),
        ("longitude", Value::Double(record.longitude)),
    ]);
    Value::map([
        ("city", names(&record.city)),
        ("continent", code("code", &record.continent)),
        ("country", code("iso_code", &record.country_iso)),
        ("location", location),
        ("autonomous_system_number", record.asn.map_or(Value::Absent, Value::Uint32)),
        ("autonomous_system_organization", Value::text(&record.organization)),
    ])
}

fn metadata(node_count: usize, record_size: RecordSize, build_unix_s: u64) -> Value {
    let node_count = u32::try_from(node_count).expect("it is below the limit of a record");
    let description = "Test networks that stand for cities";
    Value::map([
        ("node_count", Value::Uint32(node_count)),
        ("record_size", Value::Uint16(record_size.bits())),
        ("ip_version", Value::Uint16(6)),
        ("database_type", Value::text("GeoLite2-City")),
        ("languages", Value::Array(vec![Value::text("en")])),
        ("binary_format_major_version", Value::Uint16(2)),
        ("binary_format_minor_version", Value::Uint16(0)),
        ("build_epoch", Value::Uint64(build_unix_s)),
        ("description", Value::map([("en", Value::text(description))])),
    ])
}

#[cfg(test)]
mod tests;
