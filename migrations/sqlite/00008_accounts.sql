-- +goose Up

-- The terms that an account agreed to last; empty for those of before this column.
ALTER TABLE accounts ADD COLUMN terms TEXT NOT NULL DEFAULT '';
-- The signed external account binding, as it came (RFC 8555, section 7.1.2).
ALTER TABLE accounts ADD COLUMN binding TEXT NOT NULL DEFAULT '';

-- Which order replaces a certificate (RFC 9773): one at a time.
CREATE TABLE replacements (
    replaces TEXT NOT NULL PRIMARY KEY,
    order_id TEXT NOT NULL REFERENCES orders (id) ON DELETE CASCADE
) STRICT, WITHOUT ROWID;
CREATE INDEX replacements_order ON replacements (order_id);
INSERT INTO replacements (replaces, order_id)
    SELECT replaces, MAX(id) FROM orders WHERE replaces <> '' AND status <> 'invalid' GROUP BY replaces;

INSERT INTO schema_marks (version, readable_by) VALUES (8, 1);

-- +goose Down
DELETE FROM schema_marks WHERE version = 8;
DROP TABLE replacements;
ALTER TABLE accounts DROP COLUMN binding;
ALTER TABLE accounts DROP COLUMN terms;
