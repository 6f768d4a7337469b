CREATE VIEW event_authority AS
SELECT type, field, value, role
FROM (
    VALUES
    ('AdoptionAsked', NULL, NULL, 'operator'),
    ('BlobRedacted', NULL, NULL, 'approver'),
    ('ChangeApproved', NULL, NULL, 'approver'),
    ('ClusterAccepted', NULL, NULL, 'approver'),
    ('HistoryAccepted', NULL, NULL, 'approver'),
    ('HoldLifted', 'cause', NULL, 'approver'),
    ('HoldLifted', 'cause', 'agreed', 'cycle'),
    ('HoldLifted', 'cause', 'fixed', 'cycle'),
    ('HoldLifted', 'cause', 'undone', 'operator'),
    ('HoldReinstated', NULL, NULL, 'operator'),
    ('NodeAdopted', 'step', '', 'operator'),
    ('OverrideGranted', NULL, NULL, 'approver'),
    ('PoolPaused', NULL, NULL, 'operator'),
    ('PoolResumed', NULL, NULL, 'operator'),
    ('ReleaseAsked', NULL, NULL, 'approver'),
    ('RepairsAllowed', NULL, NULL, 'operator'),
    ('RestoreAccepted', NULL, NULL, 'approver'),
    ('RevertPushed', NULL, NULL, 'operator'),
    ('RolledBack', NULL, NULL, 'operator'),
    ('RolloutAborted', NULL, NULL, 'operator'),
    ('RolloutApproved', NULL, NULL, 'approver'),
    ('RolloutRetried', NULL, NULL, 'operator'),
    ('WindowOverridden', NULL, NULL, 'approver'),
    ('WindowOverridden', NULL, NULL, 'operator')
) AS rules (type, field, value, role);
COMMENT ON VIEW event_authority IS 'Whose word an event is: a person''s with that role, by the value of a field of its data (NULL: any other). What is not listed, and cycle: nobody''s, the cycle says it.';
COMMENT ON COLUMN event_authority.type IS 'Type of the event.';
COMMENT ON COLUMN event_authority.field IS 'The field of its data that tells; NULL: the type alone does.';
COMMENT ON COLUMN event_authority.value IS 'The value of that field; NULL: every value that no other row names.';
COMMENT ON COLUMN event_authority.role IS 'operator, approver (one of those listed is enough) or cycle.';
