CREATE FUNCTION blob_document(content bytea) RETURNS jsonb LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE AS $$
BEGIN
    RETURN convert_from(content, 'UTF8')::jsonb;
EXCEPTION WHEN data_exception THEN
    RETURN NULL;
END
$$;
COMMENT ON FUNCTION blob_document(bytea) IS 'A blob as JSON; NULL where it is none, or holds a character that the database''s JSON cannot.';
