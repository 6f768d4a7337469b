CREATE FUNCTION base_digest(files jsonb) RETURNS text LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT encode(sha256(convert_to('{' || coalesce(string_agg(
        to_json(file.key)::text || ':' || to_json(file.value)::text, ',' ORDER BY file.key COLLATE "C"), '') || '}', 'UTF8')), 'hex')
    FROM jsonb_each_text(files) AS file
    WHERE file.value IS NOT NULL
$$;
COMMENT ON FUNCTION base_digest(jsonb) IS 'Identity of a base: the digest of the canonical JSON of its files'' hashes; absent files do not count.';
