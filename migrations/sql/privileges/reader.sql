GRANT SELECT ON log, events, blobs, streams, alembic_version TO reconciler_reader;
GRANT SELECT ON fleets, resources, pools, nodes, node_states, renders, guards, holds, rollouts TO reconciler_reader;
GRANT SELECT ON leases, last_seen, history, node_state, holds_now TO reconciler_reader;
GRANT USAGE ON SCHEMA reconciler_v1 TO reconciler_reader;
GRANT SELECT ON content_entries, resource_positions, reconciler_v1.history, reconciler_v1.resource_history TO reconciler_reader;
GRANT SELECT ON reconciler_v1.entry_history, reconciler_v1.node_state, reconciler_v1.node_file_history TO reconciler_reader;
GRANT SELECT ON reconciler_v1.rollout_log, reconciler_v1.drift_log, reconciler_v1.holds TO reconciler_reader;
