"""What nodes were last seen to have, so that one on which nothing happened is not asked again. No I/O, no clock."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from reconciler.kubernetes.pod_spec import label
from reconciler.ports import ABSENT, Observation, ObservedFile, ObserveRequest

KEPT = 4
"""Looks at different paths that are kept of one node."""

OUTDATED = -1.0
"""Time of a look after which something happened."""


@dataclass(frozen=True)
class Look:
    """An observation, when it was made (seconds), and of which state of the Node object it tells. The contents of
    `offered` were asked for: what the node did not send of them, it does not send."""

    observation: Observation
    request: ObserveRequest
    at: float
    stamp: object
    offered: frozenset[str]

    def answers(self, request: ObserveRequest) -> Observation | None:
        """The observation that the node would give to `request` if nothing has changed; None where nobody can tell."""
        seen = self.observation.files
        if request.images or (request.log_id, request.runtime) != (self.request.log_id, self.request.runtime):
            return None
        if any(path not in request.known and file.kind != ABSENT for path, file in seen.items()):
            return None  # it would be among `present` or `effective`
        found: dict[str, ObservedFile] = {}
        for path, known in request.known.items():
            file = seen.get(path)
            if file is None or (file.kind == "file" and file.sha256 != known and path not in self.offered):
                return None
            if known not in ("", file.state, self.request.known.get(path)):
                return None  # somebody knows of other bytes there
            found[path] = replace(file, content=None, package="") if file.sha256 == known else file
        return replace(self.observation, files=found, images=None)


@dataclass
class Memory:
    """The latest looks at each node."""

    _looks: dict[str, list[Look]] = field(default_factory=dict)
    _changes: dict[str, int] = field(default_factory=dict)
    _changes_anywhere: int = 0

    def keep(self, node: str, request: ObserveRequest, seen: Observation, at: float, stamp: object) -> None:
        """A look that was made. What earlier ones told of files with the same bytes is still true."""
        offered = {path for path, file in seen.files.items() if file.sha256 != request.known[path]}
        files, before = dict(seen.files), self._looks.get(node, [])
        for look in before:
            for path in look.offered - offered:
                old, new = look.observation.files[path], files.get(path)
                if new is not None and new.kind == "file" and old.sha256 == new.sha256:
                    files[path] = replace(new, content=old.content, package=old.package)
                    offered.add(path)
        new_look = Look(replace(seen, files=files), request, at, stamp, frozenset(offered))
        paths = request.known.keys()
        others = [o for o in before if o.at > OUTDATED and o.stamp == stamp and o.request.known.keys() != paths]
        self._looks[node] = [*others[-(KEPT - 1) :], new_look]

    def answer(self, node: str, request: ObserveRequest, since: float, stamp: object) -> Observation | None:
        """What the node would answer, by looks made `since` at the same state of its Node object; else None."""
        for look in reversed(self._looks.get(node, ())):
            if look.at >= since and look.stamp == stamp and (found := look.answers(request)) is not None:
                return found
        return None

    def latest(self, node: str) -> Look | None:
        """The look that was made last."""
        looks = self._looks.get(node)
        return looks[-1] if looks else None

    def changes(self, node: str) -> int:
        """How often something happened there."""
        return self._changes.get(node, 0) + self._changes_anywhere

    def change(self, node: str) -> None:
        """Something happens there, or may have: no look made before answers any more."""
        self._changes[node] = self._changes.get(node, 0) + 1
        self._looks[node] = [replace(look, at=OUTDATED) for look in self._looks.get(node, ())]

    def change_labelled(self, value: str) -> None:
        """The same of the node whose label has this value."""
        for node in [name for name in self._looks if label(name) == value]:
            self.change(node)

    def change_all(self) -> None:
        """The same of every node."""
        self._changes_anywhere += 1
        for node in self._looks:
            self.change(node)
