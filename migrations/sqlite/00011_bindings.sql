-- +goose Up

-- Which names a credential may have certified, as JSON; null for those of before
-- this column, which may have any that the older columns allow.
ALTER TABLE est_users ADD COLUMN binding TEXT;
ALTER TABLE scep_challenges ADD COLUMN binding TEXT;
ALTER TABLE eab_keys ADD COLUMN binding TEXT;
-- For the warning that counts them: only credentials of before stand in these.
CREATE INDEX est_users_unbound ON est_users (name) WHERE binding IS NULL;
CREATE INDEX scep_challenges_unbound ON scep_challenges (id) WHERE binding IS NULL;

INSERT INTO schema_marks (version, readable_by) VALUES (11, 1);

-- +goose Down
DELETE FROM schema_marks WHERE version = 11;
DROP INDEX scep_challenges_unbound;
DROP INDEX est_users_unbound;
ALTER TABLE eab_keys DROP COLUMN binding;
ALTER TABLE scep_challenges DROP COLUMN binding;
ALTER TABLE est_users DROP COLUMN binding;
