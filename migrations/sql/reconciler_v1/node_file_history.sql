CREATE VIEW reconciler_v1.node_file_history AS
SELECT
    file.fleet,
    file.node,
    file.path,
    file.sha256,
    file.mode,
    file.from_position,
    began.recorded_at AS effective_at,
    file.until_position,
    ended.recorded_at AS until_at,
    began.pool,
    cause.position AS cause_position,
    cause.type AS cause_type,
    cause.actor::jsonb ->> 'subject' AS cause_actor,
    cause.commit_sha AS commit,
    CASE WHEN cause.type = 'CommitObserved' THEN cause.data::jsonb ->> 'author' END AS author,
    CASE WHEN cause.type = 'CommitObserved' THEN cause.data::jsonb ->> 'pull_request' END AS pull_request,
    CASE WHEN cause.type = 'CommitObserved' THEN (cause.data::jsonb ->> 'committed_at')::timestamptz END AS committed_at
FROM (
    SELECT island.fleet, island.node, island.path, island.sha256, island.mode,
        min(island.position) AS from_position,
        CASE WHEN bool_and(island.next_position IS NOT NULL) THEN max(island.next_position) END AS until_position
    FROM (
        SELECT receipt.fleet, receipt.node, receipt.position, receipt.next_position,
            entry.path, entry.sha256, entry.mode,
            receipt.number - row_number() OVER (
                PARTITION BY receipt.fleet, receipt.node, entry.path, entry.sha256, entry.mode ORDER BY receipt.number
            ) AS number
        FROM (
            SELECT event.fleet, event.node, event.position, event.type, event.data,
                lead(event.position) OVER node AS next_position, row_number() OVER node AS number
            FROM public.events AS event
            WHERE event.type IN ('NodeConverged', 'NodeReset', 'NodeReleased')
            WINDOW node AS (PARTITION BY event.fleet, event.node ORDER BY event.position)
        ) AS receipt
        JOIN public.blobs ON blobs.sha256 = receipt.data::jsonb ->> 'files'
        CROSS JOIN LATERAL jsonb_to_recordset(public.blob_document(blobs.content) -> 'files')
            AS entry (path text, sha256 text, mode integer)
        WHERE receipt.type = 'NodeConverged'
    ) AS island
    GROUP BY island.fleet, island.node, island.path, island.sha256, island.mode, island.number
) AS file
JOIN public.events AS began ON began.position = file.from_position
LEFT JOIN public.events AS ended ON ended.position = file.until_position
LEFT JOIN public.events AS cause ON cause.event_id = began.correlation_id;
COMMENT ON VIEW reconciler_v1.node_file_history IS 'Every version of every file that receipts proved on nodes, from when until when, and what it goes back to. What stood there before a node was renamed is under its old name; drift in between is in drift_log.';
COMMENT ON COLUMN reconciler_v1.node_file_history.fleet IS 'The fleet.';
COMMENT ON COLUMN reconciler_v1.node_file_history.node IS 'The node.';
COMMENT ON COLUMN reconciler_v1.node_file_history.path IS 'The file''s path on the node.';
COMMENT ON COLUMN reconciler_v1.node_file_history.sha256 IS 'Its content: a blob.';
COMMENT ON COLUMN reconciler_v1.node_file_history.mode IS 'Its mode, in decimal.';
COMMENT ON COLUMN reconciler_v1.node_file_history.from_position IS 'Position of the receipt that first proved it.';
COMMENT ON COLUMN reconciler_v1.node_file_history.effective_at IS 'When that was (NodeConverged on this node), by the clock of the database.';
COMMENT ON COLUMN reconciler_v1.node_file_history.until_position IS 'Position of the receipt that proved another version or its absence, or of the node''s reset or release; NULL: it is the latest.';
COMMENT ON COLUMN reconciler_v1.node_file_history.until_at IS 'When that was, by the clock of the database.';
COMMENT ON COLUMN reconciler_v1.node_file_history.pool IS 'The pool the node was in.';
COMMENT ON COLUMN reconciler_v1.node_file_history.cause_position IS 'Position of the event that it goes back to.';
COMMENT ON COLUMN reconciler_v1.node_file_history.cause_type IS 'Type of that event: CommitObserved, RolledBack, HoldLifted, DriftDetected …';
COMMENT ON COLUMN reconciler_v1.node_file_history.cause_actor IS 'Who caused it.';
COMMENT ON COLUMN reconciler_v1.node_file_history.commit IS 'The commit, if it is one.';
COMMENT ON COLUMN reconciler_v1.node_file_history.author IS 'Author of that commit.';
COMMENT ON COLUMN reconciler_v1.node_file_history.pull_request IS 'Number of the pull request that merged that commit.';
COMMENT ON COLUMN reconciler_v1.node_file_history.committed_at IS 'When that commit was committed, by Git.';
