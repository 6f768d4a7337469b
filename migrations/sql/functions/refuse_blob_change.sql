CREATE FUNCTION refuse_blob_change() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    redacted boolean := false;
BEGIN
    IF NEW.sha256 = OLD.sha256 AND NEW.content IS NULL AND OLD.content IS NOT NULL THEN
        redacted := EXISTS (
            SELECT FROM events
            WHERE position = NEW.redacted_at AND type = 'BlobRedacted' AND data::jsonb ->> 'blob' = NEW.sha256
        );
    END IF;
    IF NOT redacted THEN
        RAISE EXCEPTION 'UPDATE of table blobs refused: it is append-only'
            USING ERRCODE = 'restrict_violation',
                  HINT = 'What happened stays recorded; a correction is a new event.';
    END IF;
    RETURN NEW;
END
$$;
COMMENT ON FUNCTION refuse_blob_change() IS 'Lets bytes be taken away that an event BlobRedacted names, and nothing else be changed.';
