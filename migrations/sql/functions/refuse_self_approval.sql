CREATE FUNCTION refuse_self_approval() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    approval record;
    own text;
BEGIN
    FOR approval IN
        SELECT position, fleet, pool, commit_sha, data::jsonb AS body, actor::jsonb AS actor
        FROM appended
        WHERE type IN ('ChangeApproved', 'RolloutApproved')
        ORDER BY position
    LOOP
        -- Who owns the log is the only one there is (the embedded database): such a person may approve what they wrote,
        -- but for a rollout that waits because its pool asks for somebody else's word (approval: always).
        CONTINUE WHEN owns_log() AND approval.body ->> 'stage' IS DISTINCT FROM 'start';
        -- The content of a rollback is nobody's commit.
        CONTINUE WHEN EXISTS (
            SELECT
            FROM events AS rollout
            JOIN events AS root ON root.event_id = rollout.correlation_id
            WHERE rollout.pool = approval.pool AND rollout.type = 'RolloutStarted' AND rollout.fleet = approval.fleet
                AND rollout.data::jsonb ->> 'rollout' = approval.body ->> 'rollout' AND root.type = 'RolledBack'
        );
        SELECT name INTO own
        FROM author_names(
            approval.fleet,
            CASE
                WHEN approval.commit_sha IS NOT NULL THEN ARRAY[approval.commit_sha]
                ELSE commits_to_approve(approval.fleet, approval.pool, approval.position)
            END
        ) AS name
        WHERE name IN (
            SELECT lower(known)
            FROM unnest(ARRAY[
                session_user::text, split_part(session_user, '@', 1),
                regexp_replace(split_part(approval.actor ->> 'subject', '@', 1), '^.*:', ''), approval.actor ->> 'claimed'
            ]) AS mine
            CROSS JOIN LATERAL (
                SELECT mine UNION SELECT identity FROM identities WHERE login = mine
            ) AS names (known)
        )
        LIMIT 1;
        IF FOUND THEN
            RAISE EXCEPTION 'who wrote a change does not approve it: % is an author of what is approved', own
                USING ERRCODE = 'insufficient_privilege',
                      HINT = 'another person with the approver role approves it'
                          || CASE WHEN owns_log() THEN '; alone, give the pool another approval' ELSE '' END;
        END IF;
    END LOOP;
    RETURN NULL;
END
$$;
COMMENT ON FUNCTION refuse_self_approval() IS 'Refuses the approval of a change by who wrote or committed it.';
