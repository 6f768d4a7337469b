"""A rollout tried out before it happens: the real stages and planner on nodes in memory, in virtual time.

I/O: reads manifests, and with a configured fleet its log; writes nothing, asks no node. Called by the door `simulate`.
"""
