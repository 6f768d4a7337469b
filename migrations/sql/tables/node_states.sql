CREATE TABLE node_states (
    fleet text NOT NULL,
    node text NOT NULL,
    base text,
    base_files jsonb,
    machine_id text,
    files text,
    files_base text,
    converged_at timestamptz,
    generation bigint,
    receipt jsonb,
    step text,
    step_owner text,
    step_fence bigint,
    step_data jsonb,
    step_cause text,
    phase text,
    cordoned text,
    unproven jsonb,
    deferred jsonb,
    failed jsonb,
    unreachable text,
    unreachable_since timestamptz,
    refused boolean,
    drift jsonb,
    drift_observed text,
    drift_since timestamptz,
    drift_cause text,
    strays jsonb,
    ignored jsonb,
    drift_allowed text,
    repairs jsonb,
    contested jsonb,
    unloaded boolean,
    shadows jsonb,
    host_key text,
    refusal text,
    asked jsonb,
    released jsonb,
    valid_from bigint NOT NULL,
    valid_to bigint CHECK (valid_to > valid_from),
    PRIMARY KEY (fleet, node, valid_from)
);
CREATE UNIQUE INDEX node_states_current ON node_states (fleet, node) WHERE valid_to IS NULL;
CREATE INDEX node_states_as_of ON node_states USING gist (int8range(valid_from, valid_to));
COMMENT ON TABLE node_states IS 'One row per node: base, what the last receipt proved, the open step, drift, failures.';
COMMENT ON COLUMN node_states.valid_from IS 'Position of the log from which the row holds (the last of its append group).';
COMMENT ON COLUMN node_states.valid_to IS 'Position from which it no longer holds; NULL: it holds now.';
COMMENT ON INDEX node_states_current IS 'One row per key holds now.';
COMMENT ON INDEX node_states_as_of IS 'Finds the rows as of a position.';
