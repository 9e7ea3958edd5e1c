"""What is there already and was made by somebody else is never taken over (docs/adr/0014).

Ours is what carries a label of ours, of whatever component, and what our inventory lists. The rest stops the component
before anything of it is applied: taken over, it would be changed now and deleted with the component.
"""

from collections.abc import Iterable

from tasks.lib import names
from tasks.lib.errors import NotOurs
from tasks.lib.kube import parallel
from tasks.lib.kube.api import Cluster, Obj, Ref
from tasks.lib.kube.desired import Item
from tasks.lib.kube.inventory import Inventory

_MOST_NAMED, _MOST_LISTED = 2, 20


def refuse(kube: Cluster, items: Iterable[Item], before: Inventory, jobs: int) -> None:
    """Raise NotOurs naming every object to be applied that is somebody else's.

    Only what is new to the inventory is asked for: nothing when nothing changes. What is going away is waited for.
    """
    new = [item for item in items if item.ref.key not in before.entries]
    heads = parallel.each(lambda item: kube.get(item.ref, heads=True), new, jobs)
    found = [(item, head) for item, head in zip(new, heads, strict=True) if head and _foreign(head)]
    if found:
        raise _error(before.component, found)


def _foreign(head: Obj) -> bool:
    meta = head["metadata"]
    return not meta.get("deletionTimestamp") and names.COMPONENT_LABEL not in (meta.get("labels") or {})


def _error(component: str, found: list[tuple[Item, Obj]]) -> NotOurs:
    named = ", ".join(str(item.ref) for item, _ in found[:_MOST_NAMED])
    more = f" and {len(found) - _MOST_NAMED} more" if len(found) > _MOST_NAMED else ""
    are = "is there already, and was" if len(found) == 1 else "are there already, and were"
    facts = {str(item.ref): _writers(head) for item, head in found[:_MOST_LISTED]}
    if len(found) > _MOST_LISTED:
        facts["and"] = f"{len(found) - _MOST_LISTED} more"
    return NotOurs(
        f"{component}: {named}{more} {are} not made by us",
        facts={**facts, "applied": f"nothing of {component}"},
        hint=f"remove what is not ours, or hand it over, each object with   {_hand_over(*found[0])}",
    )


def _writers(head: Obj) -> str:
    writers = dict.fromkeys(str(each["manager"]) for each in head["metadata"].get("managedFields") or [])
    return f"written by {', '.join(writers) or 'somebody else'}"


def _hand_over(item: Item, head: Obj) -> str:
    ref = Ref.of(head)
    place = f"-n {ref.namespace} " if ref.namespace else ""
    kind = f"{ref.kind}.{ref.group}".rstrip(".").lower()
    return f"kubectl {place}label {kind} {ref.name} {names.COMPONENT_LABEL}={item.label}"
