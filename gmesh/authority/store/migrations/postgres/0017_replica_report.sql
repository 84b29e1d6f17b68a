-- What each daemon says of itself: the numbers of what it serves, as JSON, and whether it is ready.
ALTER TABLE replica ADD COLUMN numbers TEXT COLLATE "C" NOT NULL DEFAULT '{}';
ALTER TABLE replica ADD COLUMN ready BIGINT NOT NULL DEFAULT 0;
