CREATE TABLE machine_pools (
    fleet text NOT NULL,
    pool text NOT NULL,
    target text,
    current text,
    paused boolean,
    machines bigint,
    ready bigint,
    updated bigint,
    unavailable bigint,
    degraded bigint,
    settled boolean,
    conditions jsonb,
    files text,
    before text,
    config text,
    applied_at timestamptz,
    valid_from bigint NOT NULL,
    valid_to bigint CHECK (valid_to > valid_from),
    PRIMARY KEY (fleet, pool, valid_from)
);
CREATE UNIQUE INDEX machine_pools_current ON machine_pools (fleet, pool) WHERE valid_to IS NULL;
CREATE INDEX machine_pools_as_of ON machine_pools USING gist (int8range(valid_from, valid_to));
COMMENT ON TABLE machine_pools IS 'One row per pool of manage: cluster: its MachineConfigPool as MCO reports it, and what was applied for it last.';
COMMENT ON COLUMN machine_pools.valid_from IS 'Position of the log from which the row holds (the last of its append group).';
COMMENT ON COLUMN machine_pools.valid_to IS 'Position from which it no longer holds; NULL: it holds now.';
COMMENT ON INDEX machine_pools_current IS 'One row per key holds now.';
COMMENT ON INDEX machine_pools_as_of IS 'Finds the rows as of a position.';
