"""The keys that may sign commits: read from the fleet's files, checked, and laid out for git, ssh-keygen and gpg.

What is used is a copy named by its digest, so that a file edited in the meantime changes nothing halfway, and so that
gpg knows the configured keys only: never those of the user that runs reconciler.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
import shutil
import stat
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from reconciler.errors import SourceError
from reconciler.source.command import Deadline
from reconciler.source.failures import timed_out

ALLOWED, REVOKED, GPG = "allowed_signers", "revoked_signers", "gpg_keys"
"""The settings, and the names of the copies."""

_KRL = b"SSHKRL\n\0"
_KEY = re.compile(rb"AAAA[0-9A-Za-z+/]+={0,2}")
_DATES = re.compile(rb"\bvalid-(after|before)=", re.IGNORECASE)
_EMAIL = re.compile(r"<([^<>\s]+@[^<>\s]+)>\s*$")
_ARMOUR = re.compile(rb"^-----BEGIN PGP [^\n]*\n.*?^-----END PGP [^\n]*$", re.DOTALL | re.MULTILINE)
_GPG_CONF = "trust-model always\nno-auto-key-retrieve\nno-auto-key-locate\nno-autostart\n"
"""Whoever lists a key in the settings trusts it; and nothing is fetched from a key server."""
_HOME = "gnupg"
_INSTALL = {"gpg": "install gnupg, or leave gpg_keys empty", "ssh-keygen": "install OpenSSH's client programs"}


@dataclass(frozen=True, slots=True)
class KeyFiles:
    """Setting → file that it names, where it names one. `store`: below it the copies are kept."""

    files: Mapping[str, Path] = field(default_factory=dict)
    store: Path = Path()

    def read(self) -> dict[str, bytes]:
        """Setting → content. Raises SourceError for a file that cannot be read or holds no public keys."""
        return {setting: _read(setting, file) for setting, file in self.files.items()}


@dataclass(frozen=True, slots=True)
class Keyring:
    """Keys ready for use. `listed`: fingerprint of each SSH key → whether some line limits it in time. `emails`:
    fingerprint of each GPG primary key → the addresses, in lower case, of its user ids in force."""

    digest: str
    directory: Path
    revokes: bool = False
    listed: Mapping[str, bool] = field(default_factory=dict)
    emails: Mapping[str, frozenset[str]] = field(default_factory=dict)

    @property
    def allowed(self) -> Path:
        return self.directory / ALLOWED

    @property
    def revoked(self) -> Path | None:
        """None where the setting is empty."""
        return self.directory / REVOKED if self.revokes else None

    @property
    def gnupg(self) -> Path:
        """GNUPGHOME; without GPG keys it is not there, and gpg is not asked."""
        return self.directory / _HOME


def writable_by_others(file: Path) -> bool:
    """Whether more than its owner may say which keys count. Raises SourceError when the file is gone."""
    try:
        return bool(file.stat().st_mode & (stat.S_IWGRP | stat.S_IWOTH))
    except OSError as problem:
        raise SourceError(f"cannot be read: {problem.strerror}", where=str(file)) from None


def digest_of(contents: Mapping[str, bytes]) -> str:
    """One digest for the contents of all files; `` for none."""
    if not contents:
        return ""
    lines = (f"{setting} {hashlib.sha256(content).hexdigest()}\n" for setting, content in sorted(contents.items()))
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def lay_out(deadline: Deadline, key_files: KeyFiles, contents: Mapping[str, bytes]) -> Keyring:
    """The keyring of these contents; made once, then found again. Raises SourceError."""
    digest = digest_of(contents)
    directory = (key_files.store / digest).absolute()
    try:
        if contents and not directory.is_dir():
            _make(deadline, key_files, contents, directory)
    except OSError as problem:
        what = f"the copy of the keys cannot be made: {problem.strerror}"
        raise SourceError(what, where=str(key_files.store), remedy="free some space under data_dir") from None
    listed = dict(_listed(contents.get(ALLOWED, b"")))
    emails = _emails(deadline, directory / _HOME) if GPG in contents else {}
    if GPG in contents and not emails:
        raise _unusable(GPG, key_files.files[GPG], "holds no public key")
    return Keyring(digest, directory, REVOKED in contents, listed, emails)


def run(deadline: Deadline, *command: str, given: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    """gpg or ssh-keygen, whatever its status. Raises SourceError when it is missing or takes too long."""
    try:
        return subprocess.run(command, input=given, capture_output=True, timeout=deadline.left(), check=False)
    except FileNotFoundError:
        raise missing(command[0]) from None
    except subprocess.TimeoutExpired:
        raise timed_out("", deadline.seconds, command[0]) from None


def missing(program: str) -> SourceError:
    return SourceError(f"signatures need the program {program}, which is not there", remedy=_INSTALL[program])


def fingerprint(key: bytes) -> str:
    """An SSH public key (as in its wire form) named as ssh-keygen names it."""
    return "SHA256:" + base64.b64encode(hashlib.sha256(key).digest()).decode().rstrip("=")


def _read(setting: str, file: Path) -> bytes:
    try:
        content = file.read_bytes()
    except OSError as problem:
        raise _unusable(setting, file, f"cannot be read: {problem.strerror}") from None
    if b"PRIVATE KEY" in content:
        raise _unusable(setting, file, "holds a private key")
    if setting != GPG and not content.startswith(_KRL):
        lines = [(number, line.strip()) for number, line in enumerate(content.splitlines(), start=1)]
        for number, line in ((number, line) for number, line in lines if line and not line.startswith(b"#")):
            if not list(_keys(line)):
                raise _unusable(setting, file, f"has no public key in line {number}")
    if setting == ALLOWED and not dict(_listed(content)):
        raise _unusable(setting, file, "holds no public key")
    return content


def _unusable(setting: str, file: Path, what: str) -> SourceError:
    return SourceError(f"{setting} {what}", where=str(file), remedy=f"mend the file, or correct {setting} of the fleet")


def _listed(content: bytes) -> Iterator[tuple[str, bool]]:
    """Fingerprint of each key, limited ones last where a key stands several times."""
    lines = [line.strip() for line in content.splitlines()]
    found = [(bool(_DATES.search(line)), key) for line in lines if not line.startswith(b"#") for key in _keys(line)]
    for limited, key in sorted(found):
        yield fingerprint(key), limited


def _keys(line: bytes) -> Iterator[bytes]:
    """The public keys of a line in their wire form, whatever options stand before them."""
    for word in _KEY.findall(line):
        try:
            yield base64.b64decode(word, validate=True)
        except binascii.Error:
            continue


def _make(deadline: Deadline, key_files: KeyFiles, contents: Mapping[str, bytes], directory: Path) -> None:
    """Make the copies beside their place and move them there; another process may have been faster."""
    directory.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    draft = Path(tempfile.mkdtemp(prefix="new-", dir=directory.parent))
    try:
        for setting, content in contents.items():
            (draft / setting).write_bytes(content)
        if GPG in contents:
            _import(deadline, draft / _HOME, contents[GPG], key_files.files[GPG])
        try:
            draft.rename(directory)
        except OSError:
            if not directory.is_dir():
                raise
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def _import(deadline: Deadline, home: Path, content: bytes, origin: Path) -> None:
    """A GNUPGHOME with these keys and revocation certificates, whatever their order.

    Each armoured block is a file of its own: gpg takes a certificate for one of the key before it, and if it is not,
    drops it without a word. Twice, since a certificate may stand before its key.
    """
    home.mkdir(mode=0o700)
    (home / "gpg.conf").write_text(_GPG_CONF)
    files = []
    for number, block in enumerate(_ARMOUR.findall(content) or [content]):
        files.append(home / f"block-{number}")
        files[-1].write_bytes(block)
    command = ("gpg", "--homedir", str(home), "--batch", "--quiet", "--import", *map(str, files))
    run(deadline, *command)
    if run(deadline, *command).returncode != 0:
        raise _unusable(GPG, origin, "holds what gpg cannot import")


def _emails(deadline: Deadline, home: Path) -> dict[str, frozenset[str]]:
    """Each primary key with the addresses of its user ids that are neither revoked nor expired by themselves."""
    command = ("gpg", "--homedir", str(home), "--batch", "--with-colons", "--fixed-list-mode", "--list-keys")
    found: dict[str, set[str]] = {}
    primary, wants_fingerprint = "", False
    for line in run(deadline, *command).stdout.decode(errors="replace").splitlines():
        fields = line.split(":")
        if fields[0] == "pub":
            wants_fingerprint = True
        elif fields[0] == "fpr" and wants_fingerprint:
            primary, wants_fingerprint = fields[9], False
            found[primary] = set()
        elif fields[0] == "uid" and fields[1] not in ("r", "e", "i"):
            found[primary] |= _addresses(fields[9])
    return {key: frozenset(addresses) for key, addresses in found.items()}


def _addresses(user_id: str) -> set[str]:
    """The address of a user id, `Name (comment) <address>` or the address alone; in lower case."""
    text = re.sub(r"\\x([0-9a-fA-F]{2})", lambda escaped: chr(int(escaped[1], 16)), user_id)
    enclosed = _EMAIL.search(text)
    if enclosed:
        return {enclosed[1].lower()}
    return {text.lower()} if "@" in text and " " not in text else set()
