CREATE FUNCTION refuse_unauthorised() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    forged record;
    unauthorised record;
BEGIN
    WITH actors AS MATERIALIZED (
        SELECT min(position) AS position, actor FROM appended GROUP BY actor
    )
    SELECT position, actor INTO forged
    FROM actors, LATERAL (SELECT actor::jsonb AS claim) AS claims
    WHERE claim ->> 'session' IS DISTINCT FROM session_user
        OR (claim ->> 'kind' IN ('login', 'service')) IS NOT TRUE
        OR (claim ->> 'kind' = 'service' AND NOT holds_role('reconciler_service'))
    ORDER BY position
    LIMIT 1;
    IF FOUND THEN
        RAISE EXCEPTION 'event #% names an actor that this session is not: %', forged.position, forged.actor
            USING ERRCODE = 'insufficient_privilege',
                  HINT = format('append as yourself, %s; as a service after: GRANT reconciler_service TO %1$I;',
                      session_user);
    END IF;
    -- Nearly every append is the cycle's: that is found out by a look at its types.
    IF NOT EXISTS (SELECT FROM (SELECT type FROM appended GROUP BY type) AS said JOIN event_authority USING (type)) THEN
        RETURN NULL;
    END IF;
    SELECT * INTO unauthorised
    FROM (
        SELECT event.position, event.type, event.actor::jsonb ->> 'kind' AS kind, array_agg(rule.role) AS roles
        FROM appended AS event
        JOIN event_authority AS rule
            ON rule.type = event.type AND (
                rule.field IS NULL
                OR rule.value = event.data::jsonb ->> rule.field
                OR rule.value IS NULL AND NOT EXISTS (
                    SELECT FROM event_authority AS other
                    WHERE other.type = event.type AND other.value = event.data::jsonb ->> other.field
                )
            )
        GROUP BY event.position, event.type, event.actor
    ) AS said
    WHERE 'cycle' <> ALL (roles)
        AND (kind = 'service' OR NOT EXISTS (SELECT FROM unnest(roles) AS role WHERE holds_role('reconciler_' || role)))
    ORDER BY position
    LIMIT 1;
    IF unauthorised.kind = 'service' THEN
        RAISE EXCEPTION '% is a person''s word, and no service''s', unauthorised.type
            USING ERRCODE = 'insufficient_privilege', HINT = 'a person says it, with a login of their own';
    ELSIF FOUND THEN
        RAISE EXCEPTION 'login % may not append %', session_user, unauthorised.type
            USING ERRCODE = 'insufficient_privilege',
                  HINT = format('whoever administers the database decides: GRANT reconciler_%s TO %I;',
                      unauthorised.roles[1], session_user);
    END IF;
    RETURN NULL;
END
$$;
COMMENT ON FUNCTION refuse_unauthorised() IS 'Refuses events that are said in another''s name, or that the session''s roles do not allow (event_authority).';
