"""The graph: names, edges, order, and what it says about mistakes."""

from dataclasses import dataclass

import pytest

from tasks.lib.errors import BadInput, NotInThisVersion
from tasks.lib.graph import Graph


@dataclass(frozen=True)
class C:
    name: str
    needs: tuple[str, ...] = ()
    stage: str = "all"
    exclusive: bool = False
    left_out: str = ""


CHAIN = (
    C("cluster", stage="cluster"),
    C("certs", ("cluster",), stage="certs"),
    C("istio-base", ("cluster",), stage="mesh"),
    C("istiod", ("istio-base",), stage="mesh"),
    C("serving", ("certs", "istiod"), stage="serving"),
    C("gateway", ("serving",), stage="gateway", left_out="comes with issue 7"),
    C("tenants", ("gateway",), stage="tenants"),
)


def test_closure_holds_all_that_is_needed_in_declared_order() -> None:
    assert Graph(CHAIN).closure(["istiod", "certs"]) == ("cluster", "certs", "istio-base", "istiod")


def test_order_puts_needs_first_although_they_were_declared_last() -> None:
    graph = Graph([C("c", ("b",)), C("b", ("a",)), C("a")])
    assert graph.names == ("c", "b", "a")
    assert graph.order(["c", "a", "b"]) == ("a", "b", "c")


def test_a_stage_name_means_its_components() -> None:
    graph = Graph(CHAIN)
    assert graph.stages["mesh"] == ("istio-base", "istiod")
    assert list(graph.stages) == ["cluster", "certs", "mesh", "serving", "gateway", "tenants"]
    assert graph.resolve(["mesh", "certs"]) == ("certs", "istio-base", "istiod")
    assert graph.resolve(["istiod"]) == ("istiod",)
    assert graph.resolve() == graph.names


def test_what_is_left_out_is_refused_by_name_only() -> None:
    graph = Graph(CHAIN)
    with pytest.raises(NotInThisVersion, match=r"gateway is not in this version\n  reason  comes with issue 7"):
        graph.resolve(["mesh", "gateway"])
    assert "gateway" in graph.resolve()


def test_what_needs_something_left_out_needs_what_that_needs() -> None:
    graph = Graph(CHAIN)
    assert graph.needs("tenants") == ("serving",)
    assert "gateway" not in graph.closure(["tenants"])
    assert "serving" in graph.closure(["tenants"])


def test_a_stage_with_one_part_in_this_version_may_be_asked_for() -> None:
    graph = Graph([C("a", stage="s"), C("b", stage="s", left_out="later")])
    assert graph.resolve(["s"]) == ("a", "b")


def test_a_cycle_is_reported_as_a_path() -> None:
    with pytest.raises(BadInput, match=r"circle: a -> c -> b -> a$"):
        Graph([C("x"), C("a", ("c",)), C("b", ("a",)), C("c", ("b", "x"))])


def test_a_component_that_needs_itself_is_a_cycle() -> None:
    with pytest.raises(BadInput, match=r"circle: a -> a$"):
        Graph([C("a", ("a",))])


def test_unknown_names_are_listed_together() -> None:
    with pytest.raises(BadInput, match=r"unknown components needed: nope, zilch"):
        Graph([C("a", ("zilch",)), C("b", ("nope", "a"))])
    with pytest.raises(BadInput, match=r"unknown names: mash, sering\n  known  cluster, certs, mesh") as caught:
        Graph(CHAIN).resolve(["sering", "mesh", "mash"])
    assert caught.value.code == 2


def test_a_name_declared_twice_is_refused() -> None:
    with pytest.raises(BadInput, match="component a is declared twice"):
        Graph([C("a"), C("a")])
