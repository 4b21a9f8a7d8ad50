-- +goose Up

-- People, logins, grants, blocks, tokens and sessions. Each row stands under a MAC,
-- and access_state says which of them there are.
CREATE TABLE access_records (
    kind      text COLLATE "C" NOT NULL,
    id        text COLLATE "C" NOT NULL,
    number    bigint NOT NULL,
    digest    bytea NOT NULL,
    body      text NOT NULL,
    mac       bytea NOT NULL,
    used_at   timestamptz,
    used_from text NOT NULL,
    PRIMARY KEY (kind, id)
);

CREATE TABLE access_state (
    one    bigint NOT NULL PRIMARY KEY CHECK (one = 1),
    number bigint NOT NULL,
    digest bytea NOT NULL,
    mac    bytea NOT NULL
);
INSERT INTO access_state (one, number, digest, mac) VALUES (1, 0, '', '');

CREATE INDEX audit_access_state ON audit_events (at) WHERE action = 'access.state';

INSERT INTO schema_marks (version, readable_by) VALUES (14, 1);

-- +goose Down
DELETE FROM schema_marks WHERE version = 14;
DROP INDEX audit_access_state;
DROP TABLE access_state;
DROP TABLE access_records;
