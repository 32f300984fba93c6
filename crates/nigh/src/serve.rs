//! `nigh serve`: run a role until a signal stops it.

use std::{
    error::Error,
    io::Read,
    path::{Path, PathBuf},
    time::Duration,
};

use clap::ValueEnum;
use nigh_control::ControlServer;
use nigh_daemon::{Context, Notify, Role, Setup, Sockets, logging, notify::watchdog_timeout};
use nigh_dns::DnsServer;
use nigh_edge::EdgeServer;

use crate::{
    cli::GlobalArgs,
    console::Console,
    environment::Environment,
    exit::Exit,
    failure::Failure,
    role_config::{self, RoleConfig},
};

/// How long requests in flight may take when whoever started the role is gone.
const ORPHAN_GRACE: Duration = Duration::from_secs(2);

#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Args {
    /// The role
    #[arg(value_enum)]
    role: RoleName,
    /// Read and check the configuration, then end
    #[arg(long)]
    check: bool,
    /// Print the configuration with every key, its default and its meaning, then end
    #[arg(long, conflicts_with = "check")]
    print_config: bool,
    /// Stop when standard input ends: whoever started this is gone
    #[arg(long)]
    exit_with_stdin: bool,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum RoleName {
    /// Decides what the fleet holds
    Control,
    /// Serves visitors
    Edge,
    /// Answers DNS
    Dns,
}

impl RoleName {
    /// The word in paths and messages.
    pub(crate) const fn label(self) -> &'static str {
        match self {
            RoleName::Control => ControlServer::NAME,
            RoleName::Edge => EdgeServer::NAME,
            RoleName::Dns => DnsServer::NAME,
        }
    }
}

pub(crate) fn run(
    args: &Args,
    global: &GlobalArgs,
    environment: &Environment,
    console: &Console,
) -> Result<Exit, Failure> {
    let serve = Serve { args, global, environment, console };
    match args.role {
        RoleName::Control => serve.role::<ControlServer>(),
        RoleName::Edge => serve.role::<EdgeServer>(),
        RoleName::Dns => serve.role::<DnsServer>(),
    }
}

struct Serve<'a> {
    args: &'a Args,
    global: &'a GlobalArgs,
    environment: &'a Environment,
    console: &'a Console,
}

impl Serve<'_> {
    fn role<R: Role>(&self) -> Result<Exit, Failure>
    where
        R::Config: RoleConfig,
    {
        let path = self.config_file::<R>();
        if self.args.print_config && self.named_file().is_none() && !path.exists() {
            return self.print_template::<R>();
        }
        let config: R::Config = role_config::load(&path, R::NAME)?;
        if self.args.print_config {
            return self.print_config(&config, &format!("# {} and the defaults.", path.display()));
        }
        if self.args.check {
            if let Some(why) = config.unusable_file() {
                let what = format!("{} names a file that cannot be used", path.display());
                return Err(Failure::new(Exit::Invalid, what).why(why).code("value_invalid"));
            }
            let report = serde_json::json!({ "config": path, "ok": true });
            self.console.result(&report, |_| format!("{} is valid", path.display()));
            return Ok(Exit::Ok);
        }
        let setup = self.setup::<R>(config, path)?;
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
        let runtime = runtime.map_err(|error| cannot_run::<R>(&error))?;
        if self.args.exit_with_stdin {
            std::thread::spawn(stop_when_stdin_ends);
        }
        let ended = runtime.block_on(nigh_daemon::run::<R>(setup));
        runtime.shutdown_timeout(Duration::from_secs(1));
        ended.map(|_| Exit::Ok).map_err(|error| cannot_run::<R>(&error))
    }

    fn named_file(&self) -> Option<PathBuf> {
        self.global.config.clone().or_else(|| self.environment.config.clone())
    }

    fn config_file<R: Role>(&self) -> PathBuf {
        let usual = || Path::new("/etc/nigh").join(format!("{}.toml", R::NAME));
        self.named_file().unwrap_or_else(usual)
    }

    /// A file to begin with, for somebody who has none yet.
    fn print_template<R: Role>(&self) -> Result<Exit, Failure>
    where
        R::Config: RoleConfig,
    {
        let config: R::Config = role_config::template()
            .ok_or_else(|| Failure::new(Exit::Failure, "there is no file to begin with"))?;
        let first = "# A file to begin with: keys without a default hold examples, all others their default.";
        self.print_config(&config, first)
    }

    fn print_config<C: RoleConfig>(&self, config: &C, first: &str) -> Result<Exit, Failure> {
        let unwritable = |error: &toml::ser::Error| {
            Failure::new(Exit::Failure, "the configuration has no TOML form").caused_by(error)
        };
        let text = role_config::effective(config).map_err(|error| unwritable(&error))?;
        let table = toml::Table::try_from(config).map_err(|error| unwritable(&error))?;
        self.console.result(&table, |_| format!("{first}\n\n{text}"));
        Ok(Exit::Ok)
    }

    fn setup<R: Role>(&self, config: R::Config, path: PathBuf) -> Result<Setup<R::Config>, Failure>
    where
        R::Config: RoleConfig,
    {
        let mut log = config.log().clone();
        if let Some(filter) = &self.environment.log {
            log.filter.clone_from(filter);
        }
        logging::init(&log, self.colour()).map_err(|error| cannot_run::<R>(&error))?;
        // Everything that speaks TLS uses the same provider; a second call changes nothing.
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();

        let names = self.environment.listen_fd_names.as_deref().unwrap_or_default();
        let mut context = Context::new(R::NAME, env!("CARGO_PKG_VERSION"));
        context.sockets = Sockets::from_systemd(names);
        if self.args.exit_with_stdin {
            context.grace = ORPHAN_GRACE;
        }
        let reread = move || match role_config::load(&path, R::NAME) {
            Ok(config) => Ok(config),
            Err(failure) => Err(Box::<dyn Error + Send + Sync>::from(one_line(&failure))),
        };
        let ops = config.ops().clone();
        let notify = self.notify().map_err(|error| cannot_run::<R>(&error))?;
        Ok(Setup { config, reread: Box::new(reread), ops, context, notify })
    }

    fn notify(&self) -> Result<Notify, nigh_daemon::notify::NotifyError> {
        let Environment { notify_socket, watchdog_usec, watchdog_pid, .. } = self.environment;
        let Some(socket) = notify_socket else { return Ok(Notify::none()) };
        let usec = watchdog_usec.as_deref();
        let watchdog = watchdog_timeout(usec, watchdog_pid.as_deref(), std::process::id());
        Ok(Notify::to(socket)?.with_watchdog(watchdog))
    }

    fn colour(&self) -> logging::Colour {
        if self.global.no_color || self.environment.no_color {
            logging::Colour::Never
        } else if self.environment.clicolor_force {
            logging::Colour::Always
        } else {
            logging::Colour::Auto
        }
    }
}

fn one_line(failure: &Failure) -> String {
    let causes = failure.why.iter().chain(&failure.hints).map(String::as_str);
    std::iter::once(&*failure.what).chain(causes).collect::<Vec<_>>().join("; ")
}

fn cannot_run<R: Role>(error: &(dyn Error + 'static)) -> Failure {
    Failure::new(Exit::Failure, format!("{} cannot run", R::NAME)).caused_by(error)
}

/// Stops this process as an operator would once standard input has ended.
fn stop_when_stdin_ends() {
    let mut stdin = std::io::stdin().lock();
    let mut ignored = [0; 256];
    while !matches!(stdin.read(&mut ignored), Ok(0) | Err(_)) {}
    // A process may always signal itself.
    let _ = rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::TERM);
}
