-- What a CRL is made of lies together: to list a hundred thousand touches their few pages, and not
-- the page of each certificate.
CREATE TABLE revoked_certificate (
    serial INTEGER PRIMARY KEY,
    not_after INTEGER NOT NULL,
    reason INTEGER NOT NULL,
    crl_number INTEGER
);
INSERT INTO revoked_certificate
    SELECT serial, not_after, reason, crl_number FROM certificate WHERE revoked_at IS NOT NULL ORDER BY serial;
CREATE INDEX revoked_certificate_crl_number ON revoked_certificate (crl_number);

DROP INDEX certificate_revoked;
DROP INDEX certificate_crl_number;
DROP INDEX certificate_unlisted;
ALTER TABLE certificate DROP COLUMN crl_number;
