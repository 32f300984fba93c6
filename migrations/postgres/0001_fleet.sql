-- What the fleet should hold. Times are Unix milliseconds, digests 32 bytes, names as text.
-- Names and ids are compared byte by byte (COLLATE "C"), as SQLite and control do.

-- One row: control's number for the state of the fleet. It only rises, in the same transaction
-- as the change that it describes.
CREATE TABLE fleet (
    id INTEGER PRIMARY KEY CHECK (id = 1),
    revision BIGINT NOT NULL
);
INSERT INTO fleet (id, revision) VALUES (1, 1);

-- Control's own CA. One row.
CREATE TABLE authority (
    id INTEGER PRIMARY KEY CHECK (id = 1),
    certificate_pem TEXT NOT NULL,
    key_pem TEXT NOT NULL
);

CREATE TABLE sites (
    name TEXT COLLATE "C" PRIMARY KEY,
    created_at BIGINT NOT NULL,
    -- The release served on the site's hosts.
    active TEXT COLLATE "C"
);

CREATE TABLE hosts (
    host TEXT COLLATE "C" PRIMARY KEY,
    site TEXT COLLATE "C" NOT NULL REFERENCES sites (name) ON DELETE CASCADE,
    is_default BOOLEAN NOT NULL,
    created_at BIGINT NOT NULL
);
CREATE INDEX hosts_by_site ON hosts (site);

CREATE TABLE releases (
    id TEXT COLLATE "C" PRIMARY KEY,
    site TEXT COLLATE "C" NOT NULL REFERENCES sites (name) ON DELETE CASCADE,
    state TEXT NOT NULL,
    manifest BYTEA NOT NULL,
    rules BYTEA NOT NULL,
    variants BYTEA,
    files_total BIGINT NOT NULL,
    bytes_total BIGINT NOT NULL,
    message TEXT,
    -- JSON of where the files came from.
    source TEXT,
    pushed_by TEXT,
    created_at BIGINT NOT NULL,
    finalized_at BIGINT,
    -- When edges were last told to stage it, and whether it goes live when they have.
    staging_at BIGINT,
    goes_live BOOLEAN NOT NULL DEFAULT FALSE,
    activated_at BIGINT,
    -- The revision that made it live; an edge at that revision serves it.
    live_revision BIGINT,
    grace_until BIGINT,
    -- The host of its own that it has, or had, and until when.
    preview_host TEXT,
    preview_expires_at BIGINT,
    failure TEXT
);
CREATE INDEX releases_by_site ON releases (site, id);
CREATE INDEX releases_by_state ON releases (state);

CREATE TABLE machines (
    name TEXT COLLATE "C" PRIMARY KEY,
    -- New with every join, and in the machine's certificate: an older certificate is void.
    id TEXT COLLATE "C" NOT NULL UNIQUE,
    role TEXT NOT NULL,
    -- JSON of what the machine said of itself last.
    about TEXT NOT NULL,
    is_drained BOOLEAN NOT NULL DEFAULT FALSE,
    joined_at BIGINT NOT NULL
);

-- Edges that do not serve a site's active release yet.
CREATE TABLE lagging (
    site TEXT COLLATE "C" NOT NULL REFERENCES sites (name) ON DELETE CASCADE,
    machine TEXT COLLATE "C" NOT NULL REFERENCES machines (name) ON DELETE CASCADE,
    PRIMARY KEY (site, machine)
);

-- Single-use; only BLAKE3 of the secret is kept.
CREATE TABLE join_tokens (
    hash BYTEA PRIMARY KEY,
    role TEXT NOT NULL,
    machine TEXT COLLATE "C" NOT NULL,
    created_at BIGINT NOT NULL,
    expires_at BIGINT NOT NULL
);

-- Only BLAKE3 of the secret is kept.
CREATE TABLE tokens (
    id TEXT COLLATE "C" PRIMARY KEY,
    hash BYTEA NOT NULL UNIQUE,
    name TEXT COLLATE "C" NOT NULL,
    scope TEXT NOT NULL,
    -- JSON list of site names; empty: every site.
    sites TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    expires_at BIGINT,
    last_used_at BIGINT
);

CREATE TABLE certificates (
    -- `site:<name>` or `previews`.
    id TEXT COLLATE "C" PRIMARY KEY,
    -- JSON list of names.
    names TEXT NOT NULL,
    chain_pem TEXT NOT NULL,
    key_pem TEXT NOT NULL,
    not_before BIGINT NOT NULL,
    not_after BIGINT NOT NULL
);

-- What encoding a content once gave. Without a digest: not worth it, never tried again.
CREATE TABLE variants (
    content BYTEA NOT NULL,
    coding TEXT NOT NULL,
    effort BIGINT NOT NULL,
    digest BYTEA,
    size_bytes BIGINT NOT NULL,
    PRIMARY KEY (content, coding)
);
