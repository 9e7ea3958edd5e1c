"""The graph of components: names, edges, order. Pure.

A component that is left out of this version keeps its place: asking for it by name is an error, and what needs it
needs what it needs instead.
"""

from collections.abc import Iterable
from graphlib import CycleError, TopologicalSorter
from typing import Generic, TypeVar

from tasks.lib.component import Node
from tasks.lib.errors import BadInput, NotInThisVersion

N = TypeVar("N", bound=Node)


class Graph(Generic[N]):
    """Components by name, in the order in which they were declared.

    Raises BadInput when a name is declared twice, a need is unknown, or needs go round in a circle.
    """

    def __init__(self, components: Iterable[N]) -> None:
        self._nodes: dict[str, N] = {}
        for component in components:
            if component.name in self._nodes:
                raise BadInput(f"component {component.name} is declared twice")
            self._nodes[component.name] = component
        _refuse_unknown(
            (need for node in self._nodes.values() for need in node.needs), self._nodes, "components needed"
        )
        self._order = _sorted({name: node.needs for name, node in self._nodes.items()})
        self._needs = {name: self._effective(name) for name in self._nodes}

    def __getitem__(self, name: str) -> N:
        return self._nodes[name]

    def __contains__(self, name: object) -> bool:
        return name in self._nodes

    @property
    def names(self) -> tuple[str, ...]:
        """Return every name, in declared order."""
        return tuple(self._nodes)

    @property
    def stages(self) -> dict[str, tuple[str, ...]]:
        """Return the components of each stage, both in declared order."""
        found: dict[str, tuple[str, ...]] = {}
        for name, node in self._nodes.items():
            found[node.stage] = (*found.get(node.stage, ()), name)
        return found

    def needs(self, name: str) -> tuple[str, ...]:
        """Return what must be ready before this component, never something that is left out."""
        return self._needs[name]

    def resolve(self, asked: Iterable[str] = ()) -> tuple[str, ...]:
        """Return the components meant by names of components or stages; all of them when none is given.

        Raises BadInput listing every unknown name, NotInThisVersion for a name with nothing behind it yet.
        """
        wanted, stages = tuple(asked), self.stages
        _refuse_unknown(wanted, [*stages, *self._nodes], "names")
        found: set[str] = set()
        for name in wanted:
            members = stages.get(name, (name,))
            reasons = [self._nodes[each].left_out for each in members]
            if all(reasons):
                raise NotInThisVersion(f"{name} is not in this version", facts={"reason": reasons[0]})
            found.update(members)
        return tuple(name for name in self._nodes if name in found or not wanted)

    def closure(self, names: Iterable[str]) -> tuple[str, ...]:
        """Return these components and everything they need, in declared order."""
        return self._reach(names, self._needs)

    def dependents(self, names: Iterable[str]) -> tuple[str, ...]:
        """Return these components and everything that needs them, in declared order."""
        users = {name: tuple(user for user, needs in self._needs.items() if name in needs) for name in self._nodes}
        return self._reach(names, users)

    def order(self, names: Iterable[str]) -> tuple[str, ...]:
        """Return these components so that each comes after what it needs."""
        wanted = set(names)
        return tuple(name for name in self._order if name in wanted)

    def _reach(self, names: Iterable[str], edges: dict[str, tuple[str, ...]]) -> tuple[str, ...]:
        found, todo = set[str](), list(names)
        while todo:
            name = todo.pop()
            if name not in found:
                found.add(name)
                todo.extend(edges[name])
        return tuple(name for name in self._nodes if name in found)

    def _effective(self, name: str) -> tuple[str, ...]:
        found: dict[str, None] = {}
        for need in self._nodes[name].needs:
            found.update(dict.fromkeys(self._effective(need) if self._nodes[need].left_out else (need,)))
        return tuple(found)


def _refuse_unknown(names: Iterable[str], known: Iterable[str], what: str) -> None:
    unknown = sorted(set(names) - set(known))
    if unknown:
        raise BadInput(f"unknown {what}: {', '.join(unknown)}", facts={"known": ", ".join(dict.fromkeys(known))})


def _sorted(needs: dict[str, tuple[str, ...]]) -> tuple[str, ...]:
    try:
        return tuple(TopologicalSorter(needs).static_order())
    except CycleError as error:
        ring = list(reversed(error.args[1][1:]))  # graphlib names the needed one first; people read "a needs b"
        first = min(range(len(ring)), key=lambda at: list(needs).index(ring[at]))
        path = [*ring[first:], *ring[:first], ring[first]]
        raise BadInput(f"needs go round in a circle: {' -> '.join(path)}") from None
