ALTER TABLE node_states ADD COLUMN drain_blocked jsonb;
COMMENT ON COLUMN node_states.drain_blocked IS 'What keeps the node from getting empty in its turn: {reason, pods, more, said: each cause and since when}.';
