CREATE TABLE events (
    position bigint PRIMARY KEY CHECK (position > 0),
    version bigint NOT NULL CHECK (version > 0),
    append_group bigint NOT NULL CHECK (append_group BETWEEN 1 AND position),
    recorded_at timestamptz NOT NULL,
    previous_hash bytea NOT NULL CHECK (length(previous_hash) = 32),
    hash bytea NOT NULL CHECK (length(hash) = 32),
    event_id uuid NOT NULL CONSTRAINT events_event_id UNIQUE,
    fleet text NOT NULL,
    stream text NOT NULL,
    type text NOT NULL,
    schema_version integer NOT NULL CHECK (schema_version > 0),
    data text NOT NULL,
    actor text NOT NULL,
    tool_version text NOT NULL,
    correlation_id uuid NOT NULL,
    causation_id uuid,
    node text,
    pool text,
    resource text,
    commit_sha text,
    CONSTRAINT events_stream_version UNIQUE (stream, version) INCLUDE (position)
);
CREATE INDEX events_node ON events (node, position) WHERE node IS NOT NULL;
CREATE INDEX events_pool ON events (pool, position) WHERE pool IS NOT NULL;
CREATE INDEX events_resource ON events (resource, position) WHERE resource IS NOT NULL;
CREATE INDEX events_commit_sha ON events (commit_sha text_pattern_ops, position) WHERE commit_sha IS NOT NULL;
CREATE INDEX events_type ON events (type, position);
CREATE INDEX events_correlation_id ON events (correlation_id, position);
CREATE INDEX events_recorded_at ON events (recorded_at);
COMMENT ON TABLE events IS 'The event log: append-only, hash-chained. docs/reference/event-log.md explains every column.';
COMMENT ON COLUMN events.position IS 'Place in the log: 1, 2, 3 … without gaps, in the order of commit.';
COMMENT ON COLUMN events.version IS 'Place in the stream: 1, 2, 3 …';
COMMENT ON COLUMN events.append_group IS 'Position of the first of the events that were appended in one transaction.';
COMMENT ON COLUMN events.recorded_at IS 'When it was appended, by the clock of the database; never before the event before it.';
COMMENT ON COLUMN events.previous_hash IS 'Hash of the event before it; 32 zero bytes for the first.';
COMMENT ON COLUMN events.hash IS 'SHA-256 over the previous hash, the place and the digest of all other columns.';
COMMENT ON COLUMN events.event_id IS 'Identity; appending the same again changes nothing.';
COMMENT ON COLUMN events.fleet IS 'The fleet it belongs to.';
COMMENT ON COLUMN events.stream IS 'fleet/F, pool/F/P or node/F/N.';
COMMENT ON COLUMN events.type IS 'What happened, in the past tense; the catalogue is in docs/reference/event-log.md.';
COMMENT ON COLUMN events.schema_version IS 'Version of the form of data.';
COMMENT ON COLUMN events.data IS 'The event''s fields as canonical JSON, exactly as hashed.';
COMMENT ON COLUMN events.actor IS 'Who caused it, as canonical JSON: kind of authentication, subject, database session user, claimed name.';
COMMENT ON COLUMN events.tool_version IS 'Version of reconciler that appended it.';
COMMENT ON COLUMN events.correlation_id IS 'The event that is the root cause (its own id for a root).';
COMMENT ON COLUMN events.causation_id IS 'The event that is the direct cause.';
COMMENT ON COLUMN events.node IS 'The node it is about, if one.';
COMMENT ON COLUMN events.pool IS 'The pool it is about, if one.';
COMMENT ON COLUMN events.resource IS 'The resource it is about, if one: PATH:KIND/NAME.';
COMMENT ON COLUMN events.commit_sha IS 'The Git commit it is about or comes from, if one.';
