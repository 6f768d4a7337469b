"""What was seen of a node is answered again only where the node would say the same."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reconciler.kubernetes.looks import Memory
from reconciler.ports import ABSENT, Observation, ObservedFile, ObserveRequest

A, B, C = (f"/etc/containers/{name}" for name in "abc")
CONTENTS = (None, b"one", b"two")


def digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def request(**known: str) -> ObserveRequest:
    return ObserveRequest("log-1", "crio", {f"/etc/containers/{name}": state for name, state in known.items()})


def node(files: Mapping[str, bytes | None], asked: ObserveRequest) -> Observation:
    """What a node with these files answers."""
    found = {}
    for path, known in asked.known.items():
        content = files.get(path)
        if content is None:
            found[path] = ObservedFile(path, ABSENT)
        else:
            sent = content if digest(content) != known else None
            found[path] = ObservedFile(path, "file", digest(content), 0o644, content=sent)
    others = tuple(sorted(path for path, content in files.items() if content is not None and path not in asked.known))
    return Observation("m", "b", "v", "crio.service", "active", None, False, "", found, present=others)


states = st.sampled_from(["", ABSENT, *(digest(content) for content in CONTENTS if content)])
requests = st.dictionaries(st.sampled_from("abc"), states).map(lambda known: request(**known))
disks = st.fixed_dictionaries({path: st.sampled_from(CONTENTS) for path in (A, B, C)})


@given(disks, st.lists(requests, max_size=6), requests)
def test_an_answer_from_memory_is_the_nodes(
    disk: dict[str, bytes | None], asked: list[ObserveRequest], again: ObserveRequest
) -> None:
    memory = Memory()
    for at, one in enumerate(asked):
        memory.keep("n", one, node(disk, one), float(at), "stamp")
    answer = memory.answer("n", again, 0.0, "stamp")
    assert answer is None or answer == node(disk, again)
    if again in asked[-1:]:
        assert answer is not None  # or the last look would be of no use


def test_the_same_question_is_answered() -> None:
    memory, asked = Memory(), request(a="", b=ABSENT)
    disk = {A: b"one", B: None}
    memory.keep("n", asked, node(disk, asked), 5.0, "stamp")
    assert memory.answer("n", asked, 5.0, "stamp") == node(disk, asked)
    assert memory.answer("n", asked, 5.1, "stamp") is None
    assert memory.answer("n", asked, 0.0, "another boot") is None
    assert memory.answer("other", asked, 0.0, "stamp") is None
    assert memory.answer("n", replace(asked, images=True), 0.0, "stamp") is None
    assert memory.answer("n", replace(asked, runtime="podman"), 0.0, "stamp") is None


def test_who_knows_of_other_bytes_has_news() -> None:
    memory, asked = Memory(), request(a=digest(b"one"))
    memory.keep("n", asked, node({A: b"one"}, asked), 1.0, "stamp")
    assert memory.answer("n", request(a=digest(b"two")), 0.0, "stamp") is None


@pytest.mark.parametrize("change", ["change", "change_all"])
def test_after_a_change_only_contents_are_of_use(change: str) -> None:
    memory, asked = Memory(), request(a="", b="")
    disk = {A: b"one", B: b"two"}
    memory.keep("n", asked, node(disk, asked), 1.0, "stamp")
    before = memory.changes("n")
    getattr(memory, change)(*(() if change == "change_all" else ("n",)))
    assert memory.changes("n") > before
    assert memory.answer("n", asked, 0.0, "stamp") is None
    known = request(a=digest(b"one"), b=digest(b"three"))
    after = {A: b"one", B: b"three"}
    memory.keep("n", known, node(after, known), 2.0, "stamp")
    assert memory.answer("n", request(a="", b=digest(b"three")), 0.0, "stamp") == node(
        after, request(a="", b=digest(b"three"))
    )
    assert memory.nearest("n", [A]) is not None
    assert memory.nearest("other", [A]) is None
