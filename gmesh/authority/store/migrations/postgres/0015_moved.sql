-- Where all of this went, or nothing while a copy is not complete: no daemon serves from it any more, or yet.
CREATE TABLE moved (
    id BIGINT PRIMARY KEY CHECK (id = 1),
    place TEXT COLLATE "C" NOT NULL,
    moved_at BIGINT NOT NULL
);
