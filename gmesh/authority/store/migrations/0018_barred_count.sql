-- compat: 17
-- How many members are revoked: max_nodes is held against the others.  The database counts them itself, for an
-- older program beside this one does not.
INSERT INTO meta (name, value) SELECT 'barred', count(*) FROM node WHERE barred_at IS NOT NULL;

CREATE TRIGGER count_barred AFTER UPDATE OF barred_at ON node
WHEN (OLD.barred_at IS NULL) <> (NEW.barred_at IS NULL)
BEGIN
    UPDATE meta SET value = value + CASE WHEN NEW.barred_at IS NULL THEN -1 ELSE 1 END WHERE name = 'barred';
END;

CREATE TRIGGER forget_barred AFTER DELETE ON node WHEN OLD.barred_at IS NOT NULL
BEGIN
    UPDATE meta SET value = value - 1 WHERE name = 'barred';
END;
