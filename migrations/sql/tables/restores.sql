CREATE TABLE restores (
    fleet text NOT NULL,
    evidence jsonb,
    detected_at timestamptz,
    epoch bigint,
    valid_from bigint NOT NULL,
    valid_to bigint CHECK (valid_to > valid_from),
    PRIMARY KEY (fleet, valid_from)
);
CREATE UNIQUE INDEX restores_current ON restores (fleet) WHERE valid_to IS NULL;
CREATE INDEX restores_as_of ON restores USING gist (int8range(valid_from, valid_to));
COMMENT ON TABLE restores IS 'What contradicts this copy of the log until a person accepts it, and the fence epoch in force (NULL: the first).';
COMMENT ON COLUMN restores.valid_from IS 'Position of the log from which the row holds (the last of its append group).';
COMMENT ON COLUMN restores.valid_to IS 'Position from which it no longer holds; NULL: it holds now.';
COMMENT ON INDEX restores_current IS 'One row per key holds now.';
COMMENT ON INDEX restores_as_of IS 'Finds the rows as of a position.';
