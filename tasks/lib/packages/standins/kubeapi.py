"""What the stand-ins that run in the cluster share: the API server by the pod's own token, followed and asked.

The standard library only: their images hold nothing but Debian's Python.
"""

import http.client
import json
import logging
import os
import signal
import ssl
import sys
import threading
import time
import urllib.parse
from collections.abc import Callable
from pathlib import Path
from typing import Any

ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
MERGE = "application/merge-patch+json"
APPLY = "application/apply-patch+yaml"

ANSWER_S = 15
WATCH_S = 240
AGAIN_S = 1.0

Obj = dict[str, Any]

log = logging.getLogger("kubeapi")


class Refused(OSError):  # noqa: N818 (named like the pipeline's own)
    """The API server said no. `status` is the HTTP status."""

    def __init__(self, what: str, status: int) -> None:
        super().__init__(what)
        self.status = status


class Api:
    """The API server, by the address that the kubelet gives every container."""

    def __init__(self) -> None:
        self._context = ssl.create_default_context(cafile=str(ACCOUNT / "ca.crt"))
        self._where = os.environ["KUBERNETES_SERVICE_HOST"], int(os.environ["KUBERNETES_SERVICE_PORT"])

    def connect(self, timeout_s: float) -> http.client.HTTPSConnection:
        """Open a connection."""
        return http.client.HTTPSConnection(*self._where, timeout=timeout_s, context=self._context)

    def headers(self, content_type: str = "application/json") -> dict[str, str]:
        """Return the headers of a request; the token is read each time, because it is renewed."""
        token = (ACCOUNT / "token").read_text().strip()
        return {"Authorization": f"Bearer {token}", "Accept": "application/json", "Content-Type": content_type}

    def call(self, method: str, path: str, body: object = None, content_type: str = "application/json") -> Any:  # noqa: ANN401 (JSON)
        """Send a request and return the answer. Raises Refused for anything but success, OSError for no answer."""
        connection = self.connect(ANSWER_S)
        try:
            connection.request(method, path, json.dumps(body) if body is not None else None, self.headers(content_type))
            reply = connection.getresponse()
            data = reply.read()
        finally:
            connection.close()
        if reply.status >= http.client.MULTIPLE_CHOICES:
            raise Refused(f"{method} {path}: HTTP {reply.status} {data[:300]!r}", reply.status)
        return json.loads(data)


class Mirror:
    """The newest version of every object of some collections, kept by one watch for each.

    Its revision counts the changes since the start.
    """

    def __init__(self, api: Api, collections: dict[str, str]) -> None:
        self._api = api
        self._changed = threading.Condition()
        self._revision = 0
        self._objects: dict[str, dict[str, Obj]] = {name: {} for name in collections}
        self._listed = dict.fromkeys(collections, False)
        for name, path in collections.items():
            threading.Thread(target=self._keep, args=(name, path), daemon=True).start()

    def read(self) -> tuple[int, dict[str, list[Obj]]]:
        """Return the revision and every collection, once each has been listed."""
        with self._changed:
            self._changed.wait_for(lambda: all(self._listed.values()))
            return self._revision, {name: list(objects.values()) for name, objects in self._objects.items()}

    def wait(self, revision: int, timeout_s: float) -> bool:
        """Wait until there is a newer revision. False when there is none after the time."""
        with self._changed:
            return self._changed.wait_for(lambda: self._revision != revision, timeout_s)

    def _keep(self, name: str, path: str) -> None:
        while True:
            try:
                self._follow(name, path)
            except (OSError, http.client.HTTPException, ValueError) as error:
                log.warning("%s: %s", name, error)
                time.sleep(AGAIN_S)  # nothing to wait for: the API server went away, or is not there yet

    def _follow(self, name: str, path: str) -> None:
        found = self._api.call("GET", path)
        with self._changed:
            self._objects[name] = {key(each): each for each in found["items"]}
            self._listed[name] = True
            self._count()
        query = {"watch": "1", "resourceVersion": found["metadata"]["resourceVersion"], "timeoutSeconds": WATCH_S}
        connection = self._api.connect(WATCH_S + 30)
        try:
            connection.request("GET", f"{path}?{urllib.parse.urlencode(query)}", headers=self._api.headers())
            for line in connection.getresponse():
                if not self._take(name, json.loads(line)):
                    return
        finally:
            connection.close()

    def _take(self, name: str, event: Obj) -> bool:
        """Take an event; False when the watch is of no more use."""
        if event["type"] not in ("ADDED", "MODIFIED", "DELETED"):
            return False
        with self._changed:
            if event["type"] == "DELETED":
                self._objects[name].pop(key(event["object"]), None)
            else:
                self._objects[name][key(event["object"])] = event["object"]
            self._count()
        return True

    def _count(self) -> None:
        self._revision += 1
        self._changed.notify_all()


def key(obj: Obj) -> str:
    """Return `namespace/name` of an object."""
    return f"{obj['metadata'].get('namespace', '')}/{obj['metadata']['name']}"


def run(main: Callable[[], object]) -> None:
    """Run a controller until it is told to end: the first process of a container has no default for SIGTERM."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    main()
