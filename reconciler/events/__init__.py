"""What can happen: the event catalogue, the envelope with its codec, and the hash chain.

Pure: no I/O, no clock, no randomness. Called by projections, store, cycle, commands, queries.
"""
