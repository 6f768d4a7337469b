CREATE FUNCTION refuse_broken_chain() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    first constant bigint := (SELECT min(position) FROM appended);
    head events%ROWTYPE;
    broken record;
BEGIN
    SELECT * INTO head FROM events WHERE position < first ORDER BY position DESC LIMIT 1;
    -- docs/reference/event-log.md says what is hashed. array_to_json is canonical for these values, as is the JSON in data.
    WITH digested AS (
        SELECT
            position, version, append_group, recorded_at, stream, previous_hash, hash,
            sha256(convert_to(
                rtrim(array_to_json(ARRAY['reconciler event 1', event_id::text, fleet, stream, type])::text, ']')
                || ',' || schema_version || ',' || ltrim(array_to_json(ARRAY[
                    data, actor, tool_version, correlation_id::text, causation_id::text, node, pool, resource, commit_sha
                ])::text, '['), 'UTF8')) AS digest
        FROM appended
    ), linked AS (
        SELECT
            position,
            CASE
                WHEN position <> coalesce(lag(position) OVER w, head.position, 0) + 1
                    THEN 'its position does not follow the one before it'
                WHEN append_group <> first THEN 'its append group does not begin with the rows appended with it'
                WHEN recorded_at < head.recorded_at
                    OR recorded_at <> greatest(head.recorded_at, min(recorded_at) OVER ())
                    OR recorded_at > greatest(head.recorded_at, clock_timestamp() + interval '1 minute')
                    OR recorded_at < now() - interval '1 minute'
                    THEN 'it was not recorded now'
                WHEN previous_hash <> coalesce(lag(hash) OVER w, head.hash, decode(repeat('00', 32), 'hex'))
                    THEN 'its previous hash is not the hash of the event before it'
                WHEN hash <> sha256(convert_to(
                    '["reconciler event 1","' || encode(previous_hash, 'hex') || '",' || position || ',' || version
                    || ',' || append_group || ',"'
                    || to_char(recorded_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"')
                    || '","' || encode(digest, 'hex') || '"]', 'UTF8'))
                    THEN 'it does not match its hash'
            END AS problem
        FROM digested
        WINDOW w AS (ORDER BY position)
    )
    SELECT position, problem INTO broken FROM linked WHERE problem IS NOT NULL ORDER BY position LIMIT 1;
    IF FOUND THEN
        RAISE EXCEPTION 'event #% does not continue the log: %', broken.position, broken.problem
            USING ERRCODE = 'integrity_constraint_violation',
                  HINT = 'Append with reconciler: it numbers, dates and chains what it appends.';
    END IF;
    RETURN NULL;
END
$$;
COMMENT ON FUNCTION refuse_broken_chain() IS 'Refuses rows that do not continue the chain of hashes, from whomever they come.';
