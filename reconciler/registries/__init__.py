"""Registry semantics: OpenShift resources in, node files out, and how the runtime reads them.

Pure: no I/O, no clock, no settings; importable on its own. Called by rollout, projections, cycle, commands.
"""
