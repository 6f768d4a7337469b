CREATE TRIGGER events_redact_blob AFTER INSERT ON events
    FOR EACH ROW WHEN (NEW.type = 'BlobRedacted') EXECUTE FUNCTION redact_blob();
COMMENT ON TRIGGER events_redact_blob ON events IS 'Redacts the blob that an event BlobRedacted names.';
