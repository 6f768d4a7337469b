CREATE VIEW held_resources AS
SELECT
    holds.fleet,
    taken.pool,
    taken.resource,
    holds.hold,
    entry.value #>> '{restored,content}' AS content,
    entry.value #>> '{restored,commit}' AS commit,
    int8range(holds.valid_from, holds.valid_to) AS positions,
    CASE entry.value #>> '{scope,kind}' WHEN 'pool' THEN 2 ELSE 1 END AS rank,
    holds.since
FROM public.holds
CROSS JOIN LATERAL jsonb_array_elements(holds.entries) AS entry
CROSS JOIN LATERAL (
    SELECT DISTINCT resources.pool, resources.resource
    FROM public.resources
    -- One that gives back the files from before the first write names no resource: it takes all of them away.
    WHERE resources.fleet = holds.fleet AND entry.value ->> 'resource' IN (resources.resource, '') AND resources.pool <> ''
        AND (entry.value #>> '{scope,kind}' = 'fleet' OR resources.pool = entry.value #>> '{scope,name}')
) AS taken
WHERE entry.value #>> '{scope,kind}' <> 'node';
COMMENT ON VIEW held_resources IS 'What holds of a fleet or pool kept in force, per pool and resource, from when until when.';
COMMENT ON COLUMN held_resources.fleet IS 'The fleet.';
COMMENT ON COLUMN held_resources.pool IS 'The pool, one that took the resource at any time.';
COMMENT ON COLUMN held_resources.resource IS 'PATH:KIND/NAME.';
COMMENT ON COLUMN held_resources.hold IS 'The hold.';
COMMENT ON COLUMN held_resources.content IS 'Blob of the document that was restored; NULL: the resource was taken away, alone or with all others (the files from before the first write).';
COMMENT ON COLUMN held_resources.commit IS 'The commit that document came from.';
COMMENT ON COLUMN held_resources.positions IS 'The positions from which and until which the hold had this entry.';
COMMENT ON COLUMN held_resources.rank IS '1: of the fleet, 2: of the pool; of two holds on one resource the greater rank is in force, then the newer.';
COMMENT ON COLUMN held_resources.since IS 'When the hold began (RolledBack), by the clock of the database.';
