"""The proof of a log: its chain and blobs, signed checkpoints against it, and an exported one without a database."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from reconciler.errors import InputRejected, UsageError
from reconciler.events.chain import GENESIS, Record, TailVerifier, Verifier
from reconciler.events.checkpoint import Checkpoint, VerifierKey, opened, origin_of
from reconciler.events.export import ExportedBlob, read_line
from reconciler.ports import EventFilter, EventLog, Verification
from reconciler.store.blob_check import BlobCheck

MOST_PROBLEMS = 1000
"""Problems of an export that are named; one damaged line may make many."""


@dataclass(frozen=True)
class Signed:
    """A checkpoint and the file that it was read from."""

    file: str
    checkpoint: Checkpoint


@dataclass(frozen=True)
class Proof:
    """What was verified. `trusted` says what was not but taken as given: the hash at the start of a part, and what an
    export cannot show. `agreeing`: the positions of the checkpoints that the log agrees with."""

    found: Verification
    problems: tuple[str, ...]
    agreeing: tuple[int, ...]
    trusted: tuple[str, ...]


def read_checkpoints(files: Mapping[str, str], keys: Sequence[VerifierKey]) -> tuple[list[Signed], list[str]]:
    """The checkpoints in files (name → text), and what is wrong with those that prove nothing."""
    signed, problems = [], []
    for file, text in files.items():
        try:
            signed += [Signed(file, checkpoint) for checkpoint in opened(text, keys)]
        except InputRejected as refused:
            problems.append(f"checkpoint {file}: {refused.what}")
    return signed, problems


async def verify(log: EventLog, signed: Sequence[Signed], after: int | None = None) -> Proof:
    """Verify a log; with `after`, only what comes after that position, whose hash is trusted: as signed, or, without a
    checkpoint of that position, as recorded. Raises UsageError for a position that the log does not have."""
    trusted: tuple[str, ...] = ()
    if after is None:
        found = await log.verify()
    else:
        start, said = await _start(log, signed, after)
        found, trusted = await log.verify_after(after, start), (said,)
    newest = await log.read(EventFilter(limit=1, newest_first=True))
    hashes = await log.hashes({item.checkpoint.position for item in signed})
    problems, agreeing = against(signed, origin_of(log.log_id), newest[0].position if newest else 0, hashes)
    return Proof(found, (*found.problems, *problems), agreeing, trusted)


async def _start(log: EventLog, signed: Sequence[Signed], after: int) -> tuple[str, str]:
    """The hash at `after` that is trusted, and whose word for it is."""
    for item in signed:
        if item.checkpoint.position == after and item.checkpoint.origin == origin_of(log.log_id):
            return item.checkpoint.hash, f"the hash at #{after} as signed in {item.file}"
    recorded = (await log.hashes([after])).get(after)
    if recorded is None:
        raise UsageError(f"the log has no position #{after}", where="--from", remedy="see `reconciler history`")
    return recorded, f"the hash at #{after} as recorded, unsigned"


def against(
    signed: Sequence[Signed], origin: str, head: int, hashes: Mapping[int, str]
) -> tuple[list[str], tuple[int, ...]]:
    """Where the checkpoints contradict a log that ends at `head` and has these hashes, and where they agree with it."""
    own = [item for item in signed if item.checkpoint.origin == origin]
    problems = [f"checkpoint {s.file}: is of another log: {s.checkpoint.origin}" for s in signed if s not in own]
    agreeing = sorted({s.checkpoint.position for s in own if hashes.get(s.checkpoint.position) == s.checkpoint.hash})
    for item in own:
        position = item.checkpoint.position
        last = max((place for place in agreeing if place < position), default=0)
        since = f"after #{last}" if last else "from some event on"
        if position > head:
            what = f"the log ends at #{head}: its end was cut off, or it is an older copy"
            problems.append(f"checkpoint #{position} ({item.file}): {what}")
        elif hashes.get(position, "") != item.checkpoint.hash:
            what = f"its hash is not the one that was signed ({item.file}): the log was rewritten {since}"
            problems.append(f"event #{position}: {what}")
    return problems, tuple(agreeing)


def verify_export(lines: Iterable[str], signed: Sequence[Signed]) -> Proof:
    """Verify the lines of an exported log, which may begin after #1. Raises InputRejected for another kind of file.

    An export shows neither that its end was cut off nor which log it is of: checkpoints do.
    """
    check = _ExportCheck({item.checkpoint.position for item in signed})
    for number, line in enumerate(lines, 1):
        try:
            check.take(read_line(line))
        except InputRejected as refused:
            raise InputRejected(refused.what, where=f"line {number}", remedy=refused.remedy) from None
    if not check.head:
        raise InputRejected(
            "the export holds no event", remedy="write it again with `reconciler log export --out FILE`"
        )
    comparable = [item for item in signed if item.checkpoint.position >= check.start]
    origins = {item.checkpoint.origin for item in comparable}
    problems, agreeing = against(comparable, min(origins, default=""), check.head, check.hashes)
    return check.proof(problems, agreeing)


class _ExportCheck:
    def __init__(self, positions: set[int]) -> None:
        self.start = 0
        """The position before the first event: what was signed earlier cannot be compared."""
        self.hashes: dict[int, str] = {}
        self._positions = positions
        self._verifier: Verifier | None = None
        self._blobs = BlobCheck()
        self._problems: list[str] = []
        self._trusted: list[str] = []

    @property
    def head(self) -> int:
        return self._verifier.position if self._verifier else 0

    def take(self, item: Record | ExportedBlob) -> None:
        if isinstance(item, ExportedBlob):
            self._blobs.blob(item.sha256, item.content)
            return
        if self._verifier is None:
            self._verifier = self._begun(item)
        problems = self._verifier.check(item)
        if len(self._problems) < MOST_PROBLEMS:
            self._problems += problems
        self._blobs.event(item.position, item.content)
        if item.position in self._positions:
            self.hashes[item.position] = item.hash.hex()

    def _begun(self, first: Record) -> Verifier:
        """A log from its first event on, or a part of one."""
        if first.position == 1:
            return Verifier()
        self.start = first.position - 1
        self.hashes[self.start] = first.previous_hash.hex()
        return TailVerifier(self.start, first.previous_hash)

    def proof(self, problems: Sequence[str], agreeing: tuple[int, ...]) -> Proof:
        verifier = self._verifier or Verifier()
        if self.start and self.start not in agreeing:
            self._trusted.append(f"the hash at #{self.start} as #{self.start + 1} names it")
        if not agreeing or agreeing[-1] < verifier.position:
            self._trusted.append(f"that the log ends at #{verifier.position}: no checkpoint of it was given")
        if self._blobs.blobs:
            self._problems += self._blobs.problems()
        else:
            self._trusted.append("the blobs: they are not in the export")
        found = (*self._problems, *problems)
        head = verifier.head.hex() if verifier.events else GENESIS.hex()
        return Proof(Verification(verifier.events, self._blobs.blobs, head, found), found, agreeing, (*self._trusted,))
