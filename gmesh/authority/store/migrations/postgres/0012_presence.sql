-- When members were last heard of, apart from what decisions write: it comes in thousands and in no order.
CREATE TABLE presence (
    node_id TEXT COLLATE "C" PRIMARY KEY,
    sent_ms BIGINT NOT NULL,
    last_seen BIGINT NOT NULL,
    numbers TEXT COLLATE "C" NOT NULL
);
INSERT INTO presence (node_id, sent_ms, last_seen, numbers)
    SELECT node_id, last_seen * 1000, last_seen, coalesce(numbers, '{}') FROM node WHERE last_seen IS NOT NULL;
