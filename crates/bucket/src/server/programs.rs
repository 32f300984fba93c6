//! How are servers of others started?

use std::{
    fs::File,
    io::{self, BufRead as _, BufReader},
    net::{SocketAddr, TcpListener},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use tokio::net::TcpStream;

use super::{ACCESS_KEY, BUCKET, SECRET_KEY};

/// How long a server may take until it answers.
pub(super) const START_DEADLINE: Duration = Duration::from_secs(60);
pub(super) const POLL: Duration = Duration::from_millis(20);
/// Somebody else may take a port between the look and the start.
const ATTEMPTS: usize = 5;
/// Where `tests/install --long` puts it, from the root of the project.
const GARAGE: &str = "tests/.cache/garage/bin/garage";

/// A child that ends with the test.
#[derive(Debug)]
pub(super) struct Program(Child);

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn absent(error: io::Error, what: &str, from: &str) -> io::Error {
    io::Error::new(error.kind(), format!("{what} cannot be run ({error}); {from} brings it"))
}

/// `moto_server`, on a port of its own choice.
pub(super) fn moto() -> io::Result<(SocketAddr, Program)> {
    let mut child = Command::new("moto_server")
        .args(["-H", "127.0.0.1", "-p", "0"])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| absent(error, "moto_server", "tests/install"))?;
    let said = child.stderr.take().ok_or_else(|| io::Error::other("moto_server says nothing"))?;
    let program = Program(child);
    let mut lines = BufReader::new(said).lines().map_while(Result::ok);
    let url = lines.find_map(|line| {
        let (_, url) = line.split_once("Running on http://")?;
        url.trim().trim_end_matches('/').parse().ok()
    });
    // Read on, so that the server never waits for somebody to take what it says.
    std::thread::spawn(move || lines.for_each(drop));
    let address = url.ok_or_else(|| io::Error::other("moto_server does not say where it is"))?;
    Ok((address, program))
}

/// `garage`, alone in its cluster, with the bucket and the key.
pub(super) async fn garage(root: &Path) -> io::Result<(SocketAddr, Program)> {
    let mut last = io::Error::other("garage was not tried");
    for _ in 0..ATTEMPTS {
        match try_garage(root).await {
            Ok(started) => return Ok(started),
            Err(error) => last = error,
        }
    }
    Err(last)
}

async fn try_garage(root: &Path) -> io::Result<(SocketAddr, Program)> {
    let dir = root.join("garage");
    std::fs::create_dir_all(&dir)?;
    let [api, rpc] = free_ports()?;
    let secret = "7e".repeat(32);
    let path = |name: &str| format!("{:?}", dir.join(name).display().to_string());
    let config = format!(
        "metadata_dir = {meta}\ndata_dir = {data}\nreplication_factor = 1\n\
         rpc_bind_addr = \"{rpc}\"\nrpc_public_addr = \"{rpc}\"\nrpc_secret = \"{secret}\"\n\
         [s3_api]\ns3_region = \"us-east-1\"\napi_bind_addr = \"{api}\"\n",
        meta = path("meta"),
        data = path("data"),
    );
    std::fs::write(dir.join("garage.toml"), config)?;
    let log = File::create(dir.join("log"))?;
    let child = Command::new(garage_binary())
        .arg("-c")
        .arg(dir.join("garage.toml"))
        .args(["server", "--single-node", "--default-access-key", "--default-bucket"])
        .env("GARAGE_DEFAULT_ACCESS_KEY", ACCESS_KEY)
        .env("GARAGE_DEFAULT_SECRET_KEY", SECRET_KEY)
        .env("GARAGE_DEFAULT_BUCKET", BUCKET)
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log)
        .spawn()
        .map_err(|error| absent(error, "garage", "tests/install --long"))?;
    let mut program = Program(child);
    let deadline = tokio::time::Instant::now() + START_DEADLINE;
    while TcpStream::connect(api).await.is_err() {
        let ended = program.0.try_wait()?;
        if ended.is_some() || tokio::time::Instant::now() > deadline {
            let log = std::fs::read_to_string(dir.join("log"))?;
            return Err(io::Error::other(format!("garage does not answer:\n{log}")));
        }
        tokio::time::sleep(POLL).await;
    }
    Ok((api, program))
}

fn garage_binary() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(GARAGE)
}

fn free_ports<const N: usize>() -> io::Result<[SocketAddr; N]> {
    let mut held = Vec::with_capacity(N);
    let mut ports = [SocketAddr::from(([127, 0, 0, 1], 0)); N];
    for port in &mut ports {
        let listener = TcpListener::bind(*port)?;
        *port = listener.local_addr()?;
        // Held until all are known, so that they differ.
        held.push(listener);
    }
    Ok(ports)
}
