//! What does every key of a role's configuration mean?
//!
//! Only words: values and defaults are the roles' own. A test compares these tables with the keys that
//! the roles accept.

/// One key, or one table of keys.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Key {
    /// The whole name, such as `sites.domain`.
    pub(crate) path: &'static str,
    pub(crate) kind: Kind,
    /// One line.
    pub(crate) means: &'static str,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A `[table]`.
    Table,
    /// A `[[table]]` that may be there several times.
    List,
    /// It has a default.
    Value,
    /// It has none, and the role cannot run without it. With an example in TOML.
    Needed(&'static str),
    /// It may be left out, or is one of a `[[table]]`. With an example in TOML.
    Example(&'static str),
}

const fn table(path: &'static str, means: &'static str) -> Key {
    Key { path, kind: Kind::Table, means }
}

const fn list(path: &'static str, means: &'static str) -> Key {
    Key { path, kind: Kind::List, means }
}

const fn value(path: &'static str, means: &'static str) -> Key {
    Key { path, kind: Kind::Value, means }
}

const fn needed(path: &'static str, example: &'static str, means: &'static str) -> Key {
    Key { path, kind: Kind::Needed(example), means }
}

const fn example(path: &'static str, example: &'static str, means: &'static str) -> Key {
    Key { path, kind: Kind::Example(example), means }
}

const OPS: Key = table("ops", "The operations pages /healthz, /readyz, /metrics and /version.");
const OPS_LISTEN: Key = value("ops.listen", "A private address: the pages need no login.");
const LOG: Key = table("log", "What is logged to stderr.");
const LOG_FORMAT: Key = value("log.format", "\"text\" for people, \"json\" for collectors.");
const LOG_FILTER: Key =
    value("log.filter", "error, warn, info, debug or trace; by module: \"info,nigh_edge=debug\".");
const CONTROL_AT: Key =
    table("control", "Where control is. It may be away: work goes on from disk.");
const CONTROL_URL: Key = needed(
    "control.url",
    "\"https://control.example.com:8444\"",
    "Control's machine port. Of several controls a list; every address of a name is tried.",
);
const CONTROL_CA: Key = example(
    "control.ca_file",
    "\"/etc/nigh/ca.pem\"",
    "Control's CA, PEM: ca.pem of its state folder. Only to join with a token without a fingerprint.",
);
const CONTROL_TOKEN: Key = example(
    "control.join_token_file",
    "\"/etc/nigh/join-token\"",
    "A join token from `nigh edge token` or `nigh dns token`. Needed until the machine has joined.",
);

/// `control.toml`.
pub(crate) const CONTROL: &[Key] = &[
    needed(
        "state_dir",
        "\"/var/lib/nigh/control\"",
        "Holds the database, the blobs and control's CA.",
    ),
    table("api", "Where people and their tools reach control."),
    value("api.listen", "Addresses; each \"IP:PORT\" or a table as here."),
    value("api.names", "What control's certificate is for, besides the addresses listened on."),
    value("api.connections_max", "Connections served at once; more wait in the kernel's queue."),
    table("machines", "Where edges and DNS servers reach control."),
    value("machines.listen", "One address: \"IP:PORT\" or a table as here."),
    value("machines.names", "What control's certificate is for, besides the address listened on."),
    value(
        "machines.connections_max",
        "Connections served at once; more wait in the kernel's queue.",
    ),
    value(
        "machines.certificate_ms",
        "How long a machine's certificate is valid; it renews itself after two thirds.",
    ),
    value(
        "machines.ca_patience_ms",
        "How long a rotation of the CA waits for a machine that is here and does not trust the new one.",
    ),
    value(
        "machines.ca_overlap_ms",
        "How long a replaced CA stays trusted at least, for those who have only that one.",
    ),
    OPS,
    OPS_LISTEN,
    LOG,
    LOG_FORMAT,
    LOG_FILTER,
    table("database", "Where control's database is."),
    example(
        "database.url",
        "\"postgres://nigh@db.example.com/nigh\"",
        "Or sqlite:PATH; control.db in state_dir otherwise.",
    ),
    table("secrets", "How private keys in the database are sealed."),
    example(
        "secrets.key_file",
        "\"/etc/nigh/secret.key\"",
        "64 hex digits, the same for all controls on one PostgreSQL. Otherwise made in state_dir.",
    ),
    table("events", "The log of what happened."),
    value("events.keep_max", "So many of the newest events are kept."),
    value("events.streams_max", "Streams of events that are open at once on one control."),
    table("webhooks", "Servers that control tells what happens."),
    value(
        "webhooks.allow_private",
        "Whether they may go to private and loopback addresses, and over plain HTTP.",
    ),
    example(
        "webhooks.ca_file",
        "\"/etc/nigh/internal-ca.pem\"",
        "Authorities, PEM, that are believed besides those of the platform.",
    ),
    table("blobs", "How blobs are kept."),
    example(
        "blobs.reserve_bytes",
        "268435456",
        "Disk space that pushes leave free. Otherwise 256 MiB, or 1 % of a small disk.",
    ),
    value("blobs.collect_interval_ms", "How often blobs that nothing needs are looked for."),
    value("blobs.collect_young_ms", "Blobs younger than this are never collected."),
    example(
        "blobs.bucket",
        "\"nigh-blobs\"",
        "An S3-compatible bucket that holds all blobs; the folder is then a cache.",
    ),
    example("blobs.endpoint", "\"https://s3.example.com\"", "Amazon's own otherwise."),
    value("blobs.region", "The bucket's region."),
    value("blobs.path_style", "Whether the bucket's name is in the path of URLs, not in the host."),
    value("blobs.prefix", "What the names of all objects begin with; it ends with a slash."),
    example(
        "blobs.credentials_file",
        "\"/etc/nigh/bucket-credentials\"",
        "In the format of ~/.aws/credentials. Otherwise AWS_ACCESS_KEY_ID and the usual chain.",
    ),
    example("blobs.profile", "\"default\"", "The profile in that file."),
    example(
        "blobs.ca_file",
        "\"/etc/nigh/bucket-ca.pem\"",
        "The CA of an endpoint that no public CA vouches for; edges are told of it.",
    ),
    value("blobs.url_expires_ms", "How long a URL of the bucket is good that an edge is given."),
    value("blobs.cache_bytes", "How much of the folder holds blobs that the bucket has too."),
    value("blobs.mirror", "Whether the folder has every blob as well, whatever cache_bytes says."),
    table("sites", "What all sites have in common."),
    value("sites.domain", "Every site has the host <site>.<domain>."),
    example(
        "sites.preview_domain",
        "\"preview.example.com\"",
        "Previews have hosts <preview>--<site>.<preview_domain>; the domain otherwise.",
    ),
    value("sites.https_redirect", "Whether plain HTTP is answered with a redirect to https."),
    value("sites.grace_ms", "How long immutable files of a superseded release stay reachable."),
    value(
        "sites.grace_releases_max",
        "Superseded releases of one site on edges, whatever the grace.",
    ),
    value(
        "sites.stage_deadline_ms",
        "How long an edge may take to stage before it is left behind.",
    ),
    value(
        "sites.keep_releases",
        "Releases kept of a site, besides the active one and live previews.",
    ),
    value("sites.preview_expires_ms", "How long previews live, unless the push says otherwise."),
    value("sites.upload_expires_ms", "How long a release may wait for its missing blobs."),
    table("quotas", "What a site may hold, unless it has a quota of its own; no bound otherwise."),
    example("quotas.files_max", "100000", "Files of one release."),
    example("quotas.bytes_max", "10000000000", "Bytes of all files of one release."),
    example("quotas.releases_max", "500", "Releases that control keeps, whatever their state."),
    table("limits", "How often the API may be called."),
    value("limits.requests_per_minute", "Requests of one token."),
    value("limits.failures_per_minute", "Wrong tokens from one address, or one /56 of IPv6."),
    value("limits.failures_per_minute_total", "Wrong tokens from everywhere."),
    table("audit", "How long it is known who changed what."),
    value("audit.keep_ms", "Older entries go."),
    value("audit.keep_entries", "The oldest beyond these go, however young."),
    table("variants", "Compressed forms of files, made in the background."),
    value("variants.enabled", "Whether they are made."),
    value("variants.threads", "Threads that make them, at the lowest priority."),
    table("certificates", "Who makes the certificates that edges serve with."),
    value(
        "certificates.mode",
        "\"internal\": control's own CA. \"acme\": the CAs below. \"none\": nobody, plain HTTP only.",
    ),
    value("certificates.names_max", "Names in one certificate at most."),
    value("certificates.fallback_after_ms", "How long a CA may be down until the next is asked."),
    value(
        "certificates.challenge_deadline_ms",
        "How long machines may take to show the answer to a CA's challenge.",
    ),
    value(
        "certificates.resolvers",
        "Where names outside of the zones are looked up, \"IP:PORT\"; the system's when empty.",
    ),
    value(
        "certificates.ticket_period_ms",
        "How often edges get a new key for TLS session tickets; each lives three times as long.",
    ),
    list("certificates.acme", "A public CA that speaks ACME; the preferred one first."),
    example(
        "certificates.acme.directory",
        "\"https://acme-v02.api.letsencrypt.org/directory\"",
        "Its directory.",
    ),
    example(
        "certificates.acme.contact",
        "[\"mailto:hostmaster@example.com\"]",
        "Whom it may tell of trouble.",
    ),
    example(
        "certificates.acme.agree_to_terms",
        "true",
        "You agree to its terms of service; needed.",
    ),
    example("certificates.acme.eab_key_id", "\"kid-1\"", "External account binding: the key's id."),
    example(
        "certificates.acme.eab_key_file",
        "\"/etc/nigh/eab.key\"",
        "A file with that key in base64url.",
    ),
    example(
        "certificates.acme.profile",
        "\"tlsserver\"",
        "The kind of certificate, if it has several.",
    ),
    example(
        "certificates.acme.ca_file",
        "\"/etc/nigh/private-ca.pem\"",
        "Whom to trust for its HTTPS; the system's authorities otherwise.",
    ),
    example(
        "certificates.acme.caa_identities",
        "[\"letsencrypt.org\"]",
        "What CAA records call it, if its directory does not say.",
    ),
    table("public", "How edges are reached from outside; only for the URLs that control prints."),
    value("public.https_port", "The port of https URLs."),
    value("public.http_port", "The port of http URLs."),
    table("dns", "How DNS servers answer for sites."),
    value("dns.ttl_s", "How long resolvers may remember which edge is near."),
    value("dns.answer_addresses_max", "How many addresses one answer holds at most."),
    list(
        "zones",
        "A zone that nigh's DNS servers answer for. Names are relative unless they end in a dot.",
    ),
    example("zones.name", "\"example.com\"", "The apex."),
    example("zones.name_servers", "[\"ns1\", \"ns2\"]", "As the parent zone delegates to them."),
    example(
        "zones.primary",
        "\"ns1\"",
        "What the SOA record names; the first name server otherwise.",
    ),
    example("zones.mailbox", "\"hostmaster\"", "Who answers for the zone, written as a name."),
    list("zones.records", "A fixed record of the zone above it."),
    example("zones.records.name", "\"ns1\"", "\"@\" is the zone itself."),
    example("zones.records.ttl_s", "3600", "Seconds; 300 otherwise."),
    example("zones.records.type", "\"A\"", "A, AAAA, CNAME, NS, TXT, MX or CAA."),
    example(
        "zones.records.value",
        "\"192.0.2.53\"",
        "A text; { preference, exchange } for MX, { flags, tag, value } for CAA.",
    ),
    list(
        "networks",
        "Where a network is, as you know it; this wins over GeoIP. One of the last three.",
    ),
    example("networks.network", "\"198.51.100.0/24\"", "The network."),
    example("networks.region", "\"frankfurt\"", "It is near the edges of this region."),
    example("networks.edge", "\"fra1\"", "It is near this edge."),
    example("networks.location", "{ latitude = 52.5, longitude = 13.4 }", "It is here."),
];

/// `edge.toml`.
pub(crate) const EDGE: &[Key] = &[
    needed(
        "state_dir",
        "\"/var/lib/nigh/edge\"",
        "Holds the identity, the copy of the state and all blobs.",
    ),
    needed(
        "name",
        "\"fra1\"",
        "What the fleet calls this machine; the name its join token is for.",
    ),
    needed("region", "\"frankfurt\"", "What the fleet calls this place."),
    needed("latitude", "50.11", "Degrees north."),
    needed("longitude", "8.68", "Degrees east."),
    value("ipv4", "Addresses that visitors reach this machine at; DNS answers with them."),
    value("ipv6", "The same for IPv6."),
    CONTROL_AT,
    CONTROL_URL,
    CONTROL_CA,
    CONTROL_TOKEN,
    table("http", "Plain HTTP."),
    value("http.listen", "Addresses; each \"IP:PORT\" or a table as here."),
    table("https", "HTTP over TLS."),
    value("https.listen", "Addresses; each \"IP:PORT\" or a table as here."),
    example(
        "https.public_port",
        "443",
        "Where plain HTTP is redirected to, when it is not the port listened on.",
    ),
    OPS,
    OPS_LISTEN,
    LOG,
    LOG_FORMAT,
    LOG_FILTER,
    table("limits", "How much of the machine strangers may take."),
    value(
        "limits.connections_max",
        "Open connections over all listeners; more are closed at once.",
    ),
    value(
        "limits.connections_per_address_max",
        "Open connections of one IPv4 address or IPv6 /64; 0 for any number.",
    ),
    value("limits.handshake_timeout_ms", "How long a TLS handshake may take."),
    value("limits.header_timeout_ms", "How long the head of a request may take."),
    value("limits.idle_timeout_ms", "A connection on which no byte moves for so long is closed."),
    value(
        "limits.send_bytes_per_s_min",
        "How fast a client must take answers, over the idle timeout; 0 for any speed.",
    ),
    value("limits.headers_max", "Fields of one request."),
    value("limits.header_bytes_max", "Bytes of one request's head; at least 8192."),
    value("limits.streams_max", "Requests at once on one HTTP/2 connection."),
    value("limits.request_body_bytes_max", "Request bodies are read up to this and thrown away."),
    value("limits.disk_reads_max", "Files read from disk at the same time for visitors."),
    table("hot_cache", "How much memory may hold response bodies."),
    value("hot_cache.capacity_bytes", "Total size of all bodies held."),
    value("hot_cache.body_bytes_max", "Bodies larger than this always come from disk."),
    table("storage", "How blobs are looked after."),
    example(
        "storage.reserve_bytes",
        "268435456",
        "How much of the disk stays free. Otherwise 256 MiB, or 1 % of a small disk.",
    ),
    value(
        "storage.scrub_bytes_per_s",
        "How fast blobs are read again to find damage; 0 turns it off.",
    ),
    value("storage.scrub_after_ms", "How long after the start the first pass begins."),
    value("storage.scrub_every_ms", "How long after the end of a pass the next begins."),
    value("storage.collect_every_ms", "How often blobs that no release needs are removed."),
    value("storage.collect_young_ms", "Blobs younger than this are kept, needed or not."),
    table("peers", "How edges bring each other blobs of large releases."),
    value(
        "peers.enabled",
        "Whether this edge fetches from others and they from it. Without, all comes from control.",
    ),
    value("peers.connections_max", "Connections of other edges at once."),
    value(
        "peers.busy_bytes_per_s",
        "How fast one answer to another edge leaves while visitors are served under pressure; 0 for any speed.",
    ),
    table("access_log", "One line for every request."),
    value(
        "access_log.output",
        "\"off\", \"stderr\" or the path of a file, opened again on a reload.",
    ),
    value("access_log.format", "\"json\" or \"combined\"."),
    value("access_log.full_addresses", "Otherwise addresses are cut to /24 (IPv4) and /48 (IPv6)."),
];

/// `dns.toml`.
pub(crate) const DNS: &[Key] = &[
    needed("state_dir", "\"/var/lib/nigh/dns\"", "Holds the identity and the copy of the state."),
    needed("name", "\"ns1\"", "What the fleet calls this machine; the name its join token is for."),
    CONTROL_AT,
    CONTROL_URL,
    CONTROL_CA,
    CONTROL_TOKEN,
    table("dns", "Where queries are received."),
    value(
        "dns.listen",
        "UDP and TCP alike. On a machine with several addresses list each of them.",
    ),
    value("dns.tcp_connections_max", "TCP connections at once; the one quiet longest makes room."),
    value("dns.tcp_idle_ms", "How long a TCP connection may go without a whole query."),
    table("geoip", "Files that say where networks are. Without them: a table of continents."),
    example("geoip.city", "\"/var/lib/GeoIP/GeoLite2-City.mmdb\"", "A MaxMind DB with locations."),
    example(
        "geoip.asn",
        "\"/var/lib/GeoIP/GeoLite2-ASN.mmdb\"",
        "One with AS numbers, for explanations.",
    ),
    value("geoip.reload_ms", "How often the files are looked at for a replacement."),
    value("geoip.file_bytes_max", "Larger files are refused: a file is held in memory as a whole."),
    table("probe", "How edges are asked whether they are up."),
    value("probe.interval_ms", "How often every edge is asked."),
    value("probe.timeout_ms", "How long an answer may take, connecting included."),
    value("probe.failures", "So many failures in a row take an edge out of the answers."),
    value("probe.successes", "So many successes in a row bring it back."),
    value("probe.concurrency_max", "So many edges are asked at once."),
    OPS,
    OPS_LISTEN,
    LOG,
    LOG_FORMAT,
    LOG_FILTER,
];
