CREATE VIEW holds_now AS
SELECT
    fleet,
    hold,
    pool,
    node,
    position,
    since,
    actor,
    reason,
    entries
FROM holds
WHERE valid_to IS NULL;
COMMENT ON VIEW holds_now IS 'The holds in force: what was rolled back to which position, since when, by whom, why.';
