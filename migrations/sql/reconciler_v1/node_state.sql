CREATE VIEW reconciler_v1.node_state AS
SELECT
    nodes.fleet,
    nodes.node,
    nodes.pool,
    coalesce(own.files, common.files) AS wanted,
    state.files,
    coalesce(own.files, common.files) IS DISTINCT FROM state.files AS behind,
    state.converged_at AS effective_at,
    state.generation,
    state.step,
    ARRAY(SELECT item ->> 'path' FROM jsonb_array_elements(state.drift) AS item) AS drift,
    state.drift_since,
    state.failed ->> 'reason' AS failed,
    state.cordoned IS NOT NULL AS cordoned,
    state.unreachable,
    state.unreachable_since,
    last_seen.seen_at,
    last_seen.runtime,
    state.machine_id,
    nodes.commit
FROM public.nodes
LEFT JOIN public.node_states AS state
    ON state.fleet = nodes.fleet AND state.node = nodes.node AND state.valid_to IS NULL
LEFT JOIN public.last_seen ON last_seen.fleet = nodes.fleet AND last_seen.node = nodes.node
LEFT JOIN public.pools ON pools.fleet = nodes.fleet AND pools.pool = nodes.pool AND pools.valid_to IS NULL
LEFT JOIN public.renders AS own ON own.fleet = nodes.fleet AND own.pool = nodes.pool AND own.node = nodes.node
    AND own.valid_to IS NULL AND own.base = CASE
        WHEN state.base IS NULL THEN NULL WHEN pools.spec ->> 'base' = 'openshift' THEN 'openshift'
        WHEN pools.base_files <> '{}' THEN public.base_digest(pools.base_files) ELSE state.base END
LEFT JOIN public.renders AS common ON common.fleet = nodes.fleet AND common.pool = nodes.pool AND common.node = ''
    AND common.valid_to IS NULL AND common.base = CASE
        WHEN state.base IS NULL THEN NULL WHEN pools.spec ->> 'base' = 'openshift' THEN 'openshift'
        WHEN pools.base_files <> '{}' THEN public.base_digest(pools.base_files) ELSE state.base END
WHERE nodes.valid_to IS NULL;
COMMENT ON VIEW reconciler_v1.node_state IS 'Every node now.';
COMMENT ON COLUMN reconciler_v1.node_state.fleet IS 'The fleet.';
COMMENT ON COLUMN reconciler_v1.node_state.node IS 'The node.';
COMMENT ON COLUMN reconciler_v1.node_state.pool IS 'Its pool; NULL: none.';
COMMENT ON COLUMN reconciler_v1.node_state.wanted IS 'The file set it should have; NULL: nothing was rendered for it.';
COMMENT ON COLUMN reconciler_v1.node_state.files IS 'The file set that its last receipt proved; NULL: none yet.';
COMMENT ON COLUMN reconciler_v1.node_state.behind IS 'Whether these differ.';
COMMENT ON COLUMN reconciler_v1.node_state.effective_at IS 'When its files were proved (NodeConverged), by the clock of the database.';
COMMENT ON COLUMN reconciler_v1.node_state.generation IS 'The node''s own count of its file sets.';
COMMENT ON COLUMN reconciler_v1.node_state.step IS 'The step that is open on it.';
COMMENT ON COLUMN reconciler_v1.node_state.drift IS 'The paths that differ from its last receipt.';
COMMENT ON COLUMN reconciler_v1.node_state.drift_since IS 'When that was recorded (DriftDetected), by the clock of the database.';
COMMENT ON COLUMN reconciler_v1.node_state.failed IS 'Why its last step failed.';
COMMENT ON COLUMN reconciler_v1.node_state.cordoned IS 'Whether we have it cordoned.';
COMMENT ON COLUMN reconciler_v1.node_state.unreachable IS 'Why it cannot be reached.';
COMMENT ON COLUMN reconciler_v1.node_state.unreachable_since IS 'Since when that was recorded, by the clock of the database.';
COMMENT ON COLUMN reconciler_v1.node_state.seen_at IS 'When it last answered, by the clock of the database. No part of the log.';
COMMENT ON COLUMN reconciler_v1.node_state.runtime IS 'The version of the container runtime it told then.';
COMMENT ON COLUMN reconciler_v1.node_state.machine_id IS 'The machine behind it.';
COMMENT ON COLUMN reconciler_v1.node_state.commit IS 'The commit that its Node document comes from.';
