-- +goose Up

-- What devices and people asked for: the memory by which a retransmission finds
-- its certificate, and the list of what waits for a person. Whether a request
-- has its certificate is not here: origins knows.
CREATE TABLE requests (
    id              TEXT NOT NULL PRIMARY KEY,
    origin          TEXT NOT NULL,
    endpoint        TEXT NOT NULL,
    identity        TEXT NOT NULL,
    csr_digest      BLOB NOT NULL,
    transaction_id  TEXT NOT NULL,
    protocol        TEXT NOT NULL,
    profile         TEXT NOT NULL,
    issuer          TEXT NOT NULL,
    requester       TEXT NOT NULL,
    request_id      TEXT NOT NULL,
    key_hash        BLOB NOT NULL,
    subject         TEXT NOT NULL,
    names           TEXT NOT NULL,
    csr             BLOB,
    asked           TEXT,
    template_digest BLOB,
    status          TEXT NOT NULL,
    decided_by      TEXT NOT NULL,
    decided_at      INTEGER,
    reason          TEXT NOT NULL,
    consumed_at     INTEGER,
    created_at      INTEGER NOT NULL,
    expires_at      INTEGER NOT NULL,
    hook            TEXT NOT NULL,
    hook_tries      INTEGER NOT NULL,
    hook_at         INTEGER
) STRICT;
CREATE UNIQUE INDEX requests_key ON requests (csr_digest, transaction_id, identity, endpoint);
CREATE UNIQUE INDEX requests_origin ON requests (origin);
CREATE INDEX requests_transaction ON requests (transaction_id, endpoint) WHERE protocol = 'scep';
CREATE INDEX requests_waiting ON requests (status, id) WHERE status <> 'open';
CREATE INDEX requests_hook ON requests (hook_at) WHERE hook <> '';
CREATE INDEX requests_expires ON requests (expires_at);

CREATE TABLE est_users (
    name        TEXT NOT NULL PRIMARY KEY,
    digest      BLOB NOT NULL,
    description TEXT NOT NULL,
    endpoint    TEXT NOT NULL,
    profile     TEXT NOT NULL,
    max_uses    INTEGER NOT NULL,
    uses        INTEGER NOT NULL,
    expires_at  INTEGER,
    disabled_at INTEGER,
    created_by  TEXT NOT NULL,
    created_at  INTEGER NOT NULL
) STRICT;
CREATE INDEX est_users_expires ON est_users (expires_at);

CREATE TABLE scep_challenges (
    id          TEXT NOT NULL PRIMARY KEY,
    digest      BLOB NOT NULL,
    description TEXT NOT NULL,
    endpoint    TEXT NOT NULL,
    profile     TEXT NOT NULL,
    subject     TEXT NOT NULL,
    max_uses    INTEGER NOT NULL,
    uses        INTEGER NOT NULL,
    expires_at  INTEGER,
    disabled_at INTEGER,
    created_by  TEXT NOT NULL,
    created_at  INTEGER NOT NULL
) STRICT;
CREATE UNIQUE INDEX scep_challenges_digest ON scep_challenges (digest);
CREATE INDEX scep_challenges_expires ON scep_challenges (expires_at);

CREATE INDEX orders_waiting ON orders (id) WHERE status = 'waiting';

INSERT INTO schema_marks (version, readable_by) VALUES (5, 1);

-- +goose Down
DELETE FROM schema_marks WHERE version = 5;
DROP INDEX orders_waiting;
DROP TABLE scep_challenges;
DROP TABLE est_users;
DROP TABLE requests;
