CREATE TABLE rollouts (
    fleet text NOT NULL,
    pool text NOT NULL,
    rollout text NOT NULL,
    state text,
    plan text,
    targets jsonb,
    kind text,
    waves jsonb,
    approved jsonb,
    nodes bigint,
    disruption text,
    effective text,
    reasons jsonb,
    commit text,
    started_at timestamptz,
    ended_at timestamptz,
    outcome text,
    cause text,
    valid_from bigint NOT NULL,
    valid_to bigint CHECK (valid_to > valid_from),
    PRIMARY KEY (fleet, pool, rollout, valid_from)
);
CREATE UNIQUE INDEX rollouts_current ON rollouts (fleet, pool, rollout) WHERE valid_to IS NULL;
CREATE INDEX rollouts_as_of ON rollouts USING gist (int8range(valid_from, valid_to));
COMMENT ON TABLE rollouts IS 'One row per rollout: progressing, completed, halted, aborted or superseded.';
COMMENT ON COLUMN rollouts.valid_from IS 'Position of the log from which the row holds (the last of its append group).';
COMMENT ON COLUMN rollouts.valid_to IS 'Position from which it no longer holds; NULL: it holds now.';
COMMENT ON INDEX rollouts_current IS 'One row per key holds now.';
COMMENT ON INDEX rollouts_as_of IS 'Finds the rows as of a position.';
