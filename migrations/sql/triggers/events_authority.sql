CREATE TRIGGER events_authority AFTER INSERT ON events REFERENCING NEW TABLE AS appended
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_unauthorised();
COMMENT ON TRIGGER events_authority ON events IS 'Refuses what the session may not say.';
