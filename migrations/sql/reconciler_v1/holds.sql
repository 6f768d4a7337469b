CREATE VIEW reconciler_v1.holds AS
SELECT
    begun.fleet,
    begun.data::jsonb ->> 'hold' AS hold,
    begun.pool,
    begun.node,
    (begun.data::jsonb ->> 'position')::bigint AS to_position,
    ARRAY(SELECT DISTINCT entry ->> 'resource' FROM jsonb_array_elements(begun.data::jsonb -> 'entries') AS entry
          WHERE entry -> 'baseline' IS DISTINCT FROM 'true' ORDER BY 1) AS resources,
    begun.data::jsonb ->> 'reason' AS reason,
    begun.actor::jsonb ->> 'subject' AS actor,
    begun.recorded_at AS since,
    begun.position AS from_position,
    span.until_position,
    ended.recorded_at AS until_at,
    CASE ended.type WHEN 'RolledBack' THEN 'replaced' ELSE ended.data::jsonb ->> 'cause' END AS until_cause,
    ended.actor::jsonb ->> 'subject' AS until_actor,
    ended.data::jsonb ->> 'reason' AS until_reason,
    span.entries
FROM public.events AS begun
LEFT JOIN LATERAL (
    SELECT held.valid_to AS until_position, held.entries
    FROM public.holds AS held
    WHERE held.fleet = begun.fleet AND held.hold = begun.data::jsonb ->> 'hold'
    ORDER BY held.valid_from DESC LIMIT 1
) AS span ON true
LEFT JOIN LATERAL (
    SELECT event.*
    FROM public.events AS last
    JOIN public.events AS event ON event.position BETWEEN last.append_group AND last.position
    WHERE last.position = span.until_position AND (
        (event.type = 'HoldLifted' AND event.data::jsonb ->> 'hold' = begun.data::jsonb ->> 'hold')
        OR (event.type = 'RolledBack' AND event.data::jsonb -> 'replaces' ? (begun.data::jsonb ->> 'hold')))
    ORDER BY event.position DESC LIMIT 1
) AS ended ON true
WHERE begun.type = 'RolledBack';
COMMENT ON VIEW reconciler_v1.holds IS 'Every hold there ever was: what was rolled back to which position, by whom, why, and how it ended. In force: those whose until_position is NULL.';
COMMENT ON COLUMN reconciler_v1.holds.fleet IS 'The fleet.';
COMMENT ON COLUMN reconciler_v1.holds.hold IS 'Its id.';
COMMENT ON COLUMN reconciler_v1.holds.pool IS 'The pool it is for; NULL: the fleet, or one node.';
COMMENT ON COLUMN reconciler_v1.holds.node IS 'The node it is for; NULL: the fleet, or a pool.';
COMMENT ON COLUMN reconciler_v1.holds.to_position IS 'The position that was rolled back to.';
COMMENT ON COLUMN reconciler_v1.holds.resources IS 'The resources that it kept against Git when it began; none where it gave the files from before the first write back.';
COMMENT ON COLUMN reconciler_v1.holds.reason IS 'Why, in the words of who rolled back.';
COMMENT ON COLUMN reconciler_v1.holds.actor IS 'Who rolled back.';
COMMENT ON COLUMN reconciler_v1.holds.since IS 'When (RolledBack), by the clock of the database.';
COMMENT ON COLUMN reconciler_v1.holds.from_position IS 'Place of that event in the log.';
COMMENT ON COLUMN reconciler_v1.holds.until_position IS 'Position from which it was in force no more; NULL: it is.';
COMMENT ON COLUMN reconciler_v1.holds.until_at IS 'When it ended, by the clock of the database.';
COMMENT ON COLUMN reconciler_v1.holds.until_cause IS 'Why it ended: agreed, fixed, resumed, undone, or replaced by a later rollback.';
COMMENT ON COLUMN reconciler_v1.holds.until_actor IS 'Who ended it.';
COMMENT ON COLUMN reconciler_v1.holds.until_reason IS 'The reason that was given.';
COMMENT ON COLUMN reconciler_v1.holds.entries IS 'What it keeps, or kept at last: per resource and scope the content restored and the contents refused.';
