-- Certificates from public CAs (RFC 8555), and own ones.

-- `internal`, `acme` or `import`.
ALTER TABLE certificates ADD COLUMN source TEXT NOT NULL DEFAULT 'internal';
-- The directory of the CA that it came from.
ALTER TABLE certificates ADD COLUMN ca TEXT;
-- When it is to be renewed, if not at two thirds of its life; and when the CA is asked next about that.
ALTER TABLE certificates ADD COLUMN renew_at BIGINT;
ALTER TABLE certificates ADD COLUMN ask_at BIGINT;

-- New certificates that one edge is to prove before the fleet gets them.
CREATE TABLE candidates (
    -- The certificate that it will be.
    id TEXT COLLATE "C" PRIMARY KEY,
    names TEXT NOT NULL,
    chain_pem TEXT NOT NULL,
    key_pem TEXT NOT NULL,
    not_before BIGINT NOT NULL,
    not_after BIGINT NOT NULL,
    source TEXT NOT NULL,
    ca TEXT COLLATE "C",
    -- The edge that was asked, and since when.
    machine TEXT,
    asked_at BIGINT,
    -- Why an edge could not serve with it.
    refused TEXT,
    created_at BIGINT NOT NULL
);

CREATE TABLE acme_accounts (
    ca TEXT COLLATE "C" PRIMARY KEY,
    -- Sealed.
    credentials TEXT NOT NULL,
    created_at BIGINT NOT NULL
);

-- Orders under way: a restart goes on with them instead of making new ones.
CREATE TABLE acme_orders (
    id TEXT COLLATE "C" PRIMARY KEY,
    ca TEXT COLLATE "C" NOT NULL,
    names TEXT NOT NULL,
    url TEXT NOT NULL,
    -- Sealed; written before the CA is given the request that it signed.
    key_pem TEXT,
    created_at BIGINT NOT NULL
);

-- What machines answer to a CA: `dns` (TXT of a name) or `http` (a token of a host).
CREATE TABLE acme_challenges (
    -- The certificate that it is for.
    id TEXT COLLATE "C" NOT NULL,
    kind TEXT COLLATE "C" NOT NULL,
    name TEXT COLLATE "C" NOT NULL,
    token TEXT COLLATE "C" NOT NULL,
    value TEXT NOT NULL,
    PRIMARY KEY (kind, name, token, value)
);

-- Who is not to be asked for what until when. An empty subject is the CA as a whole.
CREATE TABLE acme_setbacks (
    ca TEXT COLLATE "C" NOT NULL,
    subject TEXT COLLATE "C" NOT NULL,
    -- `down`, `limited`, `refused` or `failed`.
    kind TEXT COLLATE "C" NOT NULL,
    failures BIGINT NOT NULL,
    since BIGINT NOT NULL,
    retry_at BIGINT NOT NULL,
    detail TEXT NOT NULL,
    PRIMARY KEY (ca, subject)
);

-- What CAs count against their rate limits, for a little more than a week.
CREATE TABLE acme_events (
    ca TEXT COLLATE "C" NOT NULL,
    kind TEXT COLLATE "C" NOT NULL,
    subject TEXT COLLATE "C" NOT NULL,
    at BIGINT NOT NULL
);
CREATE INDEX acme_events_by_time ON acme_events (at);

-- Keys of TLS session tickets, shared by all edges.
CREATE TABLE ticket_keys (
    name TEXT COLLATE "C" PRIMARY KEY,
    -- Sealed.
    secret TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    not_after BIGINT NOT NULL
);
