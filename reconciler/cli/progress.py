"""Progress on standard error while a person waits: bars on a terminal, plain lines elsewhere."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress, TaskID

    from reconciler.stages import context as stages

    Report = Callable[[stages.Progress], None]


@contextmanager
def progress() -> Iterator[Report]:
    """A function that shows what it is told: one bar per stage or pool, with its last message."""
    # Imported here, since `--help` need not wait for it.
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeRemainingColumn

    ctx = click.get_current_context(silent=True)
    console = Console(stderr=True, no_color=True if ctx and ctx.color is False else None)
    if not console.is_terminal:
        yield _lines(console)
        return
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        TextColumn("{task.fields[wave]}"),
        BarColumn(bar_width=20),
        MofNCompleteColumn(),
        TimeRemainingColumn(),  # from the rate so far
        TextColumn("{task.fields[message]}", markup=False),
    )
    with Progress(*columns, console=console, transient=True) as bars:
        yield _bars(bars)


def _lines(console: Console) -> Report:
    """One line per news."""

    def report(news: stages.Progress) -> None:
        counted = f" {news.done}/{news.total}" if news.total else ""
        console.print(f"{news.stage}:{counted} {news.message}", markup=False, highlight=False, soft_wrap=True)

    return _news(report)


def _bars(bars: Progress) -> Report:
    """A bar where there is something to count, a row that is replaced for what passes, lines above for the rest."""
    tasks: dict[str, TaskID] = {}

    def report(news: stages.Progress) -> None:
        if not news.total and not news.passing:
            bars.console.print(f"{news.stage}: {news.message}", markup=False, highlight=False)
            return
        if news.stage not in tasks:
            tasks[news.stage] = bars.add_task(news.stage, total=news.total or None, message="", wave="")
        task = tasks[news.stage]
        bars.update(task, completed=news.done, total=news.total or None, message=news.message, wave=news.wave)

    return _news(report)


def _news(report: Report) -> Report:
    """Only what differs from what its stage said last: a pass that waits says the same each second."""
    last: dict[str, stages.Progress] = {}

    def only_news(told: stages.Progress) -> None:
        if last.get(told.stage) != told:
            last[told.stage] = told
            report(told)

    return only_news
