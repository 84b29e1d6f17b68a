-- When members were last heard of, apart from what decisions write: it comes in thousands and in no order.
CREATE TABLE presence (
    node_id TEXT PRIMARY KEY,
    sent_ms INTEGER NOT NULL,
    last_seen INTEGER NOT NULL,
    numbers TEXT NOT NULL
) WITHOUT ROWID;
INSERT INTO presence (node_id, sent_ms, last_seen, numbers)
    SELECT node_id, last_seen * 1000, last_seen, coalesce(numbers, '{}') FROM node WHERE last_seen IS NOT NULL;
