"""Which event broke it: bisecting the states that nodes should have been in, by a verdict or by a probe.

`search` is the pure core; `states` tells the candidates from the log; `image` judges them without a node; `probe` takes
one node through them.
"""

from reconciler.bisection.image import bisect_image
from reconciler.bisection.probe import Candidate, bisect_probe, probe_candidates

__all__ = ["Candidate", "bisect_image", "bisect_probe", "probe_candidates"]
