-- What controls on one database need of each other.

-- How often a control took the lead. What a leader writes is refused when another one led since.
ALTER TABLE fleet ADD COLUMN term BIGINT NOT NULL DEFAULT 0;

-- What machines said last, for controls that they did not say it to.
CREATE TABLE machine_reports (
    machine TEXT COLLATE "C" PRIMARY KEY REFERENCES machines (name) ON DELETE CASCADE,
    -- That of the machine which said it; one that joined again is another.
    machine_id TEXT COLLATE "C" NOT NULL,
    -- JSON; null until there was one.
    report TEXT,
    reported_to TEXT,
    reported_at TIMESTAMPTZ,
    -- The control that has its stream open, and when that was said last.
    watched_by TEXT,
    watched_at TIMESTAMPTZ,
    -- Of `machine_reports_changes`; rises in the order of commits.
    changed BIGINT NOT NULL
);
CREATE SEQUENCE machine_reports_changes;
