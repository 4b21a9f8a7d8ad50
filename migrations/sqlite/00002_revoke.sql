-- +goose Up
-- A certificate on hold that was released keeps its row until the next base list
-- was made: a delta list says so (RFC 5280, section 5.2.4).
ALTER TABLE revocations ADD COLUMN released_at INTEGER;

-- All certificates of one key.
CREATE INDEX certificates_key ON certificates (key_hash);

INSERT INTO schema_marks (version, readable_by) VALUES (2, 1);

-- +goose Down
DELETE FROM schema_marks WHERE version = 2;
DROP INDEX certificates_key;
ALTER TABLE revocations DROP COLUMN released_at;
