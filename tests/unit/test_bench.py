"""The benchmark: ratios and report, what a script would wait for, and in which order things are measured."""

import json
import os
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from bench import compare, figures, serial
from bench.compare import Bench
from bench.figures import Figures
from tasks.lib import shell
from tasks.lib.component import Changes
from tasks.lib.errors import BoxError, CommandFailed, NotAvailable, NotReady
from tasks.lib.graph import Graph
from tasks.lib.objects import ObjectsComponent
from tests.samples import A_NAMESPACE, config, definition, deployment

FIGURES = Figures(
    up_s=120.0, serial_s=240.0, again_s=15.0, critical_s=100.0, critical=("cluster", "istiod"), peak_mib=140.4
)


def test_ratios_are_held_beside_the_aims() -> None:
    found = {each.name: (each.found, each.most, each.met) for each in figures.aims(FIGURES)}
    assert found == {
        "up / one after another": (0.5, 0.6, True),
        "up / critical path": (1.2, 1.2, True),
        "second up / first": (0.125, 0.1, False),
        "peak memory in MiB": (140.4, 150, True),
    }


def test_what_was_not_measured_meets_no_aim() -> None:
    nothing = figures.aims(replace(FIGURES, serial_s=0.0, peak_mib=0.0))
    assert [(each.found, each.met) for each in nothing] == [(None, False), (1.2, True), (0.125, False), (None, False)]


def test_the_figures_for_people() -> None:
    assert figures.text(FIGURES).splitlines() == [
        "  up, on a fresh cluster     2m00s",
        "  one after another          4m00s",
        "  up again                     15s",
        "  critical path of up         100s  cluster > istiod",
        "  peak memory of up        140 MiB",
        "",
        "                             found       aim",
        "  up / one after another      0.50    <= 0.6  yes",
        "  up / critical path          1.20    <= 1.2  yes",
        "  second up / first           0.12    <= 0.1  no",
        "  peak memory in MiB           140    <= 150  yes",
    ]


def test_the_figures_as_values() -> None:
    found = json.loads(json.dumps(figures.values(FIGURES)))
    assert found["up_s"] == 120.0
    assert found["critical"] == ["cluster", "istiod"]
    assert found["aims"][2] == {"name": "second up / first", "found": 0.125, "most": 0.1, "met": False}


# The baseline


def test_namespaces_and_definitions_come_first() -> None:
    ordered = serial.in_order([config(), deployment(), definition(), A_NAMESPACE])
    assert [each["kind"] for each in ordered] == ["Namespace", "CustomResourceDefinition", "ConfigMap", "Deployment"]


def test_each_kind_is_waited_for_in_its_own_way() -> None:
    job = {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "train", "namespace": "app"}}
    issuer = {"apiVersion": "cert-manager.io/v1", "kind": "ClusterIssuer", "metadata": {"name": "ours"}}
    service = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "s", "namespace": "app"}}
    assert serial.waits([config(), definition(), deployment(), job, issuer, service]) == [
        ["wait", "--for=condition=Established",
         "CustomResourceDefinition.v1.apiextensions.k8s.io/widgets.example.com", "--timeout=600s"],
        ["rollout", "status", "Deployment.v1.apps/server", "--namespace", "app", "--timeout=600s"],
        ["wait", "--for=condition=Complete", "Job.v1.batch/train", "--namespace", "app", "--timeout=600s"],
        ["wait", "--for=condition=Ready", "ClusterIssuer.v1.cert-manager.io/ours", "--timeout=600s"],
    ]  # fmt: skip


class Kubectl:
    """A kubectl whose first applies are refused by a webhook that is not there yet."""

    def __init__(self, refusals: int = 0) -> None:
        self.refusals = refusals
        self.said: list[str] = []
        self.applied: list[str | None] = []

    def run(self, *words: str, check: bool = True, stdin: str | None = None) -> shell.Result:
        self.said.append(" ".join(words))
        if words[0] == "apply":
            self.applied.append(stdin)
            if len(self.applied) <= self.refusals:
                return shell.Result(returncode=1, stdout="", stderr="failed calling webhook")
        return shell.Result(returncode=0, stdout="", stderr="")


def component(name: str) -> ObjectsComponent:
    return ObjectsComponent(
        name=name, stage=name, summary=name, needs=(), build=lambda _: [deployment()], create_only=lambda _: [config()]
    )


def test_it_applies_until_the_webhook_lets_it_pass_and_then_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serial, "RETRY_S", 0.0)
    kubectl: Any = Kubectl(refusals=2)
    box: Any = None

    serial.install(box, component("mesh"), kubectl)

    assert [each.split()[0] for each in kubectl.said] == ["apply"] * 3 + ["rollout"]
    assert kubectl.said[0] == "apply --server-side --force-conflicts --filename -"
    assert len(set(kubectl.applied)) == 1, "the same text each time: secrets are made once"
    assert kubectl.applied[0].index("ConfigMap") < kubectl.applied[0].index("Deployment")


def test_it_gives_up_with_the_last_words(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serial, "RETRY_S", 0.0)
    monkeypatch.setattr(serial, "WAIT_S", -1)
    never: Any = Kubectl(refusals=1000)
    with pytest.raises(NotReady, match="never passed") as caught:
        serial.apply(never, [config()])
    assert caught.value.facts == {"output": "failed calling webhook"}


def test_everything_is_brought_up_in_declared_order(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    done: list[str] = []
    cluster: Any = SimpleNamespace(name="cluster", stage="cluster", needs=(), left_out="")
    later: Any = SimpleNamespace(name="later", stage="later", needs=("mesh",), left_out="not yet")
    odd: Any = SimpleNamespace(name="odd", stage="odd", needs=(), left_out="")
    provider = SimpleNamespace(
        create=lambda _: done.append("cluster") or Changes(),  # type: ignore[func-returns-value]
        kubeconfig=lambda: tmp_path / "kubeconfig",
    )
    box = SimpleNamespace(
        provider=provider, forget_cluster=lambda: None, tools=SimpleNamespace(path=lambda name: tmp_path / name)
    )

    def install(_: object, each: ObjectsComponent, kubectl: serial.Kubectl) -> None:
        done.append(f"{each.name} by {kubectl.path.name}")

    monkeypatch.setattr(serial, "apply", lambda _, objects: done.append(objects[0]["metadata"]["name"]))
    monkeypatch.setattr(serial, "install", install)
    parts = [cluster, component("mesh"), component("certs"), later]
    opened: Any = SimpleNamespace(box=box, graph=Graph(parts))

    took = serial.bring_up(opened)

    assert done == ["cluster", "inference-in-a-box", "mesh by kubectl", "certs by kubectl"]
    assert list(took) == ["cluster", "mesh", "certs"]
    opened.graph = Graph([cluster, odd])
    with pytest.raises(BoxError, match="odd: the baseline does not know"):
        serial.bring_up(opened)


# The comparison

OUTCOME = {
    "schema": 1, "cluster": compare.CLUSTER, "peak_mib": 140.4,
    "critical": {"seconds": 100.0, "components": ["cluster"]},
    "outcomes": {"cluster": {"elapsed_s": 60.0}, "gateway": {"elapsed_s": 0.0}},
}  # fmt: skip


@pytest.fixture
def commands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, dict[str, str]]]:
    """What is run; each `up` leaves an outcome."""
    said: list[tuple[str, dict[str, str]]] = []

    def start(argv: list[str], *, env: dict[str, str], **_: Any) -> shell.Result:
        name = argv[-1]
        said.append((name, env))
        if name == "up":
            leave(tmp_path, f"run-{len(said)}", OUTCOME)
        out = 'some words\n{"seconds": 240.0, "components": {"cluster": 60.0}}\n' if name == "bench.serial" else ""
        return shell.Result(returncode=0, stdout=out, stderr="")

    monkeypatch.setattr(shell, "run", start)
    return said


def leave(root: Path, name: str, outcome: dict[str, Any], at: float = 0.0) -> None:
    folder = root / ".box/runs" / name
    folder.mkdir(parents=True)
    (folder / "outcome.json").write_text(json.dumps(outcome))
    if at:
        os.utime(folder / "outcome.json", (at, at))


def test_each_is_measured_on_a_fresh_cluster_of_its_own(
    commands: list[tuple[str, dict[str, str]]], tmp_path: Path
) -> None:
    found = Bench(tmp_path, {"source": "packages", "mirror": ""}).compare(warm=False)

    order = ["down", "up", "down", "bench.serial", "down", "up", "up", "down"]
    assert [name for name, _ in commands] == order
    for _, environment in commands:
        assert environment == {
            "INVOKE_BOX_PROVIDER": "kind", "INVOKE_BOX_CLUSTER": "inference-in-a-box-bench",
            "INVOKE_BOX_HTTP_PORT": "28080", "INVOKE_BOX_HTTPS_PORT": "28443", "INVOKE_BOX_SOURCE": "packages",
        }  # fmt: skip
    assert (found.serial_s, found.critical_s, found.critical, found.peak_mib) == (240.0, 100.0, ("cluster",), 140.4)
    assert found.up_components == {"cluster": 60.0}


def test_with_images_that_are_here_nothing_is_warmed_up(
    commands: list[tuple[str, dict[str, str]]], tmp_path: Path
) -> None:
    Bench(tmp_path, {}).compare(warm=True)
    assert [name for name, _ in commands] == ["down", "bench.serial", "down", "up", "up", "down"]


def test_its_cluster_goes_also_after_a_failure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []

    def start(argv: list[str], **_: Any) -> shell.Result:
        said.append(argv[-1])
        if argv[-1] == "bench.serial":
            raise CommandFailed("python: exit status 1", returncode=1, output="")
        return shell.Result(returncode=0, stdout="", stderr="")

    monkeypatch.setattr(shell, "run", start)
    with pytest.raises(CommandFailed):
        Bench(tmp_path, {}).compare(warm=True)
    assert said == ["down", "bench.serial", "down"]


def test_the_outcome_is_that_of_its_own_last_run(tmp_path: Path) -> None:
    leave(tmp_path, "old", {**OUTCOME, "peak_mib": 1.0}, at=1000.0)
    with pytest.raises(NotAvailable, match="left no outcome"):
        compare.newest(tmp_path, 2000.0)
    leave(tmp_path, "first", {**OUTCOME, "peak_mib": 2.0}, at=2001.0)
    leave(tmp_path, "second", {**OUTCOME, "peak_mib": 3.0}, at=2002.0)
    leave(tmp_path, "other", {**OUTCOME, "cluster": "inference-in-a-box"}, at=2003.0)
    assert compare.newest(tmp_path, 2000.0)["peak_mib"] == 3.0
