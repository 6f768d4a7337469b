"""A plan for people: plain text for the terminal, Markdown for a comment on a pull request."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Sequence

import click

from reconciler.cli.output import Column, Item, count, print_object, problem_text, short

UPGRADE_COLUMNS = (
    Column("POOL", lambda item: item["pool"]),
    Column("NODE", lambda item: item["node"]),
    Column("BASE", lambda item: short(item["base"])),
    Column("NODES", lambda item: len(item["nodes"])),
    Column("RECORDED-WITH", lambda item: item["recordedWith"]),
    Column("RENDERER", lambda item: item["renderer"]),
    Column("FILES", lambda item: [difference["path"] for difference in item["diff"]]),
)
COMMENT_LIMIT = 60_000
"""Characters of a Markdown plan; forges take 65,536 in a comment."""

_COLOURS = {"+": "green", "-": "red", "@": "cyan"}
_SIGNS = {"Added": "+", "Registered": "+", "Removed": "-"}


def print_plan(form: str, data: Item) -> None:
    """The answer of `planning.plan`."""
    if form in ("json", "yaml"):
        print_object(form, {"kind": "Plan", **data})
    elif form == "markdown":
        click.echo(markdown(data))
    else:
        for line in _text(data):
            click.echo(line)


def print_upgrade(form: str, items: Sequence[Item]) -> None:
    """The answer of `planning.renderer_changes`."""
    if not items:
        click.echo("today's renderer gives what is recorded", err=True)
    for item in items:
        whom = f"node {item['node']}" if item["node"] else f"pool {item['pool']} over base {short(item['base'])}"
        head = f"{whom}: {count(len(item['nodes']), 'node')}, {item['recordedWith']} → {item['renderer']}"
        click.echo(f"### {head}" if form == "markdown" else head)
        for problem in item["problems"]:
            click.echo(f"does not render any more: {problem}")
        if form == "markdown" and item["diff"]:
            click.echo("\n".join(_fenced(list(_diff_lines(item["diff"], "recorded", "renderer")))))
        elif form != "markdown":
            for line in _diff_lines(item["diff"], "recorded", "renderer"):
                click.echo(_coloured(line))


def _subject(data: Item) -> str:
    if data["ref"]:
        return f"{data['ref']} ({short(data['commit'])}) as if merged"
    return f"{data['directory']} as if merged" if data["directory"] else "the next pass"


def _changes_text(pool: Item) -> str:
    text = f"{pool['behind']} of {count(pool['nodes'], 'node')} to change"
    if pool["changes"]:
        text += f", class {pool['disruption']}, action {pool['effective']}, plan {short(pool['digest'])}"
    return text


# --- Plain text -----------------------------------------------------------------------------------------------------


def _text(data: Item) -> Iterator[str]:
    yield f"Plan of {data['fleet']} at #{data['position']}: {_subject(data)}; nodes as {_nodes_from(data)}"
    yield from _troubles(data)
    for item in data["content"]:
        yield f"  {_sign(item)} {item['subject']}: {item['summary']}"
    for pool in data["pools"]:
        yield ""
        yield from pool_lines(pool)
    if not data["changes"] and not any(pool["behind"] for pool in data["pools"]):
        silent = unanswered(data)
        whom = "it" if silent == 1 else "them"
        yield f"{count(silent, 'node')} did not answer: nothing is known of {whom}" if silent else "nothing to change"


def pool_lines(pool: Item) -> Iterator[str]:
    """A pool of a plan: what changes, why, who goes when, and the files."""
    yield f"Pool {pool['name']} ({pool['mode']}): {_changes_text(pool)}"
    for name, text in _facts(pool):
        yield f"  {name + ':':<9} {text}"
    for change in pool["changes"]:
        yield f"  from {short(change['start'])}: {_nodes(change['nodes'])}"
        yield from (_coloured(line) for line in _diff_lines(change["diff"], "now", "planned"))


def unanswered(data: Item) -> int:
    """How many nodes were asked and did not answer, so that whether they need a change is not known."""
    return sum(len(pool["unanswered"]) for pool in data["pools"])


def _nodes_from(data: Item) -> str:
    return "they answer now" if data["nodesFrom"] == "nodes" else "the log knows them"


def _troubles(data: Item) -> Iterator[str]:
    """What a reader must know before the rest."""
    if data["sourceUnreachable"]:
        yield f"Git cannot be read, so newer commits are not in this plan: {data['sourceUnreachable']}"
    if data["clusterUnreachable"]:
        yield f"the cluster cannot be asked, so its nodes are as last known: {data['clusterUnreachable']}"
    if data["rewritten"]:
        yield "the branch was rewritten: nothing newer is taken until `reconciler accept`"
    if data["verdict"] in ("rejected", "partly rejected"):
        yield f"{data['verdict']}:"
        yield from (problem_text(problem) for problem in data["problems"])
    if data["removes"]:
        yield f"waits for `reconciler approve`, since the commit removes {'; '.join(data['removes'])}"
    yield from (f"warning: {problem_text(warning)}" for warning in data["warnings"])


def _sign(item: Item) -> str:
    return next((sign for end, sign in _SIGNS.items() if item["type"].endswith(end)), "~")


def _facts(pool: Item) -> Iterator[tuple[str, str]]:
    for reason in pool["reasons"]:
        yield "reason", reason
    if pool["waves"]:
        yield "order", _order(pool)
    for wait in pool["waits"]:
        yield "waits", f"{_nodes(wait['nodes'])}: {wait['reason']}"
    for unknown in pool["unknown"]:
        yield "unknown", f"{_nodes(unknown['nodes'])}: {unknown['reason']}"
    for repair in pool["repairs"]:
        yield "repair", f"{repair['node']}: {', '.join(repair['paths'])}"
    if pool["returns"]:
        yield "returns", f"{_nodes(pool['returns'])} to the files last completed"
    yield "guard", pool["guard"]
    if pool["rejected"]:
        yield "rejected", f"commit {short(pool['rejected'])}: the pool keeps {short(pool['commit']) or 'what it has'}"
    if pool["blocked"]:
        yield "blocked", pool["blocked"]
    for image in pool["images"]:
        yield "image", f"{image['image']}: {image['before']} → {image['after']} on {_nodes(image['nodes'])}"


def _order(pool: Item) -> str:
    """Who goes when; a canary's soak and approvals stand where they are waited for."""
    order, parts = pool["order"], []
    if order["approval"] == "always":
        parts.append("approval")
    kinds = [wave["kind"] for wave in pool["waves"]]
    for number, wave in enumerate(pool["waves"]):
        name = "canary" if wave["kind"] == "canary" else f"wave {wave['wave']}"
        parts.append(f"{name} {_nodes(wave['nodes'])}")
        if wave["kind"] == "canary" and "canary" not in kinds[number + 1 :]:
            parts += [f"soak {order['canary']['soak']} s"] * bool(order["canary"]["soak"])
            parts += ["approval"] * (order["approval"] == "afterCanary")
    return "; ".join(parts)


def _nodes(names: Sequence[str], most: int = 10) -> str:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def _diff_lines(differences: Sequence[Item], before: str, after: str) -> Iterator[str]:
    """A unified diff of every file, or why there is none."""
    for item in differences:
        if "error" in item:
            yield f"# {item['path']}: {item['error']}"
            continue
        names = f"{item['path']} ({before})", f"{item['path']} ({after})"
        yield from difflib.unified_diff(item["from"].splitlines(), item["to"].splitlines(), *names, lineterm="")


def _coloured(line: str) -> str:
    return click.style(line, fg=_COLOURS.get(line[:1]))


# --- Markdown -------------------------------------------------------------------------------------------------------


def markdown(data: Item) -> str:
    """The plan as a comment. Diffs that would make it longer than a forge takes are left out, and that is said."""
    lines = [f"### reconciler plan: {_inline(_subject(data))}"]
    for number, trouble in enumerate(_troubles(data)):
        lines += [""] * (number == 0) + [f"> {_inline(line)}" for line in trouble.splitlines()]
    if data["content"]:
        lines.append("")
    lines += [f"- `{_sign(item)}` {_inline(item['subject'])}: {_inline(item['summary'])}" for item in data["content"]]
    lines += ["", "| Pool | Mode | To change | Class | Action | Plan |", "| --- | --- | --- | --- | --- | --- |"]
    lines += [_row(pool) for pool in data["pools"]]
    for pool in data["pools"]:
        facts = list(_facts(pool))
        if facts:
            lines += ["", f"**{pool['name']}**", ""]
            lines += [f"- {name}: {_inline(text)}" for name, text in facts]
    lines += ["", f"Fleet {data['fleet']} at #{data['position']}; nodes as {_nodes_from(data)}."]
    return "\n".join([*lines, *_details(data["pools"], COMMENT_LIMIT - sum(len(line) + 1 for line in lines))])


def _row(pool: Item) -> str:
    digest = f"`{short(pool['digest'])}`" if pool["changes"] else ""
    what = (pool["disruption"], pool["effective"]) if pool["changes"] else ("", "")
    return f"| {pool['name']} | {pool['mode']} | {pool['behind']} of {pool['nodes']} | {' | '.join(what)} | {digest} |"


def _details(pools: Sequence[Item], room: int) -> Iterator[str]:
    """The diffs, folded away, as far as there is room."""
    left_out = 0
    for pool in pools:
        for change in pool["changes"]:
            nodes = f"{count(len(change['nodes']), 'node')} of {pool['name']}: {_nodes(change['nodes'])}"
            diff = _fenced(list(_diff_lines(change["diff"], "now", "planned")))
            block = ["", f"<details><summary>{nodes}</summary>", "", *diff, "", "</details>"]
            size = sum(len(line) + 1 for line in block)
            if size > room:
                left_out += 1
                continue
            room -= size
            yield from block
    if left_out:
        yield ""
        yield f"{count(left_out, 'diff')} left out, since a comment would be too long: see `reconciler plan`."


def _fenced(lines: Sequence[str]) -> list[str]:
    """A block of code that nothing in it can end."""
    longest = max((len(run) for line in lines for run in re.findall("`+", line)), default=0)
    fence = "`" * max(3, longest + 1)
    return [f"{fence}diff", *lines, fence]


def _inline(text: str) -> str:
    """Text that content brought, so that it cannot be markup, a mention or a table's edge."""
    return re.sub(r"([\\`*_\[\]<>|#@])", r"\\\1", " ".join(text.split()))
