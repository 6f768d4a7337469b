"""What git wrote to standard error, said so that a person knows what to do next."""

from __future__ import annotations

import re
from pathlib import Path

from reconciler.errors import SourceError

_KNOWN: tuple[tuple[str, str, str], ...] = (
    (
        r"host key verification failed|remote host identification has changed",
        "the host key of the Git server is not known or has changed",
        "compare the key with the server's owner, then put it into known_hosts (ssh-keyscan HOST)",
    ),
    (
        (
            r"authentication failed|could not read (username|password)|permission denied \(|terminal prompts disabled"
            r"|access denied|returned error: 40[13]"
        ),
        "the Git server refused the login",
        "check the key, agent or credential helper of the user that runs reconciler; it never asks for a password",
    ),
    (
        r"could not resolve host|name or service not known|temporary failure in name resolution",
        "the Git server's name does not resolve",
        "check the URL and the name service",
    ),
    (
        (
            r"connection refused|connection timed out|operation timed out|no route to host|network is unreachable"
            r"|connection reset|failed to connect|couldn't connect|connection closed"
        ),
        "the Git server cannot be reached",
        "check the address, the network and HTTPS_PROXY/NO_PROXY",
    ),
    (
        r"\[(remote )?rejected\]|pre-receive hook declined|protected branch",
        "the Git server refused the push",
        "check that the login may make branches, and what the server's hooks ask for",
    ),
    (
        r"ssl certificate problem|certificate verification failed|server certificate",
        "the Git server's certificate is not trusted",
        "add its CA to the system store, or name it in git's http.sslCAInfo",
    ),
    (
        r"dubious ownership",
        "git refuses a repository that belongs to another user",
        "git config --global --add safe.directory DIRECTORY, as the user that runs reconciler",
    ),
    (
        (
            r"repository .*not found|does not appear to be a git repository|does not exist|returned error: 404"
            r"|no such file or directory"
        ),
        "there is no Git repository at this URL",
        "check `url` of the fleet, and that the user may see the repository",
    ),
    (
        r"no space left on device|disk quota exceeded",
        "no space left for the mirror",
        "free some space under data_dir",
    ),
)


def source_error(stderr: str, url: str) -> SourceError:
    """The error for a git command that failed; `url` is shown without credentials."""
    lines = stderr.splitlines()
    for pattern, what, remedy in _KNOWN:
        for line in lines:
            if re.search(pattern, line, re.IGNORECASE):
                return SourceError(f"{what} ({line.strip()})", where=url, remedy=remedy)
    remedy = "try: git ls-remote URL, as the same user"
    return SourceError(f"git failed: {_said(stderr)}", where=url, remedy=remedy)


def mirror_error(stderr: str, directory: Path) -> SourceError:
    """The error for a git command on the mirror alone."""
    return SourceError(
        f"the mirror cannot be used: {_said(stderr)}",
        where=str(directory),
        remedy="see that the disk is not full; or remove this directory: it is only a copy and is made anew",
    )


def timed_out(url: str, timeout: float, doing: str) -> SourceError:
    """The error when the fleet's `timeout` (seconds) ran out."""
    return SourceError(
        f"{doing} took longer than {timeout:g} s",
        where=url,
        remedy="check the network and the server; or raise `timeout` of the fleet",
    )


def _said(stderr: str) -> str:
    """The line that says why; what follows it only repeats that git stops."""
    lines = (line.strip() for line in stderr.splitlines())
    return next((line for line in lines if line.startswith(("fatal:", "error:"))), "git said nothing")
