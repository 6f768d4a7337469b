CREATE FUNCTION commits_to_approve(of_fleet text, of_pool text, until bigint) RETURNS text[] LANGUAGE sql STABLE AS $$
    WITH completed AS (
        SELECT data::jsonb ->> 'rollout' AS rollout
        FROM events
        WHERE pool = of_pool AND position < until AND type = 'RolloutCompleted' AND fleet = of_fleet
        ORDER BY position DESC
        LIMIT 1
    ), proven AS (
        SELECT min(position) AS position
        FROM events, completed
        WHERE pool = of_pool AND position < until AND type = 'RolloutStarted' AND fleet = of_fleet
            AND data::jsonb ->> 'rollout' = completed.rollout
    )
    SELECT array_agg(DISTINCT commit_sha)
    FROM events
    WHERE position > coalesce((SELECT position FROM proven), 0) AND position < until AND fleet = of_fleet AND (
        type IN ('ResourceAdded', 'ResourceChanged', 'ResourceRemoved') AND data::jsonb -> 'pools' ? of_pool
        OR type = 'PoolConfigured' AND pool = of_pool
    )
$$;
COMMENT ON FUNCTION commits_to_approve(text, text, bigint) IS 'The commits that changed what a pool takes since the content that its last completed rollout brought, up to a position.';
