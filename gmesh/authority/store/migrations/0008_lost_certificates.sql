-- What a restore learned from audits of certificates that were given out after the backup. Without a
-- digest it is known that there was one, but not what it said.
CREATE TABLE lost_certificate (
    id INTEGER PRIMARY KEY,
    serial INTEGER NOT NULL,
    node_id TEXT NOT NULL,
    name TEXT NOT NULL,
    digest TEXT,
    joined INTEGER NOT NULL,
    issued_at INTEGER NOT NULL
);
CREATE INDEX lost_certificate_serial ON lost_certificate (serial);
CREATE INDEX lost_certificate_joined ON lost_certificate (node_id, serial) WHERE joined;

-- A member that came back with such a certificate, which an operator has to look at; one a node.
CREATE TABLE readmission (
    id TEXT PRIMARY KEY,
    node_id TEXT NOT NULL UNIQUE,
    name TEXT NOT NULL,
    roles TEXT NOT NULL,
    node_key TEXT NOT NULL,
    noise_key TEXT NOT NULL,
    serial INTEGER NOT NULL,
    requested_at INTEGER NOT NULL,
    state TEXT NOT NULL,
    decided_by TEXT,
    decided_at INTEGER
) WITHOUT ROWID;
