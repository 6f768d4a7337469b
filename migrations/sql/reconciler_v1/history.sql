CREATE VIEW reconciler_v1.history AS
SELECT
    event.position,
    event.recorded_at,
    event.type,
    event.fleet,
    event.pool,
    event.node,
    event.resource,
    event.commit_sha AS commit,
    event.actor::jsonb ->> 'subject' AS actor,
    cause.position AS cause_position,
    cause.type AS cause_type,
    cause.actor::jsonb ->> 'subject' AS cause_actor,
    cause.commit_sha AS cause_commit,
    CASE WHEN cause.type = 'CommitObserved' THEN cause.data::jsonb ->> 'author' END AS author,
    CASE WHEN cause.type = 'CommitObserved' THEN cause.data::jsonb ->> 'pull_request' END AS pull_request,
    CASE WHEN cause.type = 'CommitObserved' THEN (cause.data::jsonb ->> 'committed_at')::timestamptz END AS committed_at,
    event.data::jsonb AS data,
    event.stream,
    event.append_group,
    event.event_id,
    event.correlation_id,
    event.causation_id
FROM public.events AS event
LEFT JOIN public.events AS cause ON cause.event_id = event.correlation_id;
COMMENT ON VIEW reconciler_v1.history IS 'The log for people: what happened, when, to what, and the commit, pull request or person it goes back to.';
COMMENT ON COLUMN reconciler_v1.history.position IS 'Place in the log.';
COMMENT ON COLUMN reconciler_v1.history.recorded_at IS 'When the event was appended, by the clock of the database.';
COMMENT ON COLUMN reconciler_v1.history.type IS 'What happened; docs/reference/event-log.md explains each.';
COMMENT ON COLUMN reconciler_v1.history.fleet IS 'The fleet it belongs to.';
COMMENT ON COLUMN reconciler_v1.history.pool IS 'The pool it is about, if one.';
COMMENT ON COLUMN reconciler_v1.history.node IS 'The node it is about, if one.';
COMMENT ON COLUMN reconciler_v1.history.resource IS 'The resource it is about, if one: PATH:KIND/NAME.';
COMMENT ON COLUMN reconciler_v1.history.commit IS 'The commit that the event itself names.';
COMMENT ON COLUMN reconciler_v1.history.actor IS 'Who appended it.';
COMMENT ON COLUMN reconciler_v1.history.cause_position IS 'Position of the event that is the root cause; its own for a root.';
COMMENT ON COLUMN reconciler_v1.history.cause_type IS 'Type of the root cause: CommitObserved, RolledBack, DriftDetected …';
COMMENT ON COLUMN reconciler_v1.history.cause_actor IS 'Who caused the root cause.';
COMMENT ON COLUMN reconciler_v1.history.cause_commit IS 'The commit of the root cause, if it is one.';
COMMENT ON COLUMN reconciler_v1.history.author IS 'Author of that commit.';
COMMENT ON COLUMN reconciler_v1.history.pull_request IS 'Number of the pull request that merged that commit.';
COMMENT ON COLUMN reconciler_v1.history.committed_at IS 'When that commit was committed, by Git (the clock of whoever committed).';
COMMENT ON COLUMN reconciler_v1.history.data IS 'The event''s fields.';
COMMENT ON COLUMN reconciler_v1.history.stream IS 'fleet/F, pool/F/P or node/F/N.';
COMMENT ON COLUMN reconciler_v1.history.append_group IS 'Position of the first of the events appended in the same transaction.';
COMMENT ON COLUMN reconciler_v1.history.event_id IS 'Identity of the event.';
COMMENT ON COLUMN reconciler_v1.history.correlation_id IS 'Identity of the root cause.';
COMMENT ON COLUMN reconciler_v1.history.causation_id IS 'Identity of the direct cause.';
