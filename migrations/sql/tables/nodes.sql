CREATE TABLE nodes (
    fleet text NOT NULL,
    node text NOT NULL,
    pool text,
    spec jsonb,
    commit text,
    valid_from bigint NOT NULL,
    valid_to bigint CHECK (valid_to > valid_from),
    PRIMARY KEY (fleet, node, valid_from)
);
CREATE UNIQUE INDEX nodes_current ON nodes (fleet, node) WHERE valid_to IS NULL;
CREATE INDEX nodes_as_of ON nodes USING gist (int8range(valid_from, valid_to));
COMMENT ON TABLE nodes IS 'The inventory: one row per Node.';
COMMENT ON COLUMN nodes.valid_from IS 'Position of the log from which the row holds (the last of its append group).';
COMMENT ON COLUMN nodes.valid_to IS 'Position from which it no longer holds; NULL: it holds now.';
COMMENT ON INDEX nodes_current IS 'One row per key holds now.';
COMMENT ON INDEX nodes_as_of IS 'Finds the rows as of a position.';
