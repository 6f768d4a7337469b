CREATE TABLE machines (
    fleet text NOT NULL,
    node text NOT NULL,
    pool text,
    current text,
    desired text,
    state text,
    reason text,
    since timestamptz,
    valid_from bigint NOT NULL,
    valid_to bigint CHECK (valid_to > valid_from),
    PRIMARY KEY (fleet, node, valid_from)
);
CREATE UNIQUE INDEX machines_current ON machines (fleet, node) WHERE valid_to IS NULL;
CREATE INDEX machines_as_of ON machines USING gist (int8range(valid_from, valid_to));
COMMENT ON TABLE machines IS 'One row per node that MCO manages: the rendered config it has and is to get, and how it is getting on.';
COMMENT ON COLUMN machines.valid_from IS 'Position of the log from which the row holds (the last of its append group).';
COMMENT ON COLUMN machines.valid_to IS 'Position from which it no longer holds; NULL: it holds now.';
COMMENT ON INDEX machines_current IS 'One row per key holds now.';
COMMENT ON INDEX machines_as_of IS 'Finds the rows as of a position.';
