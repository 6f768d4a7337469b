CREATE SCHEMA reconciler_v1;
COMMENT ON SCHEMA reconciler_v1 IS 'What may be asked about the past, version 1: names and meanings stay, columns are only added at the end. docs/reference/sql.md explains every one.';
