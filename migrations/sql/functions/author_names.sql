CREATE FUNCTION author_names(of_fleet text, of_commits text[]) RETURNS SETOF text LANGUAGE sql STABLE AS $$
    SELECT DISTINCT lower(name)
    FROM events,
        LATERAL (SELECT data::jsonb AS body) AS observed,
        LATERAL unnest(ARRAY[
            body ->> 'author', body ->> 'author_email', split_part(body ->> 'author_email', '@', 1),
            body ->> 'committer', body ->> 'committer_email', split_part(body ->> 'committer_email', '@', 1)
        ]) AS name
    WHERE type = 'CommitObserved' AND fleet = of_fleet AND commit_sha = ANY (of_commits) AND name <> ''
$$;
COMMENT ON FUNCTION author_names(text, text[]) IS 'The names of who wrote and committed commits, in lower case: name, address, and what stands before the @.';
