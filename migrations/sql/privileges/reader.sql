GRANT SELECT ON log, events, blobs, streams, alembic_version TO reconciler_reader;
GRANT SELECT ON fleets, resources, pools, nodes, node_states, renders, guards, holds, rollouts TO reconciler_reader;
GRANT SELECT ON leases, last_seen, history, node_state, holds_now TO reconciler_reader;
GRANT SELECT ON restores TO reconciler_reader;
GRANT SELECT ON projections TO reconciler_reader;
GRANT SELECT ON identities, event_authority TO reconciler_reader;
