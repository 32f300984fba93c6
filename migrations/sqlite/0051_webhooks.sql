-- Servers that are told of events. A webhook is a position in the log of events; there is no copy
-- of an event per webhook.
CREATE TABLE webhooks (
    id TEXT PRIMARY KEY,
    url TEXT NOT NULL,
    -- Sealed: what deliveries are signed with.
    secret TEXT NOT NULL,
    -- JSON lists; empty: all.
    events TEXT NOT NULL,
    sites TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    is_enabled BOOLEAN NOT NULL,
    -- Why control turned it off.
    disabled_reason TEXT,
    -- Everything up to this event was delivered, given up, or is not wanted.
    position INTEGER NOT NULL,
    -- Failures of the event behind the position, since when, and when it is tried again.
    attempts INTEGER NOT NULL,
    event_failing_since INTEGER,
    next_at INTEGER NOT NULL,
    -- Since when nothing could be delivered.
    failing_since INTEGER,
    delivered_at INTEGER,
    -- Counts deliveries, so that the newest can be told.
    deliveries INTEGER NOT NULL
);

-- The newest attempts of each webhook.
CREATE TABLE webhook_deliveries (
    webhook TEXT NOT NULL REFERENCES webhooks (id) ON DELETE CASCADE,
    number INTEGER NOT NULL,
    event INTEGER NOT NULL,
    kind TEXT NOT NULL,
    attempt INTEGER NOT NULL,
    at INTEGER NOT NULL,
    duration_ms INTEGER NOT NULL,
    outcome TEXT NOT NULL,
    status INTEGER,
    error TEXT,
    PRIMARY KEY (webhook, number)
);
