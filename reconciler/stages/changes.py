"""What bringing a node from what it shows to what it should have means: start hash, class, actions, reasons."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import replace

from reconciler.ports import ABSENT, Observation, manifest_hash
from reconciler.registries.impact import classify
from reconciler.registries.model import Impact
from reconciler.rollout.pools import Pool
from reconciler.rollout.views import Change
from reconciler.stages.context import Context, FileSet

CACHE_LIMIT = 4096


class Changes:
    """Computes each distinct change of one pool once: many nodes that look alike share one answer."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._cache: dict[tuple[object, ...], Change] = {}

    async def between(
        self,
        pool: Pool,
        seen: Observation,
        target: FileSet,
        restore: Mapping[str, str | None],
        unread: Collection[str] = (),
    ) -> tuple[str, Change]:
        """The manifest hash the node shows over the paths concerned, and the change to `target`.

        `restore` maps each path given back to the baseline to that baseline's blob (None: it is removed). The bytes
        of `unread` paths are not known here; the change is judged as if they were absent.
        """
        paths = sorted({entry.path for entry in target.entries} | set(restore))
        states = shown(seen, paths)
        start = manifest_hash(states)
        key = (start, target.encode(), tuple(sorted(restore.items())))
        if key not in self._cache:
            if len(self._cache) >= CACHE_LIMIT:
                self._cache.clear()
            readable = {path: (ABSENT, 0) if path in unread else state for path, state in states.items()}
            self._cache[key] = await self._change(pool, readable, target, restore)
        return start, self._cache[key]

    async def _change(
        self, pool: Pool, states: Mapping[str, tuple[str, int]], target: FileSet, restore: Mapping[str, str | None]
    ) -> Change:
        after_names = {**restore, **{entry.path: entry.sha256 for entry in target.entries}}
        before_names = {path: None if state == ABSENT else state for path, (state, _) in states.items()}
        contents = await self._context.load_past(n for n in (*after_names.values(), *before_names.values()) if n)
        before = {path: contents[name] if name else None for path, name in before_names.items()}
        after = {path: contents[name] if name else None for path, name in after_names.items()}
        impact = classify(before, after, pool.profile, pool.file_policies)
        return carried_out(pool, impact)


def carried_out(pool: Pool, impact: Impact) -> Change:
    """What of MCO's actions is done on this pool: nothing without a service to tell, a drain where the pool can."""
    if pool.runtime != "crio" or impact.disruption == "none":
        return Change(impact.disruption, "none", (), impact.reasons)
    reasons, restarts = list(impact.reasons), {a for a in impact.actions if a.startswith("restart:")}
    if "reboot" in impact.actions:
        restarts.add("restart:crio.service")
        reasons.append("a reboot is not carried out: crio.service is restarted instead")
    reloads = {a for a in impact.actions if a.startswith("reload:")}
    actions = sorted({r for r in reloads if r.replace("reload:", "restart:") not in restarts} | restarts, reverse=True)
    if "daemonreload" in impact.actions:
        actions.insert(0, "daemon-reload")
    effective = "restart" if restarts else "reload"
    if "drain" in impact.actions or "reboot" in impact.actions:
        if pool.drains:
            return Change(impact.disruption, "drain", tuple(actions), tuple(reasons))
        reasons.append(f"this pool cannot drain (drain.via: none): {effective if actions else 'write'} only")
    return Change(impact.disruption, effective if actions else "none", tuple(actions), tuple(reasons))


def and_loaded(change: Change) -> Change:
    """The change, with the runtime told again in any case: what stands there was never loaded."""
    if {"reload:crio.service", "restart:crio.service"} & set(change.actions):
        return change
    return replace(
        change,
        disruption="reload" if change.disruption == "none" else change.disruption,
        effective="reload" if change.effective == "none" else change.effective,
        actions=(*change.actions, "reload:crio.service"),
        reasons=(*change.reasons, "the runtime has not loaded the files that stand there: reload"),
    )


def given_back(pool: Pool) -> Change:
    """What putting back a whole baseline means: anything may differ in it."""
    reasons = ("the files from before the first write are put back",)
    if pool.runtime != "crio":
        return Change("none", "none", (), reasons)
    return Change("drain", "drain" if pool.drains else "reload", ("reload:crio.service",), reasons)


def shown(seen: Observation, paths: Iterable[str]) -> dict[str, tuple[str, int]]:
    """Path → hash (or `absent`) and mode that the node was seen to have there."""
    return {path: _state(seen, path) for path in paths}


def _state(seen: Observation, path: str) -> tuple[str, int]:
    file = seen.files.get(path)
    if file is None or file.kind != "file":
        return ABSENT, 0
    return file.sha256, file.mode
