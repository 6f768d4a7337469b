ALTER TABLE nodes ADD COLUMN discovered boolean, ADD COLUMN cluster jsonb;
COMMENT ON COLUMN nodes.discovered IS 'Whether the cluster has the node and no Node document names it.';
COMMENT ON COLUMN nodes.cluster IS 'What the cluster last said of it: uid, ready, reason, unschedulable, cordoned_by, runtime, version, created, labels; NULL: it is in none.';
