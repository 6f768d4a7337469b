CREATE FUNCTION redact_blob() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$
BEGIN
    IF TG_RELID <> 'events'::regclass THEN
        RAISE EXCEPTION 'this function serves the table events only' USING ERRCODE = 'insufficient_privilege';
    END IF;
    IF NOT EXISTS (SELECT FROM appended WHERE type = 'BlobRedacted') THEN
        RETURN NULL;
    END IF;
    UPDATE blobs SET content = NULL, redacted_at = said.position
    FROM (
        SELECT data::jsonb ->> 'blob' AS sha256, min(position) AS position
        FROM appended
        WHERE type = 'BlobRedacted'
        GROUP BY data::jsonb ->> 'blob'
    ) AS said
    WHERE blobs.sha256 = said.sha256 AND redacted_at IS NULL;
    DELETE FROM content_entries
    WHERE content IN (SELECT data::jsonb ->> 'blob' FROM appended WHERE type = 'BlobRedacted');
    RETURN NULL;
END
$$;
COMMENT ON FUNCTION redact_blob() IS 'Takes away the bytes of the blobs that events BlobRedacted name, and what they listed, in their transaction.';
