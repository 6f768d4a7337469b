CREATE TRIGGER events_fold BEFORE INSERT ON events
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_other_fold();
COMMENT ON TRIGGER events_fold ON events IS 'Refuses appends of a program whose fold is of another version than the read tables.';
