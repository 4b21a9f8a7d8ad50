-- +goose Up

-- The highest number of a list of this series whose losses an operator accepted, that
-- one or one before it: nodes that have an older list take this one over all the same.
ALTER TABLE crls ADD COLUMN losses_accepted INTEGER NOT NULL DEFAULT 0;

INSERT INTO schema_marks (version, readable_by) VALUES (9, 1);

-- +goose Down
DELETE FROM schema_marks WHERE version = 9;
ALTER TABLE crls DROP COLUMN losses_accepted;
