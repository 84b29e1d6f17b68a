-- Counters and marks: 'epoch', 'high_water' (newest time seen).
CREATE TABLE meta (
    name TEXT PRIMARY KEY,
    value INTEGER NOT NULL
);
INSERT INTO meta (name, value) VALUES ('epoch', 0), ('high_water', 0);

-- What was given out so far in this epoch: serial, crl, policy, status, command.
CREATE TABLE counter (
    name TEXT PRIMARY KEY,
    n INTEGER NOT NULL
);
INSERT INTO counter (name, n) VALUES ('serial', 0), ('crl', 0), ('policy', 0), ('status', 0), ('command', 0);

CREATE TABLE genesis (
    version INTEGER PRIMARY KEY,
    document BLOB NOT NULL,
    added_at INTEGER NOT NULL
);

CREATE TABLE policy (
    version INTEGER PRIMARY KEY,
    document BLOB NOT NULL,
    issued_at INTEGER NOT NULL,
    published_by TEXT NOT NULL
);

CREATE TABLE crl (
    number INTEGER PRIMARY KEY,
    document BLOB NOT NULL,
    issued_at INTEGER NOT NULL,
    ended_after INTEGER NOT NULL
);

CREATE TABLE status (
    number INTEGER PRIMARY KEY,
    document BLOB NOT NULL,
    issued_at INTEGER NOT NULL
);

-- Only public keys: a copy of this table admits nobody.
CREATE TABLE invite (
    id TEXT PRIMARY KEY,
    invite_key TEXT NOT NULL UNIQUE,
    name TEXT NOT NULL,
    roles TEXT NOT NULL,
    lifetime INTEGER,
    node_key TEXT,
    approve INTEGER NOT NULL,
    created_at INTEGER NOT NULL,
    created_by TEXT NOT NULL,
    expires_at INTEGER NOT NULL,
    used_at INTEGER,
    used_serial INTEGER,
    revoked_at INTEGER
);
CREATE INDEX invite_expires_at ON invite (expires_at);

-- A join that waits for an operator.
CREATE TABLE enrolment (
    id TEXT PRIMARY KEY REFERENCES invite (id),
    node_key TEXT NOT NULL,
    noise_key TEXT NOT NULL,
    requested_at INTEGER NOT NULL,
    state TEXT NOT NULL,
    decided_by TEXT,
    decided_at INTEGER
);

-- The members. A barred one may not renew until it is invited again.
CREATE TABLE node (
    name TEXT PRIMARY KEY,
    node_id TEXT NOT NULL UNIQUE,
    node_key TEXT NOT NULL UNIQUE,
    roles TEXT NOT NULL,
    lifetime INTEGER,
    serial INTEGER NOT NULL,
    not_after INTEGER NOT NULL,
    barred_at INTEGER,
    last_seen INTEGER,
    numbers TEXT
);

-- One Noise key belongs to one node for ever.
CREATE TABLE noise_key (
    noise_key TEXT PRIMARY KEY,
    node_id TEXT NOT NULL
);

CREATE TABLE certificate (
    serial INTEGER PRIMARY KEY,
    name TEXT NOT NULL,
    node_id TEXT NOT NULL,
    noise_key TEXT NOT NULL,
    document BLOB NOT NULL,
    not_before INTEGER NOT NULL,
    not_after INTEGER NOT NULL,
    revoked_at INTEGER,
    reason INTEGER,
    crl_number INTEGER
);
CREATE INDEX certificate_node ON certificate (node_id, not_after);
CREATE INDEX certificate_not_after ON certificate (not_after);
CREATE INDEX certificate_revoked ON certificate (serial, not_after) WHERE revoked_at IS NOT NULL;
CREATE INDEX certificate_crl_number ON certificate (crl_number) WHERE crl_number IS NOT NULL;

CREATE INDEX certificate_unlisted ON certificate (serial) WHERE revoked_at IS NOT NULL AND crl_number IS NULL;

-- For ever: joins ask it.
CREATE TABLE revoked_key (
    key_id TEXT PRIMARY KEY,
    not_after INTEGER NOT NULL,
    revoked_at INTEGER NOT NULL,
    reason INTEGER NOT NULL,
    crl_number INTEGER
);

CREATE TABLE operator (
    key_id TEXT PRIMARY KEY,
    operator_key TEXT NOT NULL,
    role TEXT NOT NULL,
    name TEXT NOT NULL,
    added_at INTEGER NOT NULL,
    added_by TEXT NOT NULL,
    revoked_at INTEGER
);

CREATE TABLE nonce (
    key_id TEXT NOT NULL,
    nonce TEXT NOT NULL,
    created INTEGER NOT NULL,
    PRIMARY KEY (key_id, nonce)
) WITHOUT ROWID;
CREATE INDEX nonce_created ON nonce (created);

CREATE TABLE audit (
    seq INTEGER PRIMARY KEY,
    entry BLOB NOT NULL,
    hash BLOB NOT NULL
);
