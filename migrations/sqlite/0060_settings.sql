-- A digest of the settings that the newest revision was made with, and of the version that made it:
-- a control that starts again with the same ones has nothing new to tell.
ALTER TABLE fleet ADD COLUMN settings BLOB;
