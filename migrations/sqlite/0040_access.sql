-- Who may do what, who did what, and how often.

-- JSON list of what a token may do besides its scope; the scope 'none' stands for nothing.
ALTER TABLE tokens ADD COLUMN verbs TEXT NOT NULL DEFAULT '[]';

-- How often somebody has changed a site's settings or hosts: what If-Match is compared with.
ALTER TABLE sites ADD COLUMN edits BIGINT NOT NULL DEFAULT 1;

-- NULL: as the configuration says for all sites.
ALTER TABLE sites ADD COLUMN files_max BIGINT;
ALTER TABLE sites ADD COLUMN bytes_max BIGINT;
ALTER TABLE sites ADD COLUMN releases_max BIGINT;

-- Every change and who made it. Each hash covers the row and the hash before it.
CREATE TABLE audit (
    seq BIGINT PRIMARY KEY,
    at BIGINT NOT NULL,
    actor_kind TEXT NOT NULL,
    actor_id TEXT,
    actor_name TEXT NOT NULL,
    verb TEXT NOT NULL,
    site TEXT,
    subject TEXT NOT NULL,
    outcome TEXT NOT NULL,
    request_id TEXT,
    address TEXT,
    -- JSON object of texts.
    details TEXT NOT NULL,
    hash BLOB NOT NULL
);
CREATE INDEX audit_by_site ON audit (site, seq);

-- One row: where the chain begins, since older rows were pruned. Sealed by control.
CREATE TABLE audit_start (
    id INTEGER PRIMARY KEY CHECK (id = 1),
    seq BIGINT NOT NULL,
    hash BLOB NOT NULL,
    pruned_at BIGINT,
    seal TEXT
);
INSERT INTO audit_start (id, seq, hash)
VALUES (1, 0, x'0000000000000000000000000000000000000000000000000000000000000000');

CREATE TRIGGER audit_is_not_updated BEFORE UPDATE ON audit
BEGIN
    SELECT RAISE(ABORT, 'the audit log is append-only');
END;

CREATE TRIGGER audit_is_pruned_from_the_front BEFORE DELETE ON audit
WHEN OLD.seq > coalesce((SELECT seq FROM audit_start WHERE id = 1), 0)
BEGIN
    SELECT RAISE(ABORT, 'the audit log is append-only');
END;

CREATE TRIGGER audit_start_only_rises BEFORE UPDATE ON audit_start
WHEN NEW.seq < OLD.seq
BEGIN
    SELECT RAISE(ABORT, 'the audit log is append-only');
END;

-- What was answered to a request with an Idempotency-Key, for when it is sent again.
CREATE TABLE idempotency (
    -- BLAKE3 of token, route and key.
    id BLOB PRIMARY KEY,
    token TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    -- Until then somebody may be at it; NULL when it is answered.
    busy_until BIGINT,
    -- BLAKE3 of the body.
    fingerprint BLOB,
    status BIGINT,
    -- Sealed JSON of header fields and body: it may hold a secret that is shown once.
    answer TEXT
);
CREATE INDEX idempotency_by_token ON idempotency (token, created_at);
CREATE INDEX idempotency_by_time ON idempotency (created_at);
