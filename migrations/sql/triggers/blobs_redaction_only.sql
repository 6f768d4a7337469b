CREATE TRIGGER blobs_redaction_only BEFORE UPDATE ON blobs
    FOR EACH ROW EXECUTE FUNCTION refuse_blob_change();
COMMENT ON TRIGGER blobs_redaction_only ON blobs IS 'Refuses every UPDATE but that of a redaction which the log holds.';
