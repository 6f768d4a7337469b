"""registries.conf: which tables the resources ask for, laid over the tables of a base.

Source: runtime-utils pkg/registries/registries.go `EditRegistriesConfig`. Every table and mirror looks up the
scopes that enclose it, so the work grows with the number of tables, not with its square.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from reconciler.registries import scopes
from reconciler.registries.inputs import Entry, MirrorRow
from reconciler.registries.mirrors import MirrorSet
from reconciler.registries.model import REGISTRIES_CONF, Origin, Problem

PULL_FROM = "pull-from-mirror"
BY_DIGEST_ONLY = "mirror-by-digest-only"


@dataclass(slots=True)
class Table:
    """A `[[registry]]` table in the making.

    `captured` is the table as it stands in the base, None for a new one. `mirrors` are TOML tables; `named`
    says that they come from our resources, not from the base; `asked_for` that a resource names this scope;
    `forbidden` that resources keep the source itself from being contacted.
    """

    scope: str
    captured: Mapping[str, Any] | None = None
    mirrors: list[dict[str, Any]] = field(default_factory=list)
    insecure: bool = False
    blocked: bool = False
    named: bool = False
    asked_for: bool = False
    forbidden: bool = False
    origins: dict[Origin, None] = field(default_factory=dict)
    mirror_origins: dict[str, dict[Origin, None]] = field(default_factory=dict)

    @property
    def location(self) -> str:
        """Where the runtime contacts the source itself; a wildcard has no location of its own."""
        if self.captured is None or self.forbidden:
            return "" if scopes.is_wildcard(self.scope) else self.scope
        return str(self.captured.get("location", "")).rstrip("/")

    @property
    def closed_by_host(self) -> bool:
        """The host blocks this scope, and no resource names it: it stays as it is."""
        return bool(self.captured and self.captured.get("blocked")) and not self.asked_for

    def data(self, syntax: str = PULL_FROM) -> dict[str, Any]:
        """The table as TOML has it. `syntax` is `pull-from-mirror` or the older `mirror-by-digest-only`.

        A host's table that says to the runtime what is asked for already stays as the host wrote it.
        """
        data = self._data(syntax)
        if self.captured is not None and _understood(self.captured, syntax) and _says(self.captured) == _says(data):
            return dict(self.captured)
        return data

    def _data(self, syntax: str) -> dict[str, Any]:
        data: dict[str, Any] = {key: value for key, value in (self.captured or {}).items() if key != "mirror"}
        if self.captured is None or self.location != str(data.get("location", "")).rstrip("/"):
            # New; or a host's table that leads elsewhere: the runtime would ask there whether it is blocked.
            data.pop("prefix", None)
            data.pop("location", None)
            data["prefix" if scopes.is_wildcard(self.scope) else "location"] = self.scope
        if self.insecure:
            data["insecure"] = True
        if self.blocked:
            data["blocked"] = True
        if self.named:
            data.pop(BY_DIGEST_ONLY, None)
            if syntax == BY_DIGEST_ONLY:
                data[BY_DIGEST_ONLY] = True
        if self.mirrors:
            old = self.named and syntax == BY_DIGEST_ONLY
            data["mirror"] = [{k: v for k, v in m.items() if not (old and k == PULL_FROM)} for m in self.mirrors]
        return data

    def add_origin(self, *origins: Origin) -> None:
        self.origins.update(dict.fromkeys(origins))

    def forbid(self) -> None:
        """Keep the source from being contacted, whatever the base says."""
        self.blocked = self.forbidden = True

    def take_mirrors(self, mirrors: MirrorSet) -> None:
        """Add the mirrors of a set; the first set takes the place of what the base has."""
        self.asked_for = True
        if not self.named:
            self.named, self.mirrors = True, []
        limit = "tag-only" if mirrors.by_tag else "digest-only"
        for location in mirrors.mirrors:
            self.mirrors.append({"location": location, PULL_FROM: limit})
            origins = self.mirror_origins.setdefault(location, {})
            origins.update(dict.fromkeys(mirrors.mirror_origins.get(location, mirrors.origins)))
        if mirrors.never_contact:
            self.forbid()
        self.add_origin(*mirrors.origins)


def _says(table: Mapping[str, Any]) -> tuple[Any, ...]:
    """What the runtime takes from a table: flags, and the mirrors for pulls by digest and by tag, in their order."""
    limit = "digest-only" if table.get(BY_DIGEST_ONLY) else "all"
    pulls: dict[str, list[tuple[str, bool]]] = {"digest-only": [], "tag-only": []}
    for mirror in table.get("mirror", ()):
        for form, found in pulls.items():
            if (mirror.get(PULL_FROM) or limit) in ("all", form):
                found.append((str(mirror.get("location", "")).rstrip("/"), bool(mirror.get("insecure"))))
    location = str(table.get("location", "")).rstrip("/")
    scope = str(table.get("prefix") or location).rstrip("/")
    return scope, location, bool(table.get("insecure")), bool(table.get("blocked")), pulls


def _understood(table: Mapping[str, Any], syntax: str) -> bool:
    """Whether a runtime of this syntax reads the host's table as we do: an older one does not know pull-from-mirror."""
    return syntax != BY_DIGEST_ONLY or not any(PULL_FROM in mirror for mirror in table.get("mirror", ()))


class Tables:
    """The tables of one file in order; of several with one scope the first counts, as for the runtime."""

    def __init__(self, captured: Iterable[Mapping[str, Any]] = ()) -> None:
        self.all: list[Table] = []
        self._first: dict[str, Table] = {}
        for data in captured:
            scope = str(data.get("prefix") or data.get("location") or "").rstrip("/")
            mirrors = [dict(mirror) for mirror in data.get("mirror", ())]
            self._append(Table(scope, data, mirrors, bool(data.get("insecure")), bool(data.get("blocked"))))

    def _append(self, table: Table) -> Table:
        self.all.append(table)
        return self._first.setdefault(table.scope, table)

    def get(self, scope: str) -> Table:
        """The table of `scope`, appended when there is none."""
        return self._first.get(scope) or self._append(Table(scope))

    def meeting(self, rows: Iterable[MirrorRow], entries: Iterable[Entry]) -> list[MirrorRow]:
        """The rows whose source meets a table there is, or one of `entries`; without the others `edit` and `fit_base`
        find the same problems.

        A source alone cannot be wrong: it has to cover an entry or a table (`_inherit`, `_restrain`), to have a
        table's location (`_agree`), or to be as long as a wildcard (`rival`).
        """
        near = {scope for entry in entries for scope in scopes.enclosing(entry.text)}
        for table in self.all:
            near.update(scopes.table_lookup(table.scope), [table.location])
        wildcards = {table.scope[1:] for table in self.all if scopes.is_wildcard(table.scope)}
        return [row for row in rows if row.source.text in near or row.source.text[1:] in wildcards]

    def rival(self, table: Table) -> Table | None:
        """A wildcard of the base that wins against `table`: equally long, and sorted before it."""
        wildcard = self._first.get(f"*{table.scope[1:]}") if table.scope[1:2] == "." else None
        foreign = wildcard is not None and wildcard is not table and not (wildcard.asked_for or wildcard.blocked)
        return wildcard if foreign else None


def edit(
    tables: Tables, insecure: Sequence[Entry], blocked: Sequence[Entry], sets: Sequence[MirrorSet]
) -> list[Problem]:
    """Change `tables` to what the lists and mirror sets (digest sets first, then tag sets) ask for.

    Problem: `wildcard-mirror-nested-scope`, an entry below a wildcard source would need mirrors that no table
    can express.
    """
    for mirror_set in sets:
        tables.get(mirror_set.source).take_mirrors(mirror_set)
    for entry in [*blocked, *insecure]:
        table = tables.get(entry.text)
        table.asked_for = True
        table.add_origin(entry.origin)
    blocked_scopes = {entry.text: entry for entry in blocked}
    _flag(tables, {entry.text: entry for entry in insecure}, blocked_scopes)
    _restrain(tables, blocked_scopes)
    return list(_inherit(tables, sets))


def _flag(tables: Tables, insecure: Mapping[str, Entry], blocked: Mapping[str, Entry]) -> None:
    for table in tables.all:
        outer = scopes.covered(table.scope, insecure)
        if outer is not None:
            table.insecure = True
            table.add_origin(insecure[outer].origin)
        outer = scopes.covered(table.scope, blocked)
        if outer is not None:
            table.forbid()
            table.add_origin(blocked[outer].origin)
        for mirror in table.mirrors:
            outer = scopes.covered(str(mirror.get("location", "")), insecure)
            if outer is not None:
                mirror["insecure"] = True
                table.mirror_origins.setdefault(mirror["location"], {})[insecure[outer].origin] = None


def _restrain(tables: Tables, blocked: Mapping[str, Entry]) -> None:
    """Block captured tables that the runtime would prefer to a blocked one of ours, and take their mirrors.

    That is a table inside a blocked entry or a source that is never contacted, and `host:port` below `host`:
    the runtime, unlike MCO and policy.json, takes a table for `host` to match it.
    """
    ours = {table.scope: table for table in tables.all if table.asked_for}
    for table in tables.all:
        if table.captured is None:
            continue
        nearest = (ours[scope] for scope in scopes.table_lookup(table.scope) if scope in ours)
        outer = next((found for found in nearest if found is not table), None)
        if outer is not None and outer.forbidden and not table.asked_for:
            table.forbid()
            table.add_origin(*outer.origins)
            table.mirrors = []
        elif scopes.covered(table.scope, blocked) is not None and not table.named:
            table.mirrors = []


def _inherit(tables: Tables, sets: Sequence[MirrorSet]) -> Iterator[Problem]:
    """Copy the mirrors of a source to the tables below it that have none.

    The first source in order that covers a table gives the mirrors, not the nearest one; the flags of the
    mirrors are copied as they are.
    """
    order: dict[str, int] = {}
    for mirror_set in sets:
        order.setdefault(mirror_set.source, len(order))
    for table in tables.all:
        sources = [scope for scope in scopes.enclosing(table.scope) if scope in order and scope != table.scope]
        if table.mirrors or not sources or table.closed_by_host:
            continue
        source = tables.get(min(sources, key=order.__getitem__))
        if scopes.is_wildcard(source.scope):
            yield _below_wildcard(table, source)
            continue
        rest = table.scope[len(source.scope) :]
        table.named = True
        table.mirrors = [{**mirror, "location": mirror["location"] + rest} for mirror in source.mirrors]
        table.mirror_origins = {location + rest: dict(by) for location, by in source.mirror_origins.items()}
        table.add_origin(*source.origins)


def _below_wildcard(table: Table, source: Table) -> Problem:
    origin = next(iter(table.origins), None) or next(iter(source.origins))
    return Problem(
        "wildcard-mirror-nested-scope",
        f"{table.scope} lies in the mirrored source {source.scope}, whose mirrors cannot be written for it",
        object=origin.resource,
        field=origin.field,
        remedy=f"mirror the hosts below {source.scope} one by one, or remove the entry for {table.scope}",
    )


def fit_base(tables: Tables, owner: str) -> list[Problem]:
    """Make the tables of a base, whose `owner` messages name, and ours loadable together. Problem: `base-shadows`.

    Tables of one location must agree on their flags, or the runtime loads none of them. A captured table that
    would win against one of ours, or block it, is refused.
    """
    pairs = [(table, tables.rival(table)) for table in tables.all if table.asked_for]
    return [_shadowed(table, rival, owner) for table, rival in pairs if rival is not None] + _agree(tables, owner)


def _shadowed(table: Table, rival: Table, owner: str) -> Problem:
    origin = next(iter(table.origins))
    return Problem(
        "base-shadows",
        f"the {owner}'s own table for {rival.scope} in {REGISTRIES_CONF} would win against {table.scope}",
        object=origin.resource,
        field=origin.field,
        remedy=f"remove the table for {rival.scope} from the {owner}, or say in a resource what it says",
    )


def _agree(tables: Tables, owner: str) -> list[Problem]:
    groups: dict[str, list[Table]] = {}
    for table in tables.all:
        groups.setdefault(table.location or table.scope, []).append(table)
    problems: list[Problem] = []
    for group in groups.values():
        if len(group) < 2 or not any(table.asked_for for table in group):
            continue
        insecure = any(table.insecure for table in group)
        blocked = any(table.blocked for table in group)
        for table in group:
            if blocked and not table.blocked and table.captured is None:
                problems.append(_shadowed(table, next(other for other in group if other.blocked), owner))
            table.insecure, table.blocked = insecure, blocked
    return problems
