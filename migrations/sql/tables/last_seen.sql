CREATE TABLE last_seen (
    fleet text NOT NULL,
    node text NOT NULL,
    seen_at timestamptz NOT NULL,
    runtime text NOT NULL,
    PRIMARY KEY (fleet, node)
);
COMMENT ON TABLE last_seen IS 'When each node last answered. No part of the log: an answer that changes nothing is no event.';
COMMENT ON COLUMN last_seen.fleet IS 'The fleet.';
COMMENT ON COLUMN last_seen.node IS 'The node.';
COMMENT ON COLUMN last_seen.seen_at IS 'When it answered, by the clock of the database.';
COMMENT ON COLUMN last_seen.runtime IS 'The version of the container runtime it told.';
