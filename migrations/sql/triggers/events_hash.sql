-- docs/reference/event-log.md says what is hashed. For these values array_to_json gives canonical JSON; its bytes are cut,
-- not its characters, which would be counted first. Rows of a COPY are judged as they come, while its end is being made.
CREATE TRIGGER events_hash AFTER INSERT ON events FOR EACH ROW
    WHEN (NEW.hash <> sha256(convert_to(
        '["reconciler event 1","' || encode(NEW.previous_hash, 'hex') || '",' || NEW.position || ',' || NEW.version || ','
        || NEW.append_group || ',"' || to_char(NEW.recorded_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"') || '","'
        || encode(sha256(
            convert_to(
                '["reconciler event 1","' || NEW.event_id || '",' || to_json(NEW.fleet)::text || ','
                || to_json(NEW.stream)::text || ',' || to_json(NEW.type)::text || ',' || NEW.schema_version || ',', 'UTF8'
            ) || substring(convert_to(array_to_json(ARRAY[
                NEW.data, NEW.actor, NEW.tool_version, NEW.correlation_id::text, NEW.causation_id::text,
                NEW.node, NEW.pool, NEW.resource, NEW.commit_sha
            ])::text, 'UTF8') FROM 2)
        ), 'hex') || '"]', 'UTF8'
    )))
    EXECUTE FUNCTION refuse_wrong_hash();
COMMENT ON TRIGGER events_hash ON events IS 'Refuses rows whose hash is not that of what they say.';
