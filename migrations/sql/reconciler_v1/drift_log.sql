CREATE VIEW reconciler_v1.drift_log AS
SELECT
    found.fleet,
    found.node,
    found.pool,
    ARRAY(SELECT item ->> 'path' FROM jsonb_array_elements(found.data::jsonb -> 'differs') AS item) AS paths,
    found.recorded_at AS detected_at,
    found.position,
    (SELECT event.recorded_at FROM public.events AS event
     WHERE event.node = found.node AND event.fleet = found.fleet AND event.position > found.position
        AND event.type IN ('DriftRepaired', 'DriftDetected', 'NodeConverged', 'NodeReset', 'NodeReleased', 'NodeRemoved')
     ORDER BY event.position LIMIT 1) AS ended_at,
    (SELECT CASE event.type
            WHEN 'DriftRepaired' THEN CASE event.data::jsonb ->> 'by' WHEN 'outside' THEN 'outside' ELSE 'repaired' END
            WHEN 'DriftDetected' THEN 'changed'
            WHEN 'NodeConverged' THEN 'replaced'
            ELSE 'node gone' END
     FROM public.events AS event
     WHERE event.node = found.node AND event.fleet = found.fleet AND event.position > found.position
        AND event.type IN ('DriftRepaired', 'DriftDetected', 'NodeConverged', 'NodeReset', 'NodeReleased', 'NodeRemoved')
     ORDER BY event.position LIMIT 1) AS ended_by,
    found.data::jsonb -> 'differs' AS differs
FROM public.events AS found
WHERE found.type = 'DriftDetected';
COMMENT ON VIEW reconciler_v1.drift_log IS 'Every drift: which files of which node differed from its last receipt, since when, and how that ended.';
COMMENT ON COLUMN reconciler_v1.drift_log.fleet IS 'The fleet.';
COMMENT ON COLUMN reconciler_v1.drift_log.node IS 'The node.';
COMMENT ON COLUMN reconciler_v1.drift_log.pool IS 'The pool it was in.';
COMMENT ON COLUMN reconciler_v1.drift_log.paths IS 'The files that differed.';
COMMENT ON COLUMN reconciler_v1.drift_log.detected_at IS 'When it was recorded (DriftDetected), by the clock of the database.';
COMMENT ON COLUMN reconciler_v1.drift_log.position IS 'Place of that event in the log.';
COMMENT ON COLUMN reconciler_v1.drift_log.ended_at IS 'When it ended, by the clock of the database; NULL: it lasts.';
COMMENT ON COLUMN reconciler_v1.drift_log.ended_by IS 'repaired (by us), outside (somebody put the files back), changed (it was seen to differ otherwise), replaced (newer files) or node gone.';
COMMENT ON COLUMN reconciler_v1.drift_log.differs IS 'Per file: path, mode, digest expected and observed (a blob, or a word such as absent).';
