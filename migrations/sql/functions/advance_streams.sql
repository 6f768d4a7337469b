CREATE FUNCTION advance_streams() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$
DECLARE
    batch record;
    moved record;
    begun bigint := 0;
    wrong record;
BEGIN
    IF TG_RELID <> 'events'::regclass THEN
        RAISE EXCEPTION 'this function serves the table events only' USING ERRCODE = 'insufficient_privilege';
    END IF;
    SELECT count(*) AS events, max(position) AS position INTO batch FROM appended;
    -- INSERT … ON CONFLICT would take twice as long, and nearly every stream is known.
    WITH moved AS (
        UPDATE streams AS known SET version = known.version + head.events, last_position = head.position
        FROM (
            SELECT stream, fleet, count(*) AS events, max(version) AS version, max(position) AS position
            FROM appended
            GROUP BY stream, fleet
        ) AS head
        WHERE known.stream = head.stream
        RETURNING CASE WHEN known.version = head.version AND known.fleet = head.fleet THEN head.events END AS events
    )
    SELECT coalesce(sum(events), 0) AS events, coalesce(max(events), 0) AS longest INTO moved FROM moved;
    IF moved.events < batch.events THEN
        INSERT INTO streams (stream, fleet, version, last_position)
        SELECT stream, fleet, max(version), max(position)
        FROM appended
        GROUP BY stream, fleet
        HAVING min(version) = 1 AND max(version) = count(*);
        GET DIAGNOSTICS begun = ROW_COUNT;
    END IF;
    -- A version stands in a stream once, so that one row more has its place. All else is seen row by row.
    IF moved.longest > 1 OR moved.events + begun < batch.events THEN
        SELECT said.position, said.version, said.stream INTO wrong
        FROM (
            SELECT
                position, version, stream, fleet, count(*) OVER (PARTITION BY stream) AS events,
                row_number() OVER (PARTITION BY stream ORDER BY position) AS number
            FROM appended
        ) AS said
        LEFT JOIN streams AS known USING (stream)
        WHERE said.version <> coalesce(known.version - said.events, 0) + said.number
            OR said.fleet IS DISTINCT FROM known.fleet
        ORDER BY position
        LIMIT 1;
        IF FOUND THEN
            RAISE EXCEPTION 'event #% does not continue the log: version % of stream % does not follow the one before it',
                wrong.position, wrong.version, wrong.stream
                USING ERRCODE = 'integrity_constraint_violation',
                      HINT = 'Append with reconciler: it numbers, dates and chains what it appends.';
        END IF;
    END IF;
    PERFORM pg_notify('reconciler_events', batch.position::text) WHERE batch.position IS NOT NULL;
    RETURN NULL;
END
$$;
COMMENT ON FUNCTION advance_streams() IS 'Moves the heads of the streams that rows were appended to, and tells followers; refuses a version that does not follow.';
