-- What operators asked of nodes, as signed by them.
CREATE TABLE command (
    number INTEGER PRIMARY KEY,
    id TEXT NOT NULL UNIQUE,
    document BLOB NOT NULL,
    created_by TEXT NOT NULL,
    expires_at INTEGER NOT NULL
);

-- What nodes answered; the first receipt of a node stands.
CREATE TABLE receipt (
    command_id TEXT NOT NULL REFERENCES command (id),
    node_id TEXT NOT NULL,
    outcome TEXT NOT NULL,
    detail TEXT NOT NULL,
    answered_at INTEGER NOT NULL,
    document BLOB NOT NULL,
    PRIMARY KEY (command_id, node_id)
) WITHOUT ROWID;

-- A request that waits for more operators to ask for the same, and who did so far.
CREATE TABLE approval (
    id TEXT PRIMARY KEY,
    method TEXT NOT NULL,
    target TEXT NOT NULL,
    body BLOB NOT NULL,
    expires_at INTEGER NOT NULL
);
CREATE TABLE approval_vote (
    approval_id TEXT NOT NULL REFERENCES approval (id) ON DELETE CASCADE,
    key_id TEXT NOT NULL,
    voted_at INTEGER NOT NULL,
    PRIMARY KEY (approval_id, key_id)
) WITHOUT ROWID;
