-- +goose Up

-- One row for each migration: the oldest schema number that a binary must know
-- to run on the schema after it. A binary that meets a newer number than its
-- own looks here before it refuses.
CREATE TABLE schema_marks (
    version     bigint NOT NULL PRIMARY KEY,
    readable_by bigint NOT NULL
);

CREATE TABLE issuers (
    id              text COLLATE "C" NOT NULL PRIMARY KEY,
    name            text NOT NULL,
    generation      bigint NOT NULL,
    state           text NOT NULL,
    parent_id       text NOT NULL,
    certificate     bytea NOT NULL,
    subject         text NOT NULL,
    not_after       timestamptz NOT NULL,
    revocation_seq  bigint NOT NULL,
    last_crl_number bigint NOT NULL,
    created_at      timestamptz NOT NULL
);

CREATE TABLE certificates (
    id              text COLLATE "C" NOT NULL PRIMARY KEY,
    issuer_id       text COLLATE "C" NOT NULL,
    serial          text COLLATE "C" NOT NULL,
    status          text NOT NULL,
    node            text NOT NULL,
    profile         text NOT NULL,
    profile_version text NOT NULL,
    protocol        text NOT NULL,
    endpoint        text NOT NULL,
    requester       text NOT NULL,
    request_id      text NOT NULL,
    key_hash        bytea NOT NULL,
    subject         text NOT NULL,
    subject_lower   text NOT NULL,
    names           text NOT NULL,
    not_before      timestamptz NOT NULL,
    not_after       timestamptz NOT NULL,
    tbs             bytea,
    der             bytea,
    shard           bigint NOT NULL,
    lineage         text NOT NULL,
    origin          text COLLATE "C" NOT NULL,
    claims          text NOT NULL,
    reserved_at     timestamptz NOT NULL,
    issued_at       timestamptz
);
CREATE UNIQUE INDEX certificates_serial ON certificates (serial, issuer_id);
CREATE INDEX certificates_not_after ON certificates (not_after);
CREATE INDEX certificates_reserved ON certificates (reserved_at) WHERE status = 'reserved';

-- Values are lower-cased; reversed serves searches for a suffix.
CREATE TABLE certificate_names (
    certificate_id text COLLATE "C" NOT NULL REFERENCES certificates (id) ON DELETE CASCADE,
    position       bigint NOT NULL,
    type           text NOT NULL,
    value          text COLLATE "C" NOT NULL,
    reversed       text COLLATE "C" NOT NULL,
    PRIMARY KEY (certificate_id, position)
);
CREATE INDEX certificate_names_reversed ON certificate_names (reversed);

CREATE TABLE origins (
    origin         text COLLATE "C" NOT NULL PRIMARY KEY,
    certificate_id text COLLATE "C" NOT NULL
);

CREATE TABLE revocations (
    certificate_id text COLLATE "C" NOT NULL PRIMARY KEY REFERENCES certificates (id) ON DELETE CASCADE,
    issuer_id      text COLLATE "C" NOT NULL,
    serial         text COLLATE "C" NOT NULL,
    shard          bigint NOT NULL,
    not_after      timestamptz NOT NULL,
    reason         bigint NOT NULL,
    revoked_at     timestamptz NOT NULL,
    invalidity_at  timestamptz,
    seq            bigint NOT NULL,
    requester      text NOT NULL,
    listed_in      bigint
);
CREATE INDEX revocations_issuer ON revocations (issuer_id, shard, seq);

CREATE TABLE blocked_keys (
    key_hash       bytea NOT NULL PRIMARY KEY,
    certificate_id text COLLATE "C" NOT NULL,
    blocked_at     timestamptz NOT NULL
);

CREATE TABLE crls (
    issuer_id   text COLLATE "C" NOT NULL,
    shard       bigint NOT NULL,
    number      bigint NOT NULL,
    this_update timestamptz NOT NULL,
    next_update timestamptz NOT NULL,
    sha256      bytea NOT NULL,
    size        bigint NOT NULL,
    PRIMARY KEY (issuer_id, shard, number)
);

CREATE TABLE crl_chunks (
    issuer_id text COLLATE "C" NOT NULL,
    shard     bigint NOT NULL,
    number    bigint NOT NULL,
    position  bigint NOT NULL,
    data      bytea NOT NULL,
    PRIMARY KEY (issuer_id, shard, number, position),
    FOREIGN KEY (issuer_id, shard, number) REFERENCES crls (issuer_id, shard, number) ON DELETE CASCADE
);

CREATE TABLE accounts (
    id              text COLLATE "C" NOT NULL PRIMARY KEY,
    endpoint        text NOT NULL,
    thumbprint      text COLLATE "C" NOT NULL,
    jwk             text NOT NULL,
    contact         text NOT NULL,
    status          text NOT NULL,
    terms_agreed_at timestamptz,
    eab_kid         text NOT NULL,
    created_at      timestamptz NOT NULL,
    created_from    text NOT NULL
);
CREATE UNIQUE INDEX accounts_key ON accounts (thumbprint, endpoint);

CREATE TABLE eab_keys (
    kid         text COLLATE "C" NOT NULL PRIMARY KEY,
    hmac        bytea NOT NULL,
    description text NOT NULL,
    endpoint    text NOT NULL,
    profiles    text NOT NULL,
    names       text NOT NULL,
    max_uses    bigint NOT NULL,
    uses        bigint NOT NULL,
    expires_at  timestamptz,
    disabled_at timestamptz,
    created_by  text NOT NULL,
    created_at  timestamptz NOT NULL
);

CREATE TABLE orders (
    id            text COLLATE "C" NOT NULL PRIMARY KEY,
    account_id    text COLLATE "C" NOT NULL,
    endpoint      text NOT NULL,
    profile       text NOT NULL,
    replaces      text NOT NULL,
    identifiers   text NOT NULL,
    not_before    timestamptz,
    not_after     timestamptz,
    status        text NOT NULL,
    error         text,
    csr           bytea,
    node          text NOT NULL,
    expires       timestamptz NOT NULL,
    created_at    timestamptz NOT NULL,
    processing_at timestamptz
);
CREATE INDEX orders_account ON orders (account_id, id);
CREATE INDEX orders_pending ON orders (account_id) WHERE status = 'pending';
CREATE INDEX orders_processing ON orders (processing_at) WHERE status = 'processing';
CREATE INDEX orders_expires ON orders (expires);
CREATE INDEX orders_replaces ON orders (replaces) WHERE replaces <> '';

CREATE TABLE authorizations (
    id               text COLLATE "C" NOT NULL PRIMARY KEY,
    account_id       text COLLATE "C" NOT NULL,
    identifier_type  text NOT NULL,
    identifier_value text COLLATE "C" NOT NULL,
    wildcard         boolean NOT NULL,
    status           text NOT NULL,
    expires          timestamptz NOT NULL,
    token            text NOT NULL,
    attempted        text NOT NULL,
    attempts         bigint NOT NULL,
    next_attempt_at  timestamptz,
    thumbprint       text NOT NULL,
    validated_at     timestamptz,
    error            text,
    record           text,
    created_at       timestamptz NOT NULL
);
CREATE INDEX authorizations_account ON authorizations (account_id, identifier_value);
CREATE INDEX authorizations_pending ON authorizations (account_id) WHERE status = 'pending';
CREATE INDEX authorizations_due ON authorizations (next_attempt_at) WHERE status = 'pending' AND attempted <> '';
CREATE INDEX authorizations_expires ON authorizations (expires);

CREATE TABLE order_authorizations (
    order_id         text COLLATE "C" NOT NULL REFERENCES orders (id) ON DELETE CASCADE,
    position         bigint NOT NULL,
    authorization_id text COLLATE "C" NOT NULL,
    PRIMARY KEY (order_id, position)
);
CREATE INDEX order_authorizations_authorization ON order_authorizations (authorization_id);

-- Spent nonces. Only PostgreSQL needs the table: SQLite serves one process,
-- which keeps them in memory. A crash of the database empties it; the nonce
-- epoch of the nodes covers that.
CREATE UNLOGGED TABLE nonces (
    value   bytea NOT NULL PRIMARY KEY,
    expires timestamptz NOT NULL
);
CREATE INDEX nonces_expires ON nonces (expires);

-- tat is the theoretical arrival time of GCRA in Unix microseconds: a number on
-- both engines, because it is computed with inside the statement.
CREATE TABLE limits (
    key text COLLATE "C" NOT NULL PRIMARY KEY,
    tat bigint NOT NULL
);
CREATE INDEX limits_tat ON limits (tat);

CREATE TABLE leases (
    name    text COLLATE "C" NOT NULL PRIMARY KEY,
    holder  text NOT NULL,
    token   bigint NOT NULL,
    expires timestamptz NOT NULL
);

CREATE TABLE secrets (
    name       text COLLATE "C" NOT NULL PRIMARY KEY,
    sealed     bytea NOT NULL,
    created_at timestamptz NOT NULL
);

CREATE TABLE nodes (
    node          text COLLATE "C" NOT NULL PRIMARY KEY,
    epoch         text NOT NULL,
    config_digest text NOT NULL,
    seen_at       timestamptz NOT NULL
);

CREATE TABLE audit_events (
    node       text COLLATE "C" NOT NULL,
    seq        bigint NOT NULL,
    prev       bytea NOT NULL,
    hash       bytea NOT NULL,
    at         timestamptz NOT NULL,
    action     text NOT NULL,
    outcome    text NOT NULL,
    actor      text NOT NULL,
    subject    text NOT NULL,
    request_id text NOT NULL,
    detail     text,
    PRIMARY KEY (node, seq)
);
CREATE INDEX audit_events_at ON audit_events (at, node, seq);

CREATE TABLE audit_checkpoints (
    id        text COLLATE "C" NOT NULL PRIMARY KEY,
    node      text NOT NULL,
    at        timestamptz NOT NULL,
    heads     text NOT NULL,
    key_id    text NOT NULL,
    signature bytea NOT NULL
);

INSERT INTO schema_marks (version, readable_by) VALUES (1, 1);

-- +goose Down
DROP TABLE audit_checkpoints;
DROP TABLE audit_events;
DROP TABLE nodes;
DROP TABLE secrets;
DROP TABLE leases;
DROP TABLE limits;
DROP TABLE nonces;
DROP TABLE order_authorizations;
DROP TABLE authorizations;
DROP TABLE orders;
DROP TABLE eab_keys;
DROP TABLE accounts;
DROP TABLE crl_chunks;
DROP TABLE crls;
DROP TABLE blocked_keys;
DROP TABLE revocations;
DROP TABLE origins;
DROP TABLE certificate_names;
DROP TABLE certificates;
DROP TABLE issuers;
DROP TABLE schema_marks;
