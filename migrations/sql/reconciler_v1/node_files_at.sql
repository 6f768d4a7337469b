CREATE FUNCTION reconciler_v1.node_files_at(at timestamptz)
RETURNS TABLE (fleet text, node text, pool text, path text, sha256 text, origin text, content bytea)
LANGUAGE sql STABLE PARALLEL SAFE AS $$
    SELECT nodes.fleet, nodes.node, nodes.pool, file.key, file.value,
        CASE WHEN drifted.files ? file.key THEN 'drifted' WHEN proved.files ? file.key THEN 'proved' ELSE 'base' END,
        (SELECT blobs.content FROM public.blobs WHERE blobs.sha256 = file.value)
    FROM public.nodes
    JOIN public.node_states AS state ON state.fleet = nodes.fleet AND state.node = nodes.node
        AND int8range(state.valid_from, state.valid_to) @> (SELECT reconciler_v1.position_at(at))
    CROSS JOIN LATERAL (
        SELECT coalesce(jsonb_object_agg(entry ->> 'path', entry ->> 'sha256'), '{}') AS files
        FROM public.blobs
        CROSS JOIN LATERAL jsonb_array_elements(public.blob_document(blobs.content) -> 'files') AS entry
        WHERE blobs.sha256 = state.files
    ) AS proved
    CROSS JOIN LATERAL (
        SELECT coalesce(jsonb_object_agg(item ->> 'path', item ->> 'observed'), '{}') AS files
        FROM jsonb_array_elements(state.drift) AS item
        WHERE item ->> 'path' LIKE '/%'
    ) AS drifted
    CROSS JOIN LATERAL jsonb_each_text(coalesce(state.base_files, '{}') || proved.files || drifted.files) AS file
    WHERE int8range(nodes.valid_from, nodes.valid_to) @> (SELECT reconciler_v1.position_at(at))
        AND file.value IS NOT NULL
$$;
COMMENT ON FUNCTION reconciler_v1.node_files_at(timestamptz) IS 'What was on each node at a time, as far as the log knows: path, digest and content of every managed file. origin: proved (by the node''s last receipt), drifted (as last observed; sha256 is then a word such as absent where there were no bytes, and content NULL where they were not read), or base (the host''s own, as captured).';
