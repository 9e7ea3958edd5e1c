"""Apply, plan and prune, on a cluster in a dict."""

import copy
import threading
from typing import Any

import pytest

from tasks.lib import names
from tasks.lib.errors import BadInput, NotReady, Refused
from tasks.lib.kube import apply, inventory, parallel
from tasks.lib.kube.api import ApiError, Obj, Ref
from tests.fakes import FakeKube

A_NAMESPACE: Obj = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "app"}}
NAMESPACE = Ref("v1", "Namespace", None, "app")
CONFIG = Ref("v1", "ConfigMap", "app", "config")
SECRET = Ref("v1", "Secret", "app", "key")
DEPLOYMENT = Ref("apps/v1", "Deployment", "app", "server")
WIDGETS = Ref("apiextensions.k8s.io/v1", "CustomResourceDefinition", None, "widgets.example.com")
WIDGET = Ref("example.com/v1", "Widget", "app", "one")


def obj(ref: Ref, **body: Any) -> Obj:
    meta = {"name": ref.name, **({"namespace": ref.namespace} if ref.namespace else {})}
    return {"apiVersion": ref.api_version, "kind": ref.kind, "metadata": meta, **body}


def config(**data: str) -> Obj:
    return obj(CONFIG, data=data or {"key": "value"})


def deployment(image: str = "server:1") -> Obj:
    containers = [{"name": "server", "image": image}]
    return obj(DEPLOYMENT, spec={"replicas": 1, "template": {"spec": {"containers": containers}}})


def definition() -> Obj:
    spec = {
        "group": "example.com",
        "names": {"kind": "Widget", "plural": "widgets"},
        "scope": "Namespaced",
        "versions": [{"name": "v1", "served": True, "storage": True}],
    }
    return obj(WIDGETS, spec=spec)


def everything() -> list[Obj]:
    return [deployment(), config(), A_NAMESPACE, obj(WIDGET, spec={"size": 1}), definition()]


def run(kube: FakeKube, objects: list[Obj], **options: Any) -> Any:
    return apply.apply_all(kube, objects, "demo", patience_s=options.pop("patience_s", 3), **options)


def label(ref: Ref, kube: FakeKube) -> str | None:
    labels = kube.store[ref.key]["metadata"]["labels"]
    return str(labels[names.COMPONENT_LABEL]) if names.COMPONENT_LABEL in labels else None


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
    step = path.split(".")[0]
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


def test_a_definition_that_is_never_established_is_not_ready() -> None:
    kube = FakeKube()
    kube.establishes = False

    with pytest.raises(NotReady, match="demo: definitions did not become ready"):
        run(kube, everything(), patience_s=0.1)
    assert WIDGET.key not in kube.store


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


def test_killed_while_applying_loses_track_of_nothing() -> None:
    kube = FakeKube()

    def die(verb: str, what: str) -> None:
        if (verb, what) == ("apply", str(DEPLOYMENT)):
            raise KeyboardInterrupt

    kube.before = die
    with pytest.raises(KeyboardInterrupt):
        run(kube, everything())
    kube.before = lambda _verb, _what: None
    left = inventory.load(kube, "demo")
    assert left.digest == ""
    assert {Ref.of(each).key for each in everything()} <= set(left.entries)

    assert run(kube, [A_NAMESPACE]).deleted == [str(CONFIG), str(WIDGETS)]


def test_a_value_applied_by_a_killed_run_is_not_taken_for_the_old_one() -> None:
    kube = FakeKube()
    run(kube, [A_NAMESPACE, config(key="one")])

    def die(verb: str, what: str) -> None:
        if (verb, what) == ("apply", "ConfigMap inference-in-a-box/inventory-demo") and applied():
            raise KeyboardInterrupt

    def applied() -> bool:
        return bool(kube.store[CONFIG.key]["data"] == {"key": "two"})

    kube.before = die
    with pytest.raises(KeyboardInterrupt):
        run(kube, [A_NAMESPACE, config(key="two")])
    assert applied()
    kube.before = lambda _verb, _what: None

    assert run(kube, [A_NAMESPACE, config(key="one")]).configured == [str(CONFIG)]


def test_an_object_whose_webhook_is_not_up_yet_does_not_stop_the_rest() -> None:
    kube = FakeKube()
    message = 'Internal error occurred: failed calling webhook "x": connect: connection refused'

    def hook(verb: str, what: str) -> None:
        if verb == "apply" and what == str(CONFIG) and DEPLOYMENT.key not in kube.store:
            raise ApiError(f"{what}: {message}", status=500, message=message)

    kube.before = hook
    said: list[str] = []
    changes = run(kube, everything(), say=said.append)
    assert len(changes.created) == 5
    assert any("failed calling webhook" in each for each in said)


def test_a_webhook_that_never_comes_is_named() -> None:
    kube = FakeKube()
    message = 'failed calling webhook "x": no endpoints available for service "x"'

    def hook(verb: str, what: str) -> None:
        if verb == "apply" and what == str(CONFIG):
            raise ApiError(f"{what}: {message}", status=500, message=message)

    kube.before = hook
    with pytest.raises(Refused, match='failed calling webhook "x"'):
        run(kube, everything(), patience_s=0.1)


def test_refusals_are_told_together_and_at_once() -> None:
    kube = FakeKube()

    def deny(verb: str, what: str) -> None:
        if verb == "apply" and what.startswith("ConfigMap app/"):
            raise ApiError(f"{what}: denied", status=403, reason="Forbidden", message="denied")

    kube.before = deny
    with pytest.raises(Refused) as caught:
        run(kube, [A_NAMESPACE, config(), obj(Ref("v1", "ConfigMap", "app", "more"))], patience_s=60)
    assert caught.value.what == "demo: 2 objects were refused"
    assert set(caught.value.facts) == {str(CONFIG), "ConfigMap app/more"}


def test_a_namespace_still_going_away_is_waited_for_and_filled_anew() -> None:
    kube = FakeKube()
    run(kube, everything())
    kube.store[CONFIG.key]["metadata"]["finalizers"] = ["test/hold"]
    kube.delete(NAMESPACE)
    assert kube.store[NAMESPACE.key]["metadata"]["deletionTimestamp"]
    assert "created" in {("created" if apply.plan(kube, everything(), "demo").changes.created else "")}

    timer = threading.Timer(0.2, lambda: kube.release(CONFIG))
    timer.start()
    changes = run(kube, everything())
    timer.join()
    assert str(NAMESPACE) in changes.created
    assert str(CONFIG) in changes.created
    assert "deletionTimestamp" not in kube.store[CONFIG.key]["metadata"]


def test_a_job_that_failed_is_made_anew() -> None:
    kube = FakeKube()
    ref = Ref("batch/v1", "Job", "app", "work")
    job = obj(ref, spec={"template": {"spec": {"containers": [{"name": "work", "image": "work:1"}]}}})
    run(kube, [A_NAMESPACE, job])
    uid = kube.store[ref.key]["metadata"]["uid"]
    assert run(kube, [A_NAMESPACE, job]).count == 0
    kube.report(ref, conditions=[{"type": "Failed", "status": "True", "reason": "BackoffLimitExceeded"}])

    assert apply.plan(kube, [A_NAMESPACE, job], "demo").lines == [f"change {ref}: made anew, because it failed"]
    assert run(kube, [A_NAMESPACE, job]).configured == [str(ref)]
    assert kube.store[ref.key]["metadata"]["uid"] != uid


def test_what_cannot_be_changed_is_made_anew() -> None:
    kube = FakeKube()
    ref = Ref("rbac.authorization.k8s.io/v1", "RoleBinding", "app", "binding")
    run(kube, [A_NAMESPACE, obj(ref, roleRef={"name": "one"})])

    def immutable(verb: str, what: str) -> None:
        if verb in {"apply", "dry-run"} and what == str(ref) and ref.key in kube.store:
            message = "cannot change roleRef"
            raise ApiError(f"{what}: {message}", status=422, reason="Invalid", message=message)

    kube.before = immutable
    other = [A_NAMESPACE, obj(ref, roleRef={"name": "two"})]
    assert apply.plan(kube, other, "demo").changes.configured == [str(ref)]
    assert run(kube, other).configured == [str(ref)]
    assert kube.store[ref.key]["roleRef"] == {"name": "two"}


def test_cancelled_stops_before_the_next_object() -> None:
    kube, cancel = FakeKube(), threading.Event()
    cancel.set()
    with pytest.raises(NotReady, match="stopped"):
        run(kube, everything(), cancel=cancel)
    assert NAMESPACE.key not in kube.store


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


def test_work_in_parallel_keeps_order_and_stops_at_the_first_error() -> None:
    assert parallel.each(lambda number: number * 2, list(range(50)), 8) == [number * 2 for number in range(50)]
    done: list[int] = []

    def work(number: int) -> None:
        if number == 3:
            raise ValueError(number)
        done.append(number)

    with pytest.raises(ValueError, match="3"):
        parallel.each(work, list(range(10_000)), 4)
    assert len(done) < 10_000
