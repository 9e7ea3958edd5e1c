"""Tenants by command: add, list, remove."""

import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from tasks.components import tenants as components
from tasks.lib import converge, names, preflight, removal, tenancy
from tasks.lib.component import Status
from tasks.lib.errors import BadInput, NotReady
from tasks.lib.kube import inventory
from tasks.lib.kube.api import Cluster, Ref
from tasks.lib.session import ROOT, Session
from tasks.lib.tenancy import Tenant


def add(session: Session, name: str, *, summary: str, quota: str, requests: str = "", wait: bool = True) -> None:
    """Bring up one tenant, with a limit of `requests` a minute.

    Raises BadInput for a name, a quota or a limit that cannot be, before anything is touched.
    """
    tenancy.check_name(name)
    given = _quota(quota)
    tenancy.check_amounts(given, "--quota")
    rate = tenancy.check_rate(requests, "--requests-per-minute") if requests else 0
    command = f"invoke tenant.add --name {name}"
    preflight.require(session)
    session = converge.awake(session, command, wait=wait)
    _, defaults = tenancy.load(ROOT / "config/tenants.yaml")
    before = {tenant.name: tenant for tenant in session.tenants}.get(name)
    base = dict(before.quota) if before else defaults
    tenant = Tenant(
        name=name,
        summary=summary or (before.summary if before else ""),
        quota=tenancy.check_quota(given, base, "--quota"),
        requests_per_minute=rate or (before.requests_per_minute if before else tenancy.REQUESTS_PER_MINUTE),
        configured=before.configured if before else False,
    )
    if before and before.configured and tenant != before:
        raise BadInput(
            f"tenant {name} is in config/tenants.yaml, and so are its quota and its limit",
            facts={"skipped": "nothing was changed"},
            hint="change it there, then   invoke tenants",
        )
    run = converge.up(
        replace(session, changed=[tenant]), [components.component_name(name)], wait=wait, command=command,
        next_command="invoke tenant.list",
    )  # fmt: skip
    if run.error:
        raise run.error
    outcome = run.outcomes[components.component_name(name)]
    word = "is as it was" if outcome.status is Status.UNCHANGED else "is there"
    sys.stdout.write(f"tenant {name} {word}: namespace {tenant.namespace}\n")


def remove(session: Session, name: str, *, force: bool, wait: bool = True) -> None:
    """Remove a tenant, its models and its bucket. Raises BadInput for an unknown one, or one with models.

    One that is in no file any more is known by what it has in the cluster.
    """
    command = f"invoke tenant.remove --name {name}"
    session.box.provider.ensure_engine(converge.tell)
    session = converge.awake(session, command, wait=wait)
    kube, known = session.box.kube, {each.name: each for each in session.tenants}
    if name not in known and components.component_name(name) not in inventory.components(kube):
        raise BadInput(f"no tenant {name!r}", facts={"known": ", ".join(known) or "none"})
    if (models := removal.running_models(kube, name)) and not force:
        raise BadInput(
            f"tenant {name} has models: {', '.join(models)}",
            facts={"skipped": "nothing was changed"},
            hint=f"invoke tenant.remove --name {name} --force   removes them too",
        )
    with converge.turn(session, command, wait=wait) as at_work:
        at_work.acquire()
        removal.remove_tenant(session.box, name, force=True, say=converge.tell)
        left = _left(kube, name)
    if left:
        raise NotReady(f"tenant {name}: {len(left)} objects are left", facts={"objects": "\n".join(left)})
    configured = name in known and known[name].configured
    again = "; it is in config/tenants.yaml, and `invoke up` makes it again" if configured else ""
    sys.stdout.write(f"tenant {name} is removed, nothing is left{again}\n")


def _left(kube: Cluster, tenant: str) -> list[str]:
    """Everything that still names the tenant: its namespace, its label, its component, its models' inventories."""
    found = [str(ref) for ref in inventory.everything(kube, selector=f"{names.TENANT_LABEL}={tenant}")]
    label = f"{names.COMPONENT_LABEL}={components.component_name(tenant)}"
    found += [str(ref) for ref in inventory.everything(kube, selector=label)]
    return found + [inventory.name(each) for each in removal.model_components(kube, tenant)]


def show(session: Session, *, as_json: bool) -> None:
    """Print the tenants: where each comes from, its models, and what it uses of its quota."""
    rows = [_row(session, tenant) for tenant in sorted(session.tenants, key=lambda each: each.name)]
    if as_json:
        sys.stdout.write(json.dumps(rows, indent=2) + "\n")
        return
    table = [("NAME", "NAMESPACE", "FROM", "STATE", "MODELS", "CPU", "MEMORY", "PODS", "REQ/MIN", "SUMMARY")]
    for row in rows:
        used = row["used"]
        table.append(
            (
                row["name"], row["namespace"], row["from"], row["state"], ", ".join(row["models"]) or "-",
                used["requests.cpu"], used["requests.memory"], used["pods"], str(row["requests_per_minute"]),
                row["summary"],
            )
        )  # fmt: skip
    sys.stdout.write(columns(table))


def columns(table: Sequence[tuple[str, ...]]) -> str:
    """Return rows of text as aligned columns."""
    widths = [max(len(row[at]) for row in table) for at in range(len(table[0]))]
    lines = ["  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)) for row in table]
    return "".join(f"{line.rstrip()}\n" for line in lines)


def _row(session: Session, tenant: Tenant) -> dict[str, Any]:
    quota = _live_quota(session, tenant)
    used, hard = quota.get("used", {}), quota.get("hard", {})
    return {
        "name": tenant.name,
        "summary": tenant.summary,
        "namespace": tenant.namespace,
        "from": "config" if tenant.configured else "command",
        "state": "there" if quota else "absent",
        "models": removal.running_models(session.box.kube, tenant.name) if quota else [],
        "quota": dict(tenant.quota),
        "requests_per_minute": tenant.requests_per_minute,
        "used": {
            key: f"{used.get(key, '-')}/{hard.get(key, tenant.quota.get(key, '-'))}"
            for key in ("requests.cpu", "requests.memory", "pods")
        },
    }


def _live_quota(session: Session, tenant: Tenant) -> Mapping[str, Any]:
    if not session.box.cluster_there():
        return {}
    found = session.box.kube.get(Ref("v1", "ResourceQuota", tenant.namespace, "tenant"))
    return dict((found or {}).get("status", {}))


def _quota(text: str) -> dict[str, str]:
    pairs = [each.partition("=") for each in text.split(",") if each.strip()]
    if wrong := [key for key, sign, value in pairs if not (sign and value)]:
        raise BadInput(f"--quota: {wrong[0]!r} has no value", hint="--quota requests.cpu=4,limits.memory=16Gi")
    return {key.strip(): value.strip() for key, _, value in pairs}
