"""Nodes to try things on: real sshd nodes in namespaces of this machine, and directories with a fake systemctl.

For the tests and `reconciler demo`. An sshd node has its own mount, host name and process namespaces: overlays on
/etc and /var (two mounts, upper layers in memory), an empty /root, its own 127.x.y.z address, host key, machine-id
and boot id. Nothing of the host is changed; needs root, Linux, unshare and sshd (`available` says what is missing).
"""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import shutil
import signal
import socket
import subprocess
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import asyncssh

from reconciler.errors import NodeFault
from reconciler.ports import Target
from reconciler.transport.sandbox_programs import CLIENT, CRIO, INIT, JOURNALCTL, SSHD_CONFIG, SYSTEMCTL

PORT = 2222
START_TIMEOUT = 20.0
"""Seconds that a node may take to answer on its port."""


def available() -> str:
    """Why there can be no sshd nodes here; "" when there can."""
    if os.geteuid() != 0:
        return "sshd nodes need root"
    for program in ("unshare", "setpriv", "nsenter", "mount", "sshd"):
        if not _find(program):
            return f"sshd nodes need {program}"
    probe = ["unshare", "--mount", "--pid", "--uts", "--fork", "sh", "-c", _PROBE]
    if subprocess.run(probe, capture_output=True, check=False).returncode:
        return "sshd nodes need mount namespaces with overlay file systems"
    return ""


_PROBE = (
    "mount --make-rprivate / && mount -t tmpfs tmpfs /mnt && mkdir /mnt/u /mnt/w && "
    "mount -t overlay overlay -o lowerdir=/etc,upperdir=/mnt/u,workdir=/mnt/w /etc"
)


def _find(program: str) -> str | None:
    return shutil.which(program, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")


@dataclass(slots=True)
class FakeRuntime:
    """What the fake systemctl and journalctl of a node do; `control` is their directory, seen from outside."""

    control: Path

    def actions(self) -> list[str]:
        """Every reload and restart that was asked for, oldest first: `reload crio.service`."""
        log = self.control / "actions"
        return log.read_text().splitlines() if log.exists() else []

    def set_active(self, state: str) -> None:
        """What `systemctl is-active` prints; anything but `active` fails."""
        (self.control / "active").write_text(f"{state}\n")

    def set_reload(self, how: str) -> None:
        """`ok`; `fails` (exit status 1); `unable` (0, and the log says it could not); `silent`; `kills` (unit dies)."""
        (self.control / "reload").write_text(f"{how}\n")

    def set_restart(self, how: str) -> None:
        """`ok`; `fails-once` (exit status 1, the next one works again)."""
        (self.control / "restart").write_text(f"{how}\n")

    def refuse_text(self, text: str) -> None:
        """From now on, while registries.conf holds this text ("": never), a reload fails, as the log tells, and the
        runtime does not start."""
        (self.control / "refuse").write_text(text)

    def set_pull(self, error: str) -> None:
        """What every pull of an image fails with from now on ("": it works)."""
        (self.control / "pull").write_text(error)

    def pulls(self) -> list[str]:
        """Every pull that was asked for, oldest first: `crictl pull IMAGE`."""
        log = self.control / "pulls"
        return log.read_text().splitlines() if log.exists() else []

    def set_delay(self, seconds: float) -> None:
        """How long a reload takes."""
        (self.control / "delay").write_text(f"{seconds}\n")

    def set_images(self, names: Sequence[str], pause: str = "") -> None:
        """What containers run: `crictl` and `podman` list one of each image; CRI-O's pause image."""
        cri = [{"id": f"{n:064x}", "image": {"image": name}, "imageRef": name} for n, name in enumerate(names)]
        listings: dict[str, object] = {
            "crictl-ps": {"containers": cri},
            "podman-ps": [{"Id": f"{n:064x}", "Image": name} for n, name in enumerate(names)],
        }
        for listing, content in listings.items():
            (self.control / listing).write_text(json.dumps(content))
        (self.control / "crio-config").write_text(f'[crio.image]\npause_image = "{pause}"\n')


@dataclass(slots=True)
class LocalNode:
    """A directory that stands for a node's /, for the local transport."""

    name: str
    root: Path
    runtime: FakeRuntime

    def target(self, fleet: str = "default") -> Target:
        return Target(fleet, self.name, "local", root=str(self.root))

    def actions(self) -> list[str]:
        return self.runtime.actions()


def local_node(directory: Path, name: str = "node-1", *, runtime: bool = True) -> LocalNode:
    """Make (or find again) a local node below `directory`; without `runtime` it has no systemctl."""
    root = directory / name
    control = root / "run/sandbox"
    for place in ("etc/containers", "usr/local/bin", "var/lib", "run/sandbox"):
        (root / place).mkdir(parents=True, exist_ok=True)
    if not (root / "etc/machine-id").exists():
        (root / "etc/machine-id").write_text(f"{uuid.uuid4().hex}\n")
    if runtime:
        _programs(root / "usr/local/bin", control, root / "etc")
    return LocalNode(name, root, FakeRuntime(control))


def _programs(directory: Path, control: Path, etc: Path) -> None:
    fakes = {"systemctl": SYSTEMCTL, "journalctl": JOURNALCTL, "crio": CRIO, "crictl": CLIENT, "podman": CLIENT}
    for name, text in fakes.items():
        text = text.replace("@CONTROL@", shlex.quote(str(control))).replace("@ETC@", shlex.quote(str(etc)))
        put_program(directory / name, text)


def put_program(path: Path, text: str) -> None:
    """Write an executable; at once, since a running one cannot be overwritten."""
    fresh = path.with_name(f".{path.name}.new")
    fresh.write_text(text)
    fresh.chmod(0o755)
    fresh.rename(path)


# --- sshd nodes -----------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class SandboxNode:
    """A running sshd node. `directory` holds its keys and its fake runtime's files; it outlives the node."""

    name: str
    directory: Path
    address: str
    port: int
    host_key: str
    """The public key as spec.hostKeys wants it."""

    identity: Path
    """Private key that root and `core` log in with."""

    process: subprocess.Popen[bytes]
    runtime: FakeRuntime
    pid: int = 0
    """Of the node's first process, as the host sees it."""

    fillers: list[Path] = field(default_factory=list)

    @property
    def root(self) -> Path:
        """The node's /, readable and writable from outside."""
        return Path(f"/proc/{self.pid}/root")

    def target(self, fleet: str = "default", user: str = "root", become: str = "") -> Target:
        return Target(fleet, self.name, "ssh", self.address, self.port, user, become, (self.host_key,))

    def actions(self) -> list[str]:
        return self.runtime.actions()

    def run(self, *command: str) -> subprocess.CompletedProcess[str]:
        """Run a command inside the node's namespaces."""
        enter = ["nsenter", "--target", str(self.pid), "--mount", "--uts", "--pid", "--wd=/", "--", *command]
        return subprocess.run(enter, capture_output=True, text=True, check=False)

    def read_only(self, yes: bool = True) -> None:
        """Make /etc read-only, or writable again."""
        done = self.run("mount", "-o", f"remount,{'ro' if yes else 'rw'}", "/etc")
        if done.returncode:
            raise NodeFault(f"remount: {done.stderr.strip()}", where=f"node {self.name}")

    def fill(self, place: str) -> None:
        """Leave no free space in the file system of /etc or /var."""
        filler = self.root / place.strip("/") / ".filler"
        with filler.open("wb", buffering=0) as file, contextlib.suppress(OSError):
            while file.write(bytes(4096)):
                pass
        self.fillers.append(filler)

    def free(self) -> None:
        """Undo `fill`."""
        while self.fillers:
            self.fillers.pop().unlink()

    def stop(self) -> None:
        """Switch the node off: every process dies, the disks stay, nobody answers."""
        (self.directory / "control/stopped").touch()
        self.run("sh", "-c", "kill -9 -1")
        wait_for(lambda: not _answers(self.address, self.port), f"{self.name} still answers")

    def start(self) -> None:
        """Switch it on again: same disks, new boot id."""
        (self.directory / "control/boot_id").write_text(f"{uuid.uuid4()}\n")
        (self.directory / "control/stopped").unlink(missing_ok=True)
        wait_for(lambda: _answers(self.address, self.port), f"{self.name} does not answer")

    def restart(self) -> None:
        self.stop()
        self.start()

    def close(self) -> None:
        """End the node for good; its /etc and /var are gone. The kernel may take a moment to end its processes."""
        if self.process.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                self.process.send_signal(signal.SIGKILL)
        self.process.wait()


def start_nodes(directory: Path, count: int, *, prefix: str = "node") -> list[SandboxNode]:
    """Start sshd nodes; they end with `close`, and with the calling thread. Raises NodeFault when one does not."""
    directory.mkdir(parents=True, exist_ok=True)
    identity = directory / "id_ed25519"
    if not identity.exists():
        asyncssh.generate_private_key("ssh-ed25519").write_private_key(str(identity))
        identity.chmod(0o600)
    addresses = _free_addresses()
    nodes: list[SandboxNode] = []
    try:
        nodes.extend(_spawn(directory / f"{prefix}-{n}", identity, next(addresses)) for n in range(1, count + 1))
        for node in nodes:
            _await(node)
    except BaseException:
        for node in nodes:
            node.close()
        raise
    return nodes


@contextlib.contextmanager
def running_nodes(directory: Path, count: int) -> Iterator[list[SandboxNode]]:
    nodes = start_nodes(directory, count)
    try:
        yield nodes
    finally:
        for node in nodes:
            node.close()


def _spawn(directory: Path, identity: Path, address: str) -> SandboxNode:
    control = directory / "control"
    control.mkdir(parents=True, exist_ok=True)
    (control / "bin").mkdir(exist_ok=True)
    host_key = asyncssh.generate_private_key("ssh-ed25519")
    host_key.write_private_key(str(control / "host_key"))
    (control / "host_key").chmod(0o600)
    login = asyncssh.read_private_key(str(identity)).export_public_key()
    (control / "authorized_keys").write_bytes(login)
    (control / "sshd_config").write_text(SSHD_CONFIG.format(address=address, port=PORT))
    (control / "boot_id").write_text(f"{uuid.uuid4()}\n")
    (control / "machine_id").write_text(f"{uuid.uuid4().hex}\n")
    (control / "os-release").write_text('PRETTY_NAME="Sandbox 1"\nID=sandbox\n')
    _programs(control / "bin", Path("/run/sandbox"), Path("/etc"))
    init = control / "init"
    init.write_text(INIT.replace("@CONTROL@", shlex.quote(str(control))).replace("@NAME@", directory.name))
    command = ["setpriv", "--pdeathsig", "KILL", "unshare", "--mount", "--uts", "--pid", "--fork", "--kill-child"]
    with (directory / "sshd.log").open("wb") as log:
        process = subprocess.Popen(
            [*command, "--mount-proc", "sh", str(init)], stdin=subprocess.DEVNULL, stdout=log, stderr=log
        )
    public = host_key.export_public_key().decode().strip()
    return SandboxNode(directory.name, directory, address, PORT, public, identity, process, FakeRuntime(control))


def _await(node: SandboxNode) -> None:
    def ready() -> bool:
        if node.process.poll() is not None:
            log = (node.directory / "sshd.log").read_text(errors="replace").strip()
            raise NodeFault(f"did not start: {log[-500:]}", where=f"node {node.name}")
        return _answers(node.address, node.port)

    wait_for(ready, f"{node.name} does not answer")
    children = Path(f"/proc/{node.process.pid}/task/{node.process.pid}/children").read_text().split()
    node.pid = int(children[0])


def _answers(address: str, port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection((address, port), 0.2) as connection:
        return bool(connection.recv(4))
    return False


def wait_for(holds: Callable[[], bool], otherwise: str, within: float = START_TIMEOUT) -> None:
    """Wait until `holds()`; raises NodeFault with `otherwise` after `within` seconds."""
    end = time.monotonic() + within
    while not holds():
        if time.monotonic() > end:
            raise NodeFault(otherwise)
        time.sleep(0.01)


def _free_addresses() -> Iterator[str]:
    """Loopback addresses that nobody listens on; where to begin differs between processes."""
    start = 2 + os.getpid() * 251 % 200_000
    for number in range(start, start + 50_000):
        address = f"127.{64 + number // 65536 % 128}.{number // 256 % 256}.{number % 256}"
        if _is_free(address):
            yield address


def _is_free(address: str) -> bool:
    with contextlib.suppress(OSError), socket.socket() as probe:
        probe.bind((address, PORT))
        return True
    return False
