"""Each component is ready: as it should be, and observed to do what it promises. What `status` looks at, as claims."""

from functools import partial

from tasks.lib.checks import Check, Result, Scene, failed, passed
from tasks.lib.component import Component
from tasks.lib.graph import Graph


def checks(graph: Graph[Component]) -> list[Check]:
    """Return one claim for each component of this version."""
    return [_check(graph[name]) for name in graph.names if not graph[name].left_out]


def _check(node: Component) -> Check:
    return Check(
        id=f"{node.stage}.ready", subject=node.name, stage=node.stage, claim=f"{node.name} is ready: {node.summary}",
        looks=(node.name,), probe=partial(_ready, node.name), fix=f"invoke {node.stage}",
    )  # fmt: skip


def _ready(name: str, scene: Scene) -> Result:
    look = scene.looks.get(name)
    if look is None:
        return failed("nothing looked at it")
    if look.action == "skip":
        return passed()
    return failed(look.reason or look.action, "\n".join(look.changes))
