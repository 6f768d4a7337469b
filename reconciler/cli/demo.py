"""`reconciler demo`: the whole job on nodes of this machine."""

from __future__ import annotations

import fcntl
import os
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import click
import yaml

from reconciler.cli.demo_stage import OWN_WORDS, Stage, program, shown
from reconciler.cli.demo_steps import SHOWN, STEPS
from reconciler.cli.options import option
from reconciler.data import data_path
from reconciler.errors import UsageError
from reconciler.starter import git

if TYPE_CHECKING:
    from reconciler.trial import TrialNode

MARK = ".reconciler-demo"
"""A file in the demo's folder: what stands beside it may be removed by the next run. Locked while one runs."""

SETTINGS = """\
data_dir = "data"

[fleets.default]
url = "fleet"

[ssh]
identity_files = ["nodes/id_ed25519"]
known_hosts = "nodes/known_hosts"
config_file = "nodes/ssh_config"
"""
HOSTS_OWN = f"""\
# Written by hand, long before anybody managed this node.
{OWN_WORDS}
short-name-mode = "permissive"
"""
POLICY = '{"default": [{"type": "insecureAcceptAnything"}]}\n'


@click.command()
@option(
    "--dir",
    "directory",
    type=click.Path(path_type=Path),
    metavar="DIR",
    show_default=".demo here",
    help="Where to keep everything; what an earlier demo left there is removed.",
)
@option("--nodes", "count", type=click.IntRange(1, 20), default=3, help="How many nodes.")
@option(
    "--transport",
    type=click.Choice(("auto", "ssh", "local")),
    default="auto",
    help="ssh: real sshd nodes (root, Linux); local: directories; auto: ssh where possible.",
)
def demo(directory: Path | None, count: int, transport: str) -> None:
    """Show the whole job on nodes of this machine, from a first look to a rollback without Git. Ends by itself.

    Every step is checked; exit code 1 when one does not do what it says.
    """
    signal.signal(signal.SIGTERM, _terminated)
    started = time.monotonic()
    with _folder(directory) as folder:
        from reconciler.trial import (
            trial_cluster,
            trial_database,
            trial_nodes,
        )  # not before it is needed: loads large libraries

        ssh = _use_ssh(transport)
        place = folder.absolute()
        with trial_database(place / "data"):
            _clear(folder)
            names = [f"worker-{number}" for number in range(1, count + 1)]
            with (
                trial_nodes(place / "nodes", count, ssh=ssh) as nodes,
                trial_cluster(place / "cluster", names) as cluster,
            ):
                _prepare(folder, nodes)
                stage = Stage(folder, nodes, cluster, program())
                _welcome(stage, ssh=ssh)
                stage.cluster_settings.parent.mkdir()
                for step in STEPS:
                    step(stage)
                stage.cluster_settings.unlink(missing_ok=True)  # the cluster ends here
        _goodbye(stage, time.monotonic() - started, ssh=ssh)


def _terminated(number: int, _: object) -> NoReturn:
    """End by SIGTERM as by Ctrl-C: every block is left, every process ended."""
    raise SystemExit(128 + number)


# --- the folder -----------------------------------------------------------------------------------------------------


@contextmanager
def _folder(wanted: Path | None) -> Iterator[Path]:
    """An empty folder of the demo's own, locked. Raises UsageError for one that holds something else, or is in use."""
    folder = Path(shown(wanted or Path(".demo")))
    try:
        folder.mkdir(parents=True, exist_ok=True)
        writable = os.access(folder, os.W_OK | os.X_OK)
    except OSError:
        writable = False
    if not writable and wanted is not None:
        raise UsageError("cannot be written", where=str(folder), remedy="name another folder with --dir")
    if not writable:
        folder = Path(tempfile.mkdtemp(prefix="reconciler-demo-"))
    if any(folder.iterdir()) and not (folder / MARK).exists():
        raise UsageError("holds something that is not a demo's", where=str(folder), remedy="name another with --dir")
    with (folder / MARK).open("a") as mark:
        try:
            fcntl.flock(mark, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UsageError("another demo runs there", where=str(folder), remedy="name another with --dir") from None
        yield folder


def _clear(folder: Path) -> None:
    """Remove what an earlier demo left beside the data directory."""
    for left in folder.iterdir():
        if left.name in (MARK, "data"):
            continue
        if left.is_dir() and not left.is_symlink():
            shutil.rmtree(left)
        else:
            left.unlink()


# --- nodes ----------------------------------------------------------------------------------------------------------


def _use_ssh(transport: str) -> bool:
    """Whether to use real sshd nodes; installs sshd where that is all that is missing and nobody minds."""
    from reconciler.trial import SSHD, sshd_obstacle  # as above

    if transport == "local":
        return False
    obstacle = sshd_obstacle()
    if obstacle == SSHD and shutil.which("apt-get") and _may_install():
        _install()
        obstacle = sshd_obstacle()
    if not obstacle and not shutil.which("ssh"):
        obstacle = "there is no ssh client to show them with"
    if obstacle and transport == "ssh":
        raise UsageError(obstacle, where="--transport ssh", remedy="use --transport local")
    if obstacle:
        click.echo(f"Nodes: directories of this machine, since {obstacle}.", err=True)
    return not obstacle


def _may_install() -> bool:
    if os.environ.get("CI"):
        return True
    if sys.stdin.isatty():
        return click.confirm("Install openssh-server by apt-get, for real sshd nodes? (Debian starts it.)", err=True)
    click.echo("openssh-server is not installed, and nobody is there to ask.", err=True)
    return False


def _install() -> None:
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    for command in (["update", "-qq"], ["install", "-y", "-qq", "--no-install-recommends", "openssh-server"]):
        done = subprocess.run(["apt-get", *command], env=environment, capture_output=True, text=True, check=False)
        if done.returncode:
            click.echo(f"apt-get {command[0]} failed: {done.stderr.strip()[-500:]}", err=True)
            return


def _prepare(folder: Path, nodes: Sequence[TrialNode]) -> None:
    """The settings, the nodes as somebody left them, and a repository with the example fleet in mode observe."""
    (folder / "reconciler.toml").write_text(SETTINGS)
    for node in nodes:
        containers = node.root / "etc/containers"
        (containers / "registries.conf").write_text(HOSTS_OWN)
        (containers / "policy.json").write_text(POLICY)
    _ssh_config(folder.absolute() / "nodes", nodes)
    fleet = folder / "fleet"
    shutil.copytree(data_path("config") / "example-fleet", fleet)
    (fleet / "nodes.yaml").write_text(yaml.safe_dump_all([_document(node) for node in nodes], sort_keys=False))
    pools = (fleet / "pools.yaml").read_text()
    (fleet / "pools.yaml").write_text(pools.replace("mode: enforce", "mode: observe"))
    git(fleet, "init", "--quiet", "--initial-branch=main")
    for key, value in (("user.name", "Alice"), ("user.email", "alice@example.com"), ("commit.gpgsign", "false")):
        git(fleet, "config", key, value)
    git(fleet, "config", "core.hooksPath", "/dev/null")
    git(fleet, "add", "--all")
    git(fleet, "commit", "--quiet", "--message", "Begin with the example fleet, observing only")


def _document(node: TrialNode) -> dict[str, Any]:
    target = node.target()
    ssh = {"transport": "ssh", "address": target.address, "port": target.port, "hostKeys": list(target.host_keys)}
    return {
        "apiVersion": "reconciler.dev/v1alpha1",
        "kind": "Node",
        "metadata": {"name": node.name, "labels": {"node-role.kubernetes.io/worker": ""}},
        "spec": ssh if target.transport == "ssh" else {"transport": "local", "root": target.root},
    }


def _ssh_config(directory: Path, nodes: Sequence[TrialNode]) -> None:
    """So that people reach the nodes by name: ssh -F ssh_config worker-1."""
    known, hosts = [], []
    for target in (node.target() for node in nodes):
        known += [f"[{target.address}]:{target.port} {key}" for key in target.host_keys]
        hosts.append(f"Host {target.name}\n  HostName {target.address}\n  Port {target.port}\n")
    common = f"  User root\n  IdentityFile {directory}/id_ed25519\n  UserKnownHostsFile {directory}/known_hosts\n"
    (directory / "known_hosts").write_text("".join(f"{line}\n" for line in known))
    (directory / "ssh_config").write_text("".join(hosts) + f"Host *\n{common}  StrictHostKeyChecking yes\n")


# --- what is said before and after ----------------------------------------------------------------------------------


def _welcome(stage: Stage, *, ssh: bool) -> None:
    kind = "real sshd servers, each with its own /etc and /var" if ssh else "directories of this machine"
    stage.say(f"The demo keeps everything in {stage.folder}. Its {len(stage.nodes)} nodes are {kind};")
    stage.say("a small program stands for their systemctl. Every command below may be typed as it is shown.")
    if "DATABASE_URL" in os.environ:
        stage.say("DATABASE_URL is set: unset it before you type them; the demo has a database of its own.")


def _goodbye(stage: Stage, seconds: float, *, ssh: bool) -> None:
    click.secho(f"\n── Done: {stage.number} steps, each checked, in {seconds:.0f} s ".ljust(101, "─"), bold=True)
    width = max(len(name) for name in SHOWN)
    for name, text in SHOWN.items():
        stage.say(f"  {name.ljust(width)}  {text}")
    verb = f"{stage.program} --config {shlex.quote(str(stage.folder / 'reconciler.toml'))}"
    if stage.cluster is None:
        stage.say(
            "\nNo Kubernetes API server is at hand (KUBEBUILDER_ASSETS, `make kubernetes`): its step was left out."
        )
    stage.say(f"\nEverything is in {stage.folder}: the repository (fleet), the log (data), the nodes (nodes).")
    if ssh:
        stage.say("The sshd nodes have ended with the demo; what was recorded of them has not:")
    stage.say("\nTry next:")
    for arguments, why in (
        ("history --limit 200", "all that happened"),
        ("get resources", "what is in force, and where it stands in Git"),
        (f"cat {stage.nodes[0].name}:/etc/containers/policy.json --applied", "a file that a receipt proved"),
        ("status -o json", "for programs"),
    ):
        stage.say(f"  {verb} {arguments}   # {why}")
    stage.say(f"  rm -r {shlex.quote(str(stage.folder))}   # when you are done")
