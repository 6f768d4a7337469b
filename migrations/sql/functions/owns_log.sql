CREATE FUNCTION owns_log() RETURNS boolean LANGUAGE sql STABLE AS $$
    SELECT pg_has_role(current_user, relowner, 'USAGE') FROM pg_class WHERE oid = 'events'::regclass
$$;
COMMENT ON FUNCTION owns_log() IS 'Whether the current user has the privileges of the owner of the log, as every superuser has.';
