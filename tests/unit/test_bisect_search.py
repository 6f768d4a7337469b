"""The binary search of `bisect`: what it finds is a turn from good to bad, in few judgements, whatever is skipped."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reconciler.bisection.search import Judgement, Search

ANY: tuple[Judgement, ...] = ("good", "bad", "skip")
JUDGEMENTS = st.lists(st.sampled_from(ANY), max_size=40)


def of(good: int, skip: int, bad: int) -> list[Judgement]:
    """So many of each."""
    counts: list[tuple[Judgement, int]] = [("good", good), ("skip", skip), ("bad", bad)]
    return [judgement for judgement, times in counts for _ in range(times)]


def play(between: list[Judgement]) -> tuple[Search, list[int]]:
    """Search states with these judgements between a good one and a bad one; and which were judged."""
    states: list[Judgement] = ["good", *between, "bad"]
    search, asked = Search(len(states) - 1), list[int]()
    while (state := search.next) is not None:
        asked.append(state)
        search.judged(state, states[state])
    return search, asked


@given(JUDGEMENTS)
def test_it_ends_at_a_turn(between: list[Judgement]) -> None:
    search, asked = play(between)
    states: list[Judgement] = ["good", *between, "bad"]
    suspects = search.suspects
    assert states[suspects[0] - 1] == "good"
    assert states[suspects[-1]] == "bad"
    assert all(states[state] == "skip" for state in suspects[:-1]), "nothing that can be told is left open"
    assert len(asked) == len(set(asked))
    assert set(asked) <= set(range(1, len(states) - 1)), "the ends are taken at their word"


@given(st.integers(0, 3000), st.data())
def test_without_skips_it_halves(good: int, data: st.DataObject) -> None:
    bad = data.draw(st.integers(0, 3000 - good))
    search, asked = play(of(good, 0, bad))
    assert list(search.suspects) == [good + 1]
    assert len(asked) <= (good + bad).bit_length(), "ceil(log2(states))"


def test_a_skipped_middle_costs_its_neighbours_only() -> None:
    search, asked = play(of(10, 3, 10))
    assert list(search.suspects) == [11, 12, 13, 14]
    assert len(asked) <= 3 + 2 * 5


def test_one_state_is_no_span() -> None:
    with pytest.raises(ValueError, match="nothing between"):
        Search(0)
