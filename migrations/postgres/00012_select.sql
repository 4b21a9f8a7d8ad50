-- +goose NO TRANSACTION
-- +goose Up
-- Lists of one requester, profile or issuer, and of what is neither issued nor
-- revoked, newest first. They are built beside the writers. A migration that was
-- interrupted begins again: what it left may be an index that is not valid.
DROP INDEX CONCURRENTLY IF EXISTS certificates_requester;
CREATE INDEX CONCURRENTLY certificates_requester ON certificates (requester, id);
DROP INDEX CONCURRENTLY IF EXISTS certificates_profile;
CREATE INDEX CONCURRENTLY certificates_profile ON certificates (profile, id);
DROP INDEX CONCURRENTLY IF EXISTS certificates_issuer;
CREATE INDEX CONCURRENTLY certificates_issuer ON certificates (issuer_id, id);
DROP INDEX CONCURRENTLY IF EXISTS certificates_status;
CREATE INDEX CONCURRENTLY certificates_status ON certificates (status, id) WHERE status <> 'issued';

INSERT INTO schema_marks (version, readable_by) VALUES (12, 1) ON CONFLICT DO NOTHING;

-- +goose Down
DELETE FROM schema_marks WHERE version = 12;
DROP INDEX IF EXISTS certificates_status;
DROP INDEX IF EXISTS certificates_issuer;
DROP INDEX IF EXISTS certificates_profile;
DROP INDEX IF EXISTS certificates_requester;
