CREATE TABLE holds (
    fleet text NOT NULL,
    hold text NOT NULL,
    pool text,
    node text,
    position bigint,
    entries jsonb,
    files jsonb,
    reason text,
    actor text,
    since timestamptz,
    valid_from bigint NOT NULL,
    valid_to bigint CHECK (valid_to > valid_from),
    PRIMARY KEY (fleet, hold, valid_from)
);
CREATE UNIQUE INDEX holds_current ON holds (fleet, hold) WHERE valid_to IS NULL;
CREATE INDEX holds_as_of ON holds USING gist (int8range(valid_from, valid_to));
COMMENT ON TABLE holds IS 'Rollback entries in force against newer commits.';
COMMENT ON COLUMN holds.valid_from IS 'Position of the log from which the row holds (the last of its append group).';
COMMENT ON COLUMN holds.valid_to IS 'Position from which it no longer holds; NULL: it holds now.';
COMMENT ON INDEX holds_current IS 'One row per key holds now.';
COMMENT ON INDEX holds_as_of IS 'Finds the rows as of a position.';
