"""Charts as lists of objects.

Charts are rendered with `helm template` and applied like everything else, so that plan, repair and prune know every
object (docs/adr/0003). Hooks are not objects of a release; the charts we use need none of theirs.
"""

import json
from collections.abc import Mapping
from typing import Any

from tasks.lib import render, shell, yamlfile
from tasks.lib.box import Box
from tasks.lib.render import Obj


def template(box: Box, chart: str, *, release: str, namespace: str, values: Mapping[str, Any]) -> list[Obj]:
    """Render a chart named in config/versions.yaml.

    `values` is laid over the chart's own defaults, and the source's overlay (stand-ins) over that. Rendered as an
    upgrade, because Istio's charts then leave out the webhook fields that istiod itself writes (failurePolicy).
    For another version of Kubernetes a chart may make other objects: after an upgrade of an existing cluster those
    that changed are applied, and nothing else is.
    Raises CommandFailed with helm's message when the chart refuses the values.
    """
    overlay = box.source.values(chart)
    found = shell.run(
        [
            box.tools.path("helm"), "template", release, box.source.chart(chart), "--namespace", namespace,
            "--include-crds", "--is-upgrade", "--skip-tests", "--kube-version", box.kubernetes,
            "--values", "-",
        ],
        stdin=json.dumps(render.merge(dict(values), overlay)),
        timeout_s=60,
    )  # fmt: skip
    objects = [each for each in yamlfile.parse_all(found.stdout, where=f"chart {chart}") if each]
    return [_in_namespace(each, namespace) for each in render.tidy(objects)]


def _in_namespace(obj: Obj, namespace: str) -> Obj:
    """Name the release's namespace where the chart leaves it to helm (kinds without one lose it when applied)."""
    return {**obj, "metadata": {"namespace": namespace, **obj["metadata"]}}
