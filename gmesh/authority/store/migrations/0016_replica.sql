-- The daemons that serve from this database, one a start; a file of one host has none of them.
CREATE TABLE replica (
    boot TEXT PRIMARY KEY,
    name TEXT NOT NULL,
    version TEXT NOT NULL,
    schema INTEGER NOT NULL,
    keys TEXT NOT NULL,
    rules INTEGER NOT NULL,
    started_at INTEGER NOT NULL,
    seen_at INTEGER NOT NULL,
    turn INTEGER NOT NULL
) WITHOUT ROWID;

-- In words that every engine takes.
DROP INDEX lost_certificate_joined;
CREATE INDEX lost_certificate_joined ON lost_certificate (node_id, serial) WHERE joined <> 0;
