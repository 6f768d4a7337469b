CREATE VIEW reconciler_v1.rollout_log AS
SELECT
    rollouts.fleet,
    rollouts.pool,
    rollouts.rollout,
    rollouts.kind,
    rollouts.state,
    rollouts.outcome,
    rollouts.started_at,
    rollouts.ended_at,
    rollouts.ended_at - rollouts.started_at AS duration,
    rollouts.nodes,
    jsonb_array_length(rollouts.waves) AS waves,
    rollouts.disruption,
    rollouts.effective AS action,
    ARRAY(SELECT jsonb_array_elements_text(rollouts.reasons)) AS reasons,
    rollouts.approved AS approvals,
    rollouts.plan,
    cause.position AS cause_position,
    cause.type AS cause_type,
    cause.actor::jsonb ->> 'subject' AS cause_actor,
    rollouts.commit,
    CASE WHEN cause.type = 'CommitObserved' THEN cause.data::jsonb ->> 'author' END AS author,
    CASE WHEN cause.type = 'CommitObserved' THEN cause.data::jsonb ->> 'pull_request' END AS pull_request,
    CASE WHEN cause.type = 'CommitObserved' THEN (cause.data::jsonb ->> 'committed_at')::timestamptz END AS committed_at,
    CASE WHEN cause.type = 'CommitObserved' THEN cause.recorded_at END AS accepted_at
FROM public.rollouts
LEFT JOIN public.events AS cause ON cause.event_id = rollouts.cause::uuid
WHERE rollouts.valid_to IS NULL;
COMMENT ON VIEW reconciler_v1.rollout_log IS 'Every rollout: of which pool, how long it took, how it ended, and what it goes back to.';
COMMENT ON COLUMN reconciler_v1.rollout_log.fleet IS 'The fleet.';
COMMENT ON COLUMN reconciler_v1.rollout_log.pool IS 'The pool.';
COMMENT ON COLUMN reconciler_v1.rollout_log.rollout IS 'Its id.';
COMMENT ON COLUMN reconciler_v1.rollout_log.kind IS 'rollout, or catch-up for nodes that an earlier one had deferred.';
COMMENT ON COLUMN reconciler_v1.rollout_log.state IS 'progressing, completed, halted, aborted or superseded.';
COMMENT ON COLUMN reconciler_v1.rollout_log.outcome IS 'How it ended, in words.';
COMMENT ON COLUMN reconciler_v1.rollout_log.started_at IS 'When it began (RolloutStarted), by the clock of the database.';
COMMENT ON COLUMN reconciler_v1.rollout_log.ended_at IS 'When it ended, by the clock of the database; NULL: it goes on.';
COMMENT ON COLUMN reconciler_v1.rollout_log.duration IS 'From the one to the other: soak, windows and approvals included.';
COMMENT ON COLUMN reconciler_v1.rollout_log.nodes IS 'How many nodes it was for.';
COMMENT ON COLUMN reconciler_v1.rollout_log.waves IS 'How many waves began, canaries included.';
COMMENT ON COLUMN reconciler_v1.rollout_log.disruption IS 'The class of the change: none, reload, restart, drain or reboot.';
COMMENT ON COLUMN reconciler_v1.rollout_log.action IS 'What was really done of it.';
COMMENT ON COLUMN reconciler_v1.rollout_log.reasons IS 'Why, a line per changed entry.';
COMMENT ON COLUMN reconciler_v1.rollout_log.approvals IS 'Who let it begin or go on, and when.';
COMMENT ON COLUMN reconciler_v1.rollout_log.plan IS 'Digest of the plan.';
COMMENT ON COLUMN reconciler_v1.rollout_log.cause_position IS 'Position of the event that it goes back to.';
COMMENT ON COLUMN reconciler_v1.rollout_log.cause_type IS 'Type of that event: CommitObserved, RolledBack, HoldLifted …';
COMMENT ON COLUMN reconciler_v1.rollout_log.cause_actor IS 'Who caused it.';
COMMENT ON COLUMN reconciler_v1.rollout_log.commit IS 'The commit that the pool''s content came from.';
COMMENT ON COLUMN reconciler_v1.rollout_log.author IS 'Author of the commit that it goes back to.';
COMMENT ON COLUMN reconciler_v1.rollout_log.pull_request IS 'Number of the pull request that merged that commit.';
COMMENT ON COLUMN reconciler_v1.rollout_log.committed_at IS 'When that commit was committed, by Git.';
COMMENT ON COLUMN reconciler_v1.rollout_log.accepted_at IS 'When that commit was recorded, by the clock of the database.';
