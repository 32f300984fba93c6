-- Which fleet this is. It is in every state that machines are told, and goes with a backup: a machine
-- that has the state of another fleet is told nothing until somebody has said what becomes of that.
ALTER TABLE fleet ADD COLUMN identity TEXT;

-- Other fleets of which that was said. States up to the revision may be replaced by this one's.
CREATE TABLE settled_fleets (
    -- Empty: the fleet of states that do not say one.
    fleet TEXT COLLATE "C" PRIMARY KEY,
    revision BIGINT NOT NULL,
    -- `taken_over` or `dropped`.
    outcome TEXT NOT NULL,
    settled_at BIGINT NOT NULL
);
