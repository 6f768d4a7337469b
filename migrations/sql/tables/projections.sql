CREATE TABLE projections (
    fold_version integer NOT NULL CHECK (fold_version > 0),
    rebuilds bigint NOT NULL DEFAULT 0,
    rebuilt_at timestamptz
);
CREATE UNIQUE INDEX projections_one_row ON projections ((true));
INSERT INTO projections (fold_version) VALUES (1);
COMMENT ON TABLE projections IS 'Which version of the fold wrote the read tables: one row.';
COMMENT ON COLUMN projections.fold_version IS 'A program whose fold has another version cannot append.';
COMMENT ON COLUMN projections.rebuilds IS 'How often a rebuild from event 1 was put in place.';
COMMENT ON COLUMN projections.rebuilt_at IS 'When it was last, by the clock of the database.';
COMMENT ON INDEX projections_one_row IS 'There is one row.';
