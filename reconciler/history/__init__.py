"""What people ask of the past: whose line, what differs between two points, what an event led to, who allowed what.

I/O: reads the log through ports, writes nothing. Answers are data, as those of `queries`. Called by the doors.
"""
