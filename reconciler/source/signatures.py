"""What commit signatures prove. git judges them, with ssh-keygen and gpg; nothing that is meant for people is parsed.

Whether the signer is also the committer, git does not ask; that is asked here.
"""

from __future__ import annotations

import os
import re
import shutil
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from reconciler.errors import SourceError
from reconciler.ports import Signature, SignatureVerdict
from reconciler.source.command import Deadline
from reconciler.source.keyring import ALLOWED, KeyFiles, Keyring, digest_of, lay_out, missing, run
from reconciler.source.mirror import Mirror, utc

AT_ONCE = 200
"""Commits that one git process judges; what it found is kept, should the time run out before the next."""

REMEMBERED = 50_000
OLDEST_GIT = (2, 35)
"""The first that compares SSH keys' dates with the commit's."""

_KINDS = {
    b"-----BEGIN SSH SIGNATURE-----": "ssh",
    b"-----BEGIN PGP SIGNATURE-----": "gpg",
    b"-----BEGIN PGP MESSAGE-----": "gpg",
    b"-----BEGIN SIGNED MESSAGE-----": "x509",
}
_FIELDS = ("%H", "%G?", "%GS", "%GK", "%GF", "%GP", "%ce", "%ct")
_GPG: Mapping[str, SignatureVerdict] = {
    "G": "good", "B": "signature-bad", "X": "signature-expired", "Y": "key-expired", "R": "key-revoked",
    "E": "signature-untrusted", "U": "signature-untrusted",
}  # fmt: skip
"""git's %G? of a GPG signature. E: cannot be checked, which with our own keyring says that the key is not in it."""


@dataclass(frozen=True, slots=True)
class _Signed:
    """A commit as it was signed. `parts`: how many signatures its header has."""

    commit: str
    kind: str
    parts: int
    payload: bytes
    signature: bytes
    committer: str
    committed: int


@dataclass(frozen=True, slots=True)
class _Answer:
    """What git says of one commit's signature, and who it takes for the committer: the one that is recorded."""

    code: str
    signer: str
    key: str
    primary: str
    committer: str
    committed: int


class Verifier:
    """Blocking; GitSource calls it in threads. Verdicts are kept by commit id while the keys stay the same.

    Every method may raise SourceError.
    """

    def __init__(self, mirror: Mirror, key_files: KeyFiles) -> None:
        self._mirror = mirror
        self._key_files = key_files
        self._keyring: Keyring | None = None
        self._known: dict[str, Signature] = {}

    def keys(self, deadline: Deadline) -> Keyring:
        """The keys as the files have them now."""
        contents = self._key_files.read()
        known = self._keyring
        if known is None or known.digest != digest_of(contents) or (contents and not known.directory.is_dir()):
            if ALLOWED in contents:
                self._require_programs(deadline)
            known = self._keyring = lay_out(deadline, self._key_files, contents)
            self._known.clear()
        return known

    def signatures(self, deadline: Deadline, since: str | None, commit: str) -> list[Signature]:
        """See ports.Source.signatures."""
        keyring = self.keys(deadline)
        commits = self._mirror.brought_by(deadline, since, commit)
        if len(self._known) > REMEMBERED:
            self._known.clear()
        unknown = [name for name in commits if name not in self._known]
        for start in range(0, len(unknown), AT_ONCE):
            for found in self._judge(deadline, keyring, unknown[start : start + AT_ONCE]):
                self._known[found.commit] = found
        return [self._known[name] for name in commits]

    def _require_programs(self, deadline: Deadline) -> None:
        """What judges SSH signatures; gpg is missed when its keys are read."""
        if shutil.which("ssh-keygen") is None:
            raise missing("ssh-keygen")
        said = self._mirror.git().run(deadline, "version").decode()
        numbers = tuple(int(number) for number in re.findall(r"\d+", said)[:2])
        if numbers < OLDEST_GIT:
            raise SourceError(f"SSH signatures need git 2.35 or newer; this is {said.strip()}", remedy="install it")

    def _judge(self, deadline: Deadline, keyring: Keyring, commits: Sequence[str]) -> Iterable[Signature]:
        raw = self._mirror.contents(deadline, commits, "commit")
        signed = {name: _taken_apart(name, content) for name, content in zip(commits, raw, strict=True)}
        ssh = [s.commit for s in signed.values() if s.kind == "ssh" and s.parts == 1 and keyring.listed]
        gpg = [s.commit for s in signed.values() if s.kind == "gpg" and s.parts == 1 and keyring.emails]
        answers = self._ask_git(deadline, keyring, [*ssh, *gpg])
        refused = [name for name in ssh if answers[name].code == "B"] if keyring.revoked else []
        unrevoked = self._ask_git(deadline, keyring, refused, revocation=False)
        for name, found in signed.items():
            answer = answers.get(name)
            if answer is None:
                yield _without_answer(found)
                continue
            one = replace(found, committer=answer.committer, committed=answer.committed)
            if one.kind == "gpg":
                yield _gpg_signature(one, answer, keyring)
            elif name in unrevoked and unrevoked[name].code == "G":
                yield _found(one, "key-revoked", unrevoked[name])
            else:
                yield self._ssh_signature(deadline, one, answer, keyring)

    def _ask_git(
        self, deadline: Deadline, keyring: Keyring, commits: Sequence[str], *, revocation: bool = True
    ) -> dict[str, _Answer]:
        """git's answer for each commit, by one process. With `revocation` off, revoked SSH keys count like others."""
        if not commits:
            return {}
        settings = [f"gpg.ssh.allowedSignersFile={keyring.allowed}"]
        if revocation and keyring.revoked:
            settings.append(f"gpg.ssh.revocationFile={keyring.revoked}")
        options = [word for setting in settings for word in ("-c", setting)]
        shape = f"--format=tformat:{'%x00'.join(_FIELDS)}"
        given = "".join(f"{name}\n" for name in commits).encode()
        git = self._mirror.git(_alone(keyring))
        out = git.run(deadline, *options, "log", "-z", "--no-walk=unsorted", "--stdin", shape, given=given)
        fields = out.decode(errors="replace").split("\0")
        rows = zip(*[iter(fields)] * len(_FIELDS), strict=False)
        return {
            name: _Answer(code, signer, fingerprint or key, primary, committer, int(committed or 0))
            for name, code, signer, key, fingerprint, primary, committer, committed in rows
        }

    def _ssh_signature(self, deadline: Deadline, one: _Signed, answer: _Answer, keyring: Keyring) -> Signature:
        if answer.code == "G":
            bound = answer.signer == one.committer or _listed_for(deadline, one, keyring)
            signer = one.committer if bound else answer.signer
            return _found(one, "good" if bound else "signer-not-committer", answer, signer)
        if answer.code != "U":
            sound = _holds(deadline, one)  # then it is the key that is not listed for Git
            return _found(one, "signature-untrusted" if sound else "signature-bad", answer)
        limited = keyring.listed.get(answer.key, False)
        return _found(one, "key-expired" if limited else "signature-untrusted", answer)


def _alone(keyring: Keyring) -> dict[str, str]:
    """Nothing of the user's configuration takes part: no program, no key, no trust."""
    return {
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_CONFIG_GLOBAL": os.devnull,
        "GIT_CONFIG_COUNT": "0",
        "GIT_CONFIG_PARAMETERS": "",
        "GNUPGHOME": str(keyring.gnupg),
    }


def _taken_apart(commit: str, raw: bytes) -> _Signed:
    """The signature of a commit, and the rest, which is what was signed."""
    header, _, message = raw.partition(b"\n\n")
    kept: list[bytes] = []
    signature: list[bytes] = []
    parts = 0
    inside = False
    committer = b""
    for line in header.split(b"\n"):
        inside = line.startswith(b"gpgsig ") or (inside and line.startswith(b" "))
        if line.startswith(b"gpgsig "):
            parts += 1
        if inside:
            signature.append(line.removeprefix(b"gpgsig").removeprefix(b" "))
        else:
            kept.append(line)
        if line.startswith(b"committer ") and not committer:
            committer = line
    kind = _KINDS.get(signature[0].strip(), "") if signature else ""
    email = re.search(rb"<([^<>]*)> (\d+)", committer)
    return _Signed(
        commit,
        kind,
        parts,
        b"\n".join(kept) + b"\n\n" + message,
        b"\n".join(signature) + b"\n",
        email[1].decode(errors="replace") if email else "",
        int(email[2]) if email else 0,
    )


def _without_answer(one: _Signed) -> Signature:
    """A commit that git was not asked about: nothing could make its signature count."""
    if one.parts == 0:
        return _found(one, "unsigned")
    return _found(one, "signature-untrusted" if one.parts == 1 and one.kind else "signature-bad")


def _gpg_signature(one: _Signed, answer: _Answer, keyring: Keyring) -> Signature:
    verdict = _GPG.get(answer.code, "signature-bad")
    if verdict == "good" and one.committer.lower() not in keyring.emails.get(answer.primary, ()):
        verdict = "signer-not-committer"
    return _found(one, verdict, answer)


def _listed_for(deadline: Deadline, one: _Signed, keyring: Keyring) -> bool:
    """Whether the key that made this signature is listed for the committer: asked where git names another principal
    first, as for a key with several, or with a pattern."""
    local = datetime.fromisoformat(utc(str(one.committed))).astimezone()  # as git asks; older programs know no Z
    options = ["-f", str(keyring.allowed), "-I", one.committer]
    options += ["-r", str(keyring.revoked)] if keyring.revoked else []
    return bool(one.committer) and _ssh_keygen(deadline, one, "verify", f"-Overify-time={local:%Y%m%d%H%M%S}", *options)


def _holds(deadline: Deadline, one: _Signed) -> bool:
    """Whether some key made this signature over exactly this commit."""
    return _ssh_keygen(deadline, one, "check-novalidate")


def _ssh_keygen(deadline: Deadline, one: _Signed, how: str, *options: str) -> bool:
    with tempfile.NamedTemporaryFile(prefix="signature-") as file:
        file.write(one.signature)
        file.flush()
        command = ("ssh-keygen", "-Y", how, *options, "-n", "git", "-s", file.name)
        return run(deadline, *command, given=one.payload).returncode == 0


def _found(
    one: _Signed, verdict: SignatureVerdict, answer: _Answer | None = None, signer: str | None = None
) -> Signature:
    """The verdict, with the signer and key that git told; a bad signature proves neither."""
    if answer is None or verdict == "signature-bad":
        return Signature(one.commit, verdict, one.kind, "", "", one.committer, utc(str(one.committed)))
    name = answer.signer if signer is None else signer
    return Signature(one.commit, verdict, one.kind, name, answer.key, one.committer, utc(str(one.committed)))
