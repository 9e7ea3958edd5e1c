"""The baseline: every component in declared order, each followed by what a script has to wait with.

The objects are those that the pipeline applies; `kubectl apply --server-side` is repeated until webhooks let it pass,
then `kubectl wait` and `kubectl rollout status` say when to go on. Run by bench.compare as a program of its own:

    python -m bench.serial     prints the seconds as JSON
"""

import json
import sys
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from tasks.lib import names, shell, yamlfile
from tasks.lib.box import Box
from tasks.lib.converge import CLUSTER
from tasks.lib.errors import BoxError, NotReady
from tasks.lib.kube.api import Ref
from tasks.lib.objects import ObjectsComponent, namespace
from tasks.lib.render import Obj
from tasks.lib.session import Session, open_session

FIRST = {"Namespace": 0, "CustomResourceDefinition": 1}
"""What a script applies before the rest."""

ROLLOUTS = frozenset({"Deployment", "StatefulSet", "DaemonSet"})
CONDITIONS: Mapping[tuple[str, str], str] = {
    ("apiextensions.k8s.io", "CustomResourceDefinition"): "Established",
    ("batch", "Job"): "Complete",
    ("cert-manager.io", "Certificate"): "Ready",
    ("cert-manager.io", "ClusterIssuer"): "Ready",
    ("cert-manager.io", "Issuer"): "Ready",
    ("serving.knative.dev", "Service"): "Ready",
    ("serving.kserve.io", "InferenceService"): "Ready",
}
"""From group and kind to the condition that `kubectl wait` is given."""

WAIT_S = 600
RETRY_S = 2.0


@dataclass(frozen=True)
class Kubectl:
    """The pinned kubectl, for one cluster."""

    path: Path
    kubeconfig: Path

    def run(self, *words: str, check: bool = True, stdin: str | None = None) -> shell.Result:
        """Run a command."""
        argv: list[str | Path] = [self.path, "--kubeconfig", self.kubeconfig, *words]
        return shell.run(argv, check=check, stdin=stdin, timeout_s=WAIT_S)


def in_order(objects: Iterable[Obj]) -> list[Obj]:
    """Return namespaces, then definitions, then the rest as they come."""
    return sorted(objects, key=lambda each: FIRST.get(each["kind"], len(FIRST)))


def waits(objects: Iterable[Obj]) -> list[list[str]]:
    """Return the commands that wait for these objects."""
    found = []
    for obj in objects:
        ref = Ref.of(obj)
        version = ref.api_version.rpartition("/")[2]
        name = f"{ref.kind}.{version}.{ref.group}/{ref.name}"
        where = ["--namespace", ref.namespace] if ref.namespace else []
        if ref.group == "apps" and ref.kind in ROLLOUTS:
            found.append(["rollout", "status", name, *where, f"--timeout={WAIT_S}s"])
        elif condition := CONDITIONS.get((ref.group, ref.kind)):
            found.append(["wait", f"--for=condition={condition}", name, *where, f"--timeout={WAIT_S}s"])
    return found


def apply(kubectl: Kubectl, objects: list[Obj]) -> int:
    """Apply until it passes; return how often it took. Raises NotReady when it never does."""
    text = yamlfile.dump_all(in_order(objects))
    deadline, tries = time.monotonic() + WAIT_S, 0
    while True:
        tries += 1
        found = kubectl.run("apply", "--server-side", "--force-conflicts", "--filename", "-", stdin=text, check=False)
        if found.returncode == 0:
            return tries
        if time.monotonic() > deadline:
            raise NotReady("kubectl apply never passed", facts={"output": found.stderr.strip()[-2000:]})
        time.sleep(RETRY_S)


def install(box: Box, component: ObjectsComponent, kubectl: Kubectl) -> None:
    """Apply a component and wait for it."""
    objects = [*component.create_only(box), *component.objects(box)]
    tries = apply(kubectl, objects)
    for words in waits(in_order(objects)):
        kubectl.run(*words)
    _tell(f"{component.name}: applied at attempt {tries}")


def bring_up(opened: Session) -> dict[str, float]:
    """Make the cluster and everything on it, one after another; return the seconds of each component."""
    box, graph, took = opened.box, opened.graph, dict[str, float]()
    for name in graph.names:
        component, begun = graph[name], time.monotonic()
        if component.left_out:
            continue
        if name == CLUSTER:
            box.provider.create(_tell)
            box.forget_cluster()
            kubectl = Kubectl(box.tools.path("kubectl"), box.provider.kubeconfig())
            apply(kubectl, [namespace(names.PLATFORM_NAMESPACE)])  # the pipeline makes it with its first inventory
        elif isinstance(component, ObjectsComponent):
            install(box, component, kubectl)
        else:
            raise BoxError(f"{name}: the baseline does not know how a script would do this")
        took[name] = round(time.monotonic() - begun, 3)
    return took


def main() -> None:
    """Prepare what is not measured (engine, tools, images), then measure."""
    opened = open_session({})
    box = opened.box
    box.provider.ensure_engine(_tell)
    for tool in ("helm", "kubectl"):
        box.tools.path(tool)
    for stage in opened.graph.stages:
        box.source.prepare([stage], _Told())
    begun = time.monotonic()
    took = bring_up(opened)
    sys.stdout.write(json.dumps({"seconds": round(time.monotonic() - begun, 3), "components": took}) + "\n")


class _Told:
    """Says what is prepared."""

    def __call__(self, text: str, /) -> None:
        _tell(text)

    def line(self, text: str, /) -> None:
        """Drop it."""


def _tell(text: str) -> None:
    sys.stderr.write(f"{text}\n")


if __name__ == "__main__":
    main()
