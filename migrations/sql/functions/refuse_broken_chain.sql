CREATE FUNCTION refuse_broken_chain() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    batch record;
    head record;
    broken bigint;
BEGIN
    SELECT
        min(position) AS first, max(position) AS last, max(position) - min(position) + 1 = count(*) AS whole,
        min(append_group) = min(position) AND max(append_group) = min(position) AS grouped,
        min(recorded_at) AS moment, max(recorded_at) AS last_moment
    INTO batch
    FROM appended;
    SELECT position, hash, recorded_at INTO head
    FROM events
    WHERE position < batch.first
    ORDER BY position DESC
    LIMIT 1;
    -- What a statement appends by a function while it runs comes after its own rows, and is judged before them.
    IF NOT (batch.whole AND batch.grouped AND batch.first = coalesce(head.position, 0) + 1)
        OR batch.last <> (SELECT max(position) FROM events)
    THEN
        RAISE EXCEPTION 'event #% does not continue the log: it and those appended with it are not numbered from #% on',
            batch.first, coalesce(head.position, 0) + 1
            USING ERRCODE = 'integrity_constraint_violation',
                  HINT = 'Append with reconciler: it numbers, dates and chains what it appends.';
    END IF;
    IF batch.moment <> batch.last_moment OR batch.moment < head.recorded_at
        OR batch.moment < now() - interval '1 minute'
        OR batch.moment > greatest(head.recorded_at, clock_timestamp() + interval '1 minute')
    THEN
        RAISE EXCEPTION 'event #% does not continue the log: it is dated %, which is not now', batch.first, batch.moment
            USING ERRCODE = 'integrity_constraint_violation',
                  HINT = 'Append with reconciler: it numbers, dates and chains what it appends.';
    END IF;
    SELECT position INTO broken
    FROM (
        SELECT
            position, previous_hash,
            lag(hash, 1, coalesce(head.hash, decode(repeat('00', 32), 'hex'))) OVER (ORDER BY position) AS hash_before
        FROM appended
    ) AS linked
    WHERE previous_hash <> hash_before
    ORDER BY position
    LIMIT 1;
    -- The service's own hashes are checked when they are read, before a head is signed: here it would cost a quarter of
    -- the rate of appends. docs/reference/event-log.md says what is hashed; for these values array_to_json gives canonical
    -- JSON. Its bytes are cut, not its characters, which would be counted first.
    IF broken IS NULL AND NOT holds_role('reconciler_service') THEN
        SELECT position INTO broken
        FROM appended
        WHERE hash <> sha256(convert_to(
            '["reconciler event 1","' || encode(previous_hash, 'hex') || '",' || position || ',' || version || ','
            || append_group || ',"' || to_char(recorded_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"') || '","'
            || encode(sha256(
                convert_to(
                    '["reconciler event 1","' || event_id || '",' || to_json(fleet)::text || ','
                    || to_json(stream)::text || ',' || to_json(type)::text || ',' || schema_version || ',', 'UTF8'
                ) || substring(convert_to(array_to_json(ARRAY[
                    data, actor, tool_version, correlation_id::text, causation_id::text,
                    node, pool, resource, commit_sha
                ])::text, 'UTF8') FROM 2)
            ), 'hex') || '"]', 'UTF8'
        ))
        ORDER BY position
        LIMIT 1;
    END IF;
    IF broken IS NOT NULL THEN
        RAISE EXCEPTION 'event #% does not continue the log: its hashes are not those of it and the event before it', broken
            USING ERRCODE = 'integrity_constraint_violation',
                  HINT = 'Append with reconciler: it numbers, dates and chains what it appends.';
    END IF;
    RETURN NULL;
END
$$;
COMMENT ON FUNCTION refuse_broken_chain() IS 'Refuses rows that do not continue the chain of hashes, from whomever they come, and hashes that are wrong, but for the service''s and the owner''s.';
