"""Nodes for tests: one face (`Rig`) for memory, local and sshd nodes, so that one set of tests judges them all."""

from __future__ import annotations

import shlex
import shutil
import subprocess
import uuid
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from reconciler.ports import Target, Transport
from reconciler.transport.local import LocalTransport
from reconciler.transport.memory import MemoryTransport
from reconciler.transport.memory_parts import Entry
from reconciler.transport.sandbox import LocalNode, SandboxNode, available, local_node, put_program, start_nodes
from reconciler.transport.ssh import SshTransport

MANAGED_DIRECTORIES = ("etc/containers", "etc/docker", "etc/crio", "etc/machine-config-daemon")


class FixedClock:
    """Stands still until it is told to go on."""

    def __init__(self) -> None:
        self.time = datetime(2026, 1, 31, 9, 0, tzinfo=UTC)

    def now(self) -> datetime:
        return self.time

    async def sleep(self, seconds: float) -> None:
        self.time += timedelta(seconds=seconds)


class Rig(ABC):
    """A node, the transport that reaches it, and hands to change and read it behind the transport's back."""

    transport: Transport
    target: Target
    many = 500
    """How many files a test of many files writes."""

    @abstractmethod
    def put(self, path: str, content: bytes, mode: int = 0o644) -> None: ...

    @abstractmethod
    def read(self, path: str) -> bytes | None: ...

    @abstractmethod
    def mode(self, path: str) -> int: ...

    @abstractmethod
    def remove(self, path: str) -> None: ...

    @abstractmethod
    def symlink(self, path: str, to: str) -> None: ...

    @abstractmethod
    def fingerprint(self) -> object:
        """Changes with every write to a managed file or its directory, also one of equal bytes."""

    @abstractmethod
    def actions(self) -> list[str]: ...

    @abstractmethod
    def set_reload(self, how: str) -> None: ...

    @abstractmethod
    def set_active(self, state: str) -> None: ...

    @abstractmethod
    def refuse_text(self, text: str) -> None: ...

    @abstractmethod
    def hold(self, reason: str) -> None: ...

    @abstractmethod
    def refuse_restart(self) -> None:
        """The next restart fails."""

    @abstractmethod
    def fail_check(self, name: str, text: str = "") -> None:
        """The health check that runs the program `name` fails: always, or while registries.conf holds `text`."""

    @abstractmethod
    def pass_check(self, name: str) -> None: ...

    @abstractmethod
    def set_hook(self, name: str, status: int) -> None:
        """The program `name` ends with this status."""

    @abstractmethod
    def set_package(self, path: str, package: str) -> None: ...

    @abstractmethod
    def expire(self) -> None:
        """Let the time for the pending change be over."""

    @abstractmethod
    def set_images(self, names: Sequence[str], pause: str = "") -> None:
        """What containers of these images run, and CRI-O's pause image."""

    @abstractmethod
    def no_client(self) -> None:
        """There is no crictl."""

    @abstractmethod
    def fill(self) -> None:
        """No more space for the files."""

    @abstractmethod
    def read_only(self) -> None: ...

    @abstractmethod
    def mend(self) -> None:
        """Undo `fill` and `read_only`."""

    def mco(self) -> None:
        self.put("/etc/machine-config-daemon/currentconfig", b"{}")


class MemoryRig(Rig):
    def __init__(self) -> None:
        self.clock = FixedClock()
        self.transport: MemoryTransport = MemoryTransport(self.clock)
        self.target = Target("default", "node-1", "memory")
        self.node = self.transport.node("node-1")

    def put(self, path: str, content: bytes, mode: int = 0o644) -> None:
        self.node.files[path] = Entry(content, mode)

    def read(self, path: str) -> bytes | None:
        entry = self.node.files.get(path)
        return entry.content if entry else None

    def mode(self, path: str) -> int:
        return self.node.files[path].mode

    def remove(self, path: str) -> None:
        del self.node.files[path]

    def symlink(self, path: str, to: str) -> None:
        self.node.files[path] = Entry(to.encode(), kind="symlink")

    def fingerprint(self) -> object:
        return self.node.writes, dict(self.node.files)

    def actions(self) -> list[str]:
        return self.node.actions

    def set_reload(self, how: str) -> None:
        self.node.faults.reload = "" if how == "ok" else how
        self.node.faults.unhealthy_after = how == "kills"

    def set_active(self, state: str) -> None:
        self.node.active = state

    def refuse_text(self, text: str) -> None:
        self.node.faults.refuse = text

    def hold(self, reason: str) -> None:
        self.node.hold = reason

    def refuse_restart(self) -> None:
        self.node.faults.restart = "fails"

    def fail_check(self, name: str, text: str = "") -> None:
        if text:
            self.node.faults.check_after = name
        else:
            self.node.faults.check_before = name

    def pass_check(self, name: str) -> None:
        faults = self.node.faults
        faults.check_before = "" if faults.check_before == name else faults.check_before
        faults.check_after = "" if faults.check_after == name else faults.check_after

    def set_hook(self, name: str, status: int) -> None:
        self.node.faults.hooks[name] = status

    def set_package(self, path: str, package: str) -> None:
        self.node.packages[path] = package

    def expire(self) -> None:
        self.clock.time += timedelta(hours=1)

    def set_images(self, names: Sequence[str], pause: str = "") -> None:
        self.node.images, self.node.pause = list(names), pause

    def no_client(self) -> None:
        self.node.images_note = "this host has no crictl"

    def fill(self) -> None:
        self.node.faults.disk_full = True

    def read_only(self) -> None:
        self.node.faults.read_only = True

    def mend(self) -> None:
        self.node.faults.disk_full = self.node.faults.read_only = False

    def mco(self) -> None:
        self.node.mco = True


class DirectoryRig(Rig):
    """What local and sshd nodes have in common: a directory that shows the node's /."""

    node: LocalNode | SandboxNode

    @abstractmethod
    def power_cycle(self) -> None:
        """Every process dies; the node comes back with another boot id."""

    def at(self, path: str) -> Path:
        return self.node.root / path.lstrip("/")

    @property
    def state(self) -> Path:
        return self.at("/var/lib/reconciler")

    def put(self, path: str, content: bytes, mode: int = 0o644) -> None:
        place = self.at(path)
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(content)
        place.chmod(mode)

    def read(self, path: str) -> bytes | None:
        place = self.at(path)
        return place.read_bytes() if place.is_file() else None

    def mode(self, path: str) -> int:
        return self.at(path).stat().st_mode & 0o7777

    def remove(self, path: str) -> None:
        self.at(path).unlink()

    def symlink(self, path: str, to: str) -> None:
        place = self.at(path)
        place.parent.mkdir(parents=True, exist_ok=True)
        place.symlink_to(to)

    def fingerprint(self) -> object:
        found = {}
        for top in MANAGED_DIRECTORIES:
            for place in [self.at(top), *self.at(top).rglob("*")]:
                if place.exists():
                    status = place.lstat()
                    found[str(place)] = (status.st_ino, status.st_mtime_ns, status.st_ctime_ns, status.st_mode)
        return found

    def actions(self) -> list[str]:
        return self.node.actions()

    def set_reload(self, how: str) -> None:
        self.node.runtime.set_reload(how)

    def set_active(self, state: str) -> None:
        self.node.runtime.set_active(state)

    def refuse_text(self, text: str) -> None:
        self.node.runtime.refuse_text(text)

    def set_images(self, names: Sequence[str], pause: str = "") -> None:
        self.node.runtime.set_images(names, pause)

    def no_client(self) -> None:
        self.at("usr/local/bin/crictl").unlink()

    def hold(self, reason: str) -> None:
        self.state.mkdir(parents=True, exist_ok=True)
        (self.state / "hold").write_text(f"{reason}\n")

    @property
    def etc(self) -> str:
        """/etc as the node's own programs name it, quoted."""
        return shlex.quote(str(self.at("/etc")))

    def put_command(self, name: str, text: str) -> None:
        put_program(self.at(f"/usr/local/bin/{name}"), f"#!/bin/sh\n{text}\n")

    def refuse_restart(self) -> None:
        self.node.runtime.set_restart("fails-once")

    def fail_check(self, name: str, text: str = "") -> None:
        condition = f"grep -q {shlex.quote(text)} {self.etc}/containers/registries.conf" if text else "true"
        self.put_command(name, f'if {condition}; then echo "probe says: $*"; exit 3; fi')

    def pass_check(self, name: str) -> None:
        self.put_command(name, "exit 0")

    def set_hook(self, name: str, status: int) -> None:
        self.put_command(name, f"exit {status}")

    def set_package(self, path: str, package: str) -> None:
        self.put_command("rpm", f'for path; do :; done\n[ "$path" = {path} ] && echo {package} || exit 1')

    def expire(self) -> None:
        until = self.state / "pending/until"
        since, boot = until.read_text().split()[1::2]
        until.write_text(f"{since} {since} 0 {boot}\n")


class LocalRig(DirectoryRig):
    """A directory below /tmp. Disk faults are played by a fake cp, since the disk is everybody's."""

    node: LocalNode
    many = 100

    def __init__(self, directory: Path, shell: Sequence[str]) -> None:
        self.node = local_node(directory)
        self.transport = LocalTransport(shell)
        self.target = self.node.target()

    def power_cycle(self) -> None:
        self.put("/proc/sys/kernel/random/boot_id", f"{uuid.uuid4()}\n".encode())

    def fill(self) -> None:
        self._failing_copies("No space left on device")

    def read_only(self) -> None:
        self._failing_copies("Read-only file system")

    def _failing_copies(self, message: str) -> None:
        # only copies that end below /etc fail: the state directory is on another file system
        text = f'#!/bin/sh\nfor to; do :; done\ncase $to in ./etc/*) echo "cp: {message}" >&2; exit 1 ;; esac\n'
        put_program(self.node.root / "usr/local/bin/cp", f'{text}exec /bin/cp "$@"\n')

    def mend(self) -> None:
        (self.node.root / "usr/local/bin/cp").unlink(missing_ok=True)


class SshRig(DirectoryRig):
    """A real sshd node, emptied before each test."""

    node: SandboxNode

    def __init__(self, node: SandboxNode) -> None:
        self.node = node
        self.transport = SshTransport(None, [str(node.identity)], None, 10)
        self.target = node.target()
        for place in (*MANAGED_DIRECTORIES, "var/lib/reconciler", "root/.config"):
            shutil.rmtree(self.at(place), ignore_errors=True)
        self.at("etc/containers").mkdir()
        faults = ("active", "reload", "delay", "refuse", "actions", "journal", "restart", "started", "loaded", "pull")
        for fault in (*faults, "pulls", "crictl-ps", "podman-ps", "crio-config"):
            (node.runtime.control / fault).unlink(missing_ok=True)
        shutil.copy(node.runtime.control / "bin/crictl", self.at("usr/local/bin/crictl"))
        for program in ("mv", "cp", "probe", "drain", "rpm", "date", "systemd-run"):
            self.at(f"usr/local/bin/{program}").unlink(missing_ok=True)

    @property
    def etc(self) -> str:
        return "/etc"

    def power_cycle(self) -> None:
        self.node.restart()

    def fill(self) -> None:
        self.node.fill("/etc")

    def read_only(self) -> None:
        self.node.read_only()

    def mend(self) -> None:
        self.node.read_only(False)
        self.node.free()


async def rig_of(name: str, request: pytest.FixtureRequest, directory: Path) -> AsyncIterator[DirectoryRig]:
    """For a fixture: the module's `node` for `sshd`, else a directory and the shell of this name."""
    rig: DirectoryRig
    if name == "sshd":
        rig = SshRig(request.getfixturevalue("node"))
    else:
        rig = LocalRig(directory / "root", shell(name, directory / "bin"))
    yield rig
    await rig.transport.close()


def need_sshd() -> None:
    """Skip the test where sshd nodes cannot be had."""
    if reason := available():
        pytest.skip(reason)


def shell(name: str, directory: Path) -> list[str]:
    """The command of a POSIX shell; skips the test where it is not installed.

    `busybox` sees no programs but busybox's own; `ash` is the same with GNU's timeout, since busybox's holds on to the
    output for up to a second after the command has ended.
    """
    if name in ("ash", "busybox"):
        return _busybox(directory, ("flock", "timeout") if name == "ash" else ("flock",))
    if not shutil.which(name):
        pytest.skip(f"needs {name}")
    return [name, "--posix"] if name == "bash" else [name]


def _busybox(directory: Path, borrowed: Sequence[str]) -> list[str]:
    busybox = shutil.which("busybox")
    if not busybox:
        pytest.skip("needs busybox")
    directory.mkdir(parents=True, exist_ok=True)
    subprocess.run([busybox, "--install", "-s", str(directory)], check=True)
    for program in borrowed:  # Debian's busybox has no flock
        if found := shutil.which(program):
            (directory / program).unlink(missing_ok=True)
            (directory / program).symlink_to(found)
    return ["env", f"PATH={directory}", busybox, "sh"]


def one_node(directory: Path) -> Iterator[SandboxNode]:
    """For a module-wide fixture: a single sshd node."""
    need_sshd()
    node = start_nodes(directory, 1)[0]
    yield node
    node.close()
