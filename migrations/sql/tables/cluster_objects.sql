CREATE TABLE cluster_objects (
    fleet text NOT NULL,
    object text NOT NULL,
    resource text,
    commit text,
    sent text,
    answer text,
    uid text,
    resource_version text,
    generation bigint,
    applied_at timestamptz,
    drift jsonb,
    drift_observed text,
    drift_since timestamptz,
    drift_cause text,
    allowed jsonb,
    refused jsonb,
    valid_from bigint NOT NULL,
    valid_to bigint CHECK (valid_to > valid_from),
    PRIMARY KEY (fleet, object, valid_from)
);
CREATE UNIQUE INDEX cluster_objects_current ON cluster_objects (fleet, object) WHERE valid_to IS NULL;
CREATE INDEX cluster_objects_as_of ON cluster_objects USING gist (int8range(valid_from, valid_to));
COMMENT ON TABLE cluster_objects IS 'One row per object of a cluster that we applied or was refused: what was sent, what the API made of it, drift.';
COMMENT ON COLUMN cluster_objects.valid_from IS 'Position of the log from which the row holds (the last of its append group).';
COMMENT ON COLUMN cluster_objects.valid_to IS 'Position from which it no longer holds; NULL: it holds now.';
COMMENT ON INDEX cluster_objects_current IS 'One row per key holds now.';
COMMENT ON INDEX cluster_objects_as_of IS 'Finds the rows as of a position.';
