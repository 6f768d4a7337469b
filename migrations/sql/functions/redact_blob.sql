CREATE FUNCTION redact_blob() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog AS $$
BEGIN
    EXECUTE format(
        'UPDATE %I.blobs SET content = NULL, redacted_at = $1 WHERE sha256 = $2 AND redacted_at IS NULL', TG_TABLE_SCHEMA
    ) USING NEW.position, NEW.data::jsonb ->> 'blob';
    EXECUTE format('DELETE FROM %I.content_entries WHERE content = $1', TG_TABLE_SCHEMA) USING NEW.data::jsonb ->> 'blob';
    RETURN NULL;
END
$$;
COMMENT ON FUNCTION redact_blob() IS 'Takes away the bytes of the blob that an event BlobRedacted names, and what they listed, in its transaction.';
