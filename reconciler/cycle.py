"""START HERE: one pass over one fleet.

    fetch → record → discover → observe (nodes, cluster) → settle → project → guard → roll (nodes, cluster)

Each stage reads what the one before appended, and appends its own outcome; none keeps state of its own. Killed
anywhere, the next pass goes on from the log. Observing comes before projecting because `base: host` lays our
resources over what the node has.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from reconciler.faults import fault_point
from reconciler.stages.asking import nodes_to_ask
from reconciler.stages.cluster_apply import roll_cluster
from reconciler.stages.cluster_watch import watch_cluster
from reconciler.stages.context import Context, anew
from reconciler.stages.discover import discover
from reconciler.stages.guard import guard
from reconciler.stages.observe import look_closer, observe
from reconciler.stages.project import project
from reconciler.stages.record import fetch, record
from reconciler.stages.roll import Rolled, roll
from reconciler.stages.settle import settle
from reconciler.stages.shadow import find_shadows
from reconciler.stages.sight import Sight


@dataclass
class Pass:
    """What one pass found and did."""

    head: str | None = None
    commits: int = 0
    sights: Mapping[str, Sight] = field(default_factory=dict)
    rendered: int = 0
    pools: list[Rolled] = field(default_factory=list)

    @property
    def failed(self) -> dict[str, str]:
        """Node → why its step failed in this pass."""
        return {name: why for pool in self.pools for name, why in pool.failed.items()}

    @property
    def moving(self) -> bool:
        """Something is under way (a soak, a colleague's step) that another pass will find further on."""
        return any(pool.moving for pool in self.pools)


async def run_pass(context: Context, *, recheck: bool = False, source: bool = True) -> Pass:
    """One pass, stage by stage. `source=False` leaves Git alone; `recheck` judges a refused head, and what the guard
    let wait, again."""
    done = Pass()
    context.trim()
    # Before: nothing. After: the mirror has the head, or SourceUnreachable is in the log and the rest goes on.
    if source:
        done.head = await anew(lambda: fetch(context))
        fault_point("after-fetch")
    # After: every commit up to the head is one append group, taken or refused.
    if done.head is not None:
        head = done.head
        done.commits = await anew(lambda: record(context, head, recheck=recheck))
        fault_point("after-append")
    # After: the nodes of the fleet's cluster are in the log as they are, or that it cannot be asked is.
    await anew(lambda: discover(context))
    # After: every node's base is known, drift and reachability are in the log; what the guard will ask is answered.
    asked = await nodes_to_ask(context, recheck=recheck)
    done.sights = await anew(lambda: observe(context, images=asked))
    # After: what stands in the cluster, who changed it, and how far its operator has come, is in the log.
    cluster = await anew(lambda: watch_cluster(context))
    # After: entries of holds that agree with Git, or whose cause is mended there, have ended.
    await anew(lambda: settle(context, done.sights))
    # After: each (pool, base) has the file set its inputs in force give.
    done.rendered = await anew(lambda: project(context))
    # After: whether the images that nodes need stay pullable under what was rendered is judged, once.
    await anew(lambda: guard(context, done.sights, recheck=recheck))
    fault_point("after-guard")
    # After: what stands on a node where a newly rendered file goes is known, too.
    await look_closer(context, done.sights)
    # After: what makes a node's runtime answer otherwise than our files is in the log.
    await anew(lambda: find_shadows(context, done.sights))
    # After: every node that may be acted on now has its files, or its failure is in the log.
    done.pools = await roll(context, done.sights)
    # After: the cluster's resources say what is wanted, or why not is in the log; what MCO has completed is, too.
    done.pools += await roll_cluster(context, cluster)
    return done
