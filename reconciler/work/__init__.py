"""Who runs steps: inline in this process now, a queue later.

I/O: through a Transport. Built by wiring, called through the Runner port by stages.
"""
