-- Nonces of signed reads, where several daemons share the database; what changes something has a table of its own.
CREATE TABLE read_nonce (
    key_id TEXT NOT NULL,
    nonce TEXT NOT NULL,
    created INTEGER NOT NULL,
    PRIMARY KEY (key_id, nonce)
) WITHOUT ROWID;
CREATE INDEX read_nonce_created ON read_nonce (created);
