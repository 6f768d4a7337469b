"""Who brings the nodes to their files: the service of reconciler, pyinfra, and a bare asyncssh loop around node.sh."""

from __future__ import annotations

import asyncio
import hashlib
import io
import json
import os
import shutil
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Protocol

import asyncssh

from benchmarks.fleet import Place, Repository, files_of, ssh_document
from reconciler import logs
from reconciler.ports import ABSENT, ApplyRequest, FileContent, ObserveRequest
from reconciler.registries.model import BASE_PATHS
from reconciler.service import Service
from reconciler.settings import FleetSettings, Settings, SshSettings
from reconciler.transport.call import Call
from reconciler.transport.protocol import apply_call, observe_call
from reconciler.wiring import open_application

FLEET = "bench"
PYINFRA = Path(__file__).parents[1] / ".venv/bench/bin/pyinfra"
NOTHING = Path("/dev/null")
DEPLOY = Path(__file__).with_name("pyinfra_deploy.py")
PARALLEL = 50
"""Nodes written at once; reconciler's upper limit."""

Files = Mapping[str, bytes]
"""Path → content."""


class Contestant(Protocol):
    """One way to do the job. `files` is what stands on each node after `apply`."""

    files: Files

    async def begin(self) -> None:
        """Everything that is done once: imports where they count, first connections, the first look."""
        ...

    async def prepare(self, number: int) -> None:
        """Say what is wanted next (0: the files; 1, 2, …: the same with one of them changed). Not measured."""
        ...

    async def apply(self) -> None:
        """Bring every node to what is wanted."""
        ...

    async def check(self) -> None:
        """Look whether every node has what is wanted."""
        ...


class Resident:
    """The service, in this process: what it does at each tick of its interval."""

    def __init__(self, service: Service, repository: Repository, place: Place) -> None:
        self.files: Files = {}
        self.history: list[Files] = []
        """The files of each `apply`, for the others to bring about."""
        self._service, self._repository, self._place = service, repository, place

    async def begin(self) -> None:
        await self._service.look(FLEET)

    async def prepare(self, number: int) -> None:
        if number:
            self._repository.change(number)
        else:
            self._repository.enforce()

    async def apply(self) -> None:
        await self._service.look(FLEET)
        self.files = files_of(self._place)
        self.history.append(self.files)

    async def check(self) -> None:
        await self._service.look(FLEET)


@asynccontextmanager
async def resident(directory: Path, places: Sequence[Place]) -> AsyncIterator[Resident]:
    """The service with a fleet of these nodes, on an embedded PostgreSQL."""
    repository = Repository(directory / "config", [ssh_document(place) for place in places])
    async with running_service(directory, repository, [places[0].node.identity]) as service:
        yield Resident(service, repository, places[0])


@asynccontextmanager
async def running_service(
    directory: Path, repository: Repository, identities: Sequence[Path] = ()
) -> AsyncIterator[Service]:
    """The service, without its clock: a pass begins when it is told to `look`."""
    settings = Settings(
        data_dir=directory / "data",
        fleets={FLEET: FleetSettings(url=repository.url)},
        ssh=SshSettings(known_hosts=NOTHING, identity_files=tuple(identities), config_file=NOTHING),
    )
    logs.configure("info", stream=io.StringIO())
    async with open_application(settings, actor_kind="service") as application:
        service = Service(application)
        await service.begin()
        yield service


class Pyinfra:
    """pyinfra's command line, one process for each run, as its users run it."""

    def __init__(self, directory: Path, places: Sequence[Place], history: Sequence[Files]) -> None:
        directory.mkdir(parents=True)
        self.files: Files = {}
        self._directory, self._history = directory, history
        known_hosts = directory / "known_hosts"
        known_hosts.write_text("".join(f"[{p.address}]:{p.port} {p.node.host_key}\n" for p in places))
        data = {
            "ssh_user": "root",
            "ssh_key": str(places[0].node.identity),
            "ssh_known_hosts_file": str(known_hosts),
            "ssh_strict_host_key_checking": "yes",
            "ssh_allow_agent": False,
            "ssh_look_for_keys": False,
            "ssh_config_file": "/dev/null",
        }
        hosts = [(p.node.name, {**data, "ssh_hostname": p.address, "ssh_port": p.port}) for p in places]
        (directory / "inventory.py").write_text(f"hosts = {hosts!r}\n")
        (directory / "nothing.py").touch()

    async def version(self) -> None:
        """Imports, and nothing else."""
        await self._run("--version")

    async def begin(self) -> None:
        """Imports and connections, and nothing else; every other run does them, too."""
        await self._run("inventory.py", "nothing.py", "-y", "--parallel", str(PARALLEL))

    async def prepare(self, number: int) -> None:
        self.files, folder = self._history[number], self._directory / "files"
        shutil.rmtree(folder, ignore_errors=True)
        for path, content in self.files.items():
            place = folder / path.lstrip("/")
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(content)

    async def apply(self) -> None:
        await self._run("inventory.py", str(DEPLOY), "-y", "--parallel", str(PARALLEL))

    async def check(self) -> None:
        await self.apply()

    async def _run(self, *arguments: str) -> None:
        process = await asyncio.create_subprocess_exec(
            PYINFRA,
            *arguments,
            cwd=self._directory,
            env={**os.environ, "FILES": str(self._directory / "files")},
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        output, _ = await process.communicate()
        if process.returncode:
            raise RuntimeError(f"pyinfra failed: {output.decode()[-2000:]}")


class Bare:
    """asyncssh with connections kept open, and node.sh: no plan, no log; of an answer only its result is read."""

    def __init__(self, places: Sequence[Place], history: Sequence[Files]) -> None:
        self.files: Files = {}
        self._places, self._history = places, history
        self._open: list[asyncssh.SSHClientConnection] = []
        self._known: dict[str, str] = dict.fromkeys(BASE_PATHS, ABSENT)
        self._steps = 0

    async def begin(self) -> None:
        await self.close()
        await self.connect()
        await self.check()

    async def connect(self) -> None:
        key = asyncssh.read_private_key(str(self._places[0].node.identity))
        self._open = await asyncio.gather(*(self._connect(place, key) for place in self._places))

    async def prepare(self, number: int) -> None:
        self.files = self._history[number]

    async def apply(self) -> None:
        """Look, then write, as the service does."""
        await self.check()
        self._steps += 1
        self._known = {path: hashlib.sha256(content).hexdigest() for path, content in self.files.items()}
        files = tuple(FileContent(path, content, 0o644) for path, content in self.files.items())
        step, actions = f"step-{self._steps}", ("reload:crio.service",)
        await self._everywhere(
            apply_call(ApplyRequest(FLEET, 1, self._steps, step, "crio", files, actions=actions)), PARALLEL
        )

    async def check(self) -> None:
        await self._everywhere(observe_call(ObserveRequest(FLEET, "crio", self._known)), len(self._open))

    async def close(self) -> None:
        for connection in self._open:
            connection.close()
        await asyncio.gather(*(connection.wait_closed() for connection in self._open))

    async def _connect(self, place: Place, key: asyncssh.SSHKey) -> asyncssh.SSHClientConnection:
        trusted: Any = [asyncssh.import_public_key(place.node.host_key)], [], []
        return await asyncssh.connect(
            place.address, place.port, username="root", client_keys=[key], known_hosts=trusted, config=[]
        )

    async def _everywhere(self, call: Call, parallel: int) -> None:
        slots, command = asyncio.Semaphore(parallel), call.command()

        async def one(connection: asyncssh.SSHClientConnection) -> None:
            async with slots:
                done = await connection.run(command, input=call.stdin, encoding=None)
            answer = json.loads(done.stdout or b"{}")
            if answer.get("protocol") != 1 or answer.get("result", "applied") != "applied" or "error" in answer:
                raise RuntimeError(f"node.sh failed: {done}")

        await asyncio.gather(*map(one, self._open))
