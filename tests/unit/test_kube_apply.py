"""Apply, plan and prune, on a cluster in a dict."""

import copy
import threading

import pytest

from tasks.lib import names
from tasks.lib.errors import BadInput, NotOurs
from tasks.lib.kube import apply, inventory
from tasks.lib.kube.api import Ref
from tests.fakes import FakeKube
from tests.samples import (
    A_NAMESPACE,
    CONFIG,
    DEPLOYMENT,
    NAMESPACE,
    SECRET,
    WIDGET,
    WIDGETS,
    config,
    definition,
    deployment,
    everything,
    label,
    obj,
    run,
)


def test_first_creates_second_changes_nothing_one_edit_changes_one() -> None:
    kube = FakeKube()

    first = run(kube, everything())
    assert sorted(first.created) == sorted(str(Ref.of(each)) for each in everything())
    assert first.count == 5
    assert label(CONFIG, kube) == "demo"

    kube.calls.clear()
    second = run(kube, everything())
    assert (second.count, len(second.unchanged)) == (0, 5)
    assert kube.count("apply") == kube.count("dry-run") == kube.count("create") == 0

    third = run(kube, [each if each["kind"] != "ConfigMap" else config(key="other") for each in everything()])
    assert (third.configured, third.created, len(third.unchanged)) == ([str(CONFIG)], [], 4)
    assert kube.store[CONFIG.key]["data"] == {"key": "other"}


def test_a_field_no_longer_wanted_is_removed() -> None:
    kube = FakeKube()
    run(kube, [A_NAMESPACE, config(one="1", two="2")])

    assert run(kube, [A_NAMESPACE, config(one="1")]).configured == [str(CONFIG)]
    assert kube.store[CONFIG.key]["data"] == {"one": "1"}


@pytest.mark.parametrize(
    ("ref", "path", "value"),
    [
        (CONFIG, "data.key", "by hand"),
        (CONFIG, "data.key", None),
        (CONFIG, "metadata.labels", None),
        (DEPLOYMENT, "spec.replicas", 3),
        (DEPLOYMENT, "spec.template.spec.containers.name=server.image", "server:bad"),
    ],
)
def test_a_field_edited_by_hand_is_found_and_put_back(ref: Ref, path: str, value: object) -> None:
    kube = FakeKube()
    run(kube, everything())
    good = copy.deepcopy(kube.store[ref.key])
    kube.edit(ref, path, value)

    planned = apply.plan(kube, everything(), "demo")
    assert planned.changes.configured == [str(ref)]
    step = path.partition(".")[0]
    assert planned.paths[str(ref)]
    assert all(each.startswith(step) for each in planned.paths[str(ref)])
    assert run(kube, everything()).configured == [str(ref)]
    for part in ("spec", "data"):
        assert kube.store[ref.key].get(part) == good.get(part)
    assert label(ref, kube) == "demo"
    assert apply.plan(kube, everything(), "demo").empty


def test_an_edit_undone_by_hand_is_no_change() -> None:
    kube = FakeKube()
    run(kube, everything())
    kube.edit(DEPLOYMENT, "spec.replicas", 3)
    kube.edit(DEPLOYMENT, "spec.replicas", 1)

    assert apply.plan(kube, everything(), "demo").empty
    assert run(kube, everything()).count == 0
    kube.calls.clear()
    run(kube, everything())
    assert kube.count("apply") == 0  # and we own it again


def test_what_others_add_is_left_alone() -> None:
    kube = FakeKube()
    run(kube, everything())
    kube.edit(CONFIG, "data.theirs", "stays")
    kube.report(DEPLOYMENT, availableReplicas=1)
    kube.calls.clear()

    assert apply.plan(kube, everything(), "demo").empty
    assert kube.count("dry-run") == 0
    assert run(kube, everything()).count == 0
    assert kube.store[CONFIG.key]["data"] == {"key": "value", "theirs": "stays"}


def test_a_deleted_object_is_made_again() -> None:
    kube = FakeKube()
    run(kube, everything())
    kube.delete(CONFIG)

    assert apply.plan(kube, everything(), "demo").changes.created == [str(CONFIG)]
    assert run(kube, everything()).created == [str(CONFIG)]


def test_the_same_name_made_by_someone_else_is_taken_over() -> None:
    kube = FakeKube()
    run(kube, everything())
    kube.delete(CONFIG)
    kube.create(config(key="theirs"))

    assert run(kube, everything()).configured == [str(CONFIG)]
    assert kube.store[CONFIG.key]["data"] == {"key": "value"}


def test_plan_on_an_empty_cluster_creates_all_and_changes_nothing() -> None:
    kube = FakeKube()
    planned = apply.plan(kube, everything(), "demo", create_only=[obj(SECRET)])

    assert len(planned.changes.created) == 6
    assert not kube.store
    assert "create Deployment app/server" in planned.lines


def test_plan_names_fields_and_never_values() -> None:
    kube = FakeKube()
    secret = {**obj(SECRET), "data": {"token": "b2xk"}}
    run(kube, [A_NAMESPACE, secret, deployment()])
    planned = apply.plan(kube, [A_NAMESPACE, {**secret, "data": {"token": "bmV3"}}, deployment("server:2")], "demo")

    assert planned.lines == [
        "change Secret app/key: data.token",
        "change Deployment app/server: spec.template.spec.containers[server].image",
    ]
    assert "b2xk" not in str(inventory.load(kube, "demo"))


def test_definitions_come_first_admission_last_and_volumes_of_work_between() -> None:
    kube = FakeKube()
    hook = obj(Ref("admissionregistration.k8s.io/v1", "MutatingWebhookConfiguration", None, "hook"), webhooks=[])
    run(kube, [hook, *everything()])
    applied = [what for verb, what in kube.calls if verb == "apply" and "inventory" not in what]

    order = [applied.index(str(ref)) for ref in (NAMESPACE, CONFIG, DEPLOYMENT, WIDGET, Ref.of(hook))]
    assert order == sorted(order)
    assert applied.index(str(WIDGETS)) < applied.index(str(CONFIG))


def test_what_is_made_once_is_never_touched_again() -> None:
    kube = FakeKube()
    objects = [A_NAMESPACE]
    first = run(kube, objects, create_only=[obj(SECRET, data={"token": "first"})])
    assert str(SECRET) in first.created

    for data in ({"token": "second"}, {"token": "third"}):
        again = run(kube, objects, create_only=[obj(SECRET, data=data)])
        assert again.count == 0
    kube.edit(SECRET, "data.token", "by hand")
    assert run(kube, objects, create_only=[obj(SECRET, data={"token": "fourth"})]).count == 0
    assert kube.store[SECRET.key]["data"] == {"token": "by hand"}
    assert label(SECRET, kube) == "demo"

    kube.delete(SECRET)
    assert run(kube, objects, create_only=[obj(SECRET, data={"token": "fifth"})]).created == [str(SECRET)]


def test_no_longer_wanted_is_pruned_and_a_volume_is_kept() -> None:
    kube = FakeKube()
    claim = obj(Ref("v1", "PersistentVolumeClaim", "app", "data"), spec={})
    kept = obj(Ref("v1", "ConfigMap", "app", "kept"))
    kept["metadata"]["annotations"] = {names.KEEP_ANNOTATION: "true"}
    run(kube, [A_NAMESPACE, config(), claim, kept])

    planned = apply.plan(kube, [A_NAMESPACE], "demo")
    changes = run(kube, [A_NAMESPACE])
    assert changes.deleted == planned.changes.deleted == [str(CONFIG)]
    assert sorted(changes.kept) == [
        "ConfigMap app/kept: marked to be kept",
        "PersistentVolumeClaim app/data: volumes are never deleted",
    ]
    assert CONFIG.key not in kube.store
    assert Ref.of(claim).key in kube.store
    assert run(kube, [A_NAMESPACE]).count == 0


def test_only_what_still_carries_our_label_is_pruned() -> None:
    kube = FakeKube()
    run(kube, [A_NAMESPACE, config()])
    kube.edit(CONFIG, "metadata.labels", {"mine": "now"})

    assert run(kube, [A_NAMESPACE]).kept == [f"{CONFIG}: carries our label no more, left as it is (no label)"]
    assert CONFIG.key in kube.store
    assert run(kube, [A_NAMESPACE]).kept == []


def test_another_api_version_of_the_same_object_is_not_pruned() -> None:
    kube = FakeKube()
    both = definition()
    both["spec"]["versions"] = [{"name": name, "served": True, "storage": name == "v1"} for name in ("v1", "v2")]
    run(kube, [A_NAMESPACE, both, obj(WIDGET, spec={"size": 1})])
    newer = Ref("example.com/v2", "Widget", "app", "one")

    changes = run(kube, [A_NAMESPACE, both, obj(newer, spec={"size": 1})])
    assert changes.deleted == []
    assert WIDGET.key in kube.store


def test_the_same_object_twice_or_without_its_namespace_is_bad_input() -> None:
    kube = FakeKube()
    with pytest.raises(BadInput, match="ConfigMap app/config is there twice"):
        run(kube, [A_NAMESPACE, config(), config(key="other")])
    lost = config()
    del lost["metadata"]["namespace"]
    with pytest.raises(BadInput, match="ConfigMap config names no namespace"):
        run(kube, [lost])
    assert not kube.store


def test_a_namespace_on_what_belongs_to_none_is_dropped() -> None:
    kube = FakeKube()
    role = obj(Ref("rbac.authorization.k8s.io/v1", "ClusterRole", "app", "reader"), rules=[])

    assert run(kube, [role]).created == ["ClusterRole reader"]
    assert run(kube, [role]).count == 0


def test_a_shared_object_keeps_the_label_it_comes_with() -> None:
    kube = FakeKube()
    shared = copy.deepcopy(A_NAMESPACE)
    shared["metadata"]["labels"] = {names.COMPONENT_LABEL: "shared"}
    for component in ("one", "two"):
        apply.apply_all(kube, [shared, obj(Ref("v1", "ConfigMap", "app", component))], component)
    kube.calls.clear()
    for component in ("one", "two"):
        objects = [shared, obj(Ref("v1", "ConfigMap", "app", component))]
        assert apply.apply_all(kube, objects, component).count == 0
    assert kube.count("apply") == 0


# What is somebody else's

THEIRS = [A_NAMESPACE, obj(SECRET, data={"token": "dGhlaXJz"}), config(key="theirs")]


@pytest.fixture
def occupied() -> FakeKube:
    """A cluster in which somebody has objects that have our objects' names."""
    return FakeKube(*THEIRS)


def test_what_somebody_else_has_made_is_not_touched_and_nothing_beside_it_is_made(occupied: FakeKube) -> None:
    before = copy.deepcopy(occupied.store)

    with pytest.raises(NotOurs) as refused:
        run(occupied, everything(), create_only=[obj(SECRET, data={"token": "b3Vycw=="})])

    assert occupied.store == before
    assert refused.value.what == (
        "demo: ConfigMap app/config, Namespace app and 1 more are there already, and were not made by us"
    )
    assert refused.value.facts == {
        str(CONFIG): "written by creator",
        str(NAMESPACE): "written by creator",
        str(SECRET): "written by creator",
        "applied": "nothing of demo",
    }
    assert f"kubectl -n app label configmap config {names.COMPONENT_LABEL}=demo" in refused.value.hint


def test_a_plan_says_so_too(occupied: FakeKube) -> None:
    with pytest.raises(NotOurs, match="ConfigMap app/config, Namespace app are there already"):
        apply.plan(occupied, everything(), "demo")


def test_one_that_is_made_once_is_not_taken_over_either(occupied: FakeKube) -> None:
    occupied.edit(NAMESPACE, "metadata.labels", {names.COMPONENT_LABEL: "demo"})
    with pytest.raises(NotOurs, match=r"Secret app/key is there already, and was not made by us"):
        run(occupied, [A_NAMESPACE], create_only=[obj(SECRET)])


def test_what_is_handed_over_is_ours(occupied: FakeKube) -> None:
    for ref in (NAMESPACE, CONFIG):
        occupied.edit(ref, "metadata.labels", {names.COMPONENT_LABEL: "demo"})

    assert str(CONFIG) in run(occupied, everything()).configured
    assert occupied.store[CONFIG.key]["data"] == {"key": "value"}


def test_what_is_going_away_is_nobodys(occupied: FakeKube) -> None:
    occupied.edit(NAMESPACE, "metadata.labels", {names.COMPONENT_LABEL: "demo"})
    occupied.store[CONFIG.key]["metadata"]["finalizers"] = ["somebody"]
    occupied.delete(CONFIG)
    timer = threading.Timer(0.1, lambda: occupied.release(CONFIG))
    timer.start()

    assert str(CONFIG) in run(occupied, everything()).created
    timer.join()


def test_an_object_moves_to_another_component_of_ours_and_stays_when_the_first_goes() -> None:
    kube = FakeKube()
    run(kube, everything())

    moved = apply.apply_all(kube, [config(key="value")], "other")

    assert (moved.configured, label(CONFIG, kube)) == ([str(CONFIG)], "other")
    rest = [each for each in everything() if each["kind"] != "ConfigMap"]
    assert run(kube, rest).kept == [f"{CONFIG}: carries our label no more, left as it is (other)"]
    assert CONFIG.key in kube.store


def test_looking_for_strangers_costs_nothing_when_nothing_is_new() -> None:
    kube = FakeKube()
    run(kube, everything(), create_only=[obj(SECRET)])
    kube.calls.clear()

    run(kube, everything(), create_only=[obj(SECRET)])

    assert [what for verb, what in kube.calls if verb == "get"] == ["ConfigMap inference-in-a-box/inventory-demo"]
