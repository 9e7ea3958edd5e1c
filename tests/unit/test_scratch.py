"""What checks make for a while is gone afterwards, whatever happens in between."""

import threading
from typing import Any, cast

import pytest

from tasks.lib import converge, names, scratch
from tasks.lib.errors import NotReady, Refused
from tasks.lib.kube import inventory, wait
from tasks.lib.kube.api import ApiError, Key, Obj, Ref
from tasks.lib.scratch import Scratch
from tests import samples
from tests.fakes import FakeKube

SPACE = Ref("v1", "Namespace", None, "verify-x")
POD = Ref("v1", "Pod", "verify-x", "caller")
POLICY = Ref("networking.k8s.io/v1", "NetworkPolicy", "tenant-a", "verify-allow")
TENANT = Ref("v1", "Namespace", None, "tenant-a")
OWN = Ref("networking.k8s.io/v1", "NetworkPolicy", "tenant-a", "default-deny")
MAP = Ref("v1", "ConfigMap", names.PLATFORM_NAMESPACE, "inventory-verify-x")


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wait, "POLL_S", 0.01)
    monkeypatch.setattr(scratch, "GONE_S", 0.05)


def obj(ref: Ref, **body: Any) -> Obj:
    meta: Obj = {"name": ref.name, "labels": {"own": "label"}}
    if ref.namespace:
        meta["namespace"] = ref.namespace
    return {"apiVersion": ref.api_version, "kind": ref.kind, "metadata": meta, **body}


def cluster() -> FakeKube:
    return FakeKube(obj(Ref("v1", "Namespace", None, names.PLATFORM_NAMESPACE)), obj(TENANT), obj(OWN))


def make(kube: FakeKube, cancel: threading.Event | None = None) -> Scratch:
    made = Scratch(kube, "x", cancel or threading.Event())
    for each in (SPACE, POD, POLICY):
        made.add(obj(each))
    return made


def there(kube: FakeKube, *refs: Ref) -> list[bool]:
    return [ref.key in kube.store for ref in refs]


def test_everything_is_labelled_and_in_an_inventory_before_it_is_made() -> None:
    kube = cluster()
    known: list[list[Ref]] = []
    kube.before = lambda verb, _: known.append(inventory.load(kube, "verify-x").refs) if verb == "create" else None
    make(kube)
    assert known == [[SPACE], [SPACE, POD], sorted([SPACE, POD, POLICY], key=lambda ref: ref.key)]
    for ref in (SPACE, POD, POLICY):
        labels = kube.store[ref.key]["metadata"]["labels"]
        assert labels == {"own": "label", scratch.LABEL: "true", names.COMPONENT_LABEL: "verify-x"}


def test_all_of_it_is_gone_when_the_block_is_left_and_nothing_else_is() -> None:
    kube = cluster()
    with make(kube):
        assert there(kube, SPACE, POD, POLICY, MAP) == [True] * 4
        kube.calls.clear()
    assert there(kube, SPACE, POD, POLICY, MAP) == [False] * 4
    assert there(kube, TENANT, OWN) == [True, True]
    deleted = [what for verb, what in kube.calls if verb == "delete"]
    assert deleted[0] == str(POLICY)  # an allowance does not outlive what it was made for


def test_it_is_gone_after_a_failure_too_and_the_failure_is_what_is_told() -> None:
    kube = cluster()
    with pytest.raises(ZeroDivisionError), make(kube):
        raise ZeroDivisionError
    assert there(kube, SPACE, POD, POLICY, MAP) == [False] * 4


CERTIFICATE = Ref("cert-manager.io/v1", "Certificate", names.ISTIO_NAMESPACE, "edge-verify-x")
ISSUED = Ref("v1", "Secret", names.ISTIO_NAMESPACE, "edge-verify-x")


def test_a_certificates_secret_goes_with_it() -> None:
    kube = cluster()
    kube.create(obj(Ref("v1", "Namespace", None, names.ISTIO_NAMESPACE)))
    definition = kube.create(samples.custom(CERTIFICATE.api_version, CERTIFICATE.kind))
    kube.report(Ref.of(definition), conditions=[{"type": "Established", "status": "True"}])
    with make(kube) as made:
        made.add(obj(CERTIFICATE))
        kube.apply(obj(ISSUED))
    assert there(kube, CERTIFICATE, ISSUED) == [False, False]
    make(kube).add(obj(CERTIFICATE))
    kube.apply(obj(ISSUED))
    assert str(ISSUED) in scratch.sweep(kube, lambda _: None, threading.Event())
    assert there(kube, CERTIFICATE, ISSUED) == [False, False]


def test_what_was_taken_away_is_not_missed() -> None:
    kube = cluster()
    with make(kube) as made:
        made.take_away(POLICY)
        assert there(kube, POLICY) == [False]
    assert there(kube, SPACE, POD, MAP) == [False] * 3


def test_what_was_refused_leaves_nothing() -> None:
    kube = cluster()
    with pytest.raises(Refused), Scratch(kube, "x", threading.Event()) as made:
        made.add(obj(Ref("v1", "Pod", "not-there", "caller")))
    assert there(kube, MAP) == [False]


def test_one_refused_deletion_does_not_keep_the_rest() -> None:
    kube = cluster()

    def refuse(verb: str, what: str) -> None:
        if (verb, what) == ("delete", str(POLICY)):
            raise ApiError("no", status=403)

    with pytest.raises(Refused), make(kube):
        kube.before = refuse
    assert there(kube, SPACE, POD, POLICY, MAP) == [False, False, True, True]


def test_what_does_not_go_is_an_error_and_stays_known() -> None:
    kube = cluster()
    with pytest.raises(NotReady, match="caller"), make(kube):
        kube.store[POD.key]["metadata"]["finalizers"] = ["someone"]
    assert there(kube, POD, MAP) == [True, True]


def test_a_run_that_is_to_stop_still_asks_for_every_deletion() -> None:
    kube, cancel = cluster(), threading.Event()
    with pytest.raises(NotReady), make(kube, cancel):
        kube.store[POD.key]["metadata"]["finalizers"] = ["someone"]
        cancel.set()
    assert there(kube, POLICY) == [False]
    assert all(kube.store[each.key]["metadata"]["deletionTimestamp"] for each in (POD, SPACE))


def test_the_next_run_removes_what_a_killed_one_left() -> None:
    kube = cluster()
    make(kube)
    assert set(scratch.sweep(kube, lambda _: None, threading.Event())) == {str(SPACE), str(POD), str(POLICY)}
    assert there(kube, SPACE, POD, POLICY, MAP) == [False] * 4
    assert there(kube, TENANT, OWN) == [True, True]
    assert scratch.sweep(kube, lambda _: None, threading.Event()) == []


def test_a_sweep_of_one_owner_leaves_what_others_made() -> None:
    kube = cluster()
    make(kube)
    assert scratch.sweep(kube, lambda _: None, threading.Event(), "y") == []
    assert there(kube, SPACE, POD, POLICY, MAP) == [True] * 4
    assert len(scratch.sweep(kube, lambda _: None, threading.Event(), "x")) == len((SPACE, POD, POLICY))
    assert there(kube, SPACE, POD, POLICY, MAP) == [False] * 4


def test_up_and_down_find_it_as_a_component_that_nobody_wants() -> None:
    kube = cluster()
    make(kube)

    class Wanted:
        class box:  # noqa: N801 (an attribute)
            pass

        graph = ("tenant-a",)

    Wanted.box.kube = kube  # type: ignore[attr-defined]
    (name,) = converge.orphans(cast("Any", Wanted))
    assert name == "verify-x"
    inventory.remove(kube, name)
    assert there(kube, SPACE, POD, POLICY, MAP) == [False] * 4
    assert there(kube, TENANT, OWN) == [True, True]


def test_an_object_whose_making_was_not_heard_of_is_removed() -> None:
    kube = cluster()
    made = Scratch(kube, "x", threading.Event())
    create = kube.create

    def lost(obj: Obj) -> Obj:
        create(obj)
        raise ApiError("the answer was lost", status=504)

    kube.create = lost  # type: ignore[method-assign]
    with pytest.raises(Refused), made:
        made.add(obj(SPACE))
    assert Key("", "Namespace", "", "verify-x") not in kube.store


BORROWED = Ref("v1", "ConfigMap", names.PLATFORM_NAMESPACE, "verify-borrowed")


@pytest.mark.parametrize("changed", [None, {"spec": {"policyTypes": []}}])
def test_what_was_borrowed_is_put_back(changed: Obj | None) -> None:
    kube = cluster()
    original = obj(OWN, spec={"podSelector": {}})
    kube.apply(original)
    made = Scratch(kube, "x", threading.Event())
    made.borrow(original, None if changed is None else obj(OWN, **changed))
    assert there(kube, BORROWED) == [True]
    assert (kube.store.get(OWN.key) or {}).get("spec") != {"podSelector": {}}
    made.give_back(original)
    assert kube.store[OWN.key]["spec"] == {"podSelector": {}}
    assert there(kube, BORROWED) == [False]


def test_the_next_run_puts_back_what_a_killed_one_had_borrowed() -> None:
    kube = cluster()
    original = obj(OWN, spec={"podSelector": {}})
    kube.apply(original)
    Scratch(kube, "x", threading.Event()).borrow(original, None)
    said: list[str] = []
    scratch.sweep(kube, said.append, threading.Event())
    assert kube.store[OWN.key]["spec"] == {"podSelector": {}}
    assert there(kube, BORROWED) == [False]
    assert "put back NetworkPolicy tenant-a/default-deny" in said[0]


def test_it_is_written_down_before_anything_is_borrowed() -> None:
    kube = cluster()
    original = obj(OWN, spec={"podSelector": {}})
    kube.apply(original)

    def before(verb: str, what: str) -> None:
        if verb == "delete":
            assert there(kube, BORROWED) == [True]
            raise NotReady("killed")

    kube.before = before
    with pytest.raises(NotReady):
        Scratch(kube, "x", threading.Event()).borrow(original, None)


def test_what_is_ours_alone_is_changed_in_place() -> None:
    kube = cluster()
    with Scratch(kube, "x", threading.Event()) as made:
        made.put(obj(SPACE), obj(POLICY, spec={"a": 1}))
        made.put(obj(POLICY, spec={"a": 2}))
        assert kube.store[POLICY.key]["spec"] == {"a": 2}
        assert inventory.load(kube, "verify-x").refs == sorted([SPACE, POLICY], key=lambda ref: ref.key)
    assert there(kube, SPACE, POLICY, MAP) == [False] * 3
