-- +goose Up
-- The same schema as PostgreSQL's: times are Unix microseconds, booleans 0 or 1.

-- One row for each migration: the oldest schema number that a binary must know
-- to run on the schema after it. A binary that meets a newer number than its
-- own looks here before it refuses.
CREATE TABLE schema_marks (
    version     INTEGER NOT NULL PRIMARY KEY,
    readable_by INTEGER NOT NULL
) STRICT;

CREATE TABLE issuers (
    id              TEXT NOT NULL PRIMARY KEY,
    name            TEXT NOT NULL,
    generation      INTEGER NOT NULL,
    state           TEXT NOT NULL,
    parent_id       TEXT NOT NULL,
    certificate     BLOB NOT NULL,
    subject         TEXT NOT NULL,
    not_after       INTEGER NOT NULL,
    revocation_seq  INTEGER NOT NULL,
    last_crl_number INTEGER NOT NULL,
    created_at      INTEGER NOT NULL
) STRICT;

CREATE TABLE certificates (
    id              TEXT NOT NULL PRIMARY KEY,
    issuer_id       TEXT NOT NULL,
    serial          TEXT NOT NULL,
    status          TEXT NOT NULL,
    node            TEXT NOT NULL,
    profile         TEXT NOT NULL,
    profile_version TEXT NOT NULL,
    protocol        TEXT NOT NULL,
    endpoint        TEXT NOT NULL,
    requester       TEXT NOT NULL,
    request_id      TEXT NOT NULL,
    key_hash        BLOB NOT NULL,
    subject         TEXT NOT NULL,
    subject_lower   TEXT NOT NULL,
    names           TEXT NOT NULL,
    not_before      INTEGER NOT NULL,
    not_after       INTEGER NOT NULL,
    tbs             BLOB,
    der             BLOB,
    shard           INTEGER NOT NULL,
    lineage         TEXT NOT NULL,
    origin          TEXT NOT NULL,
    claims          TEXT NOT NULL,
    reserved_at     INTEGER NOT NULL,
    issued_at       INTEGER
) STRICT;
CREATE UNIQUE INDEX certificates_serial ON certificates (serial, issuer_id);
CREATE INDEX certificates_not_after ON certificates (not_after);
CREATE INDEX certificates_reserved ON certificates (reserved_at) WHERE status = 'reserved';

-- Values are lower-cased; reversed serves searches for a suffix.
CREATE TABLE certificate_names (
    certificate_id TEXT NOT NULL REFERENCES certificates (id) ON DELETE CASCADE,
    position       INTEGER NOT NULL,
    type           TEXT NOT NULL,
    value          TEXT NOT NULL,
    reversed       TEXT NOT NULL,
    PRIMARY KEY (certificate_id, position)
) STRICT, WITHOUT ROWID;
CREATE INDEX certificate_names_reversed ON certificate_names (reversed);

CREATE TABLE origins (
    origin         TEXT NOT NULL PRIMARY KEY,
    certificate_id TEXT NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE revocations (
    certificate_id TEXT NOT NULL PRIMARY KEY REFERENCES certificates (id) ON DELETE CASCADE,
    issuer_id      TEXT NOT NULL,
    serial         TEXT NOT NULL,
    shard          INTEGER NOT NULL,
    not_after      INTEGER NOT NULL,
    reason         INTEGER NOT NULL,
    revoked_at     INTEGER NOT NULL,
    invalidity_at  INTEGER,
    seq            INTEGER NOT NULL,
    requester      TEXT NOT NULL,
    listed_in      INTEGER
) STRICT;
CREATE INDEX revocations_issuer ON revocations (issuer_id, shard, seq);

CREATE TABLE blocked_keys (
    key_hash       BLOB NOT NULL PRIMARY KEY,
    certificate_id TEXT NOT NULL,
    blocked_at     INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE crls (
    issuer_id   TEXT NOT NULL,
    shard       INTEGER NOT NULL,
    number      INTEGER NOT NULL,
    this_update INTEGER NOT NULL,
    next_update INTEGER NOT NULL,
    sha256      BLOB NOT NULL,
    size        INTEGER NOT NULL,
    PRIMARY KEY (issuer_id, shard, number)
) STRICT;

CREATE TABLE crl_chunks (
    issuer_id TEXT NOT NULL,
    shard     INTEGER NOT NULL,
    number    INTEGER NOT NULL,
    position  INTEGER NOT NULL,
    data      BLOB NOT NULL,
    PRIMARY KEY (issuer_id, shard, number, position),
    FOREIGN KEY (issuer_id, shard, number) REFERENCES crls (issuer_id, shard, number) ON DELETE CASCADE
) STRICT;

CREATE TABLE accounts (
    id              TEXT NOT NULL PRIMARY KEY,
    endpoint        TEXT NOT NULL,
    thumbprint      TEXT NOT NULL,
    jwk             TEXT NOT NULL,
    contact         TEXT NOT NULL,
    status          TEXT NOT NULL,
    terms_agreed_at INTEGER,
    eab_kid         TEXT NOT NULL,
    created_at      INTEGER NOT NULL,
    created_from    TEXT NOT NULL
) STRICT;
CREATE UNIQUE INDEX accounts_key ON accounts (thumbprint, endpoint);

CREATE TABLE eab_keys (
    kid         TEXT NOT NULL PRIMARY KEY,
    hmac        BLOB NOT NULL,
    description TEXT NOT NULL,
    endpoint    TEXT NOT NULL,
    profiles    TEXT NOT NULL,
    names       TEXT NOT NULL,
    max_uses    INTEGER NOT NULL,
    uses        INTEGER NOT NULL,
    expires_at  INTEGER,
    disabled_at INTEGER,
    created_by  TEXT NOT NULL,
    created_at  INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE orders (
    id            TEXT NOT NULL PRIMARY KEY,
    account_id    TEXT NOT NULL,
    endpoint      TEXT NOT NULL,
    profile       TEXT NOT NULL,
    replaces      TEXT NOT NULL,
    identifiers   TEXT NOT NULL,
    not_before    INTEGER,
    not_after     INTEGER,
    status        TEXT NOT NULL,
    error         TEXT,
    csr           BLOB,
    node          TEXT NOT NULL,
    expires       INTEGER NOT NULL,
    created_at    INTEGER NOT NULL,
    processing_at INTEGER
) STRICT;
CREATE INDEX orders_account ON orders (account_id, id);
CREATE INDEX orders_pending ON orders (account_id) WHERE status = 'pending';
CREATE INDEX orders_processing ON orders (processing_at) WHERE status = 'processing';
CREATE INDEX orders_expires ON orders (expires);
CREATE INDEX orders_replaces ON orders (replaces) WHERE replaces <> '';

CREATE TABLE authorizations (
    id               TEXT NOT NULL PRIMARY KEY,
    account_id       TEXT NOT NULL,
    identifier_type  TEXT NOT NULL,
    identifier_value TEXT NOT NULL,
    wildcard         INTEGER NOT NULL,
    status           TEXT NOT NULL,
    expires          INTEGER NOT NULL,
    token            TEXT NOT NULL,
    attempted        TEXT NOT NULL,
    attempts         INTEGER NOT NULL,
    next_attempt_at  INTEGER,
    thumbprint       TEXT NOT NULL,
    validated_at     INTEGER,
    error            TEXT,
    record           TEXT,
    created_at       INTEGER NOT NULL
) STRICT;
CREATE INDEX authorizations_account ON authorizations (account_id, identifier_value);
CREATE INDEX authorizations_pending ON authorizations (account_id) WHERE status = 'pending';
CREATE INDEX authorizations_due ON authorizations (next_attempt_at) WHERE status = 'pending' AND attempted <> '';
CREATE INDEX authorizations_expires ON authorizations (expires);

CREATE TABLE order_authorizations (
    order_id         TEXT NOT NULL REFERENCES orders (id) ON DELETE CASCADE,
    position         INTEGER NOT NULL,
    authorization_id TEXT NOT NULL,
    PRIMARY KEY (order_id, position)
) STRICT, WITHOUT ROWID;
CREATE INDEX order_authorizations_authorization ON order_authorizations (authorization_id);

-- Spent nonces are kept in memory: SQLite serves one process.

-- tat is the theoretical arrival time of GCRA in Unix microseconds: a number on
-- both engines, because it is computed with inside the statement.
CREATE TABLE limits (
    key TEXT NOT NULL PRIMARY KEY,
    tat INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX limits_tat ON limits (tat);

CREATE TABLE leases (
    name    TEXT NOT NULL PRIMARY KEY,
    holder  TEXT NOT NULL,
    token   INTEGER NOT NULL,
    expires INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE secrets (
    name       TEXT NOT NULL PRIMARY KEY,
    sealed     BLOB NOT NULL,
    created_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE nodes (
    node          TEXT NOT NULL PRIMARY KEY,
    epoch         TEXT NOT NULL,
    config_digest TEXT NOT NULL,
    seen_at       INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE audit_events (
    node       TEXT NOT NULL,
    seq        INTEGER NOT NULL,
    prev       BLOB NOT NULL,
    hash       BLOB NOT NULL,
    at         INTEGER NOT NULL,
    action     TEXT NOT NULL,
    outcome    TEXT NOT NULL,
    actor      TEXT NOT NULL,
    subject    TEXT NOT NULL,
    request_id TEXT NOT NULL,
    detail     TEXT,
    PRIMARY KEY (node, seq)
) STRICT, WITHOUT ROWID;
CREATE INDEX audit_events_at ON audit_events (at, node, seq);

CREATE TABLE audit_checkpoints (
    id        TEXT NOT NULL PRIMARY KEY,
    node      TEXT NOT NULL,
    at        INTEGER NOT NULL,
    heads     TEXT NOT NULL,
    key_id    TEXT NOT NULL,
    signature BLOB NOT NULL
) STRICT;

INSERT INTO schema_marks (version, readable_by) VALUES (1, 1);

-- +goose Down
DROP TABLE audit_checkpoints;
DROP TABLE audit_events;
DROP TABLE nodes;
DROP TABLE secrets;
DROP TABLE leases;
DROP TABLE limits;
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
