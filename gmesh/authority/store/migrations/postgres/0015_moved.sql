-- Where all of this went, or nothing while a copy is not complete: no daemon serves from it any more, or yet.
CREATE TABLE moved (
    id BIGINT PRIMARY KEY CHECK (id = 1),
    place TEXT COLLATE "C" NOT NULL,
    moved_at BIGINT NOT NULL
);

-- Beside which later migrations an older program may go on: the oldest, by the last migration that it knows.
CREATE TABLE compatible (
    number BIGINT PRIMARY KEY,
    oldest BIGINT NOT NULL
);
