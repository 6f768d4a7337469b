CREATE TABLE resources (
    fleet text NOT NULL,
    pool text NOT NULL,
    resource text NOT NULL,
    content text,
    text text,
    lines text,
    meaning text,
    file text,
    line bigint,
    commit text,
    position bigint,
    valid_from bigint NOT NULL,
    valid_to bigint CHECK (valid_to > valid_from),
    PRIMARY KEY (fleet, pool, resource, valid_from)
);
CREATE UNIQUE INDEX resources_current ON resources (fleet, pool, resource) WHERE valid_to IS NULL;
CREATE INDEX resources_as_of ON resources USING gist (int8range(valid_from, valid_to));
COMMENT ON TABLE resources IS 'Git''s layer: the resources each pool takes from the last commit it accepted.';
COMMENT ON COLUMN resources.valid_from IS 'Position of the log from which the row holds (the last of its append group).';
COMMENT ON COLUMN resources.valid_to IS 'Position from which it no longer holds; NULL: it holds now.';
COMMENT ON INDEX resources_current IS 'One row per key holds now.';
COMMENT ON INDEX resources_as_of IS 'Finds the rows as of a position.';
