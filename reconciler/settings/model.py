"""The settings: their fields, defaults and meaning. docs/reference/settings.md is held to the texts below."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, PrivateAttr, model_validator
from pydantic.fields import FieldInfo

from reconciler.settings.kinds import (
    Address,
    Count,
    DatabaseUrl,
    DirectoryInside,
    Duration,
    FilePath,
    FilePaths,
    FleetName,
    ImageByDigest,
    Namespace,
    OptionalFile,
    Patterns,
    Period,
    Selector,
    Text,
)


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True, use_attribute_docstrings=True)


class DatabaseSettings(_Section):
    """The event log's PostgreSQL."""

    url: DatabaseUrl = ""
    """`postgresql://USER:PASSWORD@HOST:PORT/DATABASE`; empty: an embedded PostgreSQL under `data_dir`. The variable
    `DATABASE_URL` wins over the file and over `RECONCILER_DATABASE__URL`."""


class FleetSettings(_Section):
    """A fleet: a branch and a path of a config repository."""

    url: Text
    """The Git repository: `https://`, `ssh://`, `file://`, `user@host:path` or a path. Required."""

    branch: Text = "main"
    """The branch whose commits are applied."""

    path: DirectoryInside = "."
    """The directory of the repository with this fleet's manifests."""

    interval: Period = timedelta(seconds=60)
    """Time between two looks at the repository and at the nodes."""

    timeout: Period = timedelta(seconds=60)
    """Longest time that one look at the repository may take."""

    verify: Literal["none", "warn", "required"] = "none"
    """Commit signatures: `none` checks nothing, `warn` records what is wrong, `required` refuses the commit."""

    allowed_signers: OptionalFile = ""
    """File of the SSH keys that may sign and for whom, as in ssh-keygen(1); empty: no SSH signature counts."""

    revoked_signers: OptionalFile = ""
    """File of SSH keys that may no longer sign: public keys, one a line, or a KRL; empty: none is revoked."""

    gpg_keys: OptionalFile = ""
    """File of the GPG keys that may sign, as `gpg --armor --export` writes it; empty: no GPG signature counts."""

    validation: Literal["default", "strict"] = "default"
    """`strict` refuses what today's OpenShift API refuses, such as tags and digests in registry lists."""

    kubernetes: Literal["none", "kubeconfig", "in-cluster"] = "none"
    """The fleet's cluster: `none`, the one of a `kubeconfig` file, or `in-cluster`: the one the service runs in."""

    kubeconfig: OptionalFile = ""
    """The kubeconfig file; empty: the one that the variable `KUBECONFIG` names (several are refused), else
    `~/.kube/config`."""

    context: str = ""
    """The context of that file; empty: its current one."""

    node_selector: Selector = ""
    """Which nodes of the cluster belong to the fleet without a Node document, by their labels as `kubectl -l` takes
    them; empty: all."""

    namespace: Namespace = "reconciler"
    """The namespace of the pods by which nodes with `transport: kubernetes` are reached; it must admit privileged
    ones."""

    helper_image: ImageByDigest = ""
    """The image of these pods, by digest: any that has sh, chroot, cat, sleep and base64. Required for such nodes."""

    look_interval: Duration = timedelta(hours=1)
    """Age after which such a node is looked at by a pod although nothing happened there; 0s: never."""

    @model_validator(mode="after")
    def _keys_to_verify_with(self) -> Self:
        if self.verify != "none" and not (self.allowed_signers or self.gpg_keys):
            raise ValueError(f'verify = "{self.verify}" needs keys; set allowed_signers, gpg_keys or both')
        return self


class SshSettings(_Section):
    """How nodes are reached over SSH."""

    known_hosts: FilePath = Path("~/.ssh/known_hosts")
    """Host keys of nodes whose Node document has none."""

    identity_files: FilePaths = ()
    """Private keys to log in with; empty: the agent's and those of `config_file`."""

    config_file: FilePath = Path("~/.ssh/config")
    """OpenSSH client configuration to take jump hosts and the like from."""

    connect_timeout: Period = timedelta(seconds=10)
    """Longest time that connecting to a node may take."""


class ServiceSettings(_Section):
    """The long-running service, `reconciler serve`."""

    listen: Address = "127.0.0.1:8080"
    """HOST:PORT of `/livez`, `/readyz` and `/metrics`."""

    shutdown_grace: Duration = timedelta(seconds=30)
    """How long running steps may take to finish after SIGTERM."""

    lease: Period = timedelta(seconds=15)
    """After this long without a sign of life from a process, others take its steps over."""

    @property
    def address(self) -> tuple[str, int]:
        """Host (without brackets, empty for every address) and port of `listen`."""
        host, _, port = self.listen.rpartition(":")
        return host.strip("[]"), int(port)


class CheckpointSettings(_Section):
    """Signed heads of the log."""

    key: OptionalFile = ""
    """File of the secret key, as `reconciler log keygen` writes it, mode 0600; empty: none is signed."""

    file: OptionalFile = ""
    """File that holds the latest checkpoint. With neither this nor a repository, they go to standard output."""

    repository: str = ""
    """Git repository to whose `branch` every checkpoint is committed, as the file `checkpoint`."""

    branch: Text = "checkpoints"
    """The branch for them; it is made where it is missing, and never forced."""

    interval: Period = timedelta(hours=1)
    """Time after which the service signs the next one, when events were appended."""

    events: Count = 1000
    """Number of events after which it signs the next one earlier; 0: only by time."""


class HookSettings(_Section):
    """Commands that config repositories may have run where reconciler runs."""

    controller: Patterns = ()
    """Patterns of absolute paths of programs that a pool's `drain` may name with `runOn: controller`; empty: none."""


class LogSettings(_Section):
    """What is written to standard error."""

    level: Literal["debug", "info", "warning", "error"] = "info"
    """The least important lines that are shown: `debug`, `info`, `warning` or `error`."""

    format: Literal["text", "json"] = "text"
    """`text` for people, `json` for collectors: one object per line."""


class Settings(_Section):
    """Everything that can be set. Made by `load`."""

    data_dir: FilePath = Path("~/.local/share/reconciler")
    """Where mirrors of repositories and the embedded PostgreSQL live."""

    database: DatabaseSettings = DatabaseSettings()
    fleets: dict[FleetName, FleetSettings] = {}
    ssh: SshSettings = SshSettings()
    service: ServiceSettings = ServiceSettings()
    checkpoints: CheckpointSettings = CheckpointSettings()
    hooks: HookSettings = HookSettings()
    log: LogSettings = LogSettings()

    _origins: dict[str, str] = PrivateAttr(default_factory=dict)

    def set_origins(self, origins: dict[str, str]) -> None:
        """Remember where each dotted key was given."""
        self._origins.update(origins)

    def origin(self, key: str) -> str:
        """Where a value came from: `flag`, a variable, a file, or `default`."""
        return self._origins.get(key, "default")


def fields(section: type[BaseModel] = Settings, prefix: str = "") -> Iterator[tuple[str, FieldInfo]]:
    """Every key with its field, in order; a fleet's name is `*`."""
    for name, field in section.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            yield from fields(field.annotation, f"{prefix}{name}.")
        elif name == "fleets":
            yield from fields(FleetSettings, "fleets.*.")
        else:
            yield f"{prefix}{name}", field
