CREATE FUNCTION redact_blob() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$
BEGIN
    IF TG_RELID <> 'events'::regclass THEN
        RAISE EXCEPTION 'this function serves the table events only' USING ERRCODE = 'insufficient_privilege';
    END IF;
    UPDATE blobs SET content = NULL, redacted_at = NEW.position
    WHERE sha256 = NEW.data::jsonb ->> 'blob' AND redacted_at IS NULL;
    DELETE FROM content_entries WHERE content = NEW.data::jsonb ->> 'blob';
    RETURN NULL;
END
$$;
COMMENT ON FUNCTION redact_blob() IS 'Takes away the bytes of the blob that an event BlobRedacted names, and what they listed, in its transaction.';
