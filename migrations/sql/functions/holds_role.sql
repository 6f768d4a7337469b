CREATE FUNCTION holds_role(role text) RETURNS boolean LANGUAGE sql STABLE AS $$
    SELECT owns_log()
        OR coalesce((SELECT pg_has_role(current_user, oid, 'USAGE') FROM pg_roles WHERE rolname = role), false)
$$;
COMMENT ON FUNCTION holds_role(text) IS 'Whether the current user has the privileges of a role; the owner of the log has those of all.';
