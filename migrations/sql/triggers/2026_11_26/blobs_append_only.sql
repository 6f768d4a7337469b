DROP TRIGGER blobs_append_only ON blobs;
CREATE TRIGGER blobs_append_only BEFORE DELETE OR TRUNCATE ON blobs
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
COMMENT ON TRIGGER blobs_append_only ON blobs IS 'Refuses DELETE and TRUNCATE.';
