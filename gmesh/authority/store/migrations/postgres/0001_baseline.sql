-- What SQLite's files make up to 0010; the comments stand there.
-- One row, which whoever decides holds until they commit: the order of all decisions of all daemons.
CREATE TABLE ordering (
    id BIGINT PRIMARY KEY CHECK (id = 1),
    turn BIGINT NOT NULL
);
INSERT INTO ordering (id, turn) VALUES (1, 0);

CREATE TABLE meta (
    name TEXT COLLATE "C" PRIMARY KEY,
    value BIGINT NOT NULL
);
INSERT INTO meta (name, value) VALUES ('epoch', 0), ('high_water', 0), ('nodes', 0);

CREATE TABLE counter (
    name TEXT COLLATE "C" PRIMARY KEY,
    n BIGINT NOT NULL
);
INSERT INTO counter (name, n) VALUES ('serial', 0), ('crl', 0), ('policy', 0), ('status', 0), ('command', 0);

CREATE TABLE genesis (
    version BIGINT PRIMARY KEY,
    document BYTEA NOT NULL,
    added_at BIGINT NOT NULL
);

CREATE TABLE policy (
    version BIGINT PRIMARY KEY,
    document BYTEA NOT NULL,
    issued_at BIGINT NOT NULL,
    published_by TEXT COLLATE "C" NOT NULL
);

CREATE TABLE crl (
    number BIGINT PRIMARY KEY,
    document BYTEA NOT NULL,
    issued_at BIGINT NOT NULL,
    ended_after BIGINT NOT NULL
);

CREATE TABLE status (
    number BIGINT PRIMARY KEY,
    document BYTEA NOT NULL,
    issued_at BIGINT NOT NULL
);

CREATE TABLE invite (
    id TEXT COLLATE "C" PRIMARY KEY,
    invite_key TEXT COLLATE "C" NOT NULL UNIQUE,
    name TEXT COLLATE "C" NOT NULL,
    roles TEXT COLLATE "C" NOT NULL,
    lifetime BIGINT,
    node_key TEXT COLLATE "C",
    approve BIGINT NOT NULL,
    created_at BIGINT NOT NULL,
    created_by TEXT COLLATE "C" NOT NULL,
    expires_at BIGINT NOT NULL,
    used_at BIGINT,
    used_serial BIGINT,
    revoked_at BIGINT
);
CREATE INDEX invite_expires_at ON invite (expires_at);

CREATE TABLE enrolment (
    id TEXT COLLATE "C" PRIMARY KEY REFERENCES invite (id),
    node_key TEXT COLLATE "C" NOT NULL,
    noise_key TEXT COLLATE "C" NOT NULL,
    requested_at BIGINT NOT NULL,
    state TEXT COLLATE "C" NOT NULL,
    decided_by TEXT COLLATE "C",
    decided_at BIGINT
);

CREATE TABLE node (
    name TEXT COLLATE "C" PRIMARY KEY,
    node_id TEXT COLLATE "C" NOT NULL UNIQUE,
    node_key TEXT COLLATE "C" NOT NULL,
    roles TEXT COLLATE "C" NOT NULL,
    lifetime BIGINT,
    serial BIGINT NOT NULL,
    not_after BIGINT NOT NULL,
    barred_at BIGINT,
    last_seen BIGINT,
    numbers TEXT COLLATE "C"
);

CREATE TABLE noise_key (
    noise_key TEXT COLLATE "C" PRIMARY KEY,
    node_id TEXT COLLATE "C" NOT NULL
);

CREATE TABLE certificate (
    serial BIGINT PRIMARY KEY,
    name TEXT COLLATE "C" NOT NULL,
    node_id TEXT COLLATE "C" NOT NULL,
    noise_key TEXT COLLATE "C" NOT NULL,
    document BYTEA NOT NULL,
    not_before BIGINT NOT NULL,
    not_after BIGINT NOT NULL,
    revoked_at BIGINT,
    reason BIGINT
);
CREATE INDEX certificate_node ON certificate (node_id, not_after);

CREATE TABLE revoked_certificate (
    serial BIGINT PRIMARY KEY,
    not_after BIGINT NOT NULL,
    reason BIGINT NOT NULL,
    crl_number BIGINT
);
CREATE INDEX revoked_certificate_crl_number ON revoked_certificate (crl_number);

CREATE TABLE revoked_key (
    key_id TEXT COLLATE "C" PRIMARY KEY,
    not_after BIGINT NOT NULL,
    revoked_at BIGINT NOT NULL,
    reason BIGINT NOT NULL,
    crl_number BIGINT
);
CREATE INDEX revoked_key_crl_number ON revoked_key (crl_number);

CREATE TABLE revoked_node (
    node_id TEXT COLLATE "C" NOT NULL,
    below_serial BIGINT NOT NULL,
    not_after BIGINT NOT NULL,
    revoked_at BIGINT NOT NULL,
    reason BIGINT NOT NULL,
    crl_number BIGINT,
    PRIMARY KEY (node_id, below_serial)
);
CREATE INDEX revoked_node_crl_number ON revoked_node (crl_number);

CREATE TABLE operator (
    key_id TEXT COLLATE "C" PRIMARY KEY,
    operator_key TEXT COLLATE "C" NOT NULL,
    role TEXT COLLATE "C" NOT NULL,
    name TEXT COLLATE "C" NOT NULL,
    added_at BIGINT NOT NULL,
    added_by TEXT COLLATE "C" NOT NULL,
    revoked_at BIGINT
);

CREATE TABLE nonce (
    key_id TEXT COLLATE "C" NOT NULL,
    nonce TEXT COLLATE "C" NOT NULL,
    created BIGINT NOT NULL,
    PRIMARY KEY (key_id, nonce)
);
CREATE INDEX nonce_created ON nonce (created);

CREATE TABLE audit (
    seq BIGINT PRIMARY KEY,
    entry BYTEA NOT NULL,
    hash BYTEA NOT NULL
);

CREATE TABLE command (
    number BIGINT PRIMARY KEY,
    id TEXT COLLATE "C" NOT NULL UNIQUE,
    document BYTEA NOT NULL,
    created_by TEXT COLLATE "C" NOT NULL,
    expires_at BIGINT NOT NULL
);

CREATE TABLE receipt (
    command_id TEXT COLLATE "C" NOT NULL REFERENCES command (id),
    node_id TEXT COLLATE "C" NOT NULL,
    outcome TEXT COLLATE "C" NOT NULL,
    detail TEXT COLLATE "C" NOT NULL,
    answered_at BIGINT NOT NULL,
    document BYTEA NOT NULL,
    PRIMARY KEY (command_id, node_id)
);

CREATE TABLE approval (
    id TEXT COLLATE "C" PRIMARY KEY,
    method TEXT COLLATE "C" NOT NULL,
    target TEXT COLLATE "C" NOT NULL,
    body BYTEA NOT NULL,
    expires_at BIGINT NOT NULL,
    proposed_by TEXT COLLATE "C" NOT NULL DEFAULT '',
    facts BYTEA NOT NULL DEFAULT ''
);
CREATE TABLE approval_vote (
    approval_id TEXT COLLATE "C" NOT NULL REFERENCES approval (id) ON DELETE CASCADE,
    key_id TEXT COLLATE "C" NOT NULL,
    voted_at BIGINT NOT NULL,
    PRIMARY KEY (approval_id, key_id)
);
CREATE TABLE approval_rules (
    id BIGINT PRIMARY KEY CHECK (id = 1),
    rules BYTEA NOT NULL,
    refused BYTEA
);

CREATE TABLE lost_certificate (
    id BIGINT GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY,
    serial BIGINT NOT NULL,
    node_id TEXT COLLATE "C" NOT NULL,
    name TEXT COLLATE "C" NOT NULL,
    digest TEXT COLLATE "C",
    joined BIGINT NOT NULL,
    issued_at BIGINT NOT NULL
);
CREATE INDEX lost_certificate_serial ON lost_certificate (serial);
CREATE INDEX lost_certificate_joined ON lost_certificate (node_id, serial) WHERE joined <> 0;

CREATE TABLE readmission (
    id TEXT COLLATE "C" PRIMARY KEY,
    node_id TEXT COLLATE "C" NOT NULL UNIQUE,
    name TEXT COLLATE "C" NOT NULL,
    roles TEXT COLLATE "C" NOT NULL,
    node_key TEXT COLLATE "C" NOT NULL,
    noise_key TEXT COLLATE "C" NOT NULL,
    serial BIGINT NOT NULL,
    requested_at BIGINT NOT NULL,
    state TEXT COLLATE "C" NOT NULL,
    decided_by TEXT COLLATE "C",
    decided_at BIGINT
);

CREATE TABLE admission_document (
    node_key TEXT COLLATE "C" PRIMARY KEY,
    document BYTEA NOT NULL
);

CREATE VIEW admission AS
    SELECT i.id AS invite, n.name, n.node_id, n.node_key, c.noise_key, n.roles, n.lifetime,
        c.serial, c.document, c.not_before, c.not_after
    FROM invite AS i JOIN certificate AS c ON c.serial = i.used_serial JOIN node AS n ON n.name = i.name;

CREATE FUNCTION admit() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    UPDATE invite SET used_at = NEW.not_before, used_serial = NEW.serial
        WHERE id = NEW.invite AND used_at IS NULL AND revoked_at IS NULL;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'the invite is spent or withdrawn' USING ERRCODE = 'integrity_constraint_violation';
    END IF;
    INSERT INTO noise_key (noise_key, node_id) VALUES (NEW.noise_key, NEW.node_id)
        ON CONFLICT (noise_key) DO UPDATE SET node_id = excluded.node_id
            WHERE noise_key.node_id = excluded.node_id;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'the Noise key is another node''s' USING ERRCODE = 'integrity_constraint_violation';
    END IF;
    INSERT INTO certificate (serial, name, node_id, noise_key, document, not_before, not_after)
        VALUES (NEW.serial, NEW.name, NEW.node_id, NEW.noise_key, NEW.document, NEW.not_before, NEW.not_after);
    INSERT INTO node (name, node_id, node_key, roles, lifetime, serial, not_after)
        VALUES (NEW.name, NEW.node_id, NEW.node_key, NEW.roles, NEW.lifetime, NEW.serial, NEW.not_after)
        ON CONFLICT (name) DO UPDATE SET node_id = excluded.node_id, node_key = excluded.node_key,
            roles = excluded.roles, lifetime = excluded.lifetime, serial = excluded.serial,
            not_after = excluded.not_after, barred_at = NULL, last_seen = NULL, numbers = NULL;
    RETURN NEW;
END;
$$;
CREATE TRIGGER admit INSTEAD OF INSERT ON admission FOR EACH ROW EXECUTE FUNCTION admit();
