//! The programs that people would use instead: rsync and nginx, tuned as their manuals advise.

use std::{
    fs,
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};

use crate::process;

/// A program that ends when this is dropped.
#[derive(Debug)]
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// An address on loopback that nobody listens at now.
pub fn free_addr() -> Result<SocketAddr> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?)
}

fn wait_for(addr: SocketAddr) -> Result<()> {
    let deadline = Instant::now() + Duration::from_secs(10);
    while TcpStream::connect(addr).is_err() {
        ensure!(Instant::now() < deadline, "nothing listens at {addr}");
        std::thread::sleep(Duration::from_millis(10));
    }
    Ok(())
}

/// One rsync daemon with a folder that may be written.
#[derive(Debug)]
pub struct RsyncDaemon {
    addr: SocketAddr,
    pub dir: PathBuf,
    _running: Running,
}

impl RsyncDaemon {
    /// Starts a daemon that keeps its files and its configuration below `home`.
    pub fn start(home: &Path) -> Result<Self> {
        let (addr, dir) = (free_addr()?, home.join("site"));
        fs::create_dir_all(&dir)?;
        let config = home.join("rsyncd.conf");
        let text = format!(
            "use chroot = no\nlog file = {home}/log\npid file = {home}/pid\nlock file = {home}/lock\n\
             [site]\npath = {dir}\nread only = no\nuid = {uid}\ngid = {gid}\n",
            home = home.display(),
            dir = dir.display(),
            uid = owner(home)?.0,
            gid = owner(home)?.1,
        );
        fs::write(&config, text)?;
        let child = Command::new("rsync")
            .args(["--daemon", "--no-detach", "--address=127.0.0.1"])
            .arg(format!("--port={}", addr.port()))
            .arg(format!("--config={}", config.display()))
            .stdin(Stdio::null())
            .spawn()
            .context("could not start rsync: run tests/install --bench")?;
        let daemon = RsyncDaemon { addr, dir, _running: Running(child) };
        wait_for(addr)?;
        Ok(daemon)
    }

    /// Begins `rsync -a` of `dir` to this daemon.
    pub fn begin(&self, dir: &Path) -> Result<Child> {
        Ok(Command::new("rsync")
            .args(["-a", "--delete"])
            .arg(format!("{}/", dir.display()))
            .arg(format!("rsync://{}/site/", self.addr))
            .spawn()?)
    }
}

fn owner(path: &Path) -> Result<(u32, u32)> {
    use std::os::unix::fs::MetadataExt as _;
    let metadata = fs::metadata(path)?;
    Ok((metadata.uid(), metadata.gid()))
}

/// The time until `dir` has been copied to all daemons, side by side.
pub fn rsync_all(daemons: &[RsyncDaemon], dir: &Path) -> Result<Duration> {
    let start = Instant::now();
    let copies = daemons.iter().map(|daemon| daemon.begin(dir)).collect::<Result<Vec<_>>>()?;
    for mut copy in copies {
        let status = copy.wait()?;
        if !status.success() {
            bail!("rsync failed: {status}");
        }
    }
    Ok(start.elapsed())
}

/// nginx as a static server: open-file cache, sendfile, tickets, no access log, a worker per core.
#[derive(Debug)]
pub struct Nginx {
    pub http: SocketAddr,
    pub https: SocketAddr,
    running: Running,
}

impl Nginx {
    /// Serves `root` with the certificate given as PEM files.
    pub fn start(home: &Path, root: &Path, chain: &Path, key: &Path) -> Result<Self> {
        let (http, https) = (free_addr()?, free_addr()?);
        fs::create_dir_all(home)?;
        let config = home.join("nginx.conf");
        fs::write(&config, nginx_config(home, root, chain, key, http, https))?;
        let child = Command::new("nginx")
            .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
            .arg("-c")
            .arg(&config)
            .args(["-e", "stderr"])
            .stdin(Stdio::null())
            .spawn()
            .context("could not start nginx: run tests/install --bench")?;
        let nginx = Nginx { http, https, running: Running(child) };
        wait_for(http)?;
        wait_for(https)?;
        Ok(nginx)
    }

    /// CPU time of all workers.
    pub fn cpu_time(&self) -> Result<Duration> {
        process::children(self.running.0.id())?.into_iter().map(process::cpu_time).sum()
    }
}

impl Drop for Nginx {
    /// Workers outlive a master that is killed; `quit` lets it take them along.
    fn drop(&mut self) {
        let pid = self.running.0.id().to_string();
        let _ = Command::new("kill").args(["-TERM", &pid]).status();
        let _ = self.running.0.wait();
    }
}

fn nginx_config(
    home: &Path,
    root: &Path,
    chain: &Path,
    key: &Path,
    http: SocketAddr,
    https: SocketAddr,
) -> String {
    format!(
        "daemon off;\nuser root;\nworker_processes auto;\npid {home}/pid;\nerror_log stderr warn;\n\
         events {{ worker_connections 4096; multi_accept on; }}\n\
         http {{\n\
           include /etc/nginx/mime.types;\n  access_log off;\n  sendfile on;\n  tcp_nopush on;\n\
           tcp_nodelay on;\n  keepalive_timeout 65;\n  keepalive_requests 10000000;\n\
           open_file_cache max=20000 inactive=300s;\n  open_file_cache_valid 300s;\n\
           open_file_cache_errors on;\n  etag on;\n\
           client_body_temp_path {home}/body;\n  proxy_temp_path {home}/proxy;\n\
           fastcgi_temp_path {home}/fastcgi;\n  uwsgi_temp_path {home}/uwsgi;\n\
           scgi_temp_path {home}/scgi;\n\
           server {{\n    listen {http} backlog=4096;\n    listen {https} ssl http2 backlog=4096;\n\
             root {root};\n    ssl_certificate {chain};\n    ssl_certificate_key {key};\n\
             ssl_protocols TLSv1.2 TLSv1.3;\n    ssl_session_cache shared:tls:10m;\n\
             ssl_buffer_size 16k;\n  }}\n}}\n",
        home = home.display(),
        root = root.display(),
        chain = chain.display(),
        key = key.display(),
    )
}
