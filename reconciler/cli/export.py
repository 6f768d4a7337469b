"""`reconciler log export`."""

from __future__ import annotations

import csv
import json
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING

import click

from reconciler.cli.options import flag, option, output, shared
from reconciler.cli.output import count
from reconciler.cli.session import Session, run
from reconciler.errors import UsageError

if TYPE_CHECKING:
    from reconciler.events.export import Value


@click.command()
@option("--from", "first", metavar="#POSITION", default="#1", help="The first event.")
@option("--out", type=click.Path(path_type=Path, dir_okay=False), metavar="FILE", show_default="standard output",
        help="Write there; the file appears when it is complete.")  # fmt: skip
@flag("--blobs", help="The contents too: after the events, a line per blob (ndjson only).")
@output("ndjson", "csv")
@shared
@click.pass_obj
def export(session: Session, first: str, out: Path | None, output: str, *, blobs: bool) -> None:
    """Write the whole log, every fleet's, one line per event with every column, hashes included.

    The chain can be verified from it without the database; docs/reference/event-log.md states the form.
    """
    if blobs and output == "csv":
        raise UsageError("blobs have no place in a table", where="--blobs", remedy="export with -o ndjson")
    position = first.removeprefix("#")
    if not position.isdigit() or not int(position):
        raise UsageError(f"{first!r} is no position", where="--from", remedy="write '#1' or a later one")
    with _file(out) as file:
        events, contents, head = run(_export(session, int(position), file, output, blobs=blobs))
    written = f"{count(events, 'event')}, {count(contents, 'blob')}" if blobs else count(events, "event")
    click.echo(f"exported: {written}, head {head or 'none'}", err=True)


async def _export(session: Session, first: int, file: IO[str], form: str, *, blobs: bool) -> tuple[int, int, str]:
    """How many events and blobs were written, and the hash of the last event."""
    from reconciler.events.export import (
        COLUMNS,
        row_of,
        row_of_blob,
    )  # not before it is needed: it takes a while to load
    from reconciler.wiring import log_export  # as above

    write = _writer(file, form, COLUMNS)
    events = contents = 0
    head = ""
    async with log_export(session.settings) as log:
        async for record in log.records(first):
            write(row_of(record))
            events, head = events + 1, record.hash.hex()
        if blobs:
            async for digest, content in log.blobs():
                write(row_of_blob(digest, content))
                contents += 1
    return events, contents, head


def _writer(file: IO[str], form: str, columns: tuple[str, ...]) -> Callable[[Mapping[str, Value]], object]:
    if form == "csv":
        table = csv.DictWriter(file, columns, lineterminator="\n")
        table.writeheader()
        return table.writerow
    return lambda row: file.write(json.dumps(row, ensure_ascii=False, separators=(",", ":")) + "\n")


@contextmanager
def _file(out: Path | None) -> Iterator[IO[str]]:
    """Standard output, or a file that is there only when all was written."""
    if out is None:
        yield sys.stdout
        return
    part = out.with_name(f"{out.name}.part")
    try:
        with part.open("w", encoding="utf-8", newline="") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        part.replace(out)
    except OSError as error:
        raise UsageError(f"cannot be written: {error.strerror}", where=str(out)) from error
    finally:
        part.unlink(missing_ok=True)
