CREATE VIEW reconciler_v1.resource_history AS
SELECT
    event.fleet,
    event.resource,
    CASE event.type WHEN 'ResourceAdded' THEN 'added' WHEN 'ResourceChanged' THEN 'changed' ELSE 'removed' END AS change,
    ARRAY(SELECT jsonb_array_elements_text(event.data::jsonb -> 'pools')) AS pools,
    event.commit_sha AS commit,
    commit.data::jsonb ->> 'author' AS author,
    commit.data::jsonb ->> 'author_email' AS author_email,
    commit.data::jsonb ->> 'pull_request' AS pull_request,
    commit.data::jsonb ->> 'subject' AS subject,
    (commit.data::jsonb ->> 'committed_at')::timestamptz AS committed_at,
    event.recorded_at AS accepted_at,
    event.position,
    event.data::jsonb ->> 'file' AS file,
    (event.data::jsonb ->> 'line')::bigint AS line,
    event.data::jsonb ->> 'content' AS content,
    event.data::jsonb ->> 'previous' AS previous,
    (SELECT public.blob_document(blobs.content) FROM public.blobs WHERE blobs.sha256 = event.data::jsonb ->> 'content') AS document
FROM public.events AS event
LEFT JOIN public.events AS commit ON commit.position = event.append_group AND commit.type = 'CommitObserved'
WHERE event.type IN ('ResourceAdded', 'ResourceChanged', 'ResourceRemoved');
COMMENT ON VIEW reconciler_v1.resource_history IS 'Every change of a resource in Git''s state: by which commit, pull request and author, for which pools.';
COMMENT ON COLUMN reconciler_v1.resource_history.fleet IS 'The fleet.';
COMMENT ON COLUMN reconciler_v1.resource_history.resource IS 'PATH:KIND/NAME.';
COMMENT ON COLUMN reconciler_v1.resource_history.change IS 'added, changed or removed.';
COMMENT ON COLUMN reconciler_v1.resource_history.pools IS 'The pools that took the change (an empty name: no pool takes its directory).';
COMMENT ON COLUMN reconciler_v1.resource_history.commit IS 'The commit that made the change.';
COMMENT ON COLUMN reconciler_v1.resource_history.author IS 'Author of the commit.';
COMMENT ON COLUMN reconciler_v1.resource_history.author_email IS 'The author''s address.';
COMMENT ON COLUMN reconciler_v1.resource_history.pull_request IS 'Number of the pull request that merged it.';
COMMENT ON COLUMN reconciler_v1.resource_history.subject IS 'First line of the commit''s message.';
COMMENT ON COLUMN reconciler_v1.resource_history.committed_at IS 'When it was committed, by Git.';
COMMENT ON COLUMN reconciler_v1.resource_history.accepted_at IS 'When these pools accepted the commit (CommitAccepted), by the clock of the database.';
COMMENT ON COLUMN reconciler_v1.resource_history.position IS 'Place of the change in the log.';
COMMENT ON COLUMN reconciler_v1.resource_history.file IS 'File of the config repository.';
COMMENT ON COLUMN reconciler_v1.resource_history.line IS 'Line of that file at which the document begins.';
COMMENT ON COLUMN reconciler_v1.resource_history.content IS 'Blob of the document; NULL for a removal.';
COMMENT ON COLUMN reconciler_v1.resource_history.previous IS 'Blob of the document before; NULL for an addition.';
COMMENT ON COLUMN reconciler_v1.resource_history.document IS 'The document.';
