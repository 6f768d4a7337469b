"""The demo, step by step: each prints the commands that a user would type, runs them, and checks what it says."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Mapping, Sequence

from reconciler.cli.demo_stage import OWN_WORDS, REGISTRIES_CONF, Stage

MIRROR = "registry.example.com/openshift-payload"
FIRST_MIRROR = "internal-mirror.io/openshift-payload"


def validate(stage: Stage) -> None:
    stage.begin("A config repository")
    stage.say("OpenShift's own YAML, the nodes' addresses, and a pool in mode observe.")
    stage.shell(f"git -C {stage.fleet} ls-files")
    valid = stage.reconciler(f"validate {stage.fleet}")
    stage.check(valid.startswith("valid:"), "the example is valid")


def observe(stage: Stage) -> None:
    stage.begin("Observe first: nothing is written")
    before = stage.fingerprint()
    stage.reconciler("sync")
    stage.say("\nWhat would change on a node? (exit code 1 says: something)")
    plan = stage.reconciler(f"diff {stage.nodes[0].name}", ends=1)
    stage.check(f'+location = "{FIRST_MIRROR}"' in plan, "the plan shows the mirror")
    nodes = stage.reconciler("get nodes")
    stage.check(nodes.count("Unadopted") == len(stage.nodes), "no node is ours yet")
    stage.check(stage.fingerprint() == before, "no file of any node was touched")
    stage.say("\nChecked from outside: no inode, no time stamp and no byte changed on any node.")


def enforce(stage: Stage) -> None:
    stage.begin("Enforce, by a commit")
    stage.shell(f"sed -i 's/mode: observe/mode: enforce/' {stage.fleet}/pools.yaml")
    stage.shell(f"git -C {stage.fleet} commit --quiet --all --message 'Enforce on the workers'")
    stage.say("\nThe rollout: one node first, and when it has run well for 2 s, the others.")
    stage.reconciler("sync --wait")
    nodes = stage.reconciler("get nodes")
    stage.check(nodes.count("Converged") == len(stage.nodes), "every node has converged")
    files = stage.files().values()
    stage.check(all(FIRST_MIRROR in text for text in files), "every node has the mirror")
    stage.check(all(OWN_WORDS in text for text in files), "what we do not manage is still in each node's file")
    stage.check(stage.reloads() == len(stage.nodes), "each runtime was reloaded once")


def merge(stage: Stage) -> None:
    stage.begin("A pull request is merged")
    node = f"{stage.nodes[0].name}:{REGISTRIES_CONF}"
    before = f"{stage.folder}/before.conf"
    stage.reconciler(f"cat {node}", after=f" > {before}")
    stage.shell(f"git -C {stage.fleet} switch --quiet --create second-mirror")
    stage.shell(f"echo '    - {MIRROR}' >> {stage.fleet}/mirrors.yaml")
    stage.shell(f"git -C {stage.fleet} commit --quiet --all --message 'Use a second mirror of the payload'")
    stage.shell(f"git -C {stage.fleet} switch --quiet main")
    stage.say("\nBefore the merge: what would it do, to which nodes, in which order?")
    plan = stage.reconciler("plan --ref second-mirror")
    stage.check(f'+location = "{MIRROR}"' in plan, "the plan shows the second mirror")
    stage.check(f"canary {stage.nodes[0].name}" in plan, "the plan says who goes first")
    message = "Merge pull request #1 from alice/second-mirror"
    stage.shell(f"git -C {stage.fleet} merge --quiet --no-ff --message '{message}' second-mirror")
    stage.reconciler("sync --wait")
    stage.check(all(MIRROR in text for text in stage.files().values()), "every node has the second mirror")
    stage.say("\nThe node's file, before and after:")
    change = stage.reconciler(f"cat {node}", after=f" | diff -u {before} -", ends=1)
    stage.check(f'+location = "{MIRROR}"' in change, "the node's file has the second mirror")


def look_back(stage: Stage) -> None:
    stage.begin("The history says who, what, and to what effect")
    lines = stage.reconciler(f"history --limit {7 + 5 * len(stage.nodes)}")
    stage.check("pull request #1" in lines, "the history names the pull request")
    stage.check(lines.count("NodeConverged") == len(stage.nodes), "the history has each node's receipt")
    log = stage.reconciler(f"node log {stage.nodes[0].name} --limit 1")
    stage.check("#1" in log, "the node's own log names the pull request")


def ask_why(stage: Stage) -> None:
    stage.begin("Why can an image not be pulled?")
    stage.say("Asked of the fleet; with --from DIR, of any folder of manifests. Exit code 1: it cannot be pulled.")
    answer = stage.reconciler("why untrusted.com/app:1", ends=1)
    stage.check("spec.registrySources.allowedRegistries" in answer, "the answer names the deciding field")
    stage.check("Begin with the example fleet" in answer or "commit" in answer, "the answer names the commit")


def refuse(stage: Stage) -> None:
    stage.begin("A bad commit is refused, with file and line")
    before = stage.fingerprint()
    stage.say("Registries are either allowed or blocked; this commit does both. Exit code 4: input rejected.")
    stage.shell(f"printf '    blockedRegistries:\\n    - untrusted.com\\n' >> {stage.fleet}/image.yaml")
    stage.shell(f"git -C {stage.fleet} commit --quiet --all --message 'Block untrusted.com'")
    said = stage.reconciler("sync", ends=4)
    stage.check(re.search(r"image\.yaml:\d+", said) is not None, "the message names file and line")
    stage.check(stage.fingerprint() == before, "nothing was changed on any node")
    stage.say("\nNo node was touched. The author takes it back:")
    stage.shell(f"git -C {stage.fleet} revert --no-edit HEAD")
    stage.reconciler("sync")


def protect(stage: Stage) -> None:
    stage.begin("A change that would lock out an image that is needed")
    before = stage.fingerprint()
    stage.say("The pool requires example.com/app; this commit no longer allows example.com. Exit code 3: it waits.")
    stage.shell(f"sed -i '/^    - example.com$/d' {stage.fleet}/image.yaml")
    stage.shell(f"git -C {stage.fleet} commit --quiet --all --message 'Allow fewer registries'")
    said = stage.reconciler("sync", ends=3)
    stage.check("example.com/app" in said, "the guard names the image")
    stage.check(stage.fingerprint() == before, "nothing was changed on any node")
    stage.say("\nHad nobody seen it: which change broke this image? The log tells, and what would undo it.")
    first = stage.shell(f"git -C {stage.fleet} rev-list --max-parents=0 --abbrev-commit HEAD").strip()
    found = stage.reconciler(f"bisect --good {first} --image example.com/app:1")
    stage.check("Allow fewer registries" in found, "the search names the commit")
    stage.say("\nNo node was touched. The author takes it back:")
    stage.shell(f"git -C {stage.fleet} revert --no-edit HEAD")
    stage.reconciler("sync")


def repair(stage: Stage) -> None:
    node = stage.nodes[-1]
    stage.begin("Somebody edits a file by hand")
    good, reloads = stage.file(node), len(node.actions())
    edit = f"sed -i s,{FIRST_MIRROR},evil.example.com/payload, "
    if node.target().transport == "ssh":
        stage.shell(f"ssh -F {stage.folder}/nodes/ssh_config {node.name} {edit}{REGISTRIES_CONF}")
    else:
        stage.shell(f"{edit}{stage.folder}/nodes/{node.name}{REGISTRIES_CONF}")
    stage.check("evil.example.com" in stage.file(node), "the file was changed by hand")
    stage.reconciler(f"diff {node.name}", ends=1)
    stage.reconciler("sync --wait")
    stage.check(stage.file(node) == good, "the file is as it was")
    stage.check(len(node.actions()) == reloads + 1, "the runtime was reloaded once")
    kept = stage.reconciler(f"history --node {node.name} --type DriftDetected --type DriftRepaired")
    stage.check("DriftDetected" in kept and "DriftRepaired" in kept, "the history has the drift and its repair")


def roll_back_without_git(stage: Stage) -> None:
    before = (stage.folder / "before.conf").read_text()
    stage.begin("Saturday night: the mirror is bad, and Git is down")
    stage.shell(f"mv {stage.fleet} {stage.fleet}.gone")
    status = stage.reconciler("sync")
    stage.check("unreachable since" in status, "the status says since when Git is gone")
    stage.say("\nWhere could we go back to?")
    points = stage.reconciler("rollback")
    found = re.search(r"^#(\d+) .*Enforce on the workers", points, re.MULTILINE)
    position = found[1] if found else "0"
    reason = "the second mirror serves broken images"
    stage.reconciler(f"rollback --to '#{position}' --reason '{reason}' --yes")
    nodes = stage.nodes
    stage.check(stage.file(nodes[0]) == before, "the node has the very bytes it had before the pull request")
    stage.check(all(MIRROR not in text for text in stage.files().values()), "no node has the second mirror")


def explain(stage: Stage) -> None:
    stage.begin("What was that rollback?")
    line = stage.reconciler("history --type RolledBack --limit 1")
    found = re.search(r"^#(\d+)", line, re.MULTILINE)
    event = stage.reconciler(f"show '#{found[1] if found else 0}'")
    stage.check(event.count("NodeConverged") == len(stage.nodes), "the event leads to each node's receipt")


def ask_the_past(stage: Stage) -> None:
    stage.begin("Every question about the past: lines, registries, SQL")
    stage.say("Whose is each line of a node's file, as it was before the rollback?")
    lines = stage.reconciler(f"blame {stage.nodes[0].name}:{REGISTRIES_CONF} --at previous -L 10,18")
    stage.check("#1" in lines and MIRROR in lines, "a line names its pull request")
    stage.say("\nWho named a registry, from when until when? Answered of what is long gone, too.")
    intervals = stage.reconciler(f"history --entry {MIRROR}")
    stage.check(re.search(rf"^{re.escape(MIRROR)} .* h-", intervals, re.MULTILINE) is not None, "the rollback ended it")
    stage.say("\nThe same in SQL, as a reader who can change nothing:")
    query = "SELECT list, entry, pull_request, until_type FROM entry_history WHERE until_type = 'RolledBack'"
    stage.check("digest-mirror" in stage.reconciler(f'sql -c "{query}"'), "the view has the entry")


def agree(stage: Stage) -> None:
    stage.begin("Git is back; the rollback holds until Git says the same")
    stage.shell(f"mv {stage.fleet}.gone {stage.fleet}")
    stage.say("Somebody touches the file, and leaves the bad mirror in:")
    stage.shell(f"sed -i '1i # the mirrors of the payload' {stage.fleet}/mirrors.yaml")
    stage.shell(f"git -C {stage.fleet} commit --quiet --all --message 'Say what this file is'")
    stage.reconciler("sync")
    stage.check(all(MIRROR not in text for text in stage.files().values()), "the hold keeps the nodes where they are")
    stage.reconciler("hold list")
    stage.say("\nNow the author takes it out. `hold lift` would end the hold at once, whatever Git says.")
    stage.shell(f"sed -i '\\,{MIRROR},d' {stage.fleet}/mirrors.yaml")
    stage.shell(f"git -C {stage.fleet} commit --quiet --all --message 'Do without the second mirror'")
    stage.reconciler("sync")
    ended = stage.reconciler("history --type HoldLifted --limit 1")
    stage.check("agreed" in ended, "the hold ended by itself")


def give_back(stage: Stage) -> None:
    node = stage.nodes[-1]
    stage.begin("A node is given back as it was")
    stage.reconciler(f"release {node.name} --restore --reason 'it goes to another team' --yes")
    text = stage.file(node)
    stage.check(OWN_WORDS in text and FIRST_MIRROR not in text, "the node has its own file again")
    nodes = stage.reconciler("get nodes")
    stage.check("Released" in nodes, "the node is not ours any more")


def drain(stage: Stage) -> None:
    if stage.cluster is None:
        return
    stage.begin("The nodes are nodes of a Kubernetes cluster, too")
    stage.say("A real API server knows them, with a pod on each. Another search registry is a change that drains:")
    pools, image = f"{stage.fleet}/pools.yaml", f"{stage.fleet}/image.yaml"
    stage.shell(f"sed -i 's/^  mode: enforce$/&\\n  drain: {{via: kubernetes}}/' {pools}")
    stage.shell(f"sed -i '/SearchRegistries:/,/^$/ s/- reg1.io$/- example.com/' {image}")
    stage.shell(f"git -C {stage.fleet} commit --quiet --all --message 'Look for short names in example.com'")
    settings = (
        "[fleets.default]",
        'kubernetes = "kubeconfig"',
        f'kubeconfig = "../cluster/{stage.cluster.kubeconfig.name}"',
    )
    stage.shell(f"printf '%s\\n' {shlex.join(settings)} > {shlex.quote(str(stage.cluster_settings))}")
    stage.reconciler("sync --wait")
    node = stage.nodes[0].name
    types = "--type NodeCordoned --type NodeDrained --type NodeUncordoned --type NodeConverged"
    lines = stage.reconciler(f"history --node {node} {types} --limit 4")
    order = ("NodeConverged", "NodeUncordoned", "NodeDrained", "NodeCordoned")  # newest first
    found = [line.split()[2] for line in lines.splitlines()[1:]]
    stage.check(sorted(found) == sorted(order), "the node was cordoned, drained and uncordoned")
    pods = stage.cluster.api("GET", f"/api/v1/pods?fieldSelector=spec.nodeName={node}")["items"]
    seen = stage.cluster.api("GET", f"/api/v1/nodes/{node}")
    stage.check(pods == [] and not seen["spec"].get("unschedulable"), "its pod was evicted, and it takes pods again")
    stage.say(f"\nAsked of the API server: no pod is on {node}, and it takes new ones.")


def verify(stage: Stage) -> None:
    stage.begin("The log proves itself, also against whoever may write everything")
    key, note = f"{stage.folder}/checkpoint.key", f"{stage.folder}/checkpoint"
    stage.reconciler(f"log keygen {key}")
    stage.reconciler(f"--set checkpoints.key={key} --set checkpoints.file={note} log checkpoint")
    stage.shell(f"cat {note}")
    proof = stage.reconciler(f"--set checkpoints.key={key} log verify --checkpoint {note}")
    stage.check("verified:" in proof and "agrees with" in proof, "chain, contents and signed checkpoint agree")


STEPS: Sequence[Callable[[Stage], None]] = (
    validate,
    observe,
    enforce,
    merge,
    look_back,
    ask_why,
    refuse,
    protect,
    repair,
    roll_back_without_git,
    explain,
    ask_the_past,
    agree,
    drain,
    give_back,
    verify,
)

SHOWN: Mapping[str, str] = {
    "observe": "looking at nodes changes nothing on them; `diff` is the plan",
    "enforce": "a commit reaches the nodes: one first, then the rest, each runtime reloaded once",
    "history": "each pull request with its effect, down to the receipt of every node",
    "why": "for any image: the verdict, the deciding line and field, and what would have to change",
    "plan": "before a merge: which files change on which nodes, in which order, and who waits for what",
    "guard": "a change that would lock out an image that is needed stops, and names it",
    "refusal": "a bad commit changes nothing, and says where it is wrong",
    "repair": "a file changed by hand is put back, before and after kept",
    "release": "a node gets back what it had before the first write",
    "drain": "pods leave a node before it goes down, by your commands or through the Kubernetes API",
    "rollback": "without Git, byte for byte, held until Git agrees or a person ends it",
    "bisect": "the first event that broke an image",
    "blame": "each line of a node's file, each registry ever named: who, when, by which pull request; in SQL, too",
    "log": "every event chained by hash, every content by its digest, the head signed",
}
"""What the summary says was shown."""
