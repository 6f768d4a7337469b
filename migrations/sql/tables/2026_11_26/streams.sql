ALTER TABLE streams SET (fillfactor = 50);
COMMENT ON TABLE streams IS 'The head of every stream. Derived from events; the append checks expected versions against it. Half of a page stays free, so that moving a head leaves the index alone.';
