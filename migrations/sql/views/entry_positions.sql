CREATE VIEW entry_positions AS
SELECT
    span.fleet,
    span.pool,
    span.resource,
    span.list,
    span.entry,
    span.detail,
    span.field,
    unnest(range_agg(span.positions) - shadowed_positions(span.fleet, span.pool, span.resource)) AS positions
FROM (
    -- As resource_positions has them; but joined here, where the index on the document is of use.
    SELECT resources.fleet, resources.pool, resources.resource, listed.list, listed.entry, listed.detail, listed.field,
        unnest(int8multirange(int8range(resources.valid_from, resources.valid_to)) - coalesce(
            (SELECT range_agg(held.positions) FROM public.held_resources AS held
             WHERE held.fleet = resources.fleet AND held.pool = resources.pool AND held.resource = resources.resource),
            '{}')) AS positions
    FROM public.content_entries AS listed
    JOIN public.resources ON resources.content = listed.content
    UNION ALL
    SELECT held.fleet, held.pool, held.resource, listed.list, listed.entry, listed.detail, listed.field,
        unnest(int8multirange(held.positions) - coalesce(
            (SELECT range_agg(other.positions) FROM public.held_resources AS other
             WHERE other.fleet = held.fleet AND other.pool = held.pool AND other.resource = held.resource
                AND (other.rank, other.since, other.hold) > (held.rank, held.since, held.hold)),
            '{}'))
    FROM public.content_entries AS listed
    JOIN public.held_resources AS held ON held.content = listed.content
) AS span
GROUP BY span.fleet, span.pool, span.resource, span.list, span.entry, span.detail, span.field;
COMMENT ON VIEW entry_positions IS 'Every registry entry that was in force in a pool, one row per uninterrupted time, holds included.';
COMMENT ON COLUMN entry_positions.fleet IS 'The fleet.';
COMMENT ON COLUMN entry_positions.pool IS 'The pool.';
COMMENT ON COLUMN entry_positions.resource IS 'The resource that lists it.';
COMMENT ON COLUMN entry_positions.list IS 'allowed, blocked, insecure, search, import, digest-mirror, tag-mirror, policy or ca.';
COMMENT ON COLUMN entry_positions.entry IS 'The registry, repository, source or scope.';
COMMENT ON COLUMN entry_positions.detail IS 'The rest of the row.';
COMMENT ON COLUMN entry_positions.field IS 'The field that lists it.';
COMMENT ON COLUMN entry_positions.positions IS 'From which position on, and before which.';
