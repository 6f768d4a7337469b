"""Pools, nodes and rollouts: inventory documents, whether a commit is taken, and who is acted on next.

Pure: values in, events and steps out; no I/O, no clock. Called by stages, cycle, commands, queries.
"""
