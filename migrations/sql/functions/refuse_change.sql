CREATE FUNCTION refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION '% of table % refused: it is append-only', TG_OP, TG_TABLE_NAME
        USING ERRCODE = 'restrict_violation',
              HINT = 'What happened stays recorded; a correction is a new event.';
END
$$;
COMMENT ON FUNCTION refuse_change() IS 'Stops whoever would change what was recorded, the owner of the table too.';
