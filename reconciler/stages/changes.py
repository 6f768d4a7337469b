"""What bringing a node from what it shows to what it should have means: start hash, class, actions, reasons."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from reconciler.ports import ABSENT, Observation, manifest_hash
from reconciler.registries.impact import classify
from reconciler.registries.model import POLICY_JSON, REGISTRIES_CONF, REGISTRIES_CONF_D
from reconciler.rollout.plan import Change
from reconciler.rollout.pools import Pool
from reconciler.stages.context import Context, FileSet

RELOAD = "reload:crio.service"
CACHE_LIMIT = 4096


class Changes:
    """Computes each distinct change once: many nodes that look alike share one answer."""

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
        states = {path: _state(seen, path) for path in paths}
        start = manifest_hash(states)
        key = (start, target.encode(), tuple(sorted(restore.items())), pool.profile, pool.runtime)
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
        contents = await self._context.load(n for n in (*after_names.values(), *before_names.values()) if n)
        before = {path: contents[name] if name else None for path, name in before_names.items()}
        after = {path: contents[name] if name else None for path, name in after_names.items()}
        impact = classify(before, after, pool.profile)
        runtime_reads = any(before[path] != after[path] and _needs_reload(path) for path in after)
        reload = pool.runtime == "crio" and impact.disruption != "none" and runtime_reads
        reasons = impact.reasons
        if impact.disruption in ("drain", "reboot"):
            reasons = (*reasons, f"this pool cannot drain (drain.via: none): {'reload' if reload else 'write'} only")
        return Change(impact.disruption, "reload" if reload else "none", (RELOAD,) if reload else (), reasons)


def _needs_reload(path: str) -> bool:
    return path in (REGISTRIES_CONF, POLICY_JSON) or path.startswith(f"{REGISTRIES_CONF_D}/")


def _state(seen: Observation, path: str) -> tuple[str, int]:
    file = seen.files.get(path)
    if file is None or file.kind != "file":
        return ABSENT, 0
    return file.sha256, file.mode
