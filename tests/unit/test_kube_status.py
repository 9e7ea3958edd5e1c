"""How far an object has come: a YAML string in, a status out."""

from typing import Any

import pytest
import yaml

from tasks.lib.kube import kinds, status
from tasks.lib.kube.api import Ref
from tasks.lib.kube.pods import reason
from tasks.lib.kube.status import State


def seen(text: str, group_kind: str = "") -> tuple[str, str]:
    obj = yaml.safe_load(text) or {}
    if group_kind:
        version, _, kind = group_kind.rpartition(" ")
        obj = {"apiVersion": version, "kind": kind, "metadata": {"name": "x", "generation": 2}, **obj}
    found = status.compute(obj)
    return str(found.state), found.message


CURRENT, WAITING, FAILED, GOING = (
    str(state) for state in (State.CURRENT, State.IN_PROGRESS, State.FAILED, State.TERMINATING)
)


@pytest.mark.parametrize(
    ("kind", "text", "expected"),
    [
        ("apps/v1 Deployment", "{spec: {}}", (WAITING, "not seen yet by its controller")),
        (
            "apps/v1 Deployment",
            "{spec: {}, status: {observedGeneration: 1, replicas: 1, updatedReplicas: 1, availableReplicas: 1}}",
            (WAITING, "generation 2 not seen yet by its controller"),
        ),
        ("apps/v1 Deployment", "{spec: {}, status: {observedGeneration: 2}}", (WAITING, "0 of 1 available")),
        (
            "apps/v1 Deployment",
            "{spec: {replicas: 2}, status: {observedGeneration: 2, updatedReplicas: 1, availableReplicas: 2, replicas: 2}}",
            (WAITING, "1 of 2 updated"),
        ),
        (
            "apps/v1 Deployment",
            "{spec: {replicas: 1}, status: {observedGeneration: 2, updatedReplicas: 1, availableReplicas: 1, replicas: 2}}",
            (WAITING, "1 old to go"),
        ),
        (
            "apps/v1 Deployment",
            "{spec: {replicas: 1}, status: {observedGeneration: 2, updatedReplicas: 1, availableReplicas: 1, replicas: 1}}",
            (CURRENT, "1 of 1 available"),
        ),
        ("apps/v1 Deployment", "{spec: {replicas: 0}, status: {observedGeneration: 2}}", (CURRENT, "0 of 0 available")),
        (
            "apps/v1 Deployment",
            "{spec: {}, status: {observedGeneration: 2, conditions: "
            "[{type: Progressing, status: 'False', reason: ProgressDeadlineExceeded}]}}",
            (WAITING, "0 of 1 available, over its progress deadline"),
        ),
        (
            "apps/v1 StatefulSet",
            "{spec: {replicas: 2}, status: {observedGeneration: 2, readyReplicas: 1}}",
            (WAITING, "1 of 2 ready"),
        ),
        (
            "apps/v1 StatefulSet",
            "{spec: {}, status: {observedGeneration: 2, readyReplicas: 1, updateRevision: b, currentRevision: a}}",
            (WAITING, "0 of 1 updated"),
        ),
        (
            "apps/v1 StatefulSet",
            "{spec: {}, status: {observedGeneration: 2, readyReplicas: 1, updateRevision: b, currentRevision: b}}",
            (CURRENT, "1 of 1 ready"),
        ),
        (
            "apps/v1 DaemonSet",
            "{spec: {}, status: {observedGeneration: 2, desiredNumberScheduled: 2, updatedNumberScheduled: 2, numberAvailable: 1}}",
            (WAITING, "1 of 2 available"),
        ),
        ("apps/v1 DaemonSet", "{spec: {}, status: {observedGeneration: 2}}", (CURRENT, "0 of 0 available")),
        ("batch/v1 Job", "{spec: {}, status: {failed: 1}}", (WAITING, "0 of 1 complete, 1 failed")),
        ("batch/v1 Job", "{spec: {}, status: {conditions: [{type: Complete, status: 'True'}]}}", (CURRENT, "complete")),
        (
            "batch/v1 Job",
            "{spec: {}, status: {conditions: [{type: Failed, status: 'True', reason: BackoffLimitExceeded, message: gave up}]}}",
            (FAILED, "failed: BackoffLimitExceeded: gave up"),
        ),
        ("v1 Pod", "{spec: {}, status: {phase: Succeeded}}", (CURRENT, "complete")),
        (
            "v1 Pod",
            "{spec: {}, status: {phase: Running, conditions: [{type: Ready, status: 'True'}]}}",
            (CURRENT, "ready"),
        ),
        (
            "v1 Pod",
            "{spec: {}, status: {phase: Running, containerStatuses: [{name: a, ready: false, state: {running: {}}}]}}",
            (WAITING, "a: not ready"),
        ),
        ("v1 Pod", "{spec: {}, status: {phase: Failed, reason: Evicted, message: disk}}", (FAILED, "Evicted: disk")),
        ("apiextensions.k8s.io/v1 CustomResourceDefinition", "{}", (WAITING, "not established yet")),
        (
            "apiextensions.k8s.io/v1 CustomResourceDefinition",
            "{status: {conditions: [{type: Established, status: 'True'}]}}",
            (CURRENT, ""),
        ),
        (
            "apiextensions.k8s.io/v1 CustomResourceDefinition",
            "{status: {conditions: [{type: NamesAccepted, status: 'False', reason: ListKindConflict}]}}",
            (FAILED, "NamesAccepted=False: ListKindConflict"),
        ),
        ("v1 Namespace", "{status: {phase: Active}}", (CURRENT, "")),
        ("v1 Namespace", "{status: {phase: Terminating}}", (GOING, "is being deleted")),
        ("v1 PersistentVolumeClaim", "{status: {phase: Pending}}", (WAITING, "pending, no volume bound yet")),
        ("v1 PersistentVolumeClaim", "{status: {phase: Bound}}", (CURRENT, "bound")),
        ("v1 PersistentVolumeClaim", "{status: {phase: Lost}}", (FAILED, "its volume is lost")),
        ("v1 Service", "{spec: {type: ClusterIP}}", (CURRENT, "")),
        ("v1 Service", "{spec: {type: LoadBalancer}}", (WAITING, "no load balancer has given it an address")),
        (
            "v1 Service",
            "{spec: {type: LoadBalancer}, status: {loadBalancer: {ingress: [{ip: 10.0.0.1}]}}}",
            (CURRENT, ""),
        ),
        ("v1 ResourceQuota", "{spec: {hard: {pods: '1'}}}", (WAITING, "not counted yet: pods")),
        ("v1 ResourceQuota", "{spec: {hard: {pods: '1'}}, status: {hard: {pods: '1'}}}", (CURRENT, "")),
        ("v1 ConfigMap", "{}", (CURRENT, "")),
        ("rbac.authorization.k8s.io/v1 Role", "{}", (CURRENT, "")),
        ("apiregistration.k8s.io/v1 APIService", "{}", (WAITING, "Available not reported yet")),
        ("cert-manager.io/v1 Certificate", "{}", (WAITING, "Ready not reported yet")),
        (
            "cert-manager.io/v1 Certificate",
            "{status: {conditions: [{type: Ready, status: 'True', observedGeneration: 1}]}}",
            (WAITING, "Ready not reported yet for generation 2"),
        ),
        (
            "cert-manager.io/v1 Issuer",
            "{status: {conditions: [{type: Ready, status: 'True', observedGeneration: 2}]}}",
            (CURRENT, ""),
        ),
        (
            "serving.knative.dev/v1 Service",
            "{status: {observedGeneration: 2, conditions: [{type: Ready, status: 'False', reason: RevisionMissing, message: gone}]}}",
            (WAITING, "Ready=False: RevisionMissing: gone"),
        ),
        (
            "serving.knative.dev/v1 Service",
            "{status: {observedGeneration: 1, conditions: [{type: Ready, status: 'True'}]}}",
            (WAITING, "generation 2 not seen yet by its controller"),
        ),
        (
            "serving.kserve.io/v1beta1 InferenceService",
            "{status: {observedGeneration: 1, conditions: [{type: Ready, status: 'True'}]}}",
            (CURRENT, ""),
        ),
        (
            "gateway.networking.k8s.io/v1 Gateway",
            "{status: {conditions: [{type: Accepted, status: 'True'}, "
            "{type: Programmed, status: 'False', reason: AddressNotAssigned}]}}",
            (WAITING, "Programmed=False: AddressNotAssigned"),
        ),
        ("gateway.networking.k8s.io/v1 HTTPRoute", "{}", (WAITING, "no Gateway has reported on it yet")),
        (
            "gateway.networking.k8s.io/v1 HTTPRoute",
            "{status: {parents: [{conditions: [{type: Accepted, status: 'True'}, {type: ResolvedRefs, status: 'True'}]}, "
            "{conditions: [{type: Accepted, status: 'True'}, {type: ResolvedRefs, status: 'False', reason: BackendNotFound}]}]}}",
            (WAITING, "ResolvedRefs=False: BackendNotFound"),
        ),
        (
            "gateway.envoyproxy.io/v1alpha1 SecurityPolicy",
            "{status: {ancestors: [{conditions: [{type: Accepted, status: 'True'}]}]}}",
            (CURRENT, ""),
        ),
        (
            "aigateway.envoyproxy.io/v1alpha1 AIGatewayRoute",
            "{status: {conditions: [{type: NotAccepted, status: 'False', message: no backend}]}}",
            (WAITING, "NotAccepted=False: no backend"),
        ),
        ("networking.istio.io/v1 Gateway", "{spec: {}}", (CURRENT, "")),
        (
            "example.com/v1 Widget",
            "{status: {conditions: [{type: Ready, status: Unknown}]}}",
            (WAITING, "Ready=Unknown"),
        ),
        ("example.com/v1 Widget", "{}", (CURRENT, "")),
    ],
)
def test_status(kind: str, text: str, expected: tuple[str, str]) -> None:
    assert seen(text, kind) == expected


@pytest.mark.parametrize(("group", "kind"), sorted(kinds.REPORTS))
def test_what_must_report_is_not_current_before_it_has(group: str, kind: str) -> None:
    assert seen("{}", f"{group}/v1 {kind}")[0] == WAITING
    all_true = [{"type": each, "status": "True"} for each in kinds.REPORTS[group, kind]]
    assert seen(yaml.safe_dump({"status": {"conditions": all_true}}), f"{group}/v1 {kind}")[0] == CURRENT


def test_what_is_being_deleted_is_terminating_whatever_it_says() -> None:
    text = """
    apiVersion: v1
    kind: ConfigMap
    metadata: {name: x, deletionTimestamp: "2024-01-01T00:00:00Z", finalizers: [a, b]}
    """
    assert seen(text) == (GOING, "is being deleted (held by a, b)")


@pytest.mark.parametrize(
    ("pod", "expected"),
    [
        ("{}", ""),
        (
            "{phase: Pending, conditions: [{type: PodScheduled, status: 'False', reason: Unschedulable, message: no cpu}]}",
            "Unschedulable: no cpu",
        ),
        (
            "{containerStatuses: [{name: a, state: {waiting: {reason: ImagePullBackOff, message: x}}}]}",
            "a: ImagePullBackOff: x",
        ),
        (
            "{containerStatuses: [{name: a, state: {waiting: {reason: CrashLoopBackOff}}, "
            "lastState: {terminated: {exitCode: 1, reason: Error}}}]}",
            "a: CrashLoopBackOff (last exit 1: Error)",
        ),
        (
            "{initContainerStatuses: [{name: i, state: {waiting: {reason: ErrImagePull}}}], "
            "containerStatuses: [{name: a, state: {waiting: {reason: PodInitializing}}}]}",
            "i: ErrImagePull",
        ),
        (
            "{containerStatuses: [{name: a, state: {waiting: {reason: ContainerCreating}}}, "
            "{name: b, state: {waiting: {reason: CreateContainerConfigError, message: no secret}}}]}",
            "b: CreateContainerConfigError: no secret",
        ),
        ("{containerStatuses: [{name: a, state: {waiting: {reason: ContainerCreating}}}]}", "a: ContainerCreating"),
        (
            "{containerStatuses: [{name: a, ready: false, restartCount: 3, state: {running: {}}, "
            "lastState: {terminated: {exitCode: 137, reason: OOMKilled}}}]}",
            "a: not ready, restarted 3 times, last exit 137: OOMKilled",
        ),
        ("{phase: Running, containerStatuses: [{name: a, ready: true, state: {running: {}}}]}", ""),
        (
            "{phase: Failed, containerStatuses: [{name: a, state: {terminated: {exitCode: 2, reason: Error}}}]}",
            "a: exit 2: Error",
        ),
    ],
)
def test_why_a_pod_is_not_ready(pod: str, expected: str) -> None:
    assert reason({"status": yaml.safe_load(pod)}) == expected


def test_a_long_message_is_cut() -> None:
    waiting: dict[str, Any] = {"reason": "ErrImagePull", "message": "x" * 1000}
    found = reason({"status": {"containerStatuses": [{"name": "a", "state": {"waiting": waiting}}]}})
    assert len(found) < 250
    assert found.endswith("…")


@pytest.mark.parametrize(
    ("api_version", "kind", "wave"),
    [
        ("v1", "Namespace", 0),
        ("apiextensions.k8s.io/v1", "CustomResourceDefinition", 0),
        ("rbac.authorization.k8s.io/v1", "ClusterRole", 0),
        ("rbac.authorization.k8s.io/v1", "ClusterRoleBinding", 1),
        ("v1", "ServiceAccount", 1),
        ("networking.k8s.io/v1", "NetworkPolicy", 1),
        ("apps/v1", "Deployment", 2),
        ("batch/v1", "Job", 2),
        ("networking.istio.io/v1", "Gateway", 3),
        ("gateway.networking.k8s.io/v1", "Gateway", 3),
        ("serving.knative.dev/v1", "Service", 3),
        ("admissionregistration.k8s.io/v1", "ValidatingWebhookConfiguration", 4),
    ],
)
def test_when_a_kind_is_applied(api_version: str, kind: str, wave: int) -> None:
    assert kinds.wave(Ref(api_version, kind, None, "x")) == wave
