-- +goose Up

-- Delegated responder certificates: each node has its own key for each issuer.
CREATE TABLE ocsp_responders (
    certificate_id text COLLATE "C" NOT NULL PRIMARY KEY,
    issuer_id      text COLLATE "C" NOT NULL,
    serial         text COLLATE "C" NOT NULL,
    node           text NOT NULL,
    key_ref        text NOT NULL,
    certificate    bytea NOT NULL,
    not_before     timestamptz NOT NULL,
    not_after      timestamptz NOT NULL,
    created_at     timestamptz NOT NULL
);
CREATE INDEX ocsp_responders_issuer ON ocsp_responders (issuer_id, not_after);
CREATE INDEX ocsp_responders_not_after ON ocsp_responders (not_after);

-- What changed since a sequence, over all shards.
CREATE INDEX revocations_seq ON revocations (issuer_id, seq);

INSERT INTO schema_marks (version, readable_by) VALUES (3, 1);

-- +goose Down
DELETE FROM schema_marks WHERE version = 3;
DROP INDEX revocations_seq;
DROP TABLE ocsp_responders;
