"""What pods verify the platform's certificates by: the public half of the root that is in the cluster, and no more."""

import base64

from tasks.components import model_store, tenants
from tasks.lib import names, tenancy, trust
from tasks.lib.kube.api import Obj
from tasks.lib.objects import namespace
from tasks.lib.tenancy import Tenant
from tests import boxes
from tests.fakes import FakeKube

CERTIFICATE = "-----BEGIN CERTIFICATE-----\nof the root\n-----END CERTIFICATE-----\n"
KEY = "the key of the root"
TENANT = Tenant(name="a", quota=dict.fromkeys(tenancy.QUOTA_KEYS, "1"))


def cluster(*objects: Obj) -> FakeKube:
    """Return a cluster with these objects, and the namespaces they are in."""
    homes = {each["metadata"]["namespace"] for each in objects}
    return FakeKube(*(namespace(each) for each in homes), *objects)


def root() -> Obj:
    """The Secret that cert-manager makes."""
    data = {"tls.crt": CERTIFICATE, "tls.key": KEY}
    return {
        "apiVersion": "v1", "kind": "Secret",
        "metadata": {"name": "inference-in-a-box-root", "namespace": names.CERT_MANAGER_NAMESPACE},
        "data": {key: base64.b64encode(value.encode()).decode() for key, value in data.items()},
    }  # fmt: skip


def test_a_bundle_is_the_roots_certificate_and_never_its_key() -> None:
    made = trust.bundle(boxes.box(cluster(root())), "tenant-a")
    assert made["data"] == {trust.KEY: CERTIFICATE}
    assert KEY not in str(made)


def test_without_a_root_there_is_nothing_to_verify_by() -> None:
    assert trust.root(boxes.box(FakeKube())) == ""


def test_a_tenants_pods_speak_tls_to_the_store_and_verify_it_by_that_bundle() -> None:
    box = boxes.box(cluster(root()))
    node = tenants.component(TENANT)
    (bundle,) = (each for each in node.objects(box) if each["metadata"]["name"] == trust.NAME)
    (keys,) = (each for each in node.create_only(box) if each["metadata"]["namespace"] == TENANT.namespace)
    told = {key.rpartition("/")[2]: value for key, value in keys["metadata"]["annotations"].items()}
    assert (told["s3-usehttps"], told["s3-verifyssl"]) == ("1", "1")
    assert told["s3-endpoint"] == model_store.ENDPOINT
    assert told["s3-cabundle-configmap"] == bundle["metadata"]["name"]
    assert told["s3-cabundle"].rpartition("/")[2] in bundle["data"]
    (account,) = (each for each in node.objects(box) if each["kind"] == "ServiceAccount")
    assert [each["name"] for each in account["secrets"]] == [keys["metadata"]["name"]]


def test_keys_made_before_the_store_spoke_tls_are_taken_over_and_no_others_are_made() -> None:
    kept = {"AWS_ACCESS_KEY_ID": "aWQ=", "AWS_SECRET_ACCESS_KEY": "c2VjcmV0"}
    stored = {
        "apiVersion": "v1", "kind": "Secret", "data": kept,
        "metadata": {"name": tenants.account_secret("a"), "namespace": names.PLATFORM_NAMESPACE},
    }  # fmt: skip
    made = tenants.component(TENANT).create_only(boxes.box(cluster(root(), stored)))
    assert [each["data"] for each in made] == [kept, kept]
