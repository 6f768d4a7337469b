CREATE VIEW node_state AS
SELECT
    nodes.fleet,
    nodes.node,
    nodes.pool,
    states.files,
    states.converged_at,
    states.generation,
    states.step,
    states.drift,
    states.drift_since,
    states.unreachable,
    states.unreachable_since,
    states.failed,
    last_seen.seen_at
FROM nodes
LEFT JOIN node_states AS states
    ON states.fleet = nodes.fleet AND states.node = nodes.node AND states.valid_to IS NULL
LEFT JOIN last_seen
    ON last_seen.fleet = nodes.fleet AND last_seen.node = nodes.node
WHERE nodes.valid_to IS NULL;
COMMENT ON VIEW node_state IS 'Every node now: the files its last receipt proved, its open step, drift, failures, last answer.';
