CREATE TRIGGER blobs_entries AFTER INSERT ON blobs FOR EACH ROW
    WHEN (substring(NEW.content FROM 1 FOR 15) = convert_to('{"apiVersion":"', 'UTF8'))
    EXECUTE FUNCTION keep_entries();
COMMENT ON TRIGGER blobs_entries ON blobs IS 'A blob that begins as the canonical JSON of a resource does has its entries kept.';
INSERT INTO content_entries (content, list, entry, detail, field)
SELECT blobs.sha256, found.list, found.entry, found.detail, found.field
FROM blobs
CROSS JOIN LATERAL resource_entries(blob_document(blobs.content)) AS found
WHERE substring(blobs.content FROM 1 FOR 15) = convert_to('{"apiVersion":"', 'UTF8') AND found.entry IS NOT NULL;
