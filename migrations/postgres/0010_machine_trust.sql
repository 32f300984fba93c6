-- Control's CAs: one is current, one may be next, and retired ones stay trusted for a while.
-- Times are Unix milliseconds.
CREATE TABLE authorities (
    -- Rises with every rotation; also in the CA's name.
    number BIGINT PRIMARY KEY,
    stage TEXT NOT NULL,
    -- When it came to that stage.
    since BIGINT NOT NULL,
    certificate_pem TEXT NOT NULL,
    -- The same CA, signed by the one before it: who trusts only that one believes this one too.
    cross_pem TEXT NOT NULL,
    -- Sealed. Empty once it is retired: nothing is signed with it any more.
    key_pem TEXT NOT NULL
);
INSERT INTO authorities (number, stage, since, certificate_pem, cross_pem, key_pem)
    SELECT 1, 'current', 0, certificate_pem, '', key_pem FROM authority;
DROP TABLE authority;

-- Which CA signed a machine's newest certificate (0: not known), and until when it is valid.
ALTER TABLE machines ADD COLUMN signer BIGINT NOT NULL DEFAULT 0;
ALTER TABLE machines ADD COLUMN certificate_not_after BIGINT NOT NULL DEFAULT 0;

-- BLAKE3 of the public key that a token was used with: the same machine may ask again when the
-- answer was lost.
ALTER TABLE join_tokens ADD COLUMN used_by BYTEA;
