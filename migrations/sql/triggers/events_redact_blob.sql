CREATE TRIGGER events_redact_blob AFTER INSERT ON events REFERENCING NEW TABLE AS appended
    FOR EACH STATEMENT EXECUTE FUNCTION redact_blob();
COMMENT ON TRIGGER events_redact_blob ON events IS 'Redacts the blobs that events BlobRedacted name.';
