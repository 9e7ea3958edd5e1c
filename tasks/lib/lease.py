"""The lock between machines: a Lease in the cluster itself, from the moment the cluster is there.

Every write carries the resourceVersion that was read before it, so that of two runs only one can succeed. A lease that
is not renewed for LEASE_S may be taken over; how long it has not been renewed is measured here, never by comparing
clocks, save that a stamp older than any sane difference between clocks needs no measuring.
"""

import math
import os
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from types import TracebackType
from typing import Any, Protocol, Self

from tasks.lib import names
from tasks.lib.errors import BoxError, Busy, Refused
from tasks.lib.runlock import Holder, busy

LEASE_S = 30
"""Seconds without a renewal after which another run may take over."""

NAME = "run"

_RENEW_S = 10.0
_RETRY_S = 2.0
_POLL_S = 2.0
_RACE_S = 0.1
_ANSWER_S = 10.0
_LONG_DEAD_S = 300.0
_NOT_FOUND, _CONFLICT = 404, 409
_HOLDER = f"{names.DOMAIN}/holder"
_PATH = f"/apis/coordination.k8s.io/v1/namespaces/{names.PLATFORM_NAMESPACE}/leases"

Obj = dict[str, Any]


class Api(Protocol):
    """What a lease needs of the cluster. Raises Refused with its HTTP status, ClusterGone when nothing answers."""

    def raw(self, method: str, path: str, body: Obj | None = None, *, timeout_s: float) -> Any:  # noqa: ANN401 (JSON)
        """Send a request and return the decoded answer."""


class Lease:
    """The turn of this run on a cluster.

    A thread renews it. When another run has taken it, `cancel` is set and `lost` says who; leaving the `with` block
    releases it, and raises `lost` instead of whatever the cancelled work raised. A cluster that does not answer for a
    while loses nothing: we cannot write to it either, and whether the lease is still ours is the first thing asked.
    """

    def __init__(self, api: Api, *, command: str, cancel: threading.Event, namespace: Obj | None = None) -> None:
        self._api, self._cancel = api, cancel
        self._namespace = namespace or {
            "apiVersion": "v1",
            "kind": "Namespace",
            "metadata": {"name": names.PLATFORM_NAMESPACE, "labels": {names.COMPONENT_LABEL: NAME}},
        }
        self._me = Holder.me(command)
        self._identity = f"{self._me.host}/{self._me.pid}/{os.urandom(4).hex()}"
        self._heard_at = 0.0
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self.lost: Busy | None = None

    def acquire(self, *, say: Callable[[str], None], wait: bool = True, timeout_s: float | None = None) -> None:
        """Take the lease and keep it renewed; make the namespace when it is missing. Taking it twice is fine.

        Raises Busy when another run holds it and this one may not wait (longer), or is told to stop meanwhile.
        """
        if self._thread:
            return
        self._await_turn(say, (timeout_s if timeout_s is not None else math.inf) if wait else 0)
        self._stop.clear()
        self._heard_at = time.monotonic()
        self._thread = threading.Thread(target=self._keep, name="lease", daemon=True)
        self._thread.start()

    def release(self) -> None:
        """Give the lease back. When the cluster does not answer it runs out by itself."""
        thread, self._thread = self._thread, None
        if thread is None:
            return
        self._stop.set()
        thread.join(timeout=_RETRY_S)
        if self.lost:
            return
        try:
            found = self._read()
            if found and found["spec"].get("holderIdentity") == self._identity:
                version = found["metadata"]["resourceVersion"]
                options = {"apiVersion": "v1", "kind": "DeleteOptions", "preconditions": {"resourceVersion": version}}
                self._ask("DELETE", f"{_PATH}/{NAME}", options)
        except BoxError:
            return

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()
        if self.lost:
            raise self.lost from error

    def _await_turn(self, say: Callable[[str], None], patience_s: float) -> None:
        deadline = time.monotonic() + patience_s
        seen, seen_at, told = "", 0.0, False
        while True:
            found = self._read()
            if found and found["metadata"]["resourceVersion"] != seen:
                seen, seen_at = found["metadata"]["resourceVersion"], time.monotonic()
            mine_to_take = found is None or self._free(found) or time.monotonic() - seen_at >= LEASE_S
            if mine_to_take and self._claim(found):
                return
            holder = _holder(found) if found else None
            if not mine_to_take and time.monotonic() >= deadline:
                raise busy("this cluster", holder)
            if not mine_to_take and not told:
                told = True
                say(f"another run is at work on this cluster ({holder or 'unnamed'}); waiting for it to end")
            if self._cancel.wait(_RACE_S if mine_to_take else _POLL_S):
                raise busy("this cluster", holder)

    def _claim(self, found: Obj | None) -> bool:
        """Try to become the holder. False when another run was faster."""
        if found is None:
            return self._create(namespace_too=True)
        return self._write(found, taking=True)

    def _free(self, found: Obj) -> bool:
        identity, holder = found["spec"].get("holderIdentity"), _holder(found)
        return (
            identity in {None, "", self._identity}
            or (holder is not None and holder.gone)
            or _age_s(found) > _LONG_DEAD_S
        )

    def _keep(self) -> None:
        pause = _RENEW_S
        while not self._stop.wait(pause):
            try:
                pause = _RENEW_S if self._renew() else _RETRY_S
            except BoxError:
                pause = _RETRY_S
            except Exception as error:  # noqa: BLE001 (a dead thread would leave the run without its lock, unsaid)
                self.lost = Busy(f"the lock in the cluster cannot be kept: unexpected {error!r}")
            if self.lost:
                self._cancel.set()
                return

    def _renew(self) -> bool:
        found = self._read()
        silent_s, self._heard_at = time.monotonic() - self._heard_at, time.monotonic()
        if self._stop.is_set():
            return True
        if found is None:
            if silent_s >= LEASE_S:  # somebody may have taken it, worked, and given it back
                self.lost = _lost(None)
            return not self.lost and self._create(namespace_too=False)
        if found["spec"].get("holderIdentity") not in {None, "", self._identity}:
            self.lost = _lost(found)
        return not self.lost and self._write(found, taking=False)

    def _read(self) -> Obj | None:
        try:
            found: Obj = self._ask("GET", f"{_PATH}/{NAME}")
        except Refused as error:
            if error.status == _NOT_FOUND:
                return None
            raise
        return found

    def _create(self, *, namespace_too: bool) -> bool:
        obj = {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", **self._content({}, taking=True)}
        try:
            self._ask("POST", _PATH, obj)
        except Refused as error:
            if error.status == _NOT_FOUND and namespace_too:
                self._make_namespace()
            elif error.status not in {_NOT_FOUND, _CONFLICT}:
                raise
            return False
        return True

    def _ask(self, method: str, path: str, body: Obj | None = None) -> Any:  # noqa: ANN401 (JSON)
        return self._api.raw(method, path, body, timeout_s=_ANSWER_S)

    def _make_namespace(self) -> None:
        try:
            self._ask("POST", "/api/v1/namespaces", self._namespace)
        except Refused as error:
            if error.status != _CONFLICT:
                raise

    def _write(self, found: Obj, *, taking: bool) -> bool:
        try:
            self._ask("PUT", f"{_PATH}/{NAME}", {**found, **self._content(found, taking=taking)})
        except Refused as error:
            if error.status in {_CONFLICT, _NOT_FOUND}:
                return False
            raise
        return True

    def _content(self, found: Obj, *, taking: bool) -> Obj:
        metadata, spec, now = found.get("metadata", {}), found.get("spec", {}), _micro_time()
        return {
            "metadata": {
                **metadata,
                "name": NAME,
                "namespace": names.PLATFORM_NAMESPACE,
                "annotations": {**metadata.get("annotations", {}), _HOLDER: self._me.json()},
            },
            "spec": {
                **spec,
                "holderIdentity": self._identity,
                "leaseDurationSeconds": LEASE_S,
                "renewTime": now,
                "acquireTime": now if taking else spec.get("acquireTime", now),
                "leaseTransitions": spec.get("leaseTransitions", 0) + (1 if taking and spec else 0),
            },
        }


def _holder(found: Obj) -> Holder | None:
    return Holder.parse(found["metadata"].get("annotations", {}).get(_HOLDER, ""))


def _lost(found: Obj | None) -> Busy:
    facts = busy("this cluster", _holder(found)).facts if found else {"holder": "none any more"}
    return Busy(
        f"another run took over this cluster: this one was not heard of for {LEASE_S} s, and has stopped",
        facts=facts,
        hint="see that the other run has ended, then the same command again",
    )


def _age_s(found: Obj) -> float:
    try:
        age = datetime.now(UTC) - datetime.fromisoformat(found["spec"]["renewTime"])
    except (KeyError, ValueError, TypeError):
        age = timedelta.max
    return age.total_seconds()


def _micro_time() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
