CREATE FUNCTION reconciler_v1.fleet_at(at timestamptz)
RETURNS TABLE (
    fleet text, node text, pool text, wanted text, files text, behind boolean, effective_at timestamptz,
    generation bigint, step text, drift text[], drift_since timestamptz, failed text, cordoned boolean,
    unreachable text, unreachable_since timestamptz
) LANGUAGE plpgsql STABLE ROWS 10000 SET plan_cache_mode = force_custom_plan SET jit = off AS $$
#variable_conflict use_column
DECLARE
    -- A plan made for this very position knows how many rows held then.
    moment CONSTANT bigint := reconciler_v1.position_at(at);
BEGIN
    RETURN QUERY
    WITH pools AS (
        SELECT pools.fleet, pools.pool,
            CASE WHEN pools.spec ->> 'base' = 'openshift' THEN 'openshift'
                 WHEN pools.base_files <> '{}' THEN public.base_digest(pools.base_files)
            END AS base
        FROM public.pools
        WHERE int8range(pools.valid_from, pools.valid_to) @> moment
    ),
    renders AS (
        SELECT renders.fleet, renders.pool, renders.node, renders.base, renders.files
        FROM public.renders
        WHERE int8range(renders.valid_from, renders.valid_to) @> moment
    )
    SELECT nodes.fleet, nodes.node, nodes.pool, coalesce(own.files, common.files), state.files,
        coalesce(own.files, common.files) IS DISTINCT FROM state.files,
        state.converged_at, state.generation, state.step,
        ARRAY(SELECT item ->> 'path' FROM jsonb_array_elements(state.drift) AS item), state.drift_since,
        state.failed ->> 'reason', state.cordoned IS NOT NULL, state.unreachable, state.unreachable_since
    FROM public.nodes
    LEFT JOIN public.node_states AS state ON state.fleet = nodes.fleet AND state.node = nodes.node
        AND int8range(state.valid_from, state.valid_to) @> moment
    LEFT JOIN pools ON pools.fleet = nodes.fleet AND pools.pool = nodes.pool
    LEFT JOIN renders AS own ON own.fleet = nodes.fleet AND own.pool = nodes.pool AND own.node = nodes.node
        AND own.base = CASE WHEN state.base IS NOT NULL THEN coalesce(pools.base, state.base) END
    LEFT JOIN renders AS common ON common.fleet = nodes.fleet AND common.pool = nodes.pool AND common.node = ''
        AND common.base = CASE WHEN state.base IS NOT NULL THEN coalesce(pools.base, state.base) END
    WHERE int8range(nodes.valid_from, nodes.valid_to) @> moment;
END
$$;
COMMENT ON FUNCTION reconciler_v1.fleet_at(timestamptz) IS 'Every node as the log knew it at a time: the file set wanted, the file set its last receipt proved (files) and when (effective_at), behind where they differ, the open step, the paths that drifted and since when, the failure, whether we had it cordoned, why and since when it could not be reached. All times by the clock of the database.';
