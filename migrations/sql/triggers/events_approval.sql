CREATE TRIGGER events_approval AFTER INSERT ON events REFERENCING NEW TABLE AS appended
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_self_approval();
COMMENT ON TRIGGER events_approval ON events IS 'Refuses the approval of one''s own change.';
