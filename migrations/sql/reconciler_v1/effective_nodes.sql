CREATE FUNCTION reconciler_v1.effective_nodes(fleet text, pools text[], from_position bigint, until_position bigint)
RETURNS TABLE (node text, pool text, "position" bigint, effective_at timestamptz) LANGUAGE sql STABLE PARALLEL SAFE AS $$
    WITH rendered AS MATERIALIZED (
        SELECT renders.pool, renders.files, min(renders.valid_from) AS since
        FROM public.renders
        WHERE renders.fleet = effective_nodes.fleet AND renders.pool = ANY (effective_nodes.pools)
            AND renders.node = '' AND renders.valid_from >= from_position
            AND (until_position IS NULL OR renders.valid_from < until_position)
        GROUP BY renders.pool, renders.files
    ),
    wanted AS MATERIALIZED (
        SELECT rendered.pool, array_agg(rendered.files) AS files, min(rendered.since) AS since,
            bool_or(EXISTS (
                SELECT FROM public.renders AS earlier
                WHERE earlier.fleet = effective_nodes.fleet AND earlier.pool = rendered.pool
                    AND earlier.files = rendered.files AND earlier.valid_from < rendered.since)) AS again
        FROM rendered GROUP BY rendered.pool
    ),
    members AS (
        SELECT DISTINCT nodes.node, nodes.pool, wanted.files, wanted.since, wanted.again
        FROM wanted
        JOIN public.nodes ON nodes.fleet = effective_nodes.fleet AND nodes.pool = wanted.pool
            AND (until_position IS NULL OR nodes.valid_from < until_position)
            AND (nodes.valid_to IS NULL OR nodes.valid_to > wanted.since)
    ),
    reached AS (
        SELECT members.node, members.pool, coalesce(before.position, after.position) AS position
        FROM members
        LEFT JOIN LATERAL (
            SELECT members.since AS position
            FROM (
                SELECT state.files FROM public.node_states AS state
                WHERE state.fleet = effective_nodes.fleet AND state.node = members.node
                    AND state.valid_from <= members.since
                ORDER BY state.valid_from DESC LIMIT 1
            ) AS had
            WHERE members.again AND had.files = ANY (members.files)
        ) AS before ON true
        LEFT JOIN LATERAL (
            SELECT state.valid_from AS position FROM public.node_states AS state
            WHERE before.position IS NULL AND state.fleet = effective_nodes.fleet AND state.node = members.node
                AND state.valid_from > members.since AND state.files = ANY (members.files)
                AND (until_position IS NULL OR state.valid_from < until_position)
            ORDER BY state.valid_from LIMIT 1
        ) AS after ON true
    )
    SELECT reached.node, reached.pool, reached.position, event.recorded_at
    FROM reached
    LEFT JOIN public.events AS event ON event.position = reached.position
    WHERE reached.position IS NOT NULL
$$;
COMMENT ON FUNCTION reconciler_v1.effective_nodes(text, text[], bigint, bigint) IS 'The nodes of these pools on which what was desired from one position until another (NULL: now) became effective: the first receipt that proves files rendered meanwhile (NodeConverged), or the rendering where the node had them already. effective_at: when, by the clock of the database. A node that a hold of its own makes differ is not among them.';
