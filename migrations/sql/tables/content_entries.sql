CREATE TABLE content_entries (
    content text NOT NULL,
    list text NOT NULL,
    entry text NOT NULL,
    detail jsonb,
    field text NOT NULL
);
CREATE INDEX content_entries_content ON content_entries (content);
CREATE INDEX content_entries_entry ON content_entries (entry);
COMMENT ON TABLE content_entries IS 'What each document of a resource lists, one row per entry. Derived from the blob alone, by the trigger blobs_entries.';
COMMENT ON COLUMN content_entries.content IS 'The blob of the document.';
COMMENT ON COLUMN content_entries.list IS 'allowed, blocked, insecure, search, import, digest-mirror, tag-mirror, policy or ca.';
COMMENT ON COLUMN content_entries.entry IS 'The registry, repository, source of a mirror row, scope of a policy, or registry of a CA.';
COMMENT ON COLUMN content_entries.detail IS 'The rest of the row: mirrors and mirrorSourcePolicy, insecure, type and digest of a policy, digest of a CA.';
COMMENT ON COLUMN content_entries.field IS 'The field of the document that lists it.';
COMMENT ON INDEX content_entries_content IS 'The entries of a document.';
COMMENT ON INDEX content_entries_entry IS 'The documents that list an entry.';
