-- A database in a file belongs to one control, which keeps in memory what machines say.
SELECT 1;
