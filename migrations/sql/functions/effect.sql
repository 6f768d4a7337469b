CREATE FUNCTION effect(
    fleet text, pools text[], from_position bigint, until_position bigint, OUT nodes text[], OUT effective_at timestamptz
) LANGUAGE sql STABLE PARALLEL SAFE AS $$
    SELECT coalesce(array_agg(reached.node ORDER BY reached.node), '{}'),
        (SELECT event.recorded_at FROM public.events AS event WHERE event.position = min(reached.position))
    FROM reconciler_v1.effective_nodes(fleet, pools, from_position, until_position) AS reached
$$;
COMMENT ON FUNCTION effect(text, text[], bigint, bigint) IS 'The names of effective_nodes, and when the first of them followed, by the clock of the database.';
