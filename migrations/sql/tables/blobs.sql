CREATE TABLE blobs (
    sha256 text PRIMARY KEY CHECK (sha256 ~ '^[0-9a-f]{64}$'),
    content bytea NOT NULL
);
COMMENT ON TABLE blobs IS 'Contents that events name by their SHA-256: manifests, node files. Append-only.';
COMMENT ON COLUMN blobs.sha256 IS 'SHA-256 of the content, in hexadecimal.';
COMMENT ON COLUMN blobs.content IS 'The bytes.';
