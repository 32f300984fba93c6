//! Who asked for what, and what was it answered?
//!
//! One line per request, written by a thread of its own. When it cannot keep up, lines are dropped
//! and counted: visitors never wait for a log.

use std::{
    fs::{File, OpenOptions},
    hash::{BuildHasher, RandomState},
    io::{self, BufWriter, Write},
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
        mpsc::{Receiver, SyncSender, sync_channel},
    },
    time::{Duration, Instant},
};

use nigh_proto::Timestamp;
use prometheus_client::metrics::counter::Counter;
use serde::{Deserialize, Serialize};

/// Lines that wait for the writer.
const QUEUE_LINES: usize = 8192;
/// The longest path, agent or referrer that is written, in bytes.
const TEXT_BYTES_MAX: usize = 2048;

/// Where requests are logged, and how.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct AccessLogConfig {
    /// `off`, `stderr` or the path of a file, which is opened again on a reload.
    pub output: Output,
    pub format: Format,
    /// Whether whole addresses are written. Otherwise their first 24 bits (IPv4) or 48 bits (IPv6).
    pub full_addresses: bool,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(from = "String", into = "String")]
pub enum Output {
    #[default]
    Off,
    Stderr,
    File(PathBuf),
}

impl From<String> for Output {
    fn from(text: String) -> Self {
        match text.as_str() {
            "off" => Output::Off,
            "stderr" => Output::Stderr,
            _ => Output::File(text.into()),
        }
    }
}

impl From<Output> for String {
    fn from(output: Output) -> Self {
        match output {
            Output::Off => "off".to_owned(),
            Output::Stderr => "stderr".to_owned(),
            Output::File(path) => path.to_string_lossy().into_owned(),
        }
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Format {
    #[default]
    Json,
    /// The Combined Log Format of Apache.
    Combined,
}

/// The access log cannot be opened.
#[derive(Debug, thiserror::Error)]
#[error("could not open the access log {path}", path = path.display())]
pub struct LogFileError {
    path: PathBuf,
    source: io::Error,
}

/// What is written of one request.
#[derive(Clone, Debug, Default, Serialize)]
pub(crate) struct Entry {
    pub(crate) ts: Timestamp,
    pub(crate) edge: Arc<str>,
    pub(crate) site: String,
    pub(crate) release: String,
    /// Unlike that of any other request to this edge.
    pub(crate) req_id: RequestId,
    pub(crate) client_ip: String,
    pub(crate) proto: &'static str,
    /// The version of TLS; empty for plain HTTP.
    pub(crate) tls: &'static str,
    pub(crate) method: String,
    pub(crate) host: String,
    pub(crate) path: String,
    pub(crate) status: u16,
    pub(crate) bytes: u64,
    pub(crate) dur_ms: f64,
    pub(crate) ttfb_ms: f64,
    pub(crate) cache: &'static str,
    pub(crate) enc: &'static str,
    pub(crate) range: String,
    pub(crate) rule: &'static str,
    pub(crate) ua: String,
    #[serde(rename = "ref")]
    pub(crate) referrer: String,
    #[serde(skip_serializing_if = "str::is_empty")]
    pub(crate) err: &'static str,
}

/// Names one request; 16 hex digits in the log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct RequestId(u64);

impl Serialize for RequestId {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&format_args!("{:016x}", self.0))
    }
}

/// Gives each request a name. None comes from the client, who could give many the same.
#[derive(Debug)]
struct RequestIds {
    /// Differs between runs and machines.
    start: u64,
    given: AtomicU64,
}

impl RequestIds {
    fn new() -> Self {
        // The standard library's own randomness; no secret hangs on it.
        let start = RandomState::new().hash_one(std::process::id());
        RequestIds { start, given: AtomicU64::new(0) }
    }

    fn next(&self) -> RequestId {
        RequestId(scatter(self.start.wrapping_add(self.given.fetch_add(1, Ordering::Relaxed))))
    }
}

/// The finisher of `SplitMix64`: no two numbers become the same one, and neighbours look unlike.
const fn scatter(number: u64) -> u64 {
    let number = (number ^ (number >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let number = (number ^ (number >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    number ^ (number >> 31)
}

/// A line that is complete when the answer has left.
#[derive(Debug)]
pub(crate) struct Line {
    entry: Option<Entry>,
    started: Instant,
    log: AccessLog,
}

impl Line {
    pub(crate) fn sent(&mut self, bytes: u64) {
        if let Some(entry) = &mut self.entry {
            entry.bytes += bytes;
        }
    }

    pub(crate) fn failed(&mut self, why: &'static str) {
        if let Some(entry) = &mut self.entry {
            entry.err = why;
        }
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        if let Some(mut entry) = self.entry.take() {
            entry.dur_ms = ms(self.started.elapsed());
            if self.log.lines.try_send(entry).is_err() {
                self.log.dropped.inc();
            }
        }
    }
}

/// Milliseconds with three decimals.
pub(crate) fn ms(duration: Duration) -> f64 {
    (duration.as_secs_f64() * 1e6).round() / 1e3
}

/// Takes lines; cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct AccessLog {
    lines: SyncSender<Entry>,
    dropped: Counter,
    full_addresses: bool,
    ids: Arc<RequestIds>,
}

impl AccessLog {
    /// Opens the log and starts its writer; `None` when it is off. The writer ends with the last clone.
    pub(crate) fn open(
        config: &AccessLogConfig,
        dropped: Counter,
    ) -> Result<Option<Self>, LogFileError> {
        let out: Box<dyn Write + Send> = match &config.output {
            Output::Off => return Ok(None),
            Output::Stderr => Box::new(io::stderr()),
            Output::File(path) => Box::new(open(path.clone())?),
        };
        let (lines, queue) = sync_channel(QUEUE_LINES);
        let format = config.format;
        let path = PathBuf::from(String::from(config.output.clone()));
        std::thread::Builder::new()
            .name("access-log".to_owned())
            .spawn(move || write_all(&queue, out, format))
            .map_err(|source| LogFileError { path, source })?;
        let (full_addresses, ids) = (config.full_addresses, Arc::new(RequestIds::new()));
        Ok(Some(AccessLog { lines, dropped, full_addresses, ids }))
    }

    /// A line for an answer that is on its way.
    pub(crate) fn line(&self, entry: Entry, started: Instant) -> Box<Line> {
        Box::new(Line { entry: Some(entry), started, log: self.clone() })
    }

    pub(crate) fn request_id(&self) -> RequestId {
        self.ids.next()
    }

    /// The address as it may be written.
    pub(crate) fn address(&self, ip: IpAddr) -> String {
        if self.full_addresses { ip.to_canonical().to_string() } else { masked(ip).to_string() }
    }
}

fn open(path: PathBuf) -> Result<File, LogFileError> {
    let opened = OpenOptions::new().append(true).create(true).open(&path);
    opened.map_err(|source| LogFileError { path, source })
}

fn write_all(queue: &Receiver<Entry>, out: Box<dyn Write + Send>, format: Format) {
    let mut out = BufWriter::new(out);
    let mut failed = false;
    while let Ok(first) = queue.recv() {
        let mut written = write(&mut out, &first, format);
        // Everything that is there, then one flush.
        while let Ok(entry) = queue.try_recv() {
            written = written.and_then(|()| write(&mut out, &entry, format));
        }
        if let Err(error) = written.and_then(|()| out.flush())
            && !std::mem::replace(&mut failed, true)
        {
            tracing::error!(%error, "the access log cannot be written");
        }
    }
}

fn write(out: &mut impl Write, entry: &Entry, format: Format) -> io::Result<()> {
    match format {
        Format::Json => serde_json::to_writer(&mut *out, entry).map_err(io::Error::from)?,
        Format::Combined => out.write_all(combined(entry).as_bytes())?,
    }
    out.write_all(b"\n")
}

fn combined(entry: &Entry) -> String {
    let time = jiff::Timestamp::from_millisecond(entry.ts.unix_ms()).unwrap_or_default();
    let time = jiff::fmt::strtime::format("%d/%b/%Y:%H:%M:%S +0000", time).unwrap_or_default();
    let Entry { client_ip, method, path, proto, status, bytes, .. } = entry;
    let version = if *proto == "h2" { "HTTP/2.0" } else { "HTTP/1.1" };
    format!(
        "{client_ip} - - [{time}] {} {status} {bytes} {} {}",
        quoted(&format!("{method} {path} {version}")),
        quoted(&entry.referrer),
        quoted(&entry.ua)
    )
}

/// Quotes and control characters cannot end a field, or a line.
fn quoted(text: &str) -> String {
    if text.is_empty() {
        return "\"-\"".to_owned();
    }
    let escape = |c: char| match c {
        '"' | '\\' => format!("\\{c}"),
        c if c.is_control() => format!("\\x{:02x}", u32::from(c)),
        c => c.to_string(),
    };
    format!("\"{}\"", text.chars().map(escape).collect::<String>())
}

/// The network of an address, with the rest zeroed.
fn masked(ip: IpAddr) -> IpAddr {
    match ip.to_canonical() {
        IpAddr::V4(ip) => Ipv4Addr::from_bits(ip.to_bits() & !0xff).into(),
        IpAddr::V6(ip) => Ipv6Addr::from_bits(ip.to_bits() & !(u128::MAX >> 48)).into(),
    }
}

/// A header's value as far as it is text, cut to a bound.
pub(crate) fn text(value: Option<&http::HeaderValue>) -> String {
    let bytes = value.map(http::HeaderValue::as_bytes).unwrap_or_default();
    String::from_utf8_lossy(&bytes[..bytes.len().min(TEXT_BYTES_MAX)]).into_owned()
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn addresses_lose_their_last_part() {
        for (ip, expected) in [
            ("192.0.2.77", "192.0.2.0"),
            ("::ffff:192.0.2.77", "192.0.2.0"),
            ("2001:db8:1:2:3::4", "2001:db8:1::"),
        ] {
            assert_eq!(masked(ip.parse().unwrap()).to_string(), expected);
        }
    }

    #[test]
    fn nobody_can_forge_a_line() {
        let ua = "x\" 200 0\n1.2.3.4 - -".to_owned();
        let entry = Entry { ua, client_ip: "192.0.2.0".to_owned(), ..Entry::default() };
        for format in [Format::Json, Format::Combined] {
            let mut line = Vec::new();
            write(&mut line, &entry, format).unwrap();
            assert_eq!(line.iter().filter(|&&byte| byte == b'\n').count(), 1);
        }
        assert!(combined(&entry).contains(r#""x\" 200 0\x0a1.2.3.4 - -""#), "{}", combined(&entry));
        assert!(combined(&entry).contains("[01/Jan/1970:00:00:00 +0000]"), "{}", combined(&entry));
    }

    #[test]
    fn no_two_requests_have_the_same_id_here_or_elsewhere() {
        let edges = [RequestIds::new(), RequestIds::new()];
        let ids: HashSet<RequestId> =
            edges.iter().flat_map(|ids| (0..10_000).map(|_| ids.next())).collect();
        assert_eq!(ids.len(), 20_000);
        assert_eq!(serde_json::to_string(&RequestId(0xab)).unwrap(), "\"00000000000000ab\"");
    }

    #[test]
    fn outputs_are_words_or_paths() {
        for text in ["off", "stderr", "/var/log/nigh/access.log"] {
            assert_eq!(String::from(Output::from(text.to_owned())), text);
        }
    }

    #[test]
    fn lines_reach_the_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("access.log");
        let output = Output::File(path.clone());
        let config = AccessLogConfig { output, ..AccessLogConfig::default() };
        let log = AccessLog::open(&config, Counter::default()).unwrap().unwrap();
        let mut line = log.line(Entry { status: 200, ..Entry::default() }, Instant::now());
        line.sent(7);
        drop(line);
        let deadline = Instant::now() + Duration::from_secs(10);
        let written = loop {
            let written = std::fs::read_to_string(&path).unwrap();
            if written.ends_with('\n') || Instant::now() > deadline {
                break written;
            }
            std::thread::yield_now();
        };
        let entry: serde_json::Value = serde_json::from_str(&written).unwrap();
        assert_eq!((entry["status"].as_u64(), entry["bytes"].as_u64()), (Some(200), Some(7)));
    }
}
