ALTER TABLE fleets ADD COLUMN cluster jsonb;
ALTER TABLE nodes ADD COLUMN discovered boolean, ADD COLUMN cluster jsonb;
COMMENT ON COLUMN fleets.cluster IS 'Why its cluster cannot be asked (unreachable, cause), since when, and whether it is accepted as another one; NULL: it can, or there is none.';
COMMENT ON COLUMN nodes.discovered IS 'Whether the cluster has the node and no Node document names it.';
COMMENT ON COLUMN nodes.cluster IS 'What the cluster last said of it: uid, ready, reason, unschedulable, cordoned_by, runtime, version, created, labels; NULL: it is in none.';
