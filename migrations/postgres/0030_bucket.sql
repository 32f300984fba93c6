-- Where blobs are in the bucket, when control keeps them in one. Times are Unix milliseconds.

-- One row: the name by which the bucket's marker knows this fleet.
CREATE TABLE bucket (
    id INTEGER PRIMARY KEY CHECK (id = 1),
    fleet TEXT NOT NULL
);

-- Objects that are whole in the bucket. A name is used once.
CREATE TABLE bucket_objects (
    key TEXT COLLATE "C" PRIMARY KEY,
    bytes BIGINT NOT NULL,
    -- When it was put, or a blob in it was counted on last: young ones are not collected.
    wanted_at BIGINT NOT NULL
);

-- One place for each blob: a body in a pack, or a large blob that is an object.
CREATE TABLE bucket_blobs (
    digest BYTEA PRIMARY KEY,
    object TEXT COLLATE "C" NOT NULL REFERENCES bucket_objects (key) ON DELETE CASCADE,
    start BIGINT NOT NULL,
    stored_len BIGINT NOT NULL,
    raw_len BIGINT NOT NULL
);
CREATE INDEX bucket_blobs_by_object ON bucket_blobs (object);
