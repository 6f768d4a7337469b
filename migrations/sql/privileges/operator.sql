GRANT SELECT, INSERT ON events, blobs TO reconciler_operator;
GRANT SELECT, INSERT, UPDATE, DELETE ON fleets, resources, pools, nodes TO reconciler_operator;
GRANT SELECT, INSERT, UPDATE, DELETE ON node_states, renders, guards, holds, rollouts TO reconciler_operator;
GRANT SELECT, INSERT, UPDATE, DELETE ON leases, last_seen TO reconciler_operator;
GRANT SELECT ON log, alembic_version, history, node_state, holds_now TO reconciler_operator;
GRANT SELECT, INSERT, UPDATE, DELETE ON restores TO reconciler_operator;
GRANT SELECT, UPDATE ON projections TO reconciler_operator;
GRANT SELECT ON streams, identities, event_authority TO reconciler_operator;
