"""The stages of a pass, one module each: record, observe, project, roll out; glue between pure code and ports.

I/O: only through the ports in the context. Called by cycle, and by commands for what people ask for at once.
"""
