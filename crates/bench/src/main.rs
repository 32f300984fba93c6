//! `cargo run --release -p nigh-bench -- all`: prints the tables of `docs/benchmarks.md`.

use std::{path::PathBuf, time::Duration};

use anyhow::{Context, Result, ensure};
use clap::{Parser, Subcommand};
use nigh_bench::{activate, fan_out, machines, memory, push, reads, serve, tree};

/// As in nigh: what generates load should take as little of the cores as it can.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Enough of the documentation site for more than 10,000 files and 200 MB.
const FILES: u64 = 30_000;

/// Measures nigh beside rsync and nginx, in turns, on this machine.
#[derive(Debug, Parser)]
struct Args {
    /// The binary to measure; `target/release/nigh` otherwise.
    #[arg(long)]
    binary: Option<PathBuf>,
    #[command(subcommand)]
    what: What,
}

#[derive(Clone, Debug, Subcommand)]
enum What {
    /// First push, one changed file, nothing changed: against three `rsync -a`.
    Push {
        #[arg(long, default_value_t = 3)]
        rounds: usize,
        /// How many files of the documentation site to take.
        #[arg(long, default_value_t = FILES)]
        files: u64,
    },
    /// Requests per CPU-second over TLS: against nginx.
    Serve {
        #[arg(long, default_value_t = 3)]
        rounds: usize,
        /// Seconds per turn.
        #[arg(long, default_value_t = 5)]
        seconds: u64,
    },
    /// Memory of control and an edge, and how fast an edge starts.
    Memory,
    /// A thousand simulated machines on one control: activations, memory, a restart.
    Machines {
        #[arg(long, default_value_t = 1000)]
        machines: usize,
        #[arg(long, default_value_t = 100)]
        sites: usize,
        /// Releases of each site.
        #[arg(long, default_value_t = 3)]
        releases: usize,
        /// Activations.
        #[arg(long, default_value_t = 20)]
        rounds: usize,
    },
    /// Reads of control's API per second of its CPU time.
    Reads {
        #[arg(long, default_value_t = 1000)]
        sites: usize,
        /// Releases of each site.
        #[arg(long, default_value_t = 10)]
        releases: usize,
        /// Seconds per turn.
        #[arg(long, default_value_t = 5)]
        seconds: u64,
    },
    /// From activating a staged release to served by every edge.
    Activate {
        #[arg(long, default_value_t = 20)]
        edges: usize,
        #[arg(long, default_value_t = 200)]
        rounds: usize,
    },
    /// What control sends when many edges want one large release.
    FanOut {
        #[arg(long, default_value_t = 50)]
        edges: usize,
        #[arg(long, default_value_t = 200)]
        megabytes: usize,
        /// All of it in one file, as a game's patch is.
        #[arg(long)]
        one_file: bool,
    },
    /// Everything against peers, and memory.
    All,
}

#[tokio::main]
async fn main() -> Result<()> {
    let args = Args::parse();
    let binary = match args.binary {
        Some(binary) => binary,
        None => std::env::current_exe()?.parent().context("no folder")?.join("nigh"),
    };
    ensure!(binary.exists(), "{} is missing: cargo build --release -p nigh", binary.display());
    match args.what {
        What::Push { rounds, files } => pushes(&binary, rounds, files).await,
        What::Serve { rounds, seconds } => serves(&binary, rounds, seconds).await,
        What::Memory => memories(&binary).await,
        What::Machines { machines, sites, releases, rounds } => {
            let size = machines::Size { machines, sites, releases, rounds };
            println!("{}\n", machines::measure(&binary, size).await?);
            Ok(())
        }
        What::Reads { sites, releases, seconds } => {
            let turn = Duration::from_secs(seconds);
            println!("{}\n", reads::measure(&binary, sites, releases, turn).await?);
            Ok(())
        }
        What::Activate { edges, rounds } => {
            println!("{}\n", activate::measure(&binary, edges, rounds).await?);
            Ok(())
        }
        What::FanOut { edges, megabytes, one_file } => {
            let size = fan_out::Size { edges, megabytes, one_file };
            println!("{}\n", fan_out::measure(&binary, size).await?);
            Ok(())
        }
        What::All => {
            pushes(&binary, 3, FILES).await?;
            serves(&binary, 3, 5).await?;
            memories(&binary).await
        }
    }
}

async fn pushes(binary: &std::path::Path, rounds: usize, files: u64) -> Result<()> {
    let home = tempfile::tempdir()?;
    let tree = tree::copy(tree::RUST_DOC.as_ref(), &home.path().join("site"), files)?;
    println!("{}\n", push::measure(binary, &tree, rounds).await?);
    Ok(())
}

async fn serves(binary: &std::path::Path, rounds: usize, seconds: u64) -> Result<()> {
    println!("{}\n", serve::measure(binary, Duration::from_secs(seconds), rounds).await?);
    Ok(())
}

async fn memories(binary: &std::path::Path) -> Result<()> {
    println!("{}\n", memory::measure(binary).await?);
    Ok(())
}
