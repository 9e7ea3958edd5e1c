"""What the platform's certificates are verified by: the root's public half, where pods need it.

It is read from the root's live Secret each time, so that it cannot be another one's. Its key is of no interest here.
"""

import base64
import ssl

from tasks.lib import names, present
from tasks.lib.box import Box
from tasks.lib.errors import NotReady
from tasks.lib.kube.api import Obj, Ref

NAME = "platform-root"
KEY = "ca.crt"

_ROOT = Ref("v1", "Secret", names.CERT_MANAGER_NAMESPACE, "inference-in-a-box-root")


def root(box: Box) -> str:
    """Return the root's certificate. Without a cluster or a root (a rendering) there is none."""
    found = present.get(box, _ROOT)
    return base64.b64decode(((found or {}).get("data") or {}).get("tls.crt", "")).decode()


def client(box: Box) -> ssl.SSLContext:
    """Return what a client verifies with that trusts the root, and nothing else. Raises NotReady without a root."""
    found = root(box)
    if not found:
        raise NotReady("the platform's root is not there, so that there is nothing to trust", hint="invoke certs")
    return ssl.create_default_context(cadata=found)


def bundle(box: Box, namespace: str) -> Obj:
    """The ConfigMap that pods of a namespace verify with. Whoever applies it needs the component `issuers`."""
    meta = {"name": NAME, "namespace": namespace}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": meta, "data": {KEY: root(box)}}
