CREATE TRIGGER events_streams AFTER INSERT ON events REFERENCING NEW TABLE AS appended
    FOR EACH STATEMENT EXECUTE FUNCTION advance_streams();
COMMENT ON TRIGGER events_streams ON events IS 'Moves the heads of the streams, and tells followers.';
