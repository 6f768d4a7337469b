CREATE TABLE streams (
    stream text PRIMARY KEY,
    fleet text NOT NULL,
    version bigint NOT NULL,
    last_position bigint NOT NULL
);
CREATE INDEX streams_fleet ON streams (fleet);
COMMENT ON TABLE streams IS 'The head of every stream. Derived from events; the append checks expected versions against it.';
COMMENT ON COLUMN streams.stream IS 'fleet/F, pool/F/P or node/F/N.';
COMMENT ON COLUMN streams.fleet IS 'The fleet it belongs to.';
COMMENT ON COLUMN streams.version IS 'Number of events in the stream.';
COMMENT ON COLUMN streams.last_position IS 'Position of its last event.';
