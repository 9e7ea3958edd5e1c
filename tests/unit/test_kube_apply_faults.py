"""Apply when something is in the way: killed runs, webhooks that are not up, refusals, things going away."""

import threading

import pytest

from tasks.lib.errors import NotReady, Refused
from tasks.lib.kube import apply, inventory, parallel
from tasks.lib.kube.api import ApiError, Ref
from tests.fakes import FakeKube
from tests.samples import A_NAMESPACE, CONFIG, DEPLOYMENT, NAMESPACE, WIDGET, WIDGETS, config, everything, obj, run


def test_a_definition_that_is_never_established_is_not_ready() -> None:
    kube = FakeKube()
    kube.establishes = False

    with pytest.raises(NotReady, match="demo: definitions did not become ready"):
        run(kube, everything(), patience_s=0.1)
    assert WIDGET.key not in kube.store


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
    assert apply.plan(kube, everything(), "demo").changes.created

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
