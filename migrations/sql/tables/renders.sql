CREATE TABLE renders (
    fleet text NOT NULL,
    pool text NOT NULL,
    node text NOT NULL,
    base text NOT NULL,
    inputs text,
    renderer text,
    files text,
    origins text,
    disruption text,
    valid_from bigint NOT NULL,
    valid_to bigint CHECK (valid_to > valid_from),
    PRIMARY KEY (fleet, pool, node, base, valid_from)
);
CREATE UNIQUE INDEX renders_current ON renders (fleet, pool, node, base) WHERE valid_to IS NULL;
CREATE INDEX renders_as_of ON renders USING gist (int8range(valid_from, valid_to));
COMMENT ON TABLE renders IS 'The files wanted on the nodes of a pool over one base (node: only where a hold makes one node differ).';
COMMENT ON COLUMN renders.valid_from IS 'Position of the log from which the row holds (the last of its append group).';
COMMENT ON COLUMN renders.valid_to IS 'Position from which it no longer holds; NULL: it holds now.';
COMMENT ON INDEX renders_current IS 'One row per key holds now.';
COMMENT ON INDEX renders_as_of IS 'Finds the rows as of a position.';
