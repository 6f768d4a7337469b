CREATE VIEW resource_positions AS
SELECT resources.fleet, resources.pool, resources.resource, resources.content,
    unnest(int8multirange(int8range(resources.valid_from, resources.valid_to)) - coalesce(
        (SELECT range_agg(held.positions) FROM public.held_resources AS held
         WHERE held.fleet = resources.fleet AND held.pool = resources.pool AND held.resource = resources.resource),
        '{}')) AS positions
FROM public.resources
UNION ALL
SELECT held.fleet, held.pool, held.resource, held.content,
    unnest(int8multirange(held.positions) - coalesce(
        (SELECT range_agg(other.positions) FROM public.held_resources AS other
         WHERE other.fleet = held.fleet AND other.pool = held.pool AND other.resource = held.resource
            AND (other.rank, other.since, other.hold) > (held.rank, held.since, held.hold)),
        '{}'))
FROM public.held_resources AS held
WHERE held.content IS NOT NULL;
COMMENT ON VIEW resource_positions IS 'Every document that was in force in a pool, from when until when, holds included; also what a later path of the pool replaces.';
COMMENT ON COLUMN resource_positions.fleet IS 'The fleet.';
COMMENT ON COLUMN resource_positions.pool IS 'The pool.';
COMMENT ON COLUMN resource_positions.resource IS 'PATH:KIND/NAME.';
COMMENT ON COLUMN resource_positions.content IS 'The blob of the document.';
COMMENT ON COLUMN resource_positions.positions IS 'From which position on, and before which.';
