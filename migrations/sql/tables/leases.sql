CREATE TABLE leases (
    name text PRIMARY KEY,
    owner text NOT NULL,
    expires_at timestamptz NOT NULL
);
COMMENT ON TABLE leases IS 'Time-limited claims by name. No part of the log.';
COMMENT ON COLUMN leases.name IS 'What is claimed.';
COMMENT ON COLUMN leases.owner IS 'The process that claims it.';
COMMENT ON COLUMN leases.expires_at IS 'Until when, by the clock of the database.';
