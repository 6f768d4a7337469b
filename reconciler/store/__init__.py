"""The event log, blobs, read tables and leases: on PostgreSQL, and in memory with the same behaviour.

I/O: PostgreSQL, and the files and processes of the embedded one. Called by wiring only.
"""
