"""What the platform's certificates are verified by: the root's public half, where pods need it.

It is read from the root's live Secret each time, so that it cannot be another one's. Its key is of no interest here.
"""

import base64

from tasks.lib import names, present
from tasks.lib.box import Box
from tasks.lib.kube.api import Obj, Ref

NAME = "platform-root"
KEY = "ca.crt"

_ROOT = Ref("v1", "Secret", names.CERT_MANAGER_NAMESPACE, "inference-in-a-box-root")


def root(box: Box) -> str:
    """Return the root's certificate. Without a cluster or a root (a rendering) there is none."""
    found = present.get(box, _ROOT)
    return base64.b64decode(((found or {}).get("data") or {}).get("tls.crt", "")).decode()


def bundle(box: Box, namespace: str) -> Obj:
    """The ConfigMap that pods of a namespace verify with. Whoever applies it needs the component `issuers`."""
    meta = {"name": NAME, "namespace": namespace}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": meta, "data": {KEY: root(box)}}
