"""Which kinds the API server serves, remembered for each group and version.

Definitions appear while we run, so a kind that is not known is asked for again.
"""

import threading
from collections.abc import Callable
from typing import Any

from tasks.lib.errors import Refused
from tasks.lib.kube import parallel
from tasks.lib.kube.api import Resource

_NOT_FOUND = 404


class Discovery:
    """What is known so far. `ask` sends a GET and returns parsed JSON."""

    def __init__(self, ask: Callable[[str], Any]) -> None:
        self._ask = ask
        self._lock = threading.Lock()
        self._known: dict[str, dict[str, Resource]] = {}

    def find(self, api_version: str, kind: str) -> Resource | None:
        """Return how a kind is served; asks once when it is not known."""
        with self._lock:
            found = self._known.get(api_version, {}).get(kind)
        return found or self._load(api_version).get(kind)

    def everything(self) -> tuple[list[Resource], dict[str, str]]:
        """Return each kind in one version (the group's preferred one, if it has it), and the groups that fail."""
        core = [str(each) for each in self._ask("/api").get("versions") or []]
        for group in self._ask("/apis").get("groups") or []:
            first = group.get("preferredVersion", {}).get("groupVersion", "")
            versions = [each["groupVersion"] for each in group["versions"]]
            core += [*(each for each in versions if each == first), *(each for each in versions if each != first)]
        failed: dict[str, str] = {}

        def load(api_version: str) -> dict[str, Resource]:
            try:
                return self._load(api_version)
            except Refused as error:
                failed[api_version] = error.what
                return {}

        chosen: dict[tuple[str, str], Resource] = {}
        for resources in parallel.each(load, core):
            for resource in resources.values():
                chosen.setdefault((resource.api_version.rpartition("/")[0], resource.plural), resource)
        return list(chosen.values()), failed

    def _load(self, api_version: str) -> dict[str, Resource]:
        root = "/apis/" if "/" in api_version else "/api/"
        try:
            answer = self._ask(root + api_version)
        except Refused as error:
            if error.status != _NOT_FOUND:
                raise
            answer = {}
        found = {
            each["kind"]: Resource(
                api_version=api_version,
                kind=each["kind"],
                plural=each["name"],
                namespaced=bool(each.get("namespaced")),
                verbs=frozenset(each.get("verbs") or ()),
            )
            for each in answer.get("resources") or []
            if "/" not in each["name"]
        }
        with self._lock:
            self._known[api_version] = found
        return found
