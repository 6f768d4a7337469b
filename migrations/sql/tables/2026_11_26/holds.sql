ALTER TABLE holds ADD COLUMN due text, ADD COLUMN until_fixed boolean;
COMMENT ON COLUMN holds.due IS 'UTC time from which on the hold is overdue; it goes on until somebody lifts it.';
COMMENT ON COLUMN holds.until_fixed IS 'Whether an entry ends by itself once none of the bad differences is left.';
