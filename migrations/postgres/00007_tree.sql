-- +goose Up

-- The newest certificate request of each issuer. It is what a transcript's act is
-- compared with when the certificate comes back.
CREATE TABLE issuer_requests (
    issuer_id    text NOT NULL PRIMARY KEY,
    csr          bytea NOT NULL,
    requested_by text NOT NULL,
    created_at   timestamptz NOT NULL
);

INSERT INTO schema_marks (version, readable_by) VALUES (7, 1);

-- +goose Down
DELETE FROM schema_marks WHERE version = 7;
DROP TABLE issuer_requests;
