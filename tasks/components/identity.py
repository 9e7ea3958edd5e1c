"""Identity: the keys that tokens are signed with, and the server that publishes their public halves."""

from tasks.lib import identity, keys, names, render
from tasks.lib.box import Box
from tasks.lib.errors import Refused
from tasks.lib.objects import ObjectsComponent, Probe
from tasks.lib.render import Obj

PROGRAM = "identity/server.py"
_PATH = "/.well-known/jwks.json"


def key_objects(box: Box) -> list[Obj]:  # noqa: ARG001 (the form of every builder)
    """Nothing that is applied again: keys and revocations are made once, and changed by command alone."""
    return []


def key_material(box: Box) -> list[Obj]:  # noqa: ARG001 (the form of every builder)
    """The first three keys, and an empty list of revoked tokens."""
    return [identity.keys_secret(keys.new_ring()), identity.revoked_map({})]


def server_objects(box: Box) -> list[Obj]:
    """The public halves of the keys as they are now, the program that serves them, and where it runs."""
    values = {
        "image": box.versions.images["jwt-server"].ref,
        "jwks": identity.JWKS,
        "jwksKey": identity.JWKS_KEY,
        "name": names.JWT_SERVER,
        "namespace": names.PLATFORM_NAMESPACE,
        "port": names.JWT_SERVER_PORT,
    }
    program = box.manifest(PROGRAM).read_text()
    # A server runs the program it was started with: the name changes with it, and with the name the pods.
    values["program"] = f"{names.JWT_SERVER}-{render.digest(program)[:8]}"
    filled: list[Obj] = render.fill(render.load_objects(box.manifest("identity/server.yaml")), values)
    source: Obj = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": values["program"], "namespace": names.PLATFORM_NAMESPACE},
        "data": {"server.py": program},
    }
    return [identity.jwks_map(identity.public_jwks(box)), source, *filled]


def publishes(box: Box) -> str | None:
    """Every pod of the server, and its Service, answer with exactly the keys of the Secret.

    Each pod is asked: a changed file reaches them one by one, within the kubelet's own period.
    """
    wanted = identity.public_jwks(box)
    root = f"/api/v1/namespaces/{names.PLATFORM_NAMESPACE}"
    places = {
        f"{each['metadata']['name']}": f"pods/http:{each['metadata']['name']}:{names.JWT_SERVER_PORT}"
        for each in box.kube.list("v1", "Pod", names.PLATFORM_NAMESPACE, f"app={names.JWT_SERVER}", heads=True)
        if not each["metadata"].get("deletionTimestamp")
    }
    if not places:
        return f"{names.JWT_SERVER} has no pods"
    places[f"Service {names.JWT_SERVER}"] = f"services/http:{names.JWT_SERVER}:{names.JWT_SERVER_PORT}"
    for name, place in places.items():
        try:
            answer = box.kube.raw("GET", f"{root}/{place}/proxy{_PATH}")
        except Refused as error:
            return f"{name}: HTTP {error.status}"
        if answer != wanted:
            return f"{name} does not publish the keys of the Secret yet"
    return None


KEYS = ObjectsComponent(
    name="jwt-keys",
    stage="gateway",
    summary="the keys that tokens are signed with",
    needs=("cluster",),
    build=key_objects,
    create_only=key_material,
    timeout_s=60,
)

IDENTITY = ObjectsComponent(
    name="identity",
    stage="gateway",
    summary="the public halves of the keys, published",
    needs=(KEYS.name,),
    build=server_objects,
    probes=(Probe("every replica publishes exactly the keys of the Secret", publishes),),
    images=("jwt-server",),
    timeout_s=300,
)

COMPONENTS = (KEYS, IDENTITY)
