"""What a cluster for tests is made of: Kubernetes' programs, certificates, ports that stay ours, links to cut."""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import socket
import threading
from collections.abc import Coroutine, Sequence
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

PROGRAMS = ("etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubectl")
MODULE = Path(__file__).parent / "kubernetes/assets/kube/go.mod"
HOST = "127.0.0.1"


# --- programs ---------------------------------------------------------------------------------------------------------


def default_assets() -> Path:
    """Where `make kubernetes` puts what it builds."""
    [version] = re.findall(r"^require k8s\.io/kubernetes v(\S+)$", MODULE.read_text(), re.MULTILINE)
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(cache) / f"reconciler/kubernetes-{version}"


def assets() -> tuple[Path, str]:
    """The folder of Kubernetes' programs, and why it is of no use here ("": it is)."""
    given = os.environ.get("KUBEBUILDER_ASSETS")
    folder = Path(given) if given else default_assets()
    missing = [program for program in PROGRAMS if not os.access(folder / program, os.X_OK)]
    if not missing:
        return folder, ""
    if given:
        return folder, f"KUBEBUILDER_ASSETS has no {', '.join(missing)}"
    return folder, "no Kubernetes here: KUBEBUILDER_ASSETS is not set, and `make kubernetes` has not been run"


def need_kubernetes() -> Path:
    """The folder of Kubernetes' programs; skips the test where they are not built."""
    folder, problem = assets()
    if problem:
        pytest.skip(problem)
    return folder


def leashed(*command: str) -> list[str]:
    """The command, ended by the kernel with the thread that starts it, where that can be had."""
    return [*(("setpriv", "--pdeathsig", "KILL", "--") if shutil.which("setpriv") else ()), *command]


# --- certificates -----------------------------------------------------------------------------------------------------


class Pair(NamedTuple):
    """A certificate and its private key, PEM."""

    certificate: bytes
    key: bytes


class Authority:
    """The certificate authority of one cluster."""

    def __init__(self) -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Test cluster CA")])
        certificate = self._sign(self._name, self._key, x509.BasicConstraints(ca=True, path_length=None), _SIGNS)
        self.certificate = certificate.public_bytes(serialization.Encoding.PEM)

    def issue(self, name: str, groups: Sequence[str] = (), hosts: Sequence[str] = ()) -> Pair:
        """For a user of these groups, or for a server that is reached as `hosts`."""
        key = ec.generate_private_key(ec.SECP256R1())
        attributes = [x509.NameAttribute(NameOID.ORGANIZATION_NAME, group) for group in groups]
        subject = x509.Name([*attributes, x509.NameAttribute(NameOID.COMMON_NAME, name)])
        extensions: list[x509.ExtensionType] = [x509.BasicConstraints(ca=False, path_length=None)]
        if hosts:
            extensions.append(x509.SubjectAlternativeName([_general_name(host) for host in hosts]))
        certificate = self._sign(subject, key, *extensions)
        return Pair(certificate.public_bytes(serialization.Encoding.PEM), private_pem(key))

    def _sign(self, name: x509.Name, key: ec.EllipticCurvePrivateKey, *more: x509.ExtensionType) -> x509.Certificate:
        builder = (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(self._name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(datetime.now(UTC) - timedelta(days=1))
            .not_valid_after(datetime.now(UTC) + timedelta(days=2))
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()), False)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), False)
        )
        for extension in more:
            critical = not isinstance(extension, x509.SubjectAlternativeName)
            builder = builder.add_extension(extension, critical)
        return builder.sign(self._key, hashes.SHA256())


_SIGNS = x509.KeyUsage(
    key_cert_sign=True, crl_sign=True, digital_signature=True, content_commitment=False, key_encipherment=False,
    data_encipherment=False, key_agreement=False, encipher_only=False, decipher_only=False,
)  # fmt: skip
"""What a strict verifier wants of an authority."""


def _general_name(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def private_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    """In the only form that kube-apiserver takes for a key of service accounts."""
    form, plain = serialization.PrivateFormat.TraditionalOpenSSL, serialization.NoEncryption()
    return key.private_bytes(serialization.Encoding.PEM, form, plain)


# --- ports ------------------------------------------------------------------------------------------------------------


class Port:
    """A TCP port of loopback that nobody else gets while this is open: bound, not listening, shared with our server."""

    def __init__(self) -> None:
        self._socket = socket.socket()
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        self._socket.bind((HOST, 0))
        self.number: int = self._socket.getsockname()[1]

    def close(self) -> None:
        self._socket.close()


class Proxy:
    """A link to a port of loopback, which a test can lose in every way there is. TCP alone: TLS passes through."""

    def __init__(self, to: int) -> None:
        self._to = to
        self._port = Port()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._server: asyncio.Server | None = None
        self._flowing = asyncio.Event()
        self._links: set[asyncio.WriteTransport] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self.connections = 0
        """How many were accepted so far."""

    @property
    def url(self) -> str:
        return f"https://{HOST}:{self._port.number}"

    def __enter__(self) -> Proxy:
        self._thread.start()
        self.allow()
        return self

    def __exit__(self, *_: object) -> None:
        self._flowing.set()
        self.refuse()
        self._call(self._end())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()
        self._port.close()

    def cut(self) -> None:
        """Reset every connection; new ones are accepted."""
        self._call(self._cut())

    def refuse(self) -> None:
        """Reset every connection and refuse new ones."""
        self._call(self._refuse())

    def stall(self) -> None:
        """Lose the link without a word: connections stay open, new ones are accepted, nothing passes."""
        self._call(self._flow(False))

    def allow(self) -> None:
        """Be a good link again; what a stalled one holds is passed on."""
        self._call(self._allow())

    def _call(self, work: Coroutine[Any, Any, None]) -> None:
        asyncio.run_coroutine_threadsafe(work, self._loop).result(10)

    async def _cut(self) -> None:
        for link in self._links:
            link.abort()
        self._links.clear()

    async def _refuse(self) -> None:
        if self._server:
            self._server.close()
            self._server = None
        await self._cut()

    async def _flow(self, yes: bool) -> None:
        if yes:
            self._flowing.set()
        else:
            self._flowing.clear()

    async def _allow(self) -> None:
        self._flowing.set()
        if not self._server:
            self._server = await asyncio.start_server(self._accept, HOST, self._port.number, reuse_port=True)

    async def _end(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        task = self._loop.create_task(self._link(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _link(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Carry one connection until either side ends it."""
        ends = [writer]
        self._links.add(writer.transport)
        try:
            far_reader, far_writer = await asyncio.open_connection(HOST, self._to)
            ends.append(far_writer)
            self._links.add(far_writer.transport)
            there, back = self._pump(reader, far_writer), self._pump(far_reader, writer)
            await asyncio.gather(there, back)
        except OSError:
            pass
        finally:
            for end in ends:
                self._links.discard(end.transport)
                end.transport.abort()

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65536):
            await self._flowing.wait()
            writer.write(data)
            await writer.drain()
        raise ConnectionResetError  # an end that is closed closes the other
