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
        SELECT rendered.pool, array_agg(rendered.files ORDER BY rendered.since) AS files,
            min(rendered.since) AS since,
            -- Only of files that were rendered before can a node have had some already.
            bool_or(EXISTS (
                SELECT FROM public.renders AS earlier
                WHERE earlier.fleet = effective_nodes.fleet AND earlier.pool = rendered.pool
                    AND earlier.files = rendered.files AND earlier.valid_from < rendered.since)) AS again
        FROM rendered GROUP BY rendered.pool
    ),
    members AS (
        SELECT nodes.node, nodes.pool, wanted.files, wanted.again, greatest(nodes.valid_from, wanted.since) AS since,
            nodes.valid_to
        FROM wanted
        JOIN public.nodes ON nodes.fleet = effective_nodes.fleet AND nodes.pool = wanted.pool
            AND (until_position IS NULL OR nodes.valid_from < until_position)
            AND (nodes.valid_to IS NULL OR nodes.valid_to > wanted.since)
    ),
    reached AS (
        SELECT members.node, members.pool, min(found.position) AS position
        FROM members
        CROSS JOIN LATERAL (
            SELECT coalesce(
                (SELECT members.since
                 FROM (SELECT state.files FROM public.node_states AS state
                       WHERE state.fleet = effective_nodes.fleet AND state.node = members.node
                           AND state.valid_from <= members.since
                       ORDER BY state.valid_from DESC LIMIT 1) AS had
                 WHERE members.again AND had.files = ANY (members.files)),
                (SELECT state.valid_from FROM public.node_states AS state
                 WHERE state.fleet = effective_nodes.fleet AND state.node = members.node
                     AND state.valid_from > members.since AND state.files = ANY (members.files)
                     AND (until_position IS NULL OR state.valid_from < until_position)
                     AND (members.valid_to IS NULL OR state.valid_from < members.valid_to)
                 ORDER BY state.valid_from LIMIT 1)) AS position
            OFFSET 0  -- worked out once, not at every mention
        ) AS found
        WHERE found.position IS NOT NULL
        GROUP BY members.node, members.pool
    )
    SELECT reached.node, reached.pool, reached.position, event.recorded_at
    FROM reached
    LEFT JOIN public.events AS event ON event.position = reached.position
$$;
COMMENT ON FUNCTION reconciler_v1.effective_nodes(text, text[], bigint, bigint) IS 'The nodes of these pools on which what was desired from one position until another (NULL: now) became effective: the first receipt that proves files rendered meanwhile (NodeConverged), or the rendering where the node had them already. effective_at: when, by the clock of the database. A node that a hold of its own makes differ is not among them.';
