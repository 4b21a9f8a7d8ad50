-- +goose Up

-- People, logins, grants, blocks, tokens and sessions. Each row stands under a MAC,
-- and access_state says which of them there are.
CREATE TABLE access_records (
    kind      TEXT NOT NULL,
    id        TEXT NOT NULL,
    number    INTEGER NOT NULL,
    digest    BLOB NOT NULL,
    body      TEXT NOT NULL,
    mac       BLOB NOT NULL,
    used_at   INTEGER,
    used_from TEXT NOT NULL,
    PRIMARY KEY (kind, id)
) STRICT;

CREATE TABLE access_state (
    one    INTEGER NOT NULL PRIMARY KEY CHECK (one = 1),
    number INTEGER NOT NULL,
    digest BLOB NOT NULL,
    mac    BLOB NOT NULL
) STRICT;
INSERT INTO access_state (one, number, digest, mac) VALUES (1, 0, x'', x'');

CREATE INDEX audit_access_state ON audit_events (at) WHERE action = 'access.state';

INSERT INTO schema_marks (version, readable_by) VALUES (14, 1);

-- +goose Down
DELETE FROM schema_marks WHERE version = 14;
DROP INDEX audit_access_state;
DROP TABLE access_state;
DROP TABLE access_records;
