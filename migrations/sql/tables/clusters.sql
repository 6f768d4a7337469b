CREATE TABLE clusters (
    fleet text NOT NULL,
    unreachable text,
    unreachable_since timestamptz,
    refused boolean,
    baseline jsonb,
    files jsonb,
    unadopted jsonb,
    beside jsonb,
    others jsonb,
    unserved jsonb,
    taken jsonb,
    valid_from bigint NOT NULL,
    valid_to bigint CHECK (valid_to > valid_from),
    PRIMARY KEY (fleet, valid_from)
);
CREATE UNIQUE INDEX clusters_current ON clusters (fleet) WHERE valid_to IS NULL;
CREATE INDEX clusters_as_of ON clusters USING gist (int8range(valid_from, valid_to));
COMMENT ON TABLE clusters IS 'One row per fleet with pools of manage: cluster: what stood in its cluster at first contact, what is not ours.';
COMMENT ON COLUMN clusters.valid_from IS 'Position of the log from which the row holds (the last of its append group).';
COMMENT ON COLUMN clusters.valid_to IS 'Position from which it no longer holds; NULL: it holds now.';
COMMENT ON INDEX clusters_current IS 'One row per key holds now.';
COMMENT ON INDEX clusters_as_of IS 'Finds the rows as of a position.';
