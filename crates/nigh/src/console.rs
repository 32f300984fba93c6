//! What is printed where?
//!
//! The result goes to stdout, as text or as one JSON document. Everything said on the way goes to
//! stderr, so that a result can be piped.

use std::io::Write;

use serde::Serialize;

use crate::{
    cli::GlobalArgs,
    environment::Environment,
    failure::{DETAILS_SHOWN, Failure},
};

/// Where a command writes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Console {
    is_json: bool,
    is_silent: bool,
    is_quiet: bool,
    is_verbose: bool,
    has_colour: bool,
    has_bars: bool,
}

impl Console {
    pub(crate) fn new(args: &GlobalArgs, environment: &Environment) -> Self {
        let may_colour = environment.clicolor_force || environment.is_stderr_terminal;
        Self {
            is_json: args.json,
            is_silent: false,
            is_quiet: args.quiet,
            is_verbose: args.verbose,
            has_colour: may_colour && !args.no_color && !environment.no_color,
            has_bars: environment.is_stderr_terminal && !environment.ci.is_ci && !args.quiet,
        }
    }

    /// For a command within a command: only failures are heard.
    pub(crate) const fn silent() -> Self {
        Self {
            is_json: false,
            is_silent: true,
            is_quiet: true,
            is_verbose: false,
            has_colour: false,
            has_bars: false,
        }
    }

    /// For wrong usage, when nothing is known but that JSON was asked for.
    pub(crate) const fn json() -> Self {
        Self { is_json: true, is_silent: false, ..Self::silent() }
    }

    /// Whether progress may be drawn rather than written.
    pub(crate) const fn has_bars(&self) -> bool {
        self.has_bars
    }

    /// The result: `json` for programs, or what `text` makes of it for people.
    pub(crate) fn result<T: Serialize>(&self, json: &T, text: impl FnOnce(&T) -> String) {
        if self.is_json {
            match serde_json::to_string(json) {
                Ok(line) => self.line(&line),
                Err(error) => self.warning(&format!("the result has no JSON form: {error}")),
            }
        } else {
            self.line(text(json).trim_end());
        }
    }

    /// One line, or several, on stdout. A reader that has gone away is no error: `nigh … | head`.
    pub(crate) fn line(&self, text: &str) {
        if self.is_silent {
            return;
        }
        let mut stdout = std::io::stdout().lock();
        let _ = writeln!(stdout, "{text}").and_then(|()| stdout.flush());
    }

    /// How things go, on stderr.
    pub(crate) fn note(&self, text: &str) {
        if !self.is_quiet {
            eprintln!("{text}");
        }
    }

    /// What only somebody who asked for more wants to know.
    pub(crate) fn detail(&self, text: &str) {
        if self.is_verbose && !self.is_quiet {
            eprintln!("{}", self.dim(text));
        }
    }

    pub(crate) fn warning(&self, text: &str) {
        eprintln!("{} {text}", self.paint("33", "warning:"));
    }

    /// Why the command failed, as JSON on stdout when that was asked for.
    pub(crate) fn report(&self, failure: &Failure) {
        #[derive(Serialize)]
        struct Report<'a> {
            error: &'a Failure,
            exit_code: u8,
        }
        if self.is_json {
            let report = Report { error: failure, exit_code: failure.exit.code() };
            self.result(&report, |_| String::new());
        }
    }

    /// Why the command failed: three parts on stderr, and the same as JSON on stdout when asked for.
    pub(crate) fn failure(&self, failure: &Failure) {
        self.report(failure);
        eprintln!("{} {}", self.paint("31;1", "error:"), failure.what);
        for why in &failure.why {
            eprintln!("  {} {}", self.dim("why:"), indented(why));
        }
        for detail in failure.details.iter().take(DETAILS_SHOWN) {
            eprintln!("  - {detail}");
        }
        if let Some(more) =
            failure.details.len().checked_sub(DETAILS_SHOWN).filter(|&more| more > 0)
        {
            eprintln!("  … and {more} more (all of them with --json)");
        }
        for hint in &failure.hints {
            eprintln!("  {} {}", self.paint("36", "try:"), indented(hint));
        }
    }

    pub(crate) fn green(&self, text: &str) -> String {
        self.paint("32", text)
    }

    pub(crate) fn dim(&self, text: &str) -> String {
        self.paint("2", text)
    }

    fn paint(&self, style: &str, text: &str) -> String {
        if self.has_colour { format!("\x1b[{style}m{text}\x1b[0m") } else { text.to_owned() }
    }
}

fn indented(text: &str) -> String {
    text.trim_end().replace('\n', "\n       ")
}
