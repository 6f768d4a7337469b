"""Events as lines for people, each with whom it goes back to; and those of an author or pull request.

The author of what a commit led to is the commit's; of what a person said, and what that led to, who said it.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from reconciler.events.catalogue import CATALOGUE, CommitObserved
from reconciler.events.envelope import StoredEvent
from reconciler.ports import EventFilter
from reconciler.queries import history_item
from reconciler.stages.context import Context

OBSERVED = (CommitObserved.__name__,)
SAID = tuple(name for name, body in CATALOGUE.items() if body.authority)
"""The types that may be a person's word."""


async def roots(context: Context, author: str | None, pull_request: str | None) -> list[uuid.UUID]:
    """The root causes that are of this author, and of this pull request.

    `author`: a part of the name or the address, in any case, as `git log --author` takes it.
    """
    number = pull_request.lstrip("#") if pull_request else None
    types = OBSERVED if number else (*OBSERVED, *SAID)
    found = [event for event in await context.log.read(EventFilter(context.name, types=types)) if _begins(event)]
    return [
        event.correlation_id
        for event in found
        if (author is None or author.lower() in _whole_name(event).lower())
        and number in (None, getattr(event.body, "pull_request", None))
    ]


def _begins(event: StoredEvent) -> bool:
    """Whether it is the root cause of what has its correlation, and whose is known."""
    return isinstance(event.body, CommitObserved) or (
        event.body.is_a_persons and event.event_id == event.correlation_id
    )


def _whole_name(event: StoredEvent) -> str:
    body = event.body
    return f"{body.author} <{body.author_email}>" if isinstance(body, CommitObserved) else event.actor.subject


async def lines(context: Context, wanted: EventFilter) -> list[dict[str, Any]]:
    """One readable line per event, with its author, and pull request and time of the commit it goes back to.

    `recordedAt` is when the event was, `committedAt` when that commit was made. Two reads of the log.
    """
    events = await context.log.read(wanted)
    causes = await _behind(context, events, (*OBSERVED, *SAID))
    return [{**history_item(event), **author_of(event, causes.get(event.correlation_id))} for event in events]


def author_of(event: StoredEvent, root: StoredEvent | None) -> dict[str, Any]:
    """Who caused an event, and with which commit; `root`: what it goes back to, where `_begins` says so of that."""
    if event.body.is_a_persons or root is None:
        return {**about(None), "author": event.actor.subject if event.body.is_a_persons else None}
    if isinstance(root.body, CommitObserved):
        return about(root.body)
    return {**about(None), "author": root.actor.subject}


async def commits_behind(context: Context, events: Iterable[StoredEvent]) -> Mapping[uuid.UUID, CommitObserved]:
    """The commit that each root cause is, where it is one."""
    found = await _behind(context, events, OBSERVED)
    return {cause: event.body for cause, event in found.items() if isinstance(event.body, CommitObserved)}


async def _behind(
    context: Context, events: Iterable[StoredEvent], types: Sequence[str]
) -> Mapping[uuid.UUID, StoredEvent]:
    causes = sorted({event.correlation_id for event in events})
    found = await context.log.read(EventFilter(context.name, types=types, correlation_ids=causes)) if causes else ()
    return {event.correlation_id: event for event in found if _begins(event)}


def about(commit: CommitObserved | None) -> dict[str, Any]:
    """What is told of the commit that something goes back to."""
    return {
        "author": commit.author if commit else None,
        "pullRequest": commit.pull_request if commit else None,
        "committedAt": commit.committed_at if commit else None,
    }
