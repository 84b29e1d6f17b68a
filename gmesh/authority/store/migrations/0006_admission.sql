-- All that a join writes, as one statement, which happens whole or not at all: each statement costs the
-- writer's thread a round with the reactor's for the interpreter.
CREATE VIEW admission AS
    SELECT i.id AS invite, n.name, n.node_id, n.node_key, c.noise_key, n.roles, n.lifetime,
        c.serial, c.document, c.not_before, c.not_after
    FROM invite AS i JOIN certificate AS c ON c.serial = i.used_serial JOIN node AS n ON n.name = i.name;

CREATE TRIGGER admit INSTEAD OF INSERT ON admission
BEGIN
    UPDATE invite SET used_at = NEW.not_before, used_serial = NEW.serial
        WHERE id = NEW.invite AND used_at IS NULL AND revoked_at IS NULL;
    SELECT raise(ABORT, 'the invite is spent or withdrawn') WHERE changes() = 0;
    INSERT INTO noise_key (noise_key, node_id) VALUES (NEW.noise_key, NEW.node_id)
        ON CONFLICT (noise_key) DO UPDATE SET node_id = excluded.node_id WHERE node_id = excluded.node_id;
    SELECT raise(ABORT, 'the Noise key is another node''s') WHERE changes() = 0;
    INSERT INTO certificate (serial, name, node_id, noise_key, document, not_before, not_after)
        VALUES (NEW.serial, NEW.name, NEW.node_id, NEW.noise_key, NEW.document, NEW.not_before, NEW.not_after);
    INSERT INTO node (name, node_id, node_key, roles, lifetime, serial, not_after)
        VALUES (NEW.name, NEW.node_id, NEW.node_key, NEW.roles, NEW.lifetime, NEW.serial, NEW.not_after)
        ON CONFLICT (name) DO UPDATE SET node_id = excluded.node_id, node_key = excluded.node_key,
            roles = excluded.roles, lifetime = excluded.lifetime, serial = excluded.serial,
            not_after = excluded.not_after, barred_at = NULL, last_seen = NULL, numbers = NULL;
END;
