-- The daemons that serve from this database, one a start; turn is of the last group that each wrote.
CREATE TABLE replica (
    boot TEXT COLLATE "C" PRIMARY KEY,
    name TEXT COLLATE "C" NOT NULL,
    version TEXT COLLATE "C" NOT NULL,
    schema BIGINT NOT NULL,
    keys TEXT COLLATE "C" NOT NULL,
    rules BIGINT NOT NULL,
    started_at BIGINT NOT NULL,
    seen_at BIGINT NOT NULL,
    turn BIGINT NOT NULL
);
