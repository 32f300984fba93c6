//! How does a role tell operators what happened?
//!
//! One line per event on stderr, as text for people or as JSON for collectors. A panic becomes
//! such a line too, so that JSON stays JSON when something breaks.

use std::{
    io::{self, IsTerminal},
    panic::PanicHookInfo,
};

use serde::{Deserialize, Serialize};
use tracing::Subscriber;
use tracing_subscriber::{
    EnvFilter, Layer, Registry,
    filter::ParseError,
    fmt::MakeWriter,
    layer::SubscriberExt,
    registry::LookupSpan,
    reload,
    util::{SubscriberInitExt, TryInitError},
};

/// What is logged, and in which form.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct LogConfig {
    /// `text` for people, `json` (one object per line) for collectors; `text` unless told otherwise.
    pub format: LogFormat,
    /// A level (`error`, `warn`, `info`, `debug`, `trace`), or levels by module as in
    /// `info,nigh_edge=debug`; `info` unless told otherwise.
    pub filter: String,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum LogFormat {
    #[default]
    Text,
    Json,
}

/// When text may have colours.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Colour {
    /// On a terminal only.
    #[default]
    Auto,
    /// Never, as `NO_COLOR` asks for.
    Never,
    /// Always, as `CLICOLOR_FORCE` asks for.
    Always,
}

/// Logging could not be set up or changed.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    #[error("log filter {filter:?} is not understood; try \"info\" or \"info,nigh_edge=debug\"")]
    Filter { filter: String, source: ParseError },
    #[error("logging was already set up in this process")]
    AlreadySet(#[from] TryInitError),
    #[error("logging has ended")]
    Ended(#[from] reload::Error),
}

/// Logging as it runs; the handle changes what is logged without a restart.
#[derive(Clone, Debug)]
pub struct Logs(reload::Handle<EnvFilter, Registry>);

impl Default for LogConfig {
    fn default() -> Self {
        Self { format: LogFormat::Text, filter: "info".to_owned() }
    }
}

/// Sends every event of this process to stderr from now on, panics included.
pub fn init(config: &LogConfig, colour: Colour) -> Result<Logs, LogError> {
    let has_colour = match colour {
        Colour::Auto => io::stderr().is_terminal(),
        Colour::Never => false,
        Colour::Always => true,
    };
    let (subscriber, logs) = subscriber(config, has_colour, io::stderr)?;
    subscriber.try_init()?;
    std::panic::set_hook(Box::new(log_panic));
    Ok(logs)
}

impl Logs {
    /// Replaces the filter; on an error the old one stays.
    pub fn set_filter(&self, filter: &str) -> Result<(), LogError> {
        self.0.reload(parse(filter)?)?;
        Ok(())
    }
}

fn subscriber<W>(
    config: &LogConfig,
    has_colour: bool,
    writer: W,
) -> Result<(impl Subscriber + Send + Sync, Logs), LogError>
where
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    let (filter, handle) = reload::Layer::new(parse(&config.filter)?);
    let lines = lines(config.format, has_colour, writer);
    Ok((tracing_subscriber::registry().with(filter).with(lines), Logs(handle)))
}

fn lines<S, W>(format: LogFormat, has_colour: bool, writer: W) -> Box<dyn Layer<S> + Send + Sync>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    // Told of a broken stderr on stderr, a role would panic: it goes on unheard instead.
    let lines = tracing_subscriber::fmt::layer().with_writer(writer).log_internal_errors(false);
    match format {
        LogFormat::Text => lines.with_ansi(has_colour).boxed(),
        LogFormat::Json => lines.json().flatten_event(true).with_current_span(false).boxed(),
    }
}

/// Refuses a configuration that [`init`] would refuse, without setting anything up.
pub fn check(config: &LogConfig) -> Result<(), LogError> {
    parse(&config.filter).map(drop)
}

/// Never reads `RUST_LOG`: what is logged comes from the configuration alone.
fn parse(filter: &str) -> Result<EnvFilter, LogError> {
    EnvFilter::builder()
        .with_regex(false)
        .parse(filter)
        .map_err(|source| LogError::Filter { filter: filter.to_owned(), source })
}

fn log_panic(panic: &PanicHookInfo<'_>) {
    let place = panic.location().map_or_else(|| "?".to_owned(), ToString::to_string);
    let thread = std::thread::current().name().unwrap_or("?").to_owned();
    let payload = panic.payload_as_str().unwrap_or("(no message)");
    tracing::error!(panic.place = place, panic.thread = thread, "panic: {payload}");
}

/// An error with its causes, on one line.
pub fn causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    #[derive(Clone, Default)]
    struct Page(Arc<Mutex<Vec<u8>>>);

    impl Page {
        fn take(&self) -> String {
            String::from_utf8(std::mem::take(&mut self.0.lock().unwrap())).unwrap()
        }
    }

    impl io::Write for Page {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn logged(config: &LogConfig, has_colour: bool, events: impl FnOnce(&Logs)) -> String {
        let page = Page::default();
        let writer = page.clone();
        let (subscriber, logs) =
            subscriber(config, has_colour, move || writer.clone()).expect("a good filter");
        tracing::subscriber::with_default(subscriber, || events(&logs));
        page.take()
    }

    #[test]
    fn json_is_one_object_per_line_with_fields_at_the_top() {
        let config = LogConfig { format: LogFormat::Json, ..LogConfig::default() };
        let page = logged(&config, true, |_| {
            tracing::info!(site.name = "docs", "first \"line\"\nof two");
            tracing::warn!("second");
        });
        let lines: Vec<serde_json::Value> =
            page.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(lines.len(), 2, "{page}");
        assert_eq!(lines[0]["site.name"], "docs");
        assert_eq!(lines[0]["message"], "first \"line\"\nof two");
        assert_eq!(lines[1]["level"], "WARN");
    }

    #[test]
    fn text_has_colours_only_when_they_are_wanted() {
        let config = LogConfig::default();
        let plain = logged(&config, false, |_| tracing::info!("hello"));
        assert!(plain.contains("hello") && !plain.contains('\x1b'), "{plain:?}");
        assert!(logged(&config, true, |_| tracing::info!("hello")).contains('\x1b'));
    }

    #[test]
    fn the_filter_can_change_while_the_role_runs() {
        let page = logged(&LogConfig::default(), false, |logs| {
            tracing::debug!("too early");
            logs.set_filter("debug").unwrap();
            tracing::debug!("in time");
            assert!(logs.set_filter("nigh=loud").is_err());
            tracing::debug!("still there");
        });
        assert!(!page.contains("too early"), "{page}");
        assert!(page.contains("in time") && page.contains("still there"), "{page}");
    }

    #[test]
    fn a_filter_that_is_not_understood_is_named() {
        let config = LogConfig { filter: "nigh=loud".to_owned(), ..LogConfig::default() };
        let error = subscriber(&config, false, io::stderr).err().unwrap();
        assert!(error.to_string().contains("nigh=loud"), "{error}");
    }

    #[test]
    fn defaults_are_text_at_info_and_unknown_keys_are_refused() {
        let empty: LogConfig = serde_json::from_str("{}").unwrap();
        assert_eq!(empty, LogConfig { format: LogFormat::Text, filter: "info".to_owned() });
        let json: LogConfig = serde_json::from_str(r#"{"format": "json"}"#).unwrap();
        assert_eq!(json.format, LogFormat::Json);
        assert!(serde_json::from_str::<LogConfig>(r#"{"level": "info"}"#).is_err());
    }
}
