-- +goose Up

-- The certificates that a CA had before the one in force. A list of the CA above that
-- names one of them for a compromise speaks of the key, which is still in use.
CREATE TABLE issuer_former (
    issuer_id   text COLLATE "C" NOT NULL,
    fingerprint text COLLATE "C" NOT NULL,
    certificate bytea NOT NULL,
    replaced_at timestamptz NOT NULL,
    PRIMARY KEY (issuer_id, fingerprint)
);

INSERT INTO schema_marks (version, readable_by) VALUES (10, 1);

-- +goose Down
DELETE FROM schema_marks WHERE version = 10;
DROP TABLE issuer_former;
