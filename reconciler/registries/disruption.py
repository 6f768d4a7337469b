"""Node disruption policies: which action a changed file calls for, and what MCO itself would decide.

MCO: pkg/apihelpers/apihelpers.go, pkg/daemon/update.go, pkg/daemon/drain.go. The policy with the longest path that
equals the changed path or is a parent directory of it counts; without one MCO reboots the node.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from reconciler.errors import InputRejected
from reconciler.registries.model import CERTS_D, POLICY_JSON, REGISTRIES_CONF, REGISTRIES_CONF_D
from reconciler.registries.registries_change import compare
from reconciler.registries.registries_file import RegistriesFile, read

Files = Mapping[str, bytes | None]
"""Contents by path; None (or no entry) means that the file is not there."""

NONE = "None"
RELOAD = "Reload:crio.service"
RESTART = "Restart:crio.service"
SPECIAL = "Special:crio reload"
"""Reload CRI-O, and drain unless the change of registries is safe."""
DRAIN, REBOOT = "Drain", "Reboot"
_UNIT_ACTIONS = ("Reload", "Restart")
_PLAIN_ACTIONS = (NONE, DRAIN, REBOOT, "DaemonReload")


@dataclass(frozen=True, slots=True)
class FilePolicy:
    """What a change at or below `path` calls for: `None`, `Reload:UNIT`, `Restart:UNIT`, `DaemonReload`, …"""

    path: str
    actions: tuple[str, ...]


_CA_TRUST = "Restart:coreos-update-ca-trust.service"
_KUBELET, _IRI = "Restart:kubelet.service", "Restart:iri-registry.service"
_ANCHORS = "/etc/pki/ca-trust/source/anchors"
_KUBELET_DROP_IN = "/etc/systemd/system/kubelet.service.d/40-kubelet-crio-image-credential-provider.conf"

MCO_POLICIES = (
    FilePolicy("/var/lib/kubelet/config.json", (NONE,)),
    FilePolicy("/etc/machine-config-daemon/no-reboot/containers-gpg.pub", (RELOAD,)),
    FilePolicy(POLICY_JSON, (RELOAD,)),
    FilePolicy(REGISTRIES_CONF, (SPECIAL,)),
    FilePolicy("/etc/containers/registries.d", (RELOAD,)),
    FilePolicy("/etc/crio/policies", (RELOAD,)),
    FilePolicy("/etc/nmstate/openshift", (NONE,)),
    FilePolicy(f"{_ANCHORS}/openshift-config-user-ca-bundle.crt", (_CA_TRUST, RESTART)),
    FilePolicy("/etc/kubernetes/credential-providers", (_KUBELET,)),
    FilePolicy(_KUBELET_DROP_IN, ("DaemonReload", _KUBELET)),
    FilePolicy("/etc/iri-registry", (_IRI,)),
    FilePolicy("/usr/local/bin/load-registry-image.sh", (_IRI,)),
    FilePolicy(f"{_ANCHORS}/iri-root-ca.crt", (_CA_TRUST,)),
)
"""MCO's built-in policies."""

OPENSHIFT_POLICIES = (*MCO_POLICIES, FilePolicy(CERTS_D, (NONE,)))
"""What happens on OpenShift: MCO's, and certificates, which reach nodes beside MachineConfigs, disturb nobody."""

DEFAULT_POLICIES = (
    *MCO_POLICIES,
    FilePolicy(REGISTRIES_CONF_D, (SPECIAL,)),
    FilePolicy(CERTS_D, (NONE,)),
    FilePolicy("/", (DRAIN, RESTART)),
)
"""Ours: MCO's, but the search list as the OpenShift documentation has it, and never a reboot."""

MINIMAL_POLICIES = (
    FilePolicy(REGISTRIES_CONF, (RELOAD,)),
    FilePolicy(REGISTRIES_CONF_D, (RELOAD,)),
    FilePolicy("/", (NONE,)),
)
"""What CRI-O was measured to need; everything else it reads at each pull."""


@dataclass(frozen=True, slots=True)
class Decision:
    """What MCO does to a running node. `actions` are sorted; with `error` the update fails before it starts.

    `registries_conf_change_safe` is None when registries.conf did not change or cannot be parsed.
    """

    changed: tuple[str, ...]
    actions: tuple[str, ...]
    drain: bool
    reboot: bool
    registries_conf_change_safe: bool | None
    error: str = ""


def mco_decision(old: Files, new: Files, policies: Sequence[FilePolicy] = ()) -> Decision:
    """MCO's decision for a change of files under its default policies and the user's (`nodeDisruptionPolicy`)."""
    changed = changed_paths(old, new)
    actions = mco_actions(changed, policies)
    safe, error = None, ""
    if REGISTRIES_CONF in changed:
        try:
            changes = compare(read_or_empty(old, REGISTRIES_CONF), read_or_empty(new, REGISTRIES_CONF))
            safe = all(change.safe for change in changes)
        except InputRejected as problem:
            error = f"{REGISTRIES_CONF}: {problem.what}"
    reboot = REBOOT in actions
    drain = reboot or DRAIN in actions or (SPECIAL in actions and safe is False)
    judged = SPECIAL in actions and not drain
    return Decision(changed, actions, drain, reboot, safe, error if judged else "")


def mco_actions(changed: Sequence[str], policies: Sequence[FilePolicy]) -> tuple[str, ...]:
    """The union of what each path calls for, sorted; Reboot swallows the rest, None yields to it."""
    table = by_path((*MCO_POLICIES, *policies))
    actions: set[str] = set()
    for path in changed:
        policy = policy_for(path, table)
        actions.update(policy.actions if policy else (REBOOT,))
    if REBOOT in actions:
        return (REBOOT,)
    return tuple(sorted(actions - {NONE})) or (NONE,)


def changed_paths(old: Files, new: Files) -> tuple[str, ...]:
    """Paths added, removed, or changed in a single byte; sorted."""
    return tuple(path for path in sorted({*old, *new}) if old.get(path) != new.get(path))


def read_or_empty(files: Files, path: str) -> RegistriesFile:
    """A file that is not there says nothing. Raises InputRejected when it cannot be parsed."""
    content = files.get(path)
    return RegistriesFile() if content is None else read(content)


def by_path(policies: Sequence[FilePolicy]) -> dict[str, FilePolicy]:
    """The later policy of a path replaces the earlier."""
    return {policy.path.rstrip("/"): policy for policy in policies}


def policy_for(path: str, policies: Mapping[str, FilePolicy]) -> FilePolicy | None:
    """The policy of the path itself or of its nearest parent directory."""
    while path not in policies:
        if not path:
            return None
        path = path.rpartition("/")[0]
    return policies[path]


def file_policies(entries: Sequence[Mapping[str, Any]]) -> tuple[FilePolicy, ...]:
    """Policies in MCO's YAML form: `[{path, actions: [{type: Reload, reload: {serviceName}}]}]`.

    Raises InputRejected for any other form.
    """
    policies = []
    for index, entry in enumerate(entries):
        where = f"files[{index}]"
        path, actions = entry.get("path"), entry.get("actions")
        if not isinstance(path, str) or not path.startswith("/"):
            raise InputRejected("must be an absolute path", where=f"{where}.path")
        if not isinstance(actions, Sequence) or isinstance(actions, str) or not actions:
            raise InputRejected("must be a list of at least one action", where=f"{where}.actions")
        named = tuple(_action(action, f"{where}.actions[{number}]") for number, action in enumerate(actions))
        if len(named) > 1 and (NONE in named or REBOOT in named):
            raise InputRejected("None and Reboot stand alone", where=f"{where}.actions")
        policies.append(FilePolicy(path, named))
    return tuple(policies)


def _action(action: Any, where: str) -> str:
    kind = action.get("type") if isinstance(action, Mapping) else None
    if kind in _PLAIN_ACTIONS:
        return str(kind)
    if kind in _UNIT_ACTIONS and isinstance(action.get(kind.lower()), Mapping):
        unit = action[kind.lower()].get("serviceName")
        if isinstance(unit, str) and unit:
            return f"{kind}:{unit}"
    remedy = f"write {{type: {'|'.join(_PLAIN_ACTIONS)}}} or {{type: Reload, reload: {{serviceName: crio.service}}}}"
    raise InputRejected("is no action", where=where, remedy=remedy)
