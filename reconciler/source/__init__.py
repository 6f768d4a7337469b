"""The fleet's Git repository: a bare mirror, read at commits without a work tree.

I/O: the git program through GitPython, run in threads. Called by wiring, which hands a GitSource to the cycle.
"""

import os

# GitPython looks for the git program when it is imported; quiet: a missing git is reported when it is first used.
os.environ.setdefault("GIT_PYTHON_REFRESH", "quiet")
