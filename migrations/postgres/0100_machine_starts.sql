-- Which start of a machine is the newest: controls must agree on it, or two machines with one identity
-- are not seen when each of them talks to another control.
ALTER TABLE machine_reports
    -- JSON: the numbers that the machine drew at its last starts, and how many there were.
    ADD COLUMN starts TEXT,
    -- When an older start was heard of while the newest one was there.
    ADD COLUMN copy_heard_at TIMESTAMPTZ;
