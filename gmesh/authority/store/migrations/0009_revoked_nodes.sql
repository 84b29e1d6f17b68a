-- A node that is revoked is one row, whatever it was certified: all with a lower serial are revoked.  Kept for
-- ever, as keys are; of two rows of a node the higher bound stands.
CREATE TABLE revoked_node (
    node_id TEXT NOT NULL,
    below_serial INTEGER NOT NULL,
    not_after INTEGER NOT NULL,
    revoked_at INTEGER NOT NULL,
    reason INTEGER NOT NULL,
    crl_number INTEGER,
    PRIMARY KEY (node_id, below_serial)
) WITHOUT ROWID;
CREATE INDEX revoked_node_crl_number ON revoked_node (crl_number);
CREATE INDEX revoked_key_crl_number ON revoked_key (crl_number);
-- Of another format: the start makes the next one, of all that is revoked.
DELETE FROM crl;
