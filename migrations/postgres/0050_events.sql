-- What happened, in the order in which it was committed. Rows are only added at the end and
-- removed at the beginning.
CREATE TABLE events (
    seq BIGINT PRIMARY KEY,
    at BIGINT NOT NULL,
    kind TEXT NOT NULL,
    -- Nothing for what is about the whole fleet. Not a reference: events outlive sites.
    site TEXT,
    subject TEXT NOT NULL,
    -- JSON object.
    data TEXT NOT NULL
);
CREATE INDEX events_by_site ON events (site, seq);

-- One row: the newest event that there is, and the newest that was removed.
CREATE TABLE event_log (
    id INTEGER PRIMARY KEY CHECK (id = 1),
    last BIGINT NOT NULL,
    pruned BIGINT NOT NULL
);
INSERT INTO event_log (id, last, pruned) VALUES (1, 0, 0);

-- Machines whose absence was told.
CREATE TABLE away (
    machine TEXT PRIMARY KEY REFERENCES machines (name) ON DELETE CASCADE,
    since BIGINT NOT NULL
);
