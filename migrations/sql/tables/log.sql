CREATE TABLE log (
    log_id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    created timestamptz NOT NULL DEFAULT clock_timestamp()
);
CREATE UNIQUE INDEX log_one_row ON log ((true));
INSERT INTO log DEFAULT VALUES;
COMMENT ON TABLE log IS 'The identity of this log: one row, never changed. Nodes are stamped with it.';
COMMENT ON COLUMN log.log_id IS 'Drawn once, when the database was set up.';
COMMENT ON COLUMN log.created IS 'When the database was set up.';
