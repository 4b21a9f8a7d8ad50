-- +goose Up

-- crl_seq rises with every list that is published, for pollers. crl_shards is
-- the highest number of shards that the issuer ever had: their lists stay.
ALTER TABLE issuers ADD COLUMN crl_seq INTEGER NOT NULL DEFAULT 0;
ALTER TABLE issuers ADD COLUMN crl_shards INTEGER NOT NULL DEFAULT 0;

-- A list is stored in pieces and counts once it is complete. revocation_seq is
-- the issuer's revocation sequence that the list covers. A delta list of shard s
-- is kept as shard -1-s.
ALTER TABLE crls ADD COLUMN entries INTEGER NOT NULL DEFAULT 0;
ALTER TABLE crls ADD COLUMN revocation_seq INTEGER NOT NULL DEFAULT 0;
ALTER TABLE crls ADD COLUMN complete INTEGER NOT NULL DEFAULT 1;

-- The order of a list's entries: serials as numbers.
CREATE INDEX revocations_serial ON revocations (issuer_id, length(serial), serial);
CREATE INDEX revocations_unlisted ON revocations (issuer_id, shard, seq) WHERE listed_in IS NULL;
CREATE INDEX revocations_released ON revocations (issuer_id) WHERE released_at IS NOT NULL;

INSERT INTO schema_marks (version, readable_by) VALUES (4, 1);

-- +goose Down
DELETE FROM schema_marks WHERE version = 4;
DROP INDEX revocations_released;
DROP INDEX revocations_unlisted;
DROP INDEX revocations_serial;
ALTER TABLE crls DROP COLUMN complete;
ALTER TABLE crls DROP COLUMN revocation_seq;
ALTER TABLE crls DROP COLUMN entries;
ALTER TABLE issuers DROP COLUMN crl_shards;
ALTER TABLE issuers DROP COLUMN crl_seq;
