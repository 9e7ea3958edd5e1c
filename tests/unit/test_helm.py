"""Charts as objects: for which version of Kubernetes they are rendered, and what is made of them."""

from types import SimpleNamespace
from typing import Any

import pytest

from tasks.lib import helm, shell
from tests import boxes

CHART = """\
apiVersion: v1
kind: ConfigMap
metadata: {name: a}
---
apiVersion: v1
kind: Pod
metadata: {name: test, annotations: {helm.sh/hook: test}}
"""


class Cluster:
    """A cluster that counts how often its version was asked for."""

    def __init__(self) -> None:
        self.asked = 0

    def version(self) -> str:
        self.asked += 1
        return "v1.31.5+k3s1"


@pytest.mark.parametrize("owned", [True, False])
def test_a_chart_is_rendered_for_the_version_of_its_cluster(owned: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    commands: list[list[str]] = []

    def run(argv: list[object], **_: object) -> shell.Result:
        commands.append(list(map(str, argv)))
        return shell.Result(returncode=0, stdout=CHART, stderr="")

    monkeypatch.setattr(shell, "run", run)
    cluster: Any = Cluster()
    source = SimpleNamespace(chart=lambda name: f"/charts/{name}", values=lambda _: {})
    box = boxes.box(cluster, source=source, provider=SimpleNamespace(owned=owned))
    box.tools = SimpleNamespace(path=lambda name: name)  # type: ignore[assignment]

    for _ in range(2):
        (made,) = helm.template(box, "istiod", release="istiod", namespace="istio-system", values={})
        assert made["metadata"] == {"name": "a", "namespace": "istio-system"}

    wanted = box.versions.kubernetes.version if owned else "v1.31.5+k3s1"
    assert [words[words.index("--kube-version") + 1] for words in commands] == [wanted, wanted]
    assert cluster.asked == (0 if owned else 1)
