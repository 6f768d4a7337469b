CREATE FUNCTION refuse_wrong_hash() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'event #% does not continue the log: its hashes are not those of it and the event before it', NEW.position
        USING ERRCODE = 'integrity_constraint_violation',
              HINT = 'Append with reconciler: it numbers, dates and chains what it appends.';
END
$$;
COMMENT ON FUNCTION refuse_wrong_hash() IS 'Refuses a row whose hash is not that of what it says, from whomever it comes.';
