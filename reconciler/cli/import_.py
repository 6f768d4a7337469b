"""`reconciler import`: existing hosts become a config repository that leaves them as they are."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import click

from reconciler.cli.options import flag, option, output, shared
from reconciler.cli.output import Column, count, print_object, table
from reconciler.cli.session import Session, run
from reconciler.errors import NotConverged, UsageError

if TYPE_CHECKING:
    from reconciler.adoption.adopt import Outcome

FILE = click.Path(path_type=Path, dir_okay=False)
DIRECTORY = click.Path(path_type=Path, file_okay=False)
COMMIT_STEPS = ("init --initial-branch=main", "add --all", "commit --message 'Adopt the fleet as it is'")
"""What makes a Git repository of the directory, as --commit does."""
SHOWN = 5
"""Differences of one host or outlier that the table shows; JSON and YAML have all."""


@click.command("import")
@option("--from-node", "addresses", multiple=True, metavar="[USER@]HOST[:PORT]", show_default="none", help="A host.")
@option(
    "--from-dir", "copies", type=DIRECTORY, metavar="DIR", show_default="none",
    help="Copied files instead of hosts: DIR/HOST stands for the / of HOST.",
)  # fmt: skip
@option(
    "--nodes", type=FILE, metavar="FILE", show_default="none",
    help="Hosts, one [USER@]HOST[:PORT] a line, or Node documents in YAML.",
)  # fmt: skip
@option("--inventory", type=FILE, metavar="FILE", show_default="none", help="An Ansible inventory in INI form.")
@flag("--ssh-config", help="The hosts that ssh.config_file of the settings names without patterns.")
@flag("--from-cluster", help="The resources and pools of an OpenShift cluster, instead of hosts.")
@option(
    "--kubeconfig", type=FILE, metavar="FILE", show_default="$KUBECONFIG, ~/.kube/config", help="Names the cluster."
)
@option("--context", metavar="NAME", default="", show_default="the current one", help="The context of that file.")
@option("--user", metavar="NAME", default="root", help="Who logs in where the source of hosts does not say.")
@flag("--sudo", help="Become root by sudo.")
@option("--runtime", type=click.Choice(["crio", "podman"]), default="crio", help="What the hosts run.")
@option(
    "--keep", type=click.Choice(["bytes", "behaviour"]), default="bytes",
    help="bytes: take into Git what leaves every file as it is; behaviour: whatever leaves every answer as it is.",
)  # fmt: skip
@flag("--accept-new-host-keys", help="Trust the keys that unknown hosts show now; their Nodes are marked.")
@option("--to", type=DIRECTORY, metavar="DIR", show_default="nothing is written", help="A new or empty directory.")
@flag("--commit", help="Make a Git repository of it, with a first commit.")
@output("table", "json", "yaml")
@shared
@click.pass_obj
def import_(
    session: Session, addresses: tuple[str, ...], copies: Path | None, nodes: Path | None, inventory: Path | None,
    ssh_config: bool, from_cluster: bool, kubeconfig: Path | None, context: str, user: str, sudo: bool, runtime: str,
    keep: Literal["bytes", "behaviour"], accept_new_host_keys: bool, to: Path | None, commit: bool, output: str,
) -> int:  # fmt: skip
    """Write a config repository from the registry files of existing hosts, and prove that it changes nothing on them.

    Hosts that behave alike become a group with a NodePool in mode observe; what no resource says stays in their own
    files and is named. No node is written and nothing is recorded. Exit code 3 when a host cannot be read, or would
    behave otherwise.

    With --from-cluster the repository says what the resources of an OpenShift cluster say, with a NodePool of
    `manage: cluster` for each MachineConfigPool. Exit code 3 when it would say anything else than the cluster does.
    """
    from reconciler.adoption.adopt import Wish, adopt  # not before it is needed: SSH's library takes a while
    from reconciler.adoption.hosts import Login

    hosts = bool(addresses or copies or nodes or inventory or ssh_config)
    if not (hosts or from_cluster):
        remedy = "give --from-node, --from-dir, --nodes, --inventory, --ssh-config or --from-cluster"
        raise UsageError("no host is named", remedy=remedy)
    if hosts and from_cluster:
        raise UsageError("a cluster and hosts are not imported into one repository", where="--from-cluster")
    if commit and to is None:
        raise UsageError("there is nothing to commit", where="--commit", remedy="give --to DIR too")
    if from_cluster:
        return _import_cluster(kubeconfig, context, to, commit, output)
    login = Login(user, "sudo" if sudo else "", runtime)
    wish = Wish(addresses, copies, nodes, inventory, ssh_config, login, keep, accept_new_host_keys, to, commit)
    outcome = run(adopt(session.settings, wish))
    data = outcome.data()
    if output == "table":
        for line in _lines(data):
            click.echo(line)
    else:
        print_object(output, {"kind": "Adoption", **data})
    _say_next(outcome, to)
    return 0 if outcome.as_before else NotConverged.exit_code


def _import_cluster(kubeconfig: Path | None, context: str, to: Path | None, commit: bool, output: str) -> int:
    from reconciler.adoption.cluster import adopt_cluster

    outcome = run(adopt_cluster(str(kubeconfig or ""), context, to, commit=commit))
    if output == "table":
        taken = [{"object": key} for key in outcome.resources]
        for line in table(taken, (Column("TAKEN", lambda row: row["object"]),)):
            click.echo(line)
        for item in outcome.left:
            click.echo(f"{item.key} is left: {item.why}")
        for field in outcome.differs:
            click.echo(f"the repository would say otherwise: {field}")
    else:
        print_object(output, {"kind": "Import", **outcome.data()})
    _say_written(outcome.warnings, to, outcome.commit)
    if to is not None:
        click.echo('between the two, name the cluster in reconciler.toml: kubernetes = "kubeconfig"', err=True)
    return NotConverged.exit_code if outcome.differs else 0


GROUPS = (
    Column("GROUP", lambda group: group["name"]),
    Column("HOSTS", lambda group: len(group["hosts"])),
    Column("MIRRORED", lambda group: group["mirrored"]),
    Column("ENTRIES", lambda group: group["entries"]),
    Column("CAS", lambda group: group["certificates"]),
    Column("STAYS", lambda group: len(group["stays"])),
    Column("GIT", lambda group: "whole" if group["whole"] else "part"),
    Column("MEMBERS", lambda group: _members(group["hosts"])),
)
STAYS = (
    Column("STAYS", lambda row: row["what"]),
    Column("IN", lambda row: row["file"]),
    Column("OF", lambda row: row["groups"]),
    Column("WHY", lambda row: f"{row['name']}: {row['why']}"),
)


def _members(hosts: Sequence[str]) -> str:
    return " ".join(hosts[:4]) + (f" … {hosts[-1]}" if len(hosts) > 4 else "")


def _lines(data: dict[str, Any]) -> Iterator[str]:
    """Groups, outliers with what is special about them, what stays, and each first plan that is not empty."""
    groups = data["groups"]
    if groups:
        yield from table(groups, GROUPS)
    for group in groups:
        if group["outlier"]:
            like = f" beside {group['nearest']}" if group["nearest"] else ""
            yield f"outlier {group['name']} ({' '.join(group['hosts'])}){like}:"
            yield from _some(group["differs"])
    stays = _gathered((item, group["name"]) for group in groups for item in group["stays"])
    if stays:
        yield from table([{"groups": names, **item} for item, names in stays], STAYS)
    empty = sum(host["empty"] for host in data["hosts"])
    if data["hosts"]:
        yield f"first plan: empty for {empty} of {count(len(data['hosts']), 'host')}"
    plans = [(dict(host, host="", hostKeys=""), host["host"]) for host in data["hosts"] if not host["empty"]]
    for plan, hosts in _gathered(plans):
        yield f"{_members(hosts)}: {plan['error'] or _changes(plan)}"
        yield from _some([*plan["reasons"], *plan["behaviour"]])
    for host in data["hosts"]:
        if host["hostKeys"] == "first contact":
            yield f"{host['host']}: its host key was seen at first contact, and nobody vouches for it"
    yield from (f"{item['host']}: not read: {item['reason']}" for item in data["unread"])


def _gathered(items: Iterable[tuple[dict[str, Any], str]]) -> list[tuple[dict[str, Any], list[str]]]:
    """Equal items once, each with all that have it."""
    found: dict[str, tuple[dict[str, Any], list[str]]] = {}
    for item, owner in items:
        found.setdefault(repr(item), (item, []))[1].append(owner)
    return list(found.values())


def _changes(host: dict[str, Any]) -> str:
    how = "behaves otherwise" if host["behaviour"] else "behaves as before"
    return f"{', '.join(host['changed'])} would be written, class {host['class']}; {how}"


def _some(lines: Sequence[str]) -> Iterator[str]:
    yield from (f"  {line}" for line in lines[:SHOWN])
    if len(lines) > SHOWN:
        yield f"  … and {len(lines) - SHOWN} more (-o json)"


def _say_next(outcome: Outcome, to: Path | None) -> None:
    if to is not None and outcome.layout is None:
        _say_written(outcome.warnings, None, "", why="no host could be read")
        return
    strangers = outcome.strangers
    scans = [f"reconciler hostkeys scan --nodes {shlex.quote(str(to))}/{file} -o known_hosts" for file in strangers]
    _say_written(outcome.warnings, to, outcome.commit, scans)
    if to is not None and strangers:
        click.echo("`sync` contacts no host whose key nobody vouches for: compare what the scan shows", err=True)


def _say_written(
    warnings: Sequence[str], to: Path | None, commit: str, before: Sequence[str] = (), *, why: str = "give --to DIR"
) -> None:
    """Where the repository is, and the commands that come next, `before` those of every import."""
    for warning in warnings:
        click.echo(f"warning: {warning}", err=True)
    if to is None:
        click.echo(f"nothing was written; {why}", err=True)
        return
    place = shlex.quote(str(to))
    click.echo(f"wrote {to}" + (f", commit {commit[:12]}" if commit else ""), err=True)
    click.echo(f"next: read {to}/README.md, then", err=True)
    steps = [] if commit else [f"git -C {place} {step}" for step in COMMIT_STEPS]
    for step in (*steps, *before, f"reconciler init --url {place}", "reconciler sync"):
        click.echo(f"  {step}", err=True)
