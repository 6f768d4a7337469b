CREATE FUNCTION path_rank(paths jsonb, resource text) RETURNS bigint LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT coalesce((
        SELECT path.rank
        FROM jsonb_array_elements_text(paths) WITH ORDINALITY AS path (path, rank)
        CROSS JOIN (SELECT CASE WHEN resource LIKE '%:%' THEN regexp_replace(resource, ':[^:]*$', '') ELSE '.' END) AS home (directory)
        WHERE path.path = '.' OR path.path = home.directory OR starts_with(home.directory, path.path || '/')
        ORDER BY path.path <> '.' DESC, length(path.path) DESC LIMIT 1), 0)
$$;
COMMENT ON FUNCTION path_rank(jsonb, text) IS 'The place among a pool''s paths of the one that a resource belongs to, the deepest above it; 0: to none.';
