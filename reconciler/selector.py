"""Label selectors, as `oc get -l` takes them: a=b, a==b, a!=b, a, !a, a in (b,c), a notin (b,c), joined by commas.

Pure: called by settings, stages and doors.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

from reconciler.errors import UsageError

Labels = Mapping[str, str]

_KEY = r"(?P<key>[A-Za-z0-9]([A-Za-z0-9._/-]*[A-Za-z0-9])?)"
_VALUE = r"[A-Za-z0-9._-]*"
_TERM = re.compile(
    rf"\s*(?:(?P<absent>!)\s*)?{_KEY}\s*"
    rf"(?:(?P<equals>==|=|!=)\s*(?P<value>{_VALUE})|(?P<set>in|notin)\s*\((?P<values>[^()]*)\))?\s*"
)


def matching(text: str, where: str = "-l") -> Callable[[Labels], bool]:
    """Whether labels match; empty text: all do. `where` names it in errors. Raises UsageError for another grammar."""
    terms = [_term(part, text, where) for part in re.split(r",(?![^()]*\))", text)] if text.strip() else []
    return lambda labels: all(term(labels) for term in terms)


def _term(part: str, whole: str, where: str) -> Callable[[Labels], bool]:
    found = _TERM.fullmatch(part)
    if found is None or (found["absent"] and (found["equals"] or found["set"])):
        raise UsageError(
            f"{whole!r} is no label selector", where=where, remedy="such as 'zone=a,tier in (web,db),!gpu'"
        )
    key = found["key"]
    if found["equals"]:
        wanted, negated = {found["value"]}, found["equals"] == "!="
    elif found["set"]:
        wanted, negated = {value.strip() for value in found["values"].split(",")}, found["set"] == "notin"
    else:
        present = not found["absent"]
        return lambda labels: (key in labels) == present
    return lambda labels: (labels.get(key) in wanted) != negated
