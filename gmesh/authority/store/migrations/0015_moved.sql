-- Where all of this went, or nothing while a copy is not complete: no daemon serves from it any more, or yet.
CREATE TABLE moved (
    id INTEGER PRIMARY KEY CHECK (id = 1),
    place TEXT NOT NULL,
    moved_at INTEGER NOT NULL
);
