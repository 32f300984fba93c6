-- Uploads in parts to the bucket that have not ended, so that one goes on where it stopped and none
-- is left behind. Times are Unix milliseconds.

CREATE TABLE bucket_uploads (
    -- The name of the object that it is to be.
    object TEXT COLLATE "C" PRIMARY KEY,
    -- What the server calls the upload.
    upload TEXT NOT NULL,
    -- The large blob that it is; NULL when nobody goes on with it.
    digest BYTEA,
    -- The folder that the blob is read from: only its control goes on.
    folder TEXT COLLATE "C" NOT NULL,
    bytes BIGINT NOT NULL,
    part_bytes BIGINT NOT NULL,
    -- When somebody last went on with it.
    touched_at BIGINT NOT NULL
);
CREATE INDEX bucket_uploads_by_digest ON bucket_uploads (digest);

-- Parts that have arrived.
CREATE TABLE bucket_parts (
    object TEXT COLLATE "C" NOT NULL REFERENCES bucket_uploads (object) ON DELETE CASCADE,
    number BIGINT NOT NULL,
    etag TEXT,
    PRIMARY KEY (object, number)
);
