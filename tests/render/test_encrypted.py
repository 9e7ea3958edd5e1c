"""What is outside the mesh and holds something: spoken to over TLS of its own, both ends held to it."""

from collections.abc import Iterator

import yaml

from tasks.components import model_store, models
from tasks.lib import names
from tasks.lib.kube.api import Obj
from tests.render.rendering import Rendering
from tests.render.test_golden import MODEL
from tests.render.test_render import one


def words(value: object) -> Iterator[str]:
    """Return every string in an object."""
    if isinstance(value, dict):
        for each in value.values():
            yield from words(each)
    elif isinstance(value, list):
        for each in value:
            yield from words(each)
    elif isinstance(value, str):
        yield value


def container(workload: Obj) -> Obj:
    """Return the one container of a workload."""
    (found,) = workload["spec"]["template"]["spec"]["containers"]
    return dict(found)


def environment(workload: Obj) -> dict[str, str]:
    """Return the plain variables of a workload's one container."""
    return {each["name"]: each.get("value", "") for each in container(workload)["env"]}


def secrets(workload: Obj) -> dict[str, str]:
    """Return the volumes of a workload that are Secrets: name → Secret."""
    volumes = workload["spec"]["template"]["spec"]["volumes"]
    return {each["name"]: each["secret"]["secretName"] for each in volumes if "secret" in each}


# The model store


def test_nothing_speaks_plain_http_to_the_store(rendering: Rendering) -> None:
    artefact, service = models.components(MODEL)
    made = [*artefact.objects(rendering.box), *service.objects(rendering.box)]
    for objects in [*rendering.everything.values(), made]:
        assert [word for each in objects for word in words(each) if f"http://{names.MODEL_STORE}" in word] == []


def test_the_store_has_a_certificate_for_the_name_that_it_is_called_by(rendering: Rendering) -> None:
    certificate = one(rendering, "model-store", "Certificate", names.MODEL_STORE)
    server = one(rendering, "model-store", "StatefulSet", names.MODEL_STORE)
    assert certificate["spec"]["dnsNames"] == [model_store.HOST]
    assert secrets(server) == {"tls": certificate["spec"]["secretName"]}
    told = environment(server)
    assert (told["VGW_CERT"], told["VGW_KEY"]) == ("/tls/tls.crt", "/tls/tls.key")
    assert container(server)["readinessProbe"]["httpGet"]["scheme"] == "HTTPS"


def test_whoever_stores_verifies_it(rendering: Rendering) -> None:
    job = next(each for each in models.components(MODEL)[0].objects(rendering.box) if each["kind"] == "Job")
    account = next(each for each in rendering["tenant-a"] if each["kind"] == "Job")
    for each in (job, account):
        told = environment(each)
        assert told["ENDPOINT"] == model_store.URL
        mounted = {mount["mountPath"] for mount in container(each)["volumeMounts"]}
        assert told["AWS_CA_BUNDLE"].rpartition("/")[0] in mounted


def test_the_account_job_sees_the_root_and_not_the_stores_key(rendering: Rendering) -> None:
    account = next(each for each in rendering["tenant-a"] if each["kind"] == "Job")
    (volume,) = (each for each in account["spec"]["template"]["spec"]["volumes"] if "secret" in each)
    assert volume["secret"]["items"] == [{"key": "ca.crt", "path": "ca.crt"}]


# Redis


def test_redis_answers_tls_alone_and_only_to_a_certificate_of_the_control_plane(rendering: Rendering) -> None:
    redis = one(rendering, "envoy-gateway", "Deployment", "redis")
    given = container(redis)["args"]
    told = dict(zip(given[::2], given[1::2], strict=True))
    assert (told["--port"], told["--tls-port"], told["--tls-auth-clients"]) == ("0", "6379", "yes")
    certificate = one(rendering, "envoy-gateway", "Certificate", "redis")
    assert secrets(redis) == {"tls": certificate["spec"]["secretName"]}
    assert "client auth" not in certificate["spec"]["usages"]


def test_the_limiter_verifies_it_and_shows_a_certificate(rendering: Rendering) -> None:
    text = one(rendering, "envoy-gateway", "ConfigMap", "envoy-gateway-config")["data"]["envoy-gateway.yaml"]
    config = yaml.safe_load(text)
    redis = config["rateLimit"]["backend"]["redis"]
    client = one(rendering, "envoy-gateway", "Certificate", redis["tls"]["certificateRef"]["name"])
    assert client["spec"]["secretName"] == client["metadata"]["name"]
    assert "client auth" in client["spec"]["usages"]
    server = one(rendering, "envoy-gateway", "Certificate", "redis")
    assert redis["url"].partition(":")[0] in server["spec"]["dnsNames"]
    own = config["provider"]["kubernetes"]["rateLimitDeployment"]["container"]["env"]
    assert {"name": "REDIS_TLS_CACERT", "value": "/redis-certs/ca.crt"} in own
