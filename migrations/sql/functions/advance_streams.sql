CREATE FUNCTION advance_streams() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$
DECLARE
    wrong record;
BEGIN
    IF TG_RELID <> 'events'::regclass THEN
        RAISE EXCEPTION 'this function serves the table events only' USING ERRCODE = 'insufficient_privilege';
    END IF;
    SELECT position, numbered.version, stream INTO wrong
    FROM (
        SELECT position, version, stream, fleet, row_number() OVER (PARTITION BY stream ORDER BY position) AS number
        FROM appended
    ) AS numbered
    LEFT JOIN streams AS known USING (stream)
    WHERE numbered.version <> coalesce(known.version, 0) + number OR numbered.fleet <> known.fleet
    LIMIT 1;
    IF FOUND THEN
        RAISE EXCEPTION 'event #% does not continue the log: version % of stream % does not follow the one before it',
            wrong.position, wrong.version, wrong.stream
            USING ERRCODE = 'integrity_constraint_violation',
                  HINT = 'Append with reconciler: it numbers, dates and chains what it appends.';
    END IF;
    -- INSERT … ON CONFLICT would take twice as long, and nearly every stream is known.
    UPDATE streams AS known SET version = head.version, last_position = head.position
    FROM (SELECT stream, max(version) AS version, max(position) AS position FROM appended GROUP BY stream) AS head
    WHERE known.stream = head.stream;
    IF EXISTS (SELECT FROM appended WHERE version = 1) THEN
        INSERT INTO streams (stream, fleet, version, last_position)
        SELECT stream, min(fleet), max(version), max(position)
        FROM appended
        GROUP BY stream
        HAVING min(version) = 1;
    END IF;
    PERFORM pg_notify('reconciler_events', max(position)::text) FROM appended HAVING count(*) > 0;
    RETURN NULL;
END
$$;
COMMENT ON FUNCTION advance_streams() IS 'Moves the heads of the streams that rows were appended to, and tells followers; refuses a version that does not follow.';
