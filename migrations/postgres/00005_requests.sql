-- +goose Up

-- What devices and people asked for: the memory by which a retransmission finds
-- its certificate, and the list of what waits for a person. Whether a request
-- has its certificate is not here: origins knows.
CREATE TABLE requests (
    id              text COLLATE "C" NOT NULL PRIMARY KEY,
    origin          text COLLATE "C" NOT NULL,
    endpoint        text COLLATE "C" NOT NULL,
    identity        text COLLATE "C" NOT NULL,
    csr_digest      bytea NOT NULL,
    transaction_id  text COLLATE "C" NOT NULL,
    protocol        text NOT NULL,
    profile         text NOT NULL,
    issuer          text NOT NULL,
    requester       text NOT NULL,
    request_id      text NOT NULL,
    key_hash        bytea NOT NULL,
    subject         text NOT NULL,
    names           text NOT NULL,
    csr             bytea,
    asked           text,
    template_digest bytea,
    status          text NOT NULL,
    decided_by      text NOT NULL,
    decided_at      timestamptz,
    reason          text NOT NULL,
    consumed_at     timestamptz,
    created_at      timestamptz NOT NULL,
    expires_at      timestamptz NOT NULL,
    hook            text NOT NULL,
    hook_tries      bigint NOT NULL,
    hook_at         timestamptz
);
CREATE UNIQUE INDEX requests_key ON requests (csr_digest, transaction_id, identity, endpoint);
CREATE UNIQUE INDEX requests_origin ON requests (origin);
CREATE INDEX requests_transaction ON requests (transaction_id, endpoint) WHERE protocol = 'scep';
CREATE INDEX requests_waiting ON requests (status, id) WHERE status <> 'open';
CREATE INDEX requests_hook ON requests (hook_at) WHERE hook <> '';
CREATE INDEX requests_expires ON requests (expires_at);

CREATE TABLE est_users (
    name        text COLLATE "C" NOT NULL PRIMARY KEY,
    digest      bytea NOT NULL,
    description text NOT NULL,
    endpoint    text NOT NULL,
    profile     text NOT NULL,
    max_uses    bigint NOT NULL,
    uses        bigint NOT NULL,
    expires_at  timestamptz,
    disabled_at timestamptz,
    created_by  text NOT NULL,
    created_at  timestamptz NOT NULL
);
CREATE INDEX est_users_expires ON est_users (expires_at);

CREATE TABLE scep_challenges (
    id          text COLLATE "C" NOT NULL PRIMARY KEY,
    digest      bytea NOT NULL,
    description text NOT NULL,
    endpoint    text NOT NULL,
    profile     text NOT NULL,
    subject     text NOT NULL,
    max_uses    bigint NOT NULL,
    uses        bigint NOT NULL,
    expires_at  timestamptz,
    disabled_at timestamptz,
    created_by  text NOT NULL,
    created_at  timestamptz NOT NULL
);
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
