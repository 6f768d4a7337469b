CREATE VIEW reconciler_v1.entry_history AS
SELECT
    entry.list,
    entry.entry,
    entry.detail,
    entry.fleet,
    entry.pools,
    entry.resource,
    entry.field,
    entry.from_position,
    began.type AS from_type,
    began.commit_sha AS commit,
    began.data::jsonb ->> 'author' AS author,
    began.data::jsonb ->> 'pull_request' AS pull_request,
    began.actor::jsonb ->> 'subject' AS actor,
    (began.data::jsonb ->> 'committed_at')::timestamptz AS committed_at,
    began.recorded_at AS accepted_at,
    (entry.effect).effective_at,
    (entry.effect).nodes,
    entry.until_position,
    ended.type AS until_type,
    ended.commit_sha AS until_commit,
    ended.data::jsonb ->> 'author' AS until_author,
    ended.data::jsonb ->> 'pull_request' AS until_pull_request,
    ended.actor::jsonb ->> 'subject' AS until_actor,
    ended.recorded_at AS until_at
FROM (
    SELECT fleet, resource, list, entry, detail, field, array_agg(pool ORDER BY pool) AS pools,
        lower(positions) AS from_position, upper(positions) AS until_position,
        public.effect(fleet, array_agg(pool), lower(positions), upper(positions)) AS effect
    FROM public.entry_positions
    GROUP BY fleet, resource, list, entry, detail, field, lower(positions), upper(positions)
) AS entry
CROSS JOIN LATERAL (
    SELECT event.* FROM public.events AS event
    WHERE event.position = (SELECT last.append_group FROM public.events AS last WHERE last.position = entry.from_position)
    LIMIT 1
) AS began
LEFT JOIN LATERAL (
    SELECT event.* FROM public.events AS event
    WHERE event.position = (SELECT last.append_group FROM public.events AS last WHERE last.position = entry.until_position)
    LIMIT 1
) AS ended ON true;
COMMENT ON VIEW reconciler_v1.entry_history IS 'Every registry entry that was ever in force: who brought it, from when until when, in which pools, on which nodes it became effective. One row per uninterrupted time; a row that moves to another resource is another entry. Holds of one node are not in it; entries_at knows them.';
COMMENT ON COLUMN reconciler_v1.entry_history.list IS 'allowed, blocked, insecure, search, import, digest-mirror, tag-mirror, policy or ca.';
COMMENT ON COLUMN reconciler_v1.entry_history.entry IS 'The registry or repository of a list, the source of a mirror row, the scope of an image policy, the registry of a CA (host:port).';
COMMENT ON COLUMN reconciler_v1.entry_history.detail IS 'The rest of the row: mirrors and mirrorSourcePolicy, insecure, type and digest of a policy, digest of a CA.';
COMMENT ON COLUMN reconciler_v1.entry_history.fleet IS 'The fleet.';
COMMENT ON COLUMN reconciler_v1.entry_history.pools IS 'The pools in which it was in force (an empty name: no pool takes the resource''s directory).';
COMMENT ON COLUMN reconciler_v1.entry_history.resource IS 'The resource that lists it: PATH:KIND/NAME.';
COMMENT ON COLUMN reconciler_v1.entry_history.field IS 'The field that lists it.';
COMMENT ON COLUMN reconciler_v1.entry_history.from_position IS 'Position from which it was in force: the end of the append group that brought it.';
COMMENT ON COLUMN reconciler_v1.entry_history.from_type IS 'What brought it: CommitObserved, RolledBack (a hold restored it) or HoldLifted.';
COMMENT ON COLUMN reconciler_v1.entry_history.commit IS 'The commit that brought it, if one did.';
COMMENT ON COLUMN reconciler_v1.entry_history.author IS 'Author of that commit.';
COMMENT ON COLUMN reconciler_v1.entry_history.pull_request IS 'Number of the pull request that merged it.';
COMMENT ON COLUMN reconciler_v1.entry_history.actor IS 'Who recorded it: of a rollback, the person.';
COMMENT ON COLUMN reconciler_v1.entry_history.committed_at IS 'When that commit was committed, by Git.';
COMMENT ON COLUMN reconciler_v1.entry_history.accepted_at IS 'When it was accepted (CommitAccepted), or restored, by the clock of the database.';
COMMENT ON COLUMN reconciler_v1.entry_history.effective_at IS 'When it became effective on the first node (NodeConverged), by the clock of the database; NULL: on none.';
COMMENT ON COLUMN reconciler_v1.entry_history.nodes IS 'The nodes on which it became effective.';
COMMENT ON COLUMN reconciler_v1.entry_history.until_position IS 'Position from which it was in force no more; NULL: it is in force.';
COMMENT ON COLUMN reconciler_v1.entry_history.until_type IS 'What ended it: CommitObserved, RolledBack or HoldLifted.';
COMMENT ON COLUMN reconciler_v1.entry_history.until_commit IS 'The commit that ended it, if one did.';
COMMENT ON COLUMN reconciler_v1.entry_history.until_author IS 'Author of that commit.';
COMMENT ON COLUMN reconciler_v1.entry_history.until_pull_request IS 'Number of the pull request that merged that.';
COMMENT ON COLUMN reconciler_v1.entry_history.until_actor IS 'Who recorded the end.';
COMMENT ON COLUMN reconciler_v1.entry_history.until_at IS 'When the end was accepted, by the clock of the database; nodes follow later.';
