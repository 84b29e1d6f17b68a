-- Where all of this went, or nothing while a copy is not complete: no daemon serves from it any more, or yet.
CREATE TABLE moved (
    id INTEGER PRIMARY KEY CHECK (id = 1),
    place TEXT NOT NULL,
    moved_at INTEGER NOT NULL
);

-- Beside which later migrations an older program may go on: the oldest, by the last migration that it knows.
CREATE TABLE compatible (
    number INTEGER PRIMARY KEY,
    oldest INTEGER NOT NULL
);
