"""The traps of certs.d, and of registries.d, where signatures are looked for.

Sources: containers/image pkg/tlsclientconfig (which files count), docker/docker_client.go (which directory),
docker/registries_d.go.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import yaml

from reconciler.registries.certs import check_config_map
from reconciler.registries.lint_catalogue import fault
from reconciler.registries.lint_hosts import Host
from reconciler.registries.model import Document, Location, Problem
from reconciler.registries.references import DOMAIN

_DIRECTORIES = (
    "/root/.config/containers/certs.d",
    "/etc/containers/certs.d",
    "/etc/docker/certs.d",
)
"""Where the runtime looks for a registry's directory; the first that exists counts alone."""
_NAMES = {"not-pem": "broken-pem", "type": "broken-pem", "ca-not-ca": "not-a-ca", "private-key": "private-key"}
_REMEDIES = {
    "broken-pem": "put PEM text here: the runtime says nothing, and pulls fail with x509: unknown authority",
    "not-a-ca": "give the certificate of the authority that signed the registry's certificate",
    "private-key": "remove it; a client's key belongs in a file that ends in .key",
}
_BEGIN = re.compile(r"^-----BEGIN ", re.MULTILINE)
_NUMBER = re.compile(r"\b(?:certificate|block) (\d+) of ")
_NAMESPACE = ("lookaside", "lookaside-staging", "sigstore", "sigstore-staging", "use-sigstore-attachments")


def check_certificates(host: Host) -> Iterator[Problem]:
    """Everything below certs.d."""
    paths = host.of("certificate")
    for path in paths:
        directory, _, name = path.rpartition("/")
        base, _, ending = name.rpartition(".")
        if ending == "crt":
            yield from _authority(path, host.files[path])
        elif ending in ("cert", "key"):
            other = f"{directory}/{base}.{'key' if ending == 'cert' else 'cert'}"
            if other not in host.files:
                message = f"{other.rpartition('/')[2]} is missing beside it: every pull from this registry fails"
                yield fault("client-pair", path, 1, message, "keep both or none")
            elif ending == "cert" and b"-----BEGIN CERTIFICATE-----" not in host.files[path]:
                message = "holds no PEM certificate: every pull from this registry fails"
                yield fault("broken-pem", path, 1, message, "put the client's certificate here")
        else:
            message = "the runtime reads only *.crt (authorities), *.cert and *.key (client certificates)"
            yield fault("cert-ignored", path, 1, message, f"rename it to {base or name}.crt")
    yield from _directories(paths)


def _authority(path: str, content: bytes) -> Iterator[Problem]:
    """As the CA ConfigMap is checked; the line is that of the PEM block that is meant."""
    text = content.decode("latin-1")
    document = Document({"data": {"ca": text}}, Location(path, 1))
    begins = [text.count("\n", 0, found.start()) + 1 for found in _BEGIN.finditer(text)]
    for problem in check_config_map(document, None):
        name = _NAMES.get(problem.name)
        if name is not None:
            number = _NUMBER.search(problem.message)
            line = begins[int(number[1]) - 1] if number and int(number[1]) <= len(begins) else 1
            yield fault(name, path, line, problem.message, _REMEDIES[name])


def _directories(paths: Iterable[str]) -> Iterator[Problem]:
    found = dict.fromkeys(path.rpartition("/")[0] for path in paths)
    for directory in found:
        parent, _, name = directory.rpartition("/")
        first = next(path for path in paths if path.startswith(f"{directory}/"))
        if not DOMAIN.fullmatch(name):
            remedy = f"rename it to {name.replace('..', ':')}" if ".." in name else "name it HOST or HOST:PORT"
            message = f"no registry is called {name}: the directory is never looked into"
            yield fault("cert-directory", first, 1, message, remedy)
        rank = _DIRECTORIES.index(parent) if parent in _DIRECTORIES else 0
        hiding = next((before for before in _DIRECTORIES[:rank] if f"{before}/{name}" in found), None)
        if hiding is not None:
            message = f"{hiding}/{name} hides this directory: only the first that exists is read"
            yield fault("certs-hidden", first, 1, message, "put all certificates of the registry into one directory")


def check_signature_stores(host: Host) -> tuple[dict[str, Any], list[Problem]]:
    """registries.d: what it says for each namespace (and `default-docker`), and what is wrong with it."""
    found: dict[str, Any] = {}
    where: dict[str, str] = {}
    problems: list[Problem] = []
    for path in host.of("signatures"):
        if not path.endswith(".yaml"):
            message = "the runtime reads only *.yaml here"
            problems.append(fault("drop-in-ignored", path, 1, message, "rename it, or remove it"))
            continue
        entries, faults = _signature_store(path, host.files[path])
        problems += faults
        for key, (line, value) in entries.items():
            if key in where:
                message = f"{key} is defined in {where[key]} too: no signature can be looked up, and pulls fail"
                problems.append(fault("duplicate-namespace", path, line, message, "keep one of the two"))
            where.setdefault(key, host.at(path, line))
            found.setdefault(key, value)
    return found, problems


def _signature_store(path: str, content: bytes) -> tuple[dict[str, tuple[int, Any]], list[Problem]]:
    """Each namespace with its line and settings."""
    remedy = "correct it: while it is there, every pull fails"
    try:
        root = yaml.compose(content.decode(), Loader=yaml.SafeLoader)
        data = yaml.safe_load(content.decode())
    except (ValueError, RecursionError, yaml.YAMLError, TypeError) as error:
        mark = getattr(error, "problem_mark", None)
        said = str(getattr(error, "problem", None) or error).splitlines()
        line = mark.line + 1 if mark else 1
        return {}, [fault("broken-yaml", path, line, f"not valid YAML: {said[0] if said else 'nested'}", remedy)]
    if data is None:
        return {}, []
    if not _is_store(data):
        message = "not of the form {docker: {NAMESPACE: {SETTING: VALUE}}, default-docker: {SETTING: VALUE}}"
        return {}, [fault("broken-yaml", path, 1, message, remedy)]
    lines = dict(_lines(root))
    entries = {name: (lines.get(name, 1), settings) for name, settings in (data.get("docker") or {}).items()}
    if data.get("default-docker"):
        entries["default-docker"] = (lines.get("default-docker", 1), data["default-docker"])
    problems = [_unknown(path, lines.get(key, 1), key, "docker, default-docker") for key in data if key not in _TOP]
    for line, settings in entries.values():
        problems += [
            _unknown(path, line, key, ", ".join(_NAMESPACE)) for key in settings or () if key not in _NAMESPACE
        ]
    return entries, problems


_TOP = ("docker", "default-docker")


def _unknown(path: str, line: int, key: object, known: str) -> Problem:
    return fault("unknown-key", path, line, f"the runtime ignores the key {str(key)!r}", f"here stand {known}")


def _is_store(data: Any) -> bool:
    if not isinstance(data, dict) or not isinstance(data.get("docker") or {}, dict):
        return False
    settings = [*(data.get("docker") or {}).values(), data.get("default-docker")]
    names = all(isinstance(name, str) for name in data.get("docker") or {})
    return names and all(value is None or isinstance(value, Mapping) for value in settings)


def _lines(root: Any) -> Iterator[tuple[str, int]]:
    """The line of each top key, and of each namespace."""
    for key, value in root.value:
        yield key.value, key.start_mark.line + 1
        if key.value == "docker" and isinstance(value, yaml.MappingNode):
            yield from ((name.value, name.start_mark.line + 1) for name, _ in value.value)
