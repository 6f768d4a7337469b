ALTER TABLE fleets ADD COLUMN cluster jsonb;
COMMENT ON COLUMN fleets.cluster IS 'Why its cluster cannot be asked (unreachable, cause), since when, and whether it is accepted as another one; NULL: it can, or there is none.';
