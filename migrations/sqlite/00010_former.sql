-- +goose Up

-- The certificates that a CA had before the one in force. A list of the CA above that
-- names one of them for a compromise speaks of the key, which is still in use.
CREATE TABLE issuer_former (
    issuer_id   TEXT NOT NULL,
    fingerprint TEXT NOT NULL,
    certificate BLOB NOT NULL,
    replaced_at INTEGER NOT NULL,
    PRIMARY KEY (issuer_id, fingerprint)
) STRICT, WITHOUT ROWID;

INSERT INTO schema_marks (version, readable_by) VALUES (10, 1);

-- +goose Down
DELETE FROM schema_marks WHERE version = 10;
DROP TABLE issuer_former;
