-- +goose Up
-- Lists of one requester, profile or issuer, and of what is neither issued nor
-- revoked, newest first.
CREATE INDEX certificates_requester ON certificates (requester, id);
CREATE INDEX certificates_profile ON certificates (profile, id);
CREATE INDEX certificates_issuer ON certificates (issuer_id, id);
CREATE INDEX certificates_status ON certificates (status, id) WHERE status <> 'issued';

INSERT INTO schema_marks (version, readable_by) VALUES (12, 1);

-- +goose Down
DELETE FROM schema_marks WHERE version = 12;
DROP INDEX certificates_status;
DROP INDEX certificates_issuer;
DROP INDEX certificates_profile;
DROP INDEX certificates_requester;
