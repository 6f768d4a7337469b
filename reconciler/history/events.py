"""Events as lines for people, each with the commit that it goes back to; and those of an author or pull request."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Mapping
from typing import Any

from reconciler.events.catalogue import CommitObserved
from reconciler.events.envelope import StoredEvent
from reconciler.ports import EventFilter
from reconciler.queries import history_item
from reconciler.stages.context import Context

OBSERVED = (CommitObserved.__name__,)


async def roots(context: Context, author: str | None, pull_request: str | None) -> list[uuid.UUID]:
    """The root causes of all that commits of this author, and of this pull request, led to.

    `author`: a part of the name or the address, in any case, as `git log --author` takes it.
    """
    number = pull_request.lstrip("#") if pull_request else None
    return [
        event.correlation_id
        for event in await context.log.read(EventFilter(context.name, types=OBSERVED))
        if isinstance(event.body, CommitObserved)
        and (author is None or author.lower() in f"{event.body.author} <{event.body.author_email}>".lower())
        and number in (None, event.body.pull_request)
    ]


async def lines(context: Context, wanted: EventFilter) -> list[dict[str, Any]]:
    """One readable line per event, with author, pull request and time of the commit it goes back to, if it does.

    `recordedAt` is when the event was, `committedAt` when that commit was made. Two reads of the log.
    """
    events = await context.log.read(wanted)
    commits = await commits_behind(context, events)
    return [{**history_item(event), **about(commits.get(event.correlation_id))} for event in events]


async def commits_behind(context: Context, events: Iterable[StoredEvent]) -> Mapping[uuid.UUID, CommitObserved]:
    """The commit that each root cause is, where it is one."""
    causes = sorted({event.correlation_id for event in events})
    if not causes:
        return {}
    found = await context.log.read(EventFilter(context.name, types=OBSERVED, correlation_ids=causes))
    return {event.correlation_id: event.body for event in found if isinstance(event.body, CommitObserved)}


def about(commit: CommitObserved | None) -> dict[str, Any]:
    """What is told of the commit that something goes back to."""
    return {
        "author": commit.author if commit else None,
        "pullRequest": commit.pull_request if commit else None,
        "committedAt": commit.committed_at if commit else None,
    }
