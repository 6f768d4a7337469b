GRANT SELECT, INSERT ON events, blobs TO reconciler_approver;
GRANT SELECT, INSERT, UPDATE, DELETE ON fleets, resources, pools, nodes TO reconciler_approver;
GRANT SELECT, INSERT, UPDATE, DELETE ON node_states, renders, guards, holds, rollouts TO reconciler_approver;
GRANT SELECT, INSERT, UPDATE, DELETE ON leases, last_seen TO reconciler_approver;
GRANT SELECT ON log, alembic_version, history, node_state, holds_now TO reconciler_approver;
GRANT SELECT, INSERT, UPDATE, DELETE ON restores TO reconciler_approver;
GRANT SELECT, UPDATE ON projections TO reconciler_approver;
GRANT SELECT ON streams, identities, event_authority TO reconciler_approver;
