CREATE VIEW history AS
SELECT
    position,
    recorded_at,
    type,
    fleet,
    pool,
    node,
    resource,
    commit_sha AS commit,
    actor::jsonb ->> 'subject' AS actor,
    data::jsonb AS data
FROM events;
COMMENT ON VIEW history IS 'The log for people: what happened, when, to what, by whom.';
