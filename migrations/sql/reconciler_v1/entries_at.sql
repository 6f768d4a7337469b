CREATE FUNCTION reconciler_v1.entries_at(at bigint)
RETURNS TABLE (
    fleet text, pool text, node text, list text, entry text, detail jsonb, field text, resource text, commit text, hold text
) LANGUAGE sql STABLE PARALLEL SAFE AS $$
    SELECT desired.fleet, desired.pool, desired.node, listed.list, listed.entry, listed.detail, listed.field,
        desired.resource, desired.commit, desired.hold
    FROM reconciler_v1.desired_at(at) AS desired
    JOIN public.content_entries AS listed ON listed.content = desired.content
    WHERE NOT desired.shadowed
$$;
COMMENT ON FUNCTION reconciler_v1.entries_at(bigint) IS 'The registry entries in force at a position (the end of its append group), per pool, holds included: what the documents of desired_at list. node is empty but where a hold of one node makes it differ from its pool.';
