-- compat: 17
-- How many members are revoked: max_nodes is held against the others.  The database counts them itself, for an
-- older program beside this one does not.
INSERT INTO meta (name, value) SELECT 'barred', count(*) FROM node WHERE barred_at IS NOT NULL;

-- NEW is null where a row is deleted.
CREATE FUNCTION count_barred() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    UPDATE meta SET value = value + CASE WHEN NEW.barred_at IS NULL THEN -1 ELSE 1 END WHERE name = 'barred';
    RETURN NULL;
END;
$$;
CREATE TRIGGER count_barred AFTER UPDATE OF barred_at ON node FOR EACH ROW
    WHEN ((OLD.barred_at IS NULL) <> (NEW.barred_at IS NULL)) EXECUTE FUNCTION count_barred();
CREATE TRIGGER forget_barred AFTER DELETE ON node FOR EACH ROW
    WHEN (OLD.barred_at IS NOT NULL) EXECUTE FUNCTION count_barred();
