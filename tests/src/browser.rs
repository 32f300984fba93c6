//! What does a real browser make of a page?
//!
//! Debian's Chromium, without a window, led by its `chromedriver` (W3C `WebDriver`). It does not know
//! control's CA, and a CA of its own would have to be put into a database of the user who runs the
//! tests: so it is told to take any certificate. Whether the certificate is right is what other tests
//! look at.

use std::{
    io::{BufRead as _, BufReader},
    path::Path,
    process::{Child, ChildStdout, Command, Stdio},
};

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};
use tempfile::TempDir;

/// How long an element or the end of a script is waited for.
const WAIT_MS: u64 = 20_000;
/// Where the protocol puts the reference to an element.
const ELEMENT: &str = "element-6066-11e4-a52e-4f735466cecf";

/// A browser with one empty tab.
#[derive(Debug)]
pub struct Browser {
    driver: Driver,
    session: String,
    _profile: TempDir,
}

/// The running `chromedriver`; its browsers end with it.
#[derive(Debug)]
struct Driver {
    process: Child,
    /// Open as long as it runs: it may have more to say.
    said: BufReader<ChildStdout>,
    url: String,
}

impl Drop for Driver {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Driver {
    fn start() -> Result<Self> {
        let mut process = Command::new("chromedriver")
            .arg("--port=0")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .context("chromedriver is not there: run tests/install")?;
        let said = BufReader::new(process.stdout.take().context("its output")?);
        let mut driver = Self { process, said, url: String::new() };
        loop {
            let mut line = String::new();
            ensure!(driver.said.read_line(&mut line)? > 0, "chromedriver ended before it listened");
            // "ChromeDriver was started successfully on port 40123."
            if let Some((_, port)) = line.trim_end().split_once("successfully on port ") {
                let port: u16 = port.trim_end_matches('.').parse()?;
                driver.url = format!("http://127.0.0.1:{port}");
                return Ok(driver);
            }
        }
    }

    /// One command of the protocol; its `value`.
    fn ask(&self, method: &str, path: &str, body: Option<&Value>) -> Result<Value> {
        let mut curl = Command::new("curl");
        curl.args(["--silent", "--show-error", "--max-time", "120", "--noproxy", "*"])
            .args(["--request", method])
            .arg(format!("{}{path}", self.url));
        if let Some(body) = body {
            curl.args(["--header", "content-type: application/json"]);
            curl.args(["--data-binary", &body.to_string()]);
        }
        let output = curl.stdin(Stdio::null()).output().context("curl: run tests/install")?;
        let complaint = String::from_utf8_lossy(&output.stderr);
        let mut answer: Value = serde_json::from_slice(&output.stdout)
            .with_context(|| format!("{method} {path}: no answer of chromedriver: {complaint}"))?;
        let value = answer["value"].take();
        if let Some(error) = value["error"].as_str() {
            bail!("{method} {path}: {error}: {}", value["message"]);
        }
        Ok(value)
    }
}

impl Browser {
    /// Starts one that has been nowhere and resolves no name.
    pub fn start() -> Result<Self> {
        let driver = Driver::start()?;
        let profile = tempfile::tempdir()?;
        let capabilities = json!({ "capabilities": { "alwaysMatch": {
            "acceptInsecureCerts": true,
            "goog:chromeOptions": { "args": arguments(profile.path()) },
            // What a page makes of a click may come a moment later.
            "timeouts": { "implicit": WAIT_MS, "script": WAIT_MS, "pageLoad": 4 * WAIT_MS },
            // Every request that the page makes is in here.
            "goog:loggingPrefs": { "performance": "ALL", "browser": "ALL" },
        }}});
        let made = driver.ask("POST", "/session", Some(&capabilities))?;
        let session = made["sessionId"].as_str().context("a session")?.to_owned();
        Ok(Self { driver, session, _profile: profile })
    }

    fn ask(&self, method: &str, path: &str, body: Option<&Value>) -> Result<Value> {
        self.driver.ask(method, &format!("/session/{}{path}", self.session), body)
    }

    pub fn open(&self, url: &str) -> Result<()> {
        self.ask("POST", "/url", Some(&json!({ "url": url }))).map(drop)
    }

    /// What `script`, the body of a function, returns in the page.
    pub fn run(&self, script: &str) -> Result<Value> {
        self.ask("POST", "/execute/sync", Some(&json!({ "script": script, "args": [] })))
    }

    /// The like for one that calls `arguments[0]` with what it returns.
    pub fn await_run(&self, script: &str) -> Result<Value> {
        self.ask("POST", "/execute/async", Some(&json!({ "script": script, "args": [] })))
    }

    /// Clicks on what an `XPath` finds first, as a person would: it must be in sight.
    pub fn click(&self, xpath: &str) -> Result<()> {
        let element = self.element(xpath)?;
        self.ask("POST", &format!("/element/{element}/click"), Some(&json!({}))).map(drop)
    }

    pub fn type_into(&self, xpath: &str, text: &str) -> Result<()> {
        let element = self.element(xpath)?;
        self.ask("POST", &format!("/element/{element}/value"), Some(&json!({ "text": text })))
            .map(drop)
    }

    fn element(&self, xpath: &str) -> Result<String> {
        let found =
            self.ask("POST", "/element", Some(&json!({ "using": "xpath", "value": xpath })))?;
        Ok(found[ELEMENT].as_str().context("a reference")?.to_owned())
    }

    /// The address of every request over the network since the browser was started or this was asked
    /// last. Pages of the browser itself (`chrome:`) and `data:` are not of the network.
    pub fn requests(&self) -> Result<Vec<String>> {
        let log = self.ask("POST", "/se/log", Some(&json!({ "type": "performance" })))?;
        let mut urls = Vec::new();
        for entry in log.as_array().into_iter().flatten() {
            let entry: Value = serde_json::from_str(entry["message"].as_str().unwrap_or("{}"))?;
            let message = &entry["message"];
            if message["method"] == "Network.requestWillBeSent" {
                let url = message["params"]["request"]["url"].as_str().context("an address")?;
                if !url.starts_with("chrome:") && !url.starts_with("data:") {
                    urls.push(url.to_owned());
                }
            }
        }
        Ok(urls)
    }

    /// What the page complained of on its console; hints to those who write pages are none.
    pub fn complaints(&self) -> Result<Vec<String>> {
        let log = self.ask("POST", "/se/log", Some(&json!({ "type": "browser" })))?;
        let entries = log.as_array().into_iter().flatten();
        let complaints =
            entries.filter(|entry| entry["level"] == "WARNING" || entry["level"] == "SEVERE");
        Ok(complaints
            .map(|entry| entry["message"].as_str().unwrap_or_default().to_owned())
            .collect())
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // Else the browser would outlive its driver.
        let _ = self.ask("DELETE", "", None);
    }
}

/// No window, nothing of its own on the network, no state but in `profile`.
fn arguments(profile: &Path) -> Vec<String> {
    let fixed = [
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-quic",
        "--disable-dev-shm-usage",
        "--no-first-run",
        "--disable-background-networking",
        "--disable-component-update",
        "--disable-sync",
        "--no-proxy-server",
        "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
    ];
    let own = format!("--user-data-dir={}", profile.display());
    fixed.into_iter().map(str::to_owned).chain([own]).collect()
}
