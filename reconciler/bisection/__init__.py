"""Which event broke it: bisecting the states that nodes should have been in, by a verdict or by a probe.

`search` is pure; `states` tells the candidates from the log, `image` judges them there, `probe` takes a node to them.
I/O: reads the log and blobs; a probe appends, acts on one node through the cycle, and runs a command here. Called by
the door `bisect`.
"""

from reconciler.bisection.image import bisect_image
from reconciler.bisection.probe import Candidate, bisect_probe, probe_candidates

__all__ = ["Candidate", "bisect_image", "bisect_probe", "probe_candidates"]
