-- Servers that are told of events. A webhook is a position in the log of events; there is no copy
-- of an event per webhook.
CREATE TABLE webhooks (
    id TEXT COLLATE "C" PRIMARY KEY,
    url TEXT NOT NULL,
    -- Sealed: what deliveries are signed with.
    secret TEXT NOT NULL,
    -- JSON lists; empty: all.
    events TEXT NOT NULL,
    sites TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    is_enabled BOOLEAN NOT NULL,
    -- Why control turned it off.
    disabled_reason TEXT,
    -- Everything up to this event was delivered, given up, or is not wanted.
    position BIGINT NOT NULL,
    -- Failures of the event behind the position, since when, and when it is tried again.
    attempts BIGINT NOT NULL,
    event_failing_since BIGINT,
    next_at BIGINT NOT NULL,
    -- Since when nothing could be delivered.
    failing_since BIGINT,
    delivered_at BIGINT,
    -- Counts deliveries, so that the newest can be told.
    deliveries BIGINT NOT NULL
);

-- The newest attempts of each webhook.
CREATE TABLE webhook_deliveries (
    webhook TEXT NOT NULL REFERENCES webhooks (id) ON DELETE CASCADE,
    number BIGINT NOT NULL,
    event BIGINT NOT NULL,
    kind TEXT NOT NULL,
    attempt BIGINT NOT NULL,
    at BIGINT NOT NULL,
    duration_ms BIGINT NOT NULL,
    outcome TEXT NOT NULL,
    status BIGINT,
    error TEXT,
    PRIMARY KEY (webhook, number)
);
