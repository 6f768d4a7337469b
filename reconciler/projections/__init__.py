"""Folds of the log into what people and the planner read: desired state, holds, files, nodes, pools, rollouts.

Pure: rows in, rows out; no I/O, no clock. Called by store (in the append's transaction), cycle, commands, queries.
"""
