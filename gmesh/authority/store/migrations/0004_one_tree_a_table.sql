-- A join writes to fewer trees: rows lie in the tree of their key; node_id, which is made from
-- node_key, is unique for both; and nothing asks for certificates by their end alone.
DROP INDEX certificate_not_after;

CREATE TABLE noise_key_of_node (
    noise_key TEXT PRIMARY KEY,
    node_id TEXT NOT NULL
) WITHOUT ROWID;
INSERT INTO noise_key_of_node SELECT noise_key, node_id FROM noise_key ORDER BY noise_key;
DROP TABLE noise_key;
ALTER TABLE noise_key_of_node RENAME TO noise_key;

CREATE TABLE member (
    name TEXT PRIMARY KEY,
    node_id TEXT NOT NULL UNIQUE,
    node_key TEXT NOT NULL,
    roles TEXT NOT NULL,
    lifetime INTEGER,
    serial INTEGER NOT NULL,
    not_after INTEGER NOT NULL,
    barred_at INTEGER,
    last_seen INTEGER,
    numbers TEXT
) WITHOUT ROWID;
INSERT INTO member
    SELECT name, node_id, node_key, roles, lifetime, serial, not_after, barred_at, last_seen, numbers
    FROM node ORDER BY name;
DROP TABLE node;
ALTER TABLE member RENAME TO node;
