CREATE INDEX resources_content ON resources (content);
COMMENT ON INDEX resources_content IS 'The pools and times of a document.';
