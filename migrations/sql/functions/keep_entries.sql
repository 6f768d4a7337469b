CREATE FUNCTION keep_entries() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$
BEGIN
    IF TG_RELID <> 'blobs'::regclass THEN
        RAISE EXCEPTION 'this function serves the table blobs only' USING ERRCODE = 'insufficient_privilege';
    END IF;
    INSERT INTO content_entries (content, list, entry, detail, field)
    SELECT NEW.sha256, found.list, found.entry, found.detail, found.field
    FROM resource_entries(blob_document(NEW.content)) AS found
    WHERE found.entry IS NOT NULL;
    RETURN NULL;
END
$$;
COMMENT ON FUNCTION keep_entries() IS 'Writes what a document lists to content_entries, which no role may write itself.';
