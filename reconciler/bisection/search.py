"""PURE: which state to judge next, so that few judgements tell the first bad one."""

from __future__ import annotations

from typing import Literal

Judgement = Literal["good", "bad", "skip"]


class Search:
    """Binary search among states 0 (taken to be good) to `last` (taken to be bad), as `git bisect` does it.

    Without skips it takes at most ceil(log2(last)) judgements. Where the verdict turns more than once, it finds one of
    the states at which it turns bad.
    """

    def __init__(self, last: int) -> None:
        if last < 1:
            raise ValueError("there is nothing between one state and itself")
        self._good, self._bad = 0, last
        self._skipped: set[int] = set()

    @property
    def suspects(self) -> range:
        """The states of which one is the first bad one; only one when the search has its answer."""
        return range(self._good + 1, self._bad + 1)

    @property
    def next(self) -> int | None:
        """The state to judge: of those between that were not skipped, the one nearest to the middle."""
        middle = (self._good + self._bad) / 2
        open_ones = [state for state in range(self._good + 1, self._bad) if state not in self._skipped]
        return min(open_ones, key=lambda state: abs(state - middle), default=None)

    def judged(self, state: int, judgement: Judgement) -> None:
        """Take the judgement of a state that `next` gave."""
        if judgement == "skip":
            self._skipped.add(state)
        elif judgement == "good":
            self._good = state
        else:
            self._bad = state
