-- A database in a file belongs to one control, which keeps in memory what machines say.
ALTER TABLE fleet ADD COLUMN term INTEGER NOT NULL DEFAULT 0;
