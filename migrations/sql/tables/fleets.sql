CREATE TABLE fleets (
    fleet text NOT NULL,
    url text,
    branch text,
    path text,
    head text,
    judged_with text,
    signature jsonb,
    accepted text,
    accepted_signature jsonb,
    rejected text,
    problems jsonb,
    waiting jsonb,
    approved jsonb,
    rewritten text,
    unreachable text,
    unreachable_since timestamptz,
    valid_from bigint NOT NULL,
    valid_to bigint CHECK (valid_to > valid_from),
    PRIMARY KEY (fleet, valid_from)
);
CREATE UNIQUE INDEX fleets_current ON fleets (fleet) WHERE valid_to IS NULL;
CREATE INDEX fleets_as_of ON fleets USING gist (int8range(valid_from, valid_to));
COMMENT ON TABLE fleets IS 'One row per fleet: its source, last recorded head and last accepted commit, and what waits for a person.';
COMMENT ON COLUMN fleets.valid_from IS 'Position of the log from which the row holds (the last of its append group).';
COMMENT ON COLUMN fleets.valid_to IS 'Position from which it no longer holds; NULL: it holds now.';
COMMENT ON INDEX fleets_current IS 'One row per key holds now.';
COMMENT ON INDEX fleets_as_of IS 'Finds the rows as of a position.';
