CREATE FUNCTION reconciler_v1.desired_at(at bigint)
RETURNS TABLE (
    fleet text, pool text, node text, resource text, content text, commit text, hold text, file text, line bigint,
    shadowed boolean
) LANGUAGE sql STABLE PARALLEL SAFE AS $$
    WITH moment AS MATERIALIZED (SELECT reconciler_v1.group_end(at) AS position),
    paths AS MATERIALIZED (
        SELECT pools.fleet, pools.pool, path.path, path.rank, path.path || '/' AS below
        FROM public.pools
        CROSS JOIN LATERAL jsonb_array_elements_text(pools.spec -> 'paths') WITH ORDINALITY AS path (path, rank)
        WHERE int8range(pools.valid_from, pools.valid_to) @> (SELECT position FROM moment)
    ),
    held AS MATERIALIZED (
        SELECT holds.fleet, holds.hold, holds.since, number, entry ->> 'resource' AS resource,
            entry #>> '{scope,kind}' AS kind, entry #>> '{scope,name}' AS name,
            NULLIF(entry -> 'restored', 'null'::jsonb) AS restored,
            CASE WHEN entry ->> 'resource' LIKE '%:%'
                THEN regexp_replace(entry ->> 'resource', ':[^:]*$', '') ELSE '.' END AS directory
        FROM public.holds
        CROSS JOIN LATERAL jsonb_array_elements(holds.entries) WITH ORDINALITY AS listed (entry, number)
        WHERE int8range(holds.valid_from, holds.valid_to) @> (SELECT position FROM moment)
    ),
    applied AS MATERIALIZED (
        SELECT held.fleet, pools.pool, '' AS node, held.resource, held.hold, held.restored, held.since, held.number,
            CASE held.kind WHEN 'fleet' THEN 1 ELSE 2 END AS rank
        FROM held
        JOIN (SELECT DISTINCT paths.fleet, paths.pool FROM paths) AS pools
            ON pools.fleet = held.fleet AND (held.kind = 'fleet' OR (held.kind = 'pool' AND held.name = pools.pool))
        WHERE held.restored IS NULL OR EXISTS (
            SELECT FROM paths WHERE paths.fleet = held.fleet AND paths.pool = pools.pool AND paths.path = (
                SELECT home.path FROM paths AS home
                WHERE home.fleet = held.fleet
                    AND (home.path = '.' OR home.path = held.directory OR starts_with(held.directory, home.below))
                ORDER BY home.path <> '.' DESC, length(home.path) DESC LIMIT 1))
        UNION ALL
        SELECT held.fleet, nodes.pool, held.name, held.resource, held.hold, held.restored, held.since, held.number, 3
        FROM held
        JOIN public.nodes ON nodes.fleet = held.fleet AND nodes.node = held.name
            AND int8range(nodes.valid_from, nodes.valid_to) @> (SELECT position FROM moment)
        WHERE held.kind = 'node'
    ),
    versions AS (
        SELECT resources.fleet, resources.pool, '' AS node, resources.resource, resources.content, resources.commit,
            NULL AS hold, resources.file, resources.line, NULL::timestamptz AS since, 0 AS number, 0 AS rank
        FROM public.resources
        WHERE int8range(resources.valid_from, resources.valid_to) @> (SELECT position FROM moment)
        UNION ALL
        SELECT applied.fleet, applied.pool, applied.node, applied.resource, applied.restored ->> 'content',
            applied.restored ->> 'commit', applied.hold, applied.restored ->> 'file',
            (applied.restored ->> 'line')::bigint, applied.since, applied.number, applied.rank
        FROM applied
        WHERE applied.resource <> ''
    ),
    cleared AS (
        -- A hold that gives back the files from before the first write names no resource: it takes all of them away.
        SELECT DISTINCT versions.fleet, versions.pool, applied.node, versions.resource, NULL AS content, NULL AS commit,
            applied.hold, NULL AS file, NULL::bigint AS line, applied.since, applied.number, applied.rank
        FROM applied
        JOIN versions ON versions.fleet = applied.fleet AND versions.pool = applied.pool
            AND versions.node IN ('', applied.node)
        WHERE applied.resource = ''
    ),
    winners AS (
        SELECT DISTINCT ON (versions.fleet, versions.pool, versions.node, versions.resource)
            versions.*, regexp_replace(versions.resource, '^.*:', '') AS identity,
            CASE WHEN versions.resource LIKE '%:%'
                THEN regexp_replace(versions.resource, ':[^:]*$', '') ELSE '.' END AS directory
        FROM (SELECT * FROM versions UNION ALL SELECT * FROM cleared) AS versions
        ORDER BY versions.fleet, versions.pool, versions.node, versions.resource, versions.rank DESC,
            versions.since DESC, versions.hold DESC, versions.number DESC
    ),
    ranked AS (
        SELECT winners.*, coalesce((
            SELECT paths.rank FROM paths
            WHERE paths.fleet = winners.fleet AND paths.pool = winners.pool
                AND (paths.path = '.' OR paths.path = winners.directory OR starts_with(winners.directory, paths.below))
            ORDER BY paths.path <> '.' DESC, length(paths.path) DESC LIMIT 1), 0) AS path_rank
        FROM winners
        WHERE winners.content IS NOT NULL OR winners.node <> ''
    )
    SELECT ranked.fleet, ranked.pool, ranked.node, ranked.resource, ranked.content, ranked.commit, ranked.hold,
        ranked.file, ranked.line,
        coalesce(ranked.path_rank < max(ranked.path_rank) FILTER (WHERE ranked.content IS NOT NULL) OVER (
            PARTITION BY ranked.fleet, ranked.pool, ranked.node, ranked.identity), false)
    FROM ranked
$$;
COMMENT ON FUNCTION reconciler_v1.desired_at(bigint) IS 'The resources in force at a position (the end of its append group), per pool, holds included: content names the blob of the document, commit the one it came from, hold the hold that keeps it against Git. node is empty but where a hold of one node makes it differ from its pool; there content is NULL if the hold takes the resource away. What a hold gave the files from before the first write back to wants nothing: of a pool no row, of a node rows without content. pool is empty for what no pool takes. shadowed: a later path of the pool has another of its kind and name, which replaces it.';
