//! How is a push coming along?
//!
//! A bar with rate and time left on a terminal, one line for each finished phase elsewhere.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

use crate::console::Console;

/// The drawing of one phase; nothing is drawn where nobody watches.
#[derive(Clone, Debug)]
pub(crate) struct Bar(ProgressBar);

impl Bar {
    /// A phase of unknown length.
    pub(crate) fn spinner(console: &Console, what: &str) -> Self {
        if !console.has_bars() {
            return Bar(ProgressBar::hidden());
        }
        let bar = ProgressBar::new_spinner().with_message(what.to_owned());
        bar.enable_steady_tick(Duration::from_millis(100));
        Bar(bar)
    }

    /// An upload of files with `bytes` bytes, before they are compressed.
    pub(crate) fn upload(console: &Console, bytes: u64) -> Self {
        if !console.has_bars() {
            return Bar(ProgressBar::hidden());
        }
        let bar = ProgressBar::new(bytes);
        let template = "upload   {wide_bar} {decimal_bytes}/{decimal_total_bytes} \
                        {decimal_bytes_per_sec} {eta}";
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style);
        }
        Bar(bar)
    }

    /// So many bytes of files have arrived.
    pub(crate) fn advance(&self, bytes: u64) {
        self.0.inc(bytes);
    }

    /// Leaves no trace, so that the line that follows takes its place.
    pub(crate) fn finish(&self) {
        self.0.finish_and_clear();
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        self.finish();
    }
}
