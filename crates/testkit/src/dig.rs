//! What does a real DNS client make of our answers?
//!
//! Runs `dig` (BIND) or `kdig` (Knot) and reads what it prints.

use std::{collections::BTreeSet, net::SocketAddr, process::Stdio};

use anyhow::{Context, Result, bail};
use tokio::process::Command;

/// Which program asks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Tool {
    #[default]
    Dig,
    Kdig,
}

/// One question, as it is typed.
#[derive(Clone, Debug)]
pub struct Question {
    pub tool: Tool,
    pub server: SocketAddr,
    pub name: String,
    /// `A`, `AAAA`, `SOA`, …
    pub kind: String,
    /// Further arguments: `+tcp`, `+subnet=198.51.100.0/24`, `+bufsize=512`.
    pub options: Vec<String>,
}

/// An answer, as it was printed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reply {
    /// `NOERROR`, `NXDOMAIN`, …
    pub status: String,
    /// `aa`, `tc`, … in lower case.
    pub flags: BTreeSet<String>,
    pub answers: Vec<Record>,
    pub authority: Vec<Record>,
    pub additional: Vec<Record>,
    /// The client subnet option that came back: `198.51.100.0/24/24`.
    pub client_subnet: Option<String>,
    /// Everything that was printed.
    pub text: String,
}

/// A record, as it was printed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    pub name: String,
    pub ttl_s: u32,
    pub kind: String,
    pub data: String,
}

impl Question {
    /// Asks `server` by `dig`, over UDP, for `name` and `kind`.
    pub fn new(server: SocketAddr, name: &str, kind: &str) -> Self {
        Self {
            tool: Tool::Dig,
            server,
            name: name.to_owned(),
            kind: kind.to_owned(),
            options: Vec::new(),
        }
    }

    /// On behalf of visitors in `network`, such as `198.51.100.0/24`.
    pub fn seen_from(self, network: &str) -> Self {
        self.option(format!("+subnet={network}"))
    }

    pub fn option(mut self, option: impl Into<String>) -> Self {
        self.options.push(option.into());
        self
    }

    pub const fn by(mut self, tool: Tool) -> Self {
        self.tool = tool;
        self
    }

    /// Asks and reads the reply. An error when the program is missing or got no reply.
    pub async fn ask(&self) -> Result<Reply> {
        let program = self.tool.program();
        let output = Command::new(program)
            .arg(format!("@{}", self.server.ip()))
            .args(["-p", &self.server.port().to_string()])
            .args([&self.name, &self.kind])
            .args(["+tries=1", "+time=3", "+nocookie"].iter().filter(|_| self.tool == Tool::Dig))
            .args(["+retry=0", "+time=3"].iter().filter(|_| self.tool == Tool::Kdig))
            .args(&self.options)
            .stdin(Stdio::null())
            .output()
            .await
            .with_context(|| format!("{program} is not installed ({})", self.tool.package()))?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let reply = Reply::parse(&text);
        if reply.status.is_empty() {
            bail!("{program} got no reply from {}:\n{text}", self.server);
        }
        Ok(reply)
    }
}

impl Tool {
    const fn program(self) -> &'static str {
        match self {
            Tool::Dig => "dig",
            Tool::Kdig => "kdig",
        }
    }

    const fn package(self) -> &'static str {
        match self {
            Tool::Dig => "Debian has it in bind9-dnsutils",
            Tool::Kdig => "Debian has it in knot-dnsutils",
        }
    }
}

impl Reply {
    /// The data of all answers of one type, sorted.
    pub fn data(&self, kind: &str) -> Vec<&str> {
        let of_kind = self.answers.iter().filter(|record| record.kind == kind);
        let mut data: Vec<&str> = of_kind.map(|record| record.data.as_str()).collect();
        data.sort_unstable();
        data
    }

    /// Reads the output of `dig` or `kdig`.
    pub fn parse(text: &str) -> Self {
        let mut reply = Reply { text: text.to_owned(), ..Self::default() };
        let mut section = None;
        for line in text.lines() {
            let comment = line.trim_start_matches(';').trim();
            if let Some(found) = Section::of(comment).filter(|_| line.starts_with(";;")) {
                section = found;
            } else if line.starts_with(';') {
                reply.read_comment(comment);
            } else if let (Some(section), Some(record)) = (section, Record::parse(line)) {
                match section {
                    Section::Answer => reply.answers.push(record),
                    Section::Authority => reply.authority.push(record),
                    Section::Additional => reply.additional.push(record),
                }
            }
        }
        reply
    }

    fn read_comment(&mut self, comment: &str) {
        if let Some(flags) = comment.to_ascii_lowercase().strip_prefix("flags: ") {
            let flags = flags.split(';').next().unwrap_or_default();
            self.flags.extend(flags.split_whitespace().map(str::to_owned));
        }
        if let Some((_, status)) = comment.split_once("status: ") {
            status.split([',', ';']).next().unwrap_or_default().trim().clone_into(&mut self.status);
        }
        if let Some((_, subnet)) = comment.split_once("CLIENT-SUBNET: ") {
            self.client_subnet = Some(subnet.trim().to_owned());
        }
    }
}

#[derive(Clone, Copy)]
enum Section {
    Answer,
    Authority,
    Additional,
}

impl Section {
    /// The section that a heading begins; `Some(None)` for one whose records are not kept.
    fn of(heading: &str) -> Option<Option<Self>> {
        let name = heading.strip_suffix("SECTION:")?.trim();
        Some(match name {
            "ANSWER" => Some(Section::Answer),
            "AUTHORITY" => Some(Section::Authority),
            "ADDITIONAL" => Some(Section::Additional),
            _ => None,
        })
    }
}

impl Record {
    fn parse(line: &str) -> Option<Self> {
        let mut fields = line.split_whitespace();
        let (name, ttl_s) = (fields.next()?, fields.next()?.parse().ok()?);
        let (_class, kind) = (fields.next()?, fields.next()?);
        let data = fields.collect::<Vec<_>>().join(" ");
        Some(Self { name: name.to_owned(), ttl_s, kind: kind.to_owned(), data })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_dig_prints_is_read() {
        let reply = Reply::parse(
            "; <<>> DiG 9.18 <<>> a.nigh.test\n;; Got answer:\n\
             ;; ->>HEADER<<- opcode: QUERY, status: NOERROR, id: 7\n\
             ;; flags: qr aa rd; QUERY: 1, ANSWER: 1, AUTHORITY: 0, ADDITIONAL: 1\n\n\
             ;; OPT PSEUDOSECTION:\n; EDNS: version: 0, flags:; udp: 1232\n\
             ; CLIENT-SUBNET: 198.51.100.0/24/24\n;; QUESTION SECTION:\n;a.nigh.test. IN A\n\n\
             ;; ANSWER SECTION:\na.nigh.test.\t20\tIN\tA\t127.77.0.1\n\n;; Query time: 0 msec\n",
        );
        assert_eq!(reply.status, "NOERROR");
        assert!(reply.flags.contains("aa") && !reply.flags.contains("tc"));
        assert_eq!(reply.data("A"), ["127.77.0.1"]);
        assert_eq!(reply.answers[0].ttl_s, 20);
        assert_eq!(reply.client_subnet.as_deref(), Some("198.51.100.0/24/24"));
    }

    #[test]
    fn what_kdig_prints_is_read() {
        let reply = Reply::parse(
            ";; ->>HEADER<<- opcode: QUERY; status: NXDOMAIN; id: 7\n\
             ;; Flags: qr aa rd; QUERY: 1; ANSWER: 0; AUTHORITY: 1; ADDITIONAL: 0\n\n\
             ;; QUESTION SECTION:\n;; b.nigh.test.\tIN\tA\n\n;; AUTHORITY SECTION:\n\
             nigh.test. 60 IN SOA ns1.nigh.test. h.nigh.test. 1 2 3 4 5\n",
        );
        assert_eq!(reply.status, "NXDOMAIN");
        assert!(reply.flags.contains("aa"));
        assert_eq!(reply.authority[0].kind, "SOA");
        assert!(reply.answers.is_empty());
    }

    #[test]
    fn no_reply_has_no_status() {
        assert_eq!(Reply::parse(";; connection timed out; no servers could be reached").status, "");
    }
}
