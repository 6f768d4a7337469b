CREATE TABLE pools (
    fleet text NOT NULL,
    pool text NOT NULL,
    spec jsonb,
    base_files jsonb,
    file text,
    line bigint,
    commit text,
    rejected text,
    problems jsonb,
    warnings jsonb,
    blocked text,
    rollout text,
    cause text,
    locks jsonb,
    refused jsonb,
    completed jsonb,
    window_until text,
    mass jsonb,
    valid_from bigint NOT NULL,
    valid_to bigint CHECK (valid_to > valid_from),
    PRIMARY KEY (fleet, pool, valid_from)
);
CREATE UNIQUE INDEX pools_current ON pools (fleet, pool) WHERE valid_to IS NULL;
CREATE INDEX pools_as_of ON pools USING gist (int8range(valid_from, valid_to));
COMMENT ON TABLE pools IS 'One row per NodePool: settings, base, the commit its content comes from, what it refused, its rollout.';
COMMENT ON COLUMN pools.valid_from IS 'Position of the log from which the row holds (the last of its append group).';
COMMENT ON COLUMN pools.valid_to IS 'Position from which it no longer holds; NULL: it holds now.';
COMMENT ON INDEX pools_current IS 'One row per key holds now.';
COMMENT ON INDEX pools_as_of IS 'Finds the rows as of a position.';
