CREATE TABLE guards (
    fleet text NOT NULL,
    pool text NOT NULL,
    images bigint,
    nodes jsonb,
    untold jsonb,
    unheard jsonb,
    judged_with text,
    changes jsonb,
    overrides jsonb,
    approved jsonb,
    valid_from bigint NOT NULL,
    valid_to bigint CHECK (valid_to > valid_from),
    PRIMARY KEY (fleet, pool, valid_from)
);
CREATE UNIQUE INDEX guards_current ON guards (fleet, pool) WHERE valid_to IS NULL;
CREATE INDEX guards_as_of ON guards USING gist (int8range(valid_from, valid_to));
COMMENT ON TABLE guards IS 'The latest judgement of the lock-out guard per pool, and what people gave up or approved for its content.';
COMMENT ON COLUMN guards.valid_from IS 'Position of the log from which the row holds (the last of its append group).';
COMMENT ON COLUMN guards.valid_to IS 'Position from which it no longer holds; NULL: it holds now.';
COMMENT ON INDEX guards_current IS 'One row per key holds now.';
COMMENT ON INDEX guards_as_of IS 'Finds the rows as of a position.';
