ALTER TABLE blobs
    ALTER COLUMN content DROP NOT NULL,
    ADD COLUMN redacted_at bigint,
    ADD CONSTRAINT blobs_redacted CHECK ((content IS NULL) = (redacted_at IS NOT NULL));
COMMENT ON COLUMN blobs.content IS 'The bytes; NULL where they were redacted.';
COMMENT ON COLUMN blobs.redacted_at IS 'Position of the event BlobRedacted that took the bytes away; NULL: they are there.';
