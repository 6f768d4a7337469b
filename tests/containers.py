"""Containers of the test kubelet: commands that really run in a sandbox node, with what a pod's spec mounts for them.

A container has mount and process namespaces of its own inside its node's. Its root is made of this host's programs
(whatever the image is called), an /etc of its own, and its mounts; a hostPath is the node's: `/` at /host makes
`chroot /host` land in the node's view, with the node's /etc, /var and fake runtime. Its processes end with it.
"""

from __future__ import annotations

import asyncio
import os
import re
import shlex
import shutil
import signal
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from reconciler.kubernetes.trial import leashed
from reconciler.transport.sandbox import SandboxNode

PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
MESSAGE_LIMIT = 4096
"""Bytes that a kubelet reads of a termination message, and half of it of a log that stands in for one."""
LOG_LINES = 80

Json = dict[str, Any]

_SCRIPT = """set -e
root=@ROOT@
hostname @HOSTNAME@
mount -t tmpfs -o mode=755 tmpfs "$root"
mkdir "$root/etc" "$root/dev" "$root/proc" "$root/sys" "$root/run" "$root/var" "$root/root"
mkdir -m 1777 "$root/tmp"
for place in bin sbin lib lib32 lib64 usr; do
    if [ -L "/$place" ]; then
        cp -P "/$place" "$root/$place"
    elif [ -d "/$place" ]; then
        mkdir "$root/$place"
        mount --bind -o ro "/$place" "$root/$place"
    fi
done
for place in alternatives ld.so.cache passwd group; do
    [ ! -e "/etc/$place" ] || cp -a "/etc/$place" "$root/etc/"
done
mount --rbind /dev "$root/dev"
mount --rbind /sys "$root/sys"
@PROC@
bind() { # SOURCE TARGET OPTION: a directory or a file of the node
    if [ -d "$1" ]; then
        mkdir -p "$root$2"
    else
        mkdir -p "$root${2%/*}"
        : >"$root$2"
    fi
    mount --rbind "$1" "$root$2"
    # what holds this root holds its mount too, which no other container would see
    [ ! -d "$root$2$root" ] || umount -l "$root$2$root" 2>/dev/null || true
    [ "$3" = rw ] || mount -o "remount,bind,ro" "$root$2"
}
@BINDS@
mkdir -p "$root"@DIRECTORY@
: >"${root%/*}/started"
exec chroot "$root" env -i --chdir=@DIRECTORY@ @ENVIRONMENT@ @COMMAND@
"""


class NotStarted(Exception):
    """A container that cannot be started as things are: the reason of its `waiting` state, and a message."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


@dataclass(slots=True)
class Ended:
    """How a container ended."""

    code: int
    message: str
    """What it left as its termination message."""


@dataclass(slots=True)
class Place:
    """Where a pod's files are: below the node's directory, seen by the node at `inside`."""

    machine: SandboxNode
    uid: str

    @property
    def outside(self) -> Path:
        return self.machine.directory / "control/pods" / self.uid

    @property
    def inside(self) -> str:
        return f"/run/sandbox/pods/{self.uid}"

    def remove(self) -> None:
        shutil.rmtree(self.outside, ignore_errors=True)


@dataclass(slots=True)
class Container:
    """One container of a pod, to be run once: `container.run(container.script())`."""

    place: Place
    pod: Json
    spec: Json
    environment: Mapping[str, str]
    log: Path
    """Everything it writes, appended; outlives the pod."""

    process: asyncio.subprocess.Process | None = field(default=None, init=False)

    async def run(self, script: str) -> Ended:
        """Until it ends. Cancelled, it is killed. Raises NotStarted."""
        (self._directory / "root").mkdir(parents=True, exist_ok=True)
        message, started = self._directory / "termination-log", self._directory / "started"
        message.write_bytes(b"")
        started.unlink(missing_ok=True)
        written = self.log.stat().st_size if self.log.exists() else 0
        with self.log.open("ab") as log:
            self.process = await asyncio.create_subprocess_exec(
                *self._enter(), "sh", "-c", script,
                stdin=asyncio.subprocess.DEVNULL, stdout=log, stderr=log,
            )  # fmt: skip
        try:
            code = await self.process.wait()
        except asyncio.CancelledError:
            self.kill()
            await self.process.wait()
            raise
        code = code if code >= 0 else 128 - code
        said = self.log.read_bytes()[written:]
        if not started.exists():
            raise NotStarted("CreateContainerError", said.decode(errors="replace").strip())
        return Ended(code, _message(self.spec, code, message.read_bytes(), said))

    async def starts(self, run: asyncio.Task[Ended]) -> None:
        """Until its command runs, or is over."""
        while not run.done() and not (self._directory / "started").exists():  # noqa: ASYNC110  a file tells
            await asyncio.sleep(0.01)

    @property
    def _directory(self) -> Path:
        return self.place.outside / "containers" / str(self.spec["name"])

    def terminate(self) -> None:
        """Ask its first process to end; that of a shell may not listen."""
        with suppress(OSError, IndexError):
            pid = self.process.pid if self.process else 0
            for _ in ("unshare", "the first process"):
                pid = int(Path(f"/proc/{pid}/task/{pid}/children").read_text().split()[0])
            os.kill(pid, signal.SIGTERM)

    def kill(self) -> None:
        with suppress(ProcessLookupError):
            if self.process and self.process.returncode is None:
                self.process.kill()

    def _enter(self) -> list[str]:
        node = ["nsenter", f"--target={self.place.machine.pid}", "--mount", "--uts", "--pid", "--wd=/", "--"]
        unshare = ["unshare", "--mount", "--uts", "--pid", "--fork", "--kill-child"]
        return [*leashed(*node), *leashed(*unshare)]

    def script(self) -> str:
        """What its first process does. Raises NotStarted."""
        pod = self.pod["spec"]
        inside = f"{self.place.inside}/containers/{self.spec['name']}"
        binds = [(f"{inside}/termination-log", self.spec.get("terminationMessagePath", "/dev/termination-log"), "rw")]
        words = {
            "ROOT": f"{inside}/root",
            "HOSTNAME": self.place.machine.name if pod.get("hostNetwork") else self.pod["metadata"]["name"],
            "DIRECTORY": self.spec.get("workingDir") or "/",
        }
        told = {name: shlex.quote(word) for name, word in words.items()}
        proc = "mount --rbind /proc" if pod.get("hostPID") else "mount -t proc proc"
        told["PROC"] = f'{proc} "$root/proc"'
        told["BINDS"] = "\n".join(shlex.join(["bind", *bind]) for bind in [*self._mounts(), *binds])
        told["ENVIRONMENT"] = shlex.join(f"{name}={value}" for name, value in self.environment.items())
        told["COMMAND"] = shlex.join(self._command())
        return re.sub("@([A-Z]+)@", lambda found: told[found[1]], _SCRIPT)

    def _command(self) -> list[str]:
        if not self.spec.get("command"):
            raise NotStarted("CreateContainerError", "the test kubelet knows no image's entrypoint: give a command")
        words = [*self.spec["command"], *self.spec.get("args", ())]
        return [expanded(word, self.environment) for word in words]

    def _mounts(self) -> Iterator[tuple[str, str, str]]:
        """Source in the node, target in the container, `ro` or `rw`; outer targets first."""
        volumes = {volume["name"]: volume for volume in self.pod["spec"].get("volumes", ())}
        for mount in sorted(self.spec.get("volumeMounts", ()), key=lambda mount: str(mount["mountPath"])):
            volume = volumes[mount["name"]]
            host = volume.get("hostPath")
            source = host["path"] if host else f"{self.place.inside}/volumes/{volume['name']}"
            if host:
                self._check(host)
            if part := mount.get("subPath"):
                source = f"{source.rstrip('/')}/{part}"
            # a kubelet writes these itself, and lets nobody else
            read_only = mount.get("readOnly") or not ("emptyDir" in volume or host)
            yield source, mount["mountPath"].rstrip("/"), "ro" if read_only else "rw"

    def _check(self, host: Json) -> None:
        kind, place = host.get("type", ""), self.place.machine.root / host["path"].lstrip("/")
        if kind == "DirectoryOrCreate":
            place.mkdir(parents=True, exist_ok=True)
        wrong = (kind == "Directory" and not place.is_dir()) or (kind == "File" and not place.is_file())
        if wrong or not place.exists():
            raise NotStarted("ContainerCreating", f"hostPath type check failed: {host['path']} is not a {kind}")


def expanded(text: str, environment: Mapping[str, str]) -> str:
    """With `$(NAME)` replaced where the name is set, and `$$` made `$`, as Kubernetes does everywhere in a word."""
    return re.sub(
        r"\$\$|\$\(([A-Za-z_][A-Za-z0-9_.-]*)\)",
        lambda found: "$" if not found[1] else environment.get(found[1], found[0]),
        text,
    )


def _message(spec: Json, code: int, left: bytes, said: bytes) -> str:
    if not left and code and spec.get("terminationMessagePolicy") == "FallbackToLogsOnError":
        left = b"".join(said[-MESSAGE_LIMIT // 2 :].splitlines(keepends=True)[-LOG_LINES:])
    return left[:MESSAGE_LIMIT].decode(errors="replace")


def write_volume(directory: Path, files: Mapping[str, tuple[bytes, int]]) -> None:
    """Files of a Secret, ConfigMap or projection, laid out as a kubelet does: links into one directory of that version.

    `files`: path below the volume → content and mode.
    """
    directory.mkdir(parents=True, exist_ok=True)
    data = directory / "..data"
    before = data.resolve() if data.is_symlink() else None
    version = Path(tempfile.mkdtemp(prefix="..version-", dir=directory))
    version.chmod(0o755)
    for path, (content, mode) in files.items():
        place = version / path
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(content)
        place.chmod(mode)
    fresh = directory / "..data_tmp"
    fresh.symlink_to(version.name)
    fresh.rename(data)
    for top in {Path(path).parts[0] for path in files}:
        if not (directory / top).is_symlink():
            (directory / top).symlink_to(f"..data/{top}")
    if before is not None:
        shutil.rmtree(before)


def selected(data: Mapping[str, bytes], source: Json, default: int) -> Iterator[tuple[str, tuple[bytes, int]]]:
    """What a volume source takes of an object's data: all keys, or its `items`."""
    items: Sequence[Json] = source.get("items") or [{"key": key, "path": key} for key in data]
    for item in items:
        if item["key"] in data:
            yield item["path"], (data[item["key"]], item.get("mode", default))
        elif not source.get("optional"):
            raise NotStarted("ContainerCreating", f"references non-existent config key: {item['key']}")
