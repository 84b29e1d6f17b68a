-- Nonces of signed reads, where several daemons share the database; what changes something has a table of its own.
CREATE TABLE read_nonce (
    key_id TEXT COLLATE "C" NOT NULL,
    nonce TEXT COLLATE "C" NOT NULL,
    created BIGINT NOT NULL,
    PRIMARY KEY (key_id, nonce)
);
CREATE INDEX read_nonce_created ON read_nonce (created);
