"""The inventory, removal and the lists of everything, on a cluster in a dict."""

import threading
import time
from typing import Any

import pytest

from tasks.lib import names
from tasks.lib.errors import NotAvailable, NotReady
from tasks.lib.kube import apply, inventory, prune, wait
from tasks.lib.kube.api import Obj, Ref
from tests.fakes import FakeKube
from tests.samples import definition

NAMESPACE = Ref("v1", "Namespace", None, "app")
CONFIG = Ref("v1", "ConfigMap", "app", "config")
DEPLOYMENT = Ref("apps/v1", "Deployment", "app", "server")
CLAIM = Ref("v1", "PersistentVolumeClaim", "app", "data")
WIDGETS = Ref("apiextensions.k8s.io/v1", "CustomResourceDefinition", None, "widgets.example.com")
WIDGET = Ref("example.com/v1", "Widget", "app", "one")
RECORD = Ref("v1", "ConfigMap", names.PLATFORM_NAMESPACE, "inventory-demo")


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    for module, name in ((prune, "_POLL_S"), (wait, "POLL_S")):
        monkeypatch.setattr(module, name, 0.01)


def obj(ref: Ref, owner: Obj | None = None, **body: Any) -> Obj:
    meta: Obj = {"name": ref.name, **({"namespace": ref.namespace} if ref.namespace else {})}
    if owner:
        kind = {"apiVersion": owner["apiVersion"], "kind": owner["kind"]}
        meta["ownerReferences"] = [{**kind, "name": owner["metadata"]["name"], "uid": owner["metadata"]["uid"]}]
    return {"apiVersion": ref.api_version, "kind": ref.kind, "metadata": meta, **body}


def installed(*more: Obj) -> FakeKube:
    kube = FakeKube()
    apply.apply_all(kube, [obj(NAMESPACE), definition(), obj(CONFIG, data={}), *more], "demo")
    return kube


def test_it_is_kept_in_the_cluster_with_our_label() -> None:
    kube = installed()
    stored = kube.store[RECORD.key]
    assert stored["metadata"]["labels"] == {names.COMPONENT_LABEL: "demo"}
    loaded = inventory.load(kube, "demo")
    assert loaded.refs == sorted([NAMESPACE, WIDGETS, CONFIG], key=lambda ref: ref.key)
    assert loaded.digest
    assert inventory.load(kube, "other").entries == {}


def test_it_survives_a_round_trip_and_damage() -> None:
    kube = installed()
    before = inventory.load(kube, "demo")
    inventory.save(kube, before)
    assert inventory.load(kube, "demo") == before

    kube.edit(RECORD, "data", {"objects": "{broken"})
    mended = inventory.load(kube, "demo")
    assert {ref.key for ref in mended.refs} == {ref.key for ref in before.refs}
    assert mended.digest == ""


def test_remove_leaves_nothing_of_the_component_and_all_of_the_others() -> None:
    kube = installed()
    other = Ref("v1", "ConfigMap", "default", "other")
    kube.create(obj(Ref("v1", "Namespace", None, "default")))
    apply.apply_all(kube, [obj(other)], "other")

    changes = inventory.remove(kube, "demo", timeout_s=60)
    assert sorted(changes.deleted) == sorted(map(str, (NAMESPACE, WIDGETS, CONFIG)))
    assert changes.kept == []
    labelled = {each["metadata"]["labels"].get(names.COMPONENT_LABEL) for each in kube.store.values() if _labels(each)}
    assert labelled == {"other", "run"}
    assert other in inventory.leftovers(kube)
    assert inventory.remove(kube, "demo").count == 0


def _labels(each: Obj) -> bool:
    return bool(each["metadata"].get("labels"))


def test_remove_goes_in_reverse_order() -> None:
    kube = installed(obj(WIDGET, spec={}), obj(DEPLOYMENT, spec={}))
    kube.calls.clear()
    inventory.remove(kube, "demo", timeout_s=60)
    deleted = [what for verb, what in kube.calls if verb == "delete"]
    order = [deleted.index(str(ref)) for ref in (WIDGET, DEPLOYMENT, CONFIG, WIDGETS)]
    assert order == sorted(order)


def test_remove_without_an_inventory_goes_by_the_labels() -> None:
    kube = installed()
    kube.delete(RECORD)
    assert len(inventory.remove(kube, "demo", timeout_s=60).deleted) == 3


def test_a_finalizer_that_is_never_taken_off_is_named() -> None:
    kube = installed(obj(WIDGET, spec={}))
    kube.store[WIDGET.key]["metadata"]["finalizers"] = ["example.com/hold"]

    with pytest.raises(NotReady, match="Widget app/one: not gone after") as caught:
        inventory.remove(kube, "demo", timeout_s=0.1)
    assert caught.value.facts == {str(WIDGET): "held by example.com/hold"}
    assert CONFIG.key in kube.store  # the wave before it is not touched
    kube.release(WIDGET)
    assert str(CONFIG) in inventory.remove(kube, "demo", timeout_s=60).deleted


def test_a_definition_with_objects_of_others_is_kept_and_they_are_named() -> None:
    kube = installed(obj(WIDGET, spec={}))
    theirs = Ref("example.com/v1", "Widget", "theirs", "precious")
    kube.create(obj(Ref("v1", "Namespace", None, "theirs")))
    kube.create(obj(theirs, spec={}))

    changes = inventory.remove(kube, "demo", timeout_s=60)
    assert changes.kept == [f"{WIDGETS}: in use by what is not demo's: {theirs}"]
    assert theirs.key in kube.store
    assert WIDGET.key not in kube.store
    assert inventory.load(kube, "demo").refs == [WIDGETS]

    kube.delete(theirs)
    assert inventory.remove(kube, "demo", timeout_s=60).deleted == [str(WIDGETS)]
    assert RECORD.key not in kube.store


def test_what_ours_have_made_does_not_hold_a_definition() -> None:
    kube = installed(obj(WIDGET, spec={}))
    child = Ref("example.com/v1", "Widget", "app", "child")
    kube.create(obj(child, owner=kube.store[WIDGET.key], spec={}))

    assert prune.foresee(kube, "demo", [WIDGETS]).deleted == [WIDGETS]
    assert inventory.remove(kube, "demo", timeout_s=60).kept == []


def test_what_others_have_made_holds_a_definition_through_its_owner() -> None:
    kube = installed()
    theirs = Ref("apps/v1", "Deployment", "app", "theirs")
    kube.create(obj(theirs, spec={}))
    kube.create(obj(WIDGET, owner=kube.store[theirs.key], spec={}))
    assert "in use" in prune.foresee(kube, "demo", [WIDGETS]).kept[WIDGETS]


def test_an_object_being_collected_is_waited_for() -> None:
    kube = installed()
    gone: Obj = {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "gone", "uid": "uid-gone"}}
    kube.create(obj(WIDGET, owner=gone, spec={}))
    timer = threading.Timer(0.1, lambda: kube.delete(WIDGET))
    timer.start()
    begun = time.monotonic()
    assert str(WIDGETS) in inventory.remove(kube, "demo", timeout_s=60).deleted
    assert WIDGET.key not in kube.store
    timer.join()
    assert 0.1 <= time.monotonic() - begun < 30


def test_a_namespace_others_work_in_is_kept() -> None:
    kube = installed()
    kube.create(obj(Ref("apps/v1", "Deployment", "app", "theirs"), spec={}))
    changes = inventory.remove(kube, "demo", timeout_s=60)
    assert changes.kept == [f"{NAMESPACE}: in use by what is not demo's: Deployment app/theirs"]
    assert NAMESPACE.key in kube.store

    assert inventory.remove(kube, "demo", timeout_s=60, force=True).deleted == [str(NAMESPACE)]


def test_what_another_component_has_there_holds_a_namespace_and_a_definition() -> None:
    kube = installed()
    apply.apply_all(kube, [obj(WIDGET, spec={}), obj(DEPLOYMENT, spec={})], "other")
    assert set(inventory.remove(kube, "demo", timeout_s=60).kept) == {
        f"{NAMESPACE}: in use by what is not demo's: {DEPLOYMENT}",
        f"{WIDGETS}: in use by what is not demo's: {WIDGET}",
    }


def test_pods_of_our_deployment_do_not_hold_a_namespace() -> None:
    kube = installed(obj(DEPLOYMENT, spec={}))
    middle = Ref("apps/v1", "ReplicaSet", "app", "server-1")
    kube.create(obj(middle, owner=kube.store[DEPLOYMENT.key], spec={}))
    kube.create(obj(Ref("v1", "Pod", "app", "server-1-x"), owner=kube.store[middle.key], spec={}))
    assert NAMESPACE in prune.foresee(kube, "demo", [NAMESPACE]).deleted


def test_volumes_stay_and_hold_their_namespace_unless_asked_for() -> None:
    kube = installed(obj(CLAIM, spec={}))
    changes = inventory.remove(kube, "demo", timeout_s=60)
    assert changes.kept == [
        f"{CLAIM}: volumes are never deleted",
        f"{NAMESPACE}: in use by what is not demo's: {CLAIM}",
    ]
    assert CLAIM.key in kube.store

    assert sorted(inventory.remove(kube, "demo", timeout_s=60, volumes=True).deleted) == sorted(
        map(str, (CLAIM, NAMESPACE))
    )
    assert {"run"} == {
        each["metadata"]["labels"][names.COMPONENT_LABEL] for each in kube.store.values() if _labels(each)
    }


def test_one_made_anew_meanwhile_is_not_deleted() -> None:
    kube = installed()

    def swap(verb: str, what: str) -> None:
        if (verb, what) == ("delete", str(CONFIG)):
            kube.store[CONFIG.key]["metadata"]["uid"] = "uid-other"

    kube.before = swap
    kept = inventory.remove(kube, "demo", timeout_s=60).kept
    assert f"{CONFIG}: was made anew by someone meanwhile" in kept


def test_the_platforms_namespace_goes_when_nothing_of_any_component_is_left() -> None:
    kube = installed()
    home = Ref("v1", "Namespace", None, names.PLATFORM_NAMESPACE)
    assert inventory.remove_namespace(kube, timeout_s=60).kept == [f"{home}: has what is left of demo"]
    inventory.remove(kube, "demo", timeout_s=60)
    assert inventory.remove_namespace(kube, timeout_s=60).deleted == [str(home)]
    assert kube.store == {}
    assert inventory.remove_namespace(kube, timeout_s=60).count == 0


def test_everything_of_a_namespace_by_selector_and_without_events() -> None:
    kube = installed(obj(WIDGET, spec={}), obj(DEPLOYMENT, spec={}))
    kube.create(obj(Ref("v1", "Event", "app", "event")))
    kube.create(obj(Ref("v1", "ConfigMap", "app", "theirs")))

    inside = inventory.everything(kube, namespace="app")
    assert {ref.key for ref in inside} == {
        ref.key for ref in (CONFIG, DEPLOYMENT, WIDGET, Ref("v1", "ConfigMap", "app", "theirs"))
    }
    labelled = inventory.everything(kube, selector=f"{names.COMPONENT_LABEL}=demo")
    assert {ref.key for ref in labelled} == {
        ref.key for ref in (CONFIG, DEPLOYMENT, WIDGET, NAMESPACE, WIDGETS, RECORD)
    }


def test_a_group_that_cannot_be_asked_is_an_error_unless_it_may_be_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    kube = installed()
    known = kube.resources()[0]
    monkeypatch.setattr(kube, "resources", lambda: (known, {"metrics.k8s.io/v1": "HTTP 503"}))

    with pytest.raises(NotAvailable, match=r"metrics\.k8s\.io/v1 cannot be listed"):
        inventory.leftovers(kube)
    unread: list[str] = []
    assert inventory.everything(kube, on_unread=unread.append)
    assert unread == ["metrics.k8s.io/v1: HTTP 503"]
