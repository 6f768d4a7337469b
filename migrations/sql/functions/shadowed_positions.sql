CREATE FUNCTION shadowed_positions(fleet text, pool text, resource text) RETURNS int8multirange
LANGUAGE sql STABLE PARALLEL SAFE AS $$
    SELECT coalesce(range_agg(later.positions * ordered.positions), '{}')
    FROM public.resource_positions AS later
    CROSS JOIN LATERAL (
        SELECT pools.spec -> 'paths' AS paths, unnest(range_agg(int8range(pools.valid_from, pools.valid_to))) AS positions
        FROM public.pools
        WHERE pools.fleet = shadowed_positions.fleet AND pools.pool = shadowed_positions.pool
        GROUP BY pools.spec -> 'paths'
    ) AS ordered
    WHERE later.fleet = shadowed_positions.fleet AND later.pool = shadowed_positions.pool
        AND later.resource <> shadowed_positions.resource
        AND regexp_replace(later.resource, '^.*:', '') = regexp_replace(shadowed_positions.resource, '^.*:', '')
        AND path_rank(ordered.paths, later.resource) > path_rank(ordered.paths, shadowed_positions.resource)
$$;
COMMENT ON FUNCTION shadowed_positions(text, text, text) IS 'Where a resource was not in force in a pool, since a later path of the pool had another of its kind and name.';
