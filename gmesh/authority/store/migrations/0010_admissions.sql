-- What admits a member beside the authority, where the genesis names keys for that; one a node key.
CREATE TABLE admission_document (
    node_key TEXT PRIMARY KEY,
    document BLOB NOT NULL
) WITHOUT ROWID;
