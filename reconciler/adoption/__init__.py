"""Adoption: existing hosts in, a config repository out, and the proof that it changes nothing on them.

I/O: reads hosts over the transports, or copied files; writes one directory; no database. Called by cli.
"""
