CREATE FUNCTION refuse_other_fold() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    written_by integer := (SELECT fold_version FROM projections);
    -- Programs from before there was a version say nothing; theirs is the first.
    program integer := coalesce(nullif(current_setting('reconciler.fold_version', true), ''), '1')::integer;
BEGIN
    IF program <> written_by THEN
        RAISE EXCEPTION 'the read tables are of fold version %, and the program that would append has %',
            written_by, program
            USING ERRCODE = 'restrict_violation',
                  HINT = 'Use the version of reconciler that upgraded the database, or a newer one.';
    END IF;
    RETURN NULL;
END
$$;
COMMENT ON FUNCTION refuse_other_fold() IS 'Stops a program that would write rows of another fold into the read tables.';
