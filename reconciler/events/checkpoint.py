"""Signed heads of the log: C2SP signed notes over `ORIGIN`, position and hash, signed with Ed25519.

The form is that of a tlog checkpoint (c2sp.org/signed-note, c2sp.org/tlog-checkpoint) whose size is the position and
whose hash is that of the event there. A signature proves what the log was, wherever the note is kept. Pure.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from reconciler.errors import InputRejected, UsageError

_ED25519 = b"\x01"
"""The algorithm's byte in keys and key ids."""
_PREFIX = "PRIVATE+KEY+"
_NAME = re.compile(r"[!-*,-~]{1,200}")
_MARK = "\N{EM DASH} "


@dataclass(frozen=True)
class Checkpoint:
    """What a log was: `origin` names it, `hash` (hex) is that of the event at `position`."""

    origin: str
    position: int
    hash: str

    @property
    def text(self) -> str:
        """What is signed."""
        return f"{self.origin}\n{self.position}\n{base64.b64encode(bytes.fromhex(self.hash)).decode()}\n"


@dataclass(frozen=True)
class VerifierKey:
    """A public key and its name, as `NAME+ID+BASE64`, the form of c2sp.org/signed-note."""

    name: str
    public: bytes

    @classmethod
    def parse(cls, text: str, where: str = "--key") -> VerifierKey:
        """Raises UsageError for anything else, also for an id that is not the key's. The text is not in the message."""
        if text.startswith(_PREFIX):
            remedy = "give the public one, as `reconciler log keygen` printed it, and make a new key if others saw this"
            raise UsageError("a secret key is no public key", where=where, remedy=remedy)
        name, _, rest = text.strip().partition("+")
        identity, _, encoded = rest.partition("+")
        blob = _decoded(encoded)
        key = cls(name, blob[1:]) if len(blob) == 33 and blob[:1] == _ED25519 else None
        if key is None or not _NAME.fullmatch(name) or identity != key.id.hex():
            raise UsageError("is no public key for checkpoints", where=where, remedy=_KEY_FORM)
        return key

    @property
    def id(self) -> bytes:
        """Four bytes by which a signature names its key."""
        return hashlib.sha256(self.name.encode() + b"\n" + _ED25519 + self.public).digest()[:4]

    @property
    def label(self) -> str:
        """`NAME+ID`: names the key where its bytes are not needed."""
        return f"{self.name}+{self.id.hex()}"

    def __str__(self) -> str:
        return f"{self.label}+{base64.b64encode(_ED25519 + self.public).decode()}"

    def verifies(self, signature: bytes, text: str) -> bool:
        try:
            Ed25519PublicKey.from_public_bytes(self.public).verify(signature, text.encode())
        except InvalidSignature:
            return False
        return True


class SignerKey:
    """A secret key. It is written as `PRIVATE+KEY+NAME+ID+BASE64`, only by `secret_text`."""

    def __init__(self, name: str, seed: bytes) -> None:
        """Raises UsageError for a name that a note cannot hold."""
        if not _NAME.fullmatch(name):
            raise UsageError(f"{name!r} cannot name a key", where="--name", remedy="no blanks, no +, ASCII only")
        self._seed = seed
        self._key = Ed25519PrivateKey.from_private_bytes(seed)
        self.public = VerifierKey(name, self._key.public_key().public_bytes_raw())

    @classmethod
    def parse(cls, text: str) -> SignerKey:
        """Raises UsageError for anything else; the text is not in the message."""
        name, identity, encoded = [*text.strip().removeprefix(_PREFIX).split("+", 2), "", ""][:3]
        key = None
        if text.startswith(_PREFIX) and _NAME.fullmatch(name):
            key = cls(name, _key_bytes(encoded))
        if key is None or key.public.id.hex() != identity:
            raise UsageError("is no secret key for checkpoints", remedy="make one with `reconciler log keygen FILE`")
        return key

    def secret_text(self) -> str:
        """For the key's own file, and for nothing else."""
        return f"{_PREFIX}{self.public.label}+{base64.b64encode(_ED25519 + self._seed).decode()}"

    def signed(self, checkpoint: Checkpoint) -> str:
        """The note."""
        signature = self.public.id + self._key.sign(checkpoint.text.encode())
        return f"{checkpoint.text}\n{_MARK}{self.public.name} {base64.b64encode(signature).decode()}\n"


def origin_of(log_id: str) -> str:
    """The first line of every checkpoint of a log."""
    return f"reconciler.dev/log/{log_id}"


def opened(text: str, keys: Sequence[VerifierKey]) -> list[Checkpoint]:
    """The checkpoints of one or several notes after each other, each signed by one of the keys.

    Raises InputRejected for a note of another form, for one that none of the keys signed, and for a wrong signature.
    """
    return [_opened(body, signatures, keys) for body, signatures in _notes(text)]


def _notes(text: str) -> Iterator[tuple[str, list[str]]]:
    """Text and signature lines of each note: after an empty line come lines that begin with a dash."""
    body, signatures, ended = "", list[str](), False
    for line in text.splitlines():
        if ended and line.startswith(_MARK):
            signatures.append(line)
        elif ended and signatures:
            yield body, signatures
            body, signatures, ended = f"{line}\n" if line else "", [], False
        elif not line:
            ended = True
        else:
            body += f"{line}\n"
    if not signatures:
        raise InputRejected("is no signed checkpoint", remedy="give a file as `reconciler log checkpoint` writes it")
    yield body, signatures


def _opened(body: str, signatures: Iterable[str], keys: Sequence[VerifierKey]) -> Checkpoint:
    signed = False
    for line in signatures:
        name, _, encoded = line.removeprefix(_MARK).partition(" ")
        blob = _decoded(encoded)
        for key in keys:
            if (name, blob[:4]) == (key.name, key.id):
                if not key.verifies(blob[4:], body):
                    raise InputRejected(f"the signature of {key.label} does not match: it was changed")
                signed = True
    if not signed:
        raise InputRejected(f"no signature of {', '.join(key.label for key in keys)} is on it")
    return _parsed(body)


def _parsed(body: str) -> Checkpoint:
    lines = body.splitlines()
    if len(lines) < 3 or not re.fullmatch(r"[1-9]\d{0,15}", lines[1]) or len(_decoded(lines[2])) != 32:
        raise InputRejected("is no checkpoint of a log of reconciler")
    return Checkpoint(lines[0], int(lines[1]), _decoded(lines[2]).hex())


def _key_bytes(encoded: str) -> bytes:
    """The 32 bytes of an Ed25519 key. Raises UsageError for another algorithm, or no key at all."""
    blob = _decoded(encoded)
    if len(blob) != 33 or blob[:1] != _ED25519:
        raise UsageError("is no Ed25519 key for checkpoints", remedy=_KEY_FORM)
    return blob[1:]


def _decoded(encoded: str) -> bytes:
    """The bytes; none for what is no base64."""
    try:
        return base64.b64decode(encoded, validate=True)
    except binascii.Error:
        return b""


_KEY_FORM = "give what `reconciler log keygen` printed: NAME+ID+BASE64"
