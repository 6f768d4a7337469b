CREATE TRIGGER events_chain AFTER INSERT ON events REFERENCING NEW TABLE AS appended
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_broken_chain();
COMMENT ON TRIGGER events_chain ON events IS 'Refuses rows that do not continue the chain.';
