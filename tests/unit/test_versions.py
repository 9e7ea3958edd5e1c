"""config/versions.yaml as it is, and everything that may be wrong with it."""

import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tasks.lib import compatibility, versions, yamlfile
from tasks.lib.compatibility import Range
from tasks.lib.errors import BadInput

ROOT = Path(__file__).parents[2]

Edit = Callable[[str, str], None]


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A copy of the configuration, to be broken."""
    shutil.copytree(ROOT / "config", tmp_path / "config")
    return tmp_path


@pytest.fixture
def edit(project: Path) -> Edit:
    """Replace a text that is there exactly once in versions.yaml."""

    def replace(old: str, new: str) -> None:
        file = project / "config/versions.yaml"
        text = file.read_text()
        assert text.count(old) == 1, f"{old!r} is there {text.count(old)} times"
        file.write_text(text.replace(old, new))

    return replace


def failure(root: Path, source: str = "upstream") -> BadInput:
    """Load what must not load."""
    with pytest.raises(BadInput) as caught:
        versions.load(root, source)
    return caught.value


def overlay(root: Path, text: str) -> None:
    """Put another overlay in the place of the real one."""
    (root / "config/packages.yaml").write_text(text)


# The file as it is


def test_the_pins_are_the_seeds() -> None:
    """What the platform promises; raising one is a decision, not an accident."""
    found = versions.load(ROOT)

    assert {chart: found.charts[chart].version for chart in ("cert-manager", "istiod", "kserve")} == {
        "cert-manager": "v1.18.1", "istiod": "1.26.2", "kserve": "v0.15.0",
    }  # fmt: skip
    assert {found.manifests[name].version for name in ("knative-serving-core", "net-istio")} == {"1.14.1"}
    assert found.images["envoy-gateway"].version == "v1.4.2"
    assert found.images["ai-gateway-controller"].version == "v0.2.1"
    assert found.images["prometheus"].version == "v2.50.1"
    assert (found.charts["prometheus"].version, found.charts["grafana"].version) == ("25.17.0", "7.3.7")
    assert found.images["grafana"].version == "10.4.0"
    assert found.images["jaeger"].version == "1.55.0"
    assert found.images["kiali"].version == "v2.11.0"


def test_the_node_image_is_pinned_by_digest_and_kubectl_follows_it() -> None:
    """The digest is the one kind 0.27.0 was released with."""
    found = versions.load(ROOT)

    assert found.tools["kind"].version == "0.27.0"
    assert found.kubernetes.node_image == f"docker.io/kindest/node:v{found.kubernetes.version}"
    assert found.kubernetes.digest == "sha256:f226345927d7e348497136874b6d207e0b32cc52154ad8323129352923a3142f"
    assert (
        compatibility.triple(found.tools["kubectl"].version)[:2] == compatibility.triple(found.kubernetes.version)[:2]
    )


def test_nothing_is_left_to_fill_in() -> None:
    """Every address is complete; tools keep what depends on the machine."""
    found = versions.load(ROOT)

    for text in [found.kubernetes.node_image, *(each.url for each in found.manifests.values())]:
        assert "{" not in text
    for tool in found.tools.values():
        for template in (tool.url, tool.checksum_url, tool.member):
            assert not re.search(r"[{}]", tool.at(template, "linux", "arm64"))
    assert "knative-v1.14.1/serving-core.yaml" in found.manifests["knative-serving-core"].url


def test_every_pin_that_has_a_version_of_its_own_belongs_to_one_product() -> None:
    """Otherwise two charts of one product could drift apart unseen."""
    found = versions.load(ROOT)
    keys = [key for product in found.products.values() for key in product.pins]
    alone = {
        "tools.helm", "images.registry", "images.kube-rbac-proxy", "images.model-store", "images.redis",
        "images.envoy-proxy", "images.envoy-ratelimit", "images.prometheus-config-reloader", "images.jaeger",
        "images.jwt-server", "images.fortio",
    }  # fmt: skip

    assert len(keys) == len(set(keys))
    assert {
        f"{section}.{name}"
        for section in ("tools", "charts", "manifests", "images")
        for name in getattr(found, section)
    } - set(keys) == alone


def test_the_vendors_common_range_of_kubernetes() -> None:
    """What `doctor` holds an existing cluster against."""
    found = versions.load(ROOT)

    assert found.kubernetes_range == ">=1.30,<1.33"
    assert found.unsupported_kubernetes("v1.31.4+k3s1") == {}
    assert found.unsupported_kubernetes("v1.29.8") == {"kserve": ">=1.30,<1.33", "envoy-gateway": ">=1.30,<1.34"}
    assert "kind" not in found.unsupported_kubernetes("v1.36.0"), "kind does not run in the cluster"


def test_the_stages_of_this_version_have_all_their_images() -> None:
    """Names that the code asks for exist."""
    found = versions.load(ROOT)
    asked = {
        match[1]
        for file in (ROOT / "tasks").rglob("*.py")
        for match in re.finditer(r"versions\.images\[\"([a-z-]+)\"\]", file.read_text())
    }

    assert asked <= set(found.images)
    assert {"cluster", "certs", "mesh", "serving"} <= {image.stage for image in found.images.values()}


def test_references() -> None:
    """With and without the digest."""
    found = versions.load(ROOT)

    assert found.images["istio-pilot"].ref == found.images["istio-pilot"].pinned == "docker.io/istio/pilot:1.26.2"
    assert found.images["knative-queue"].ref.endswith("/queue:v1.14.1")
    assert found.images["knative-queue"].pinned.startswith(found.images["knative-queue"].ref + "@sha256:55e7d89")


# What may be wrong


def test_an_unknown_key_names_line_key_and_allowed_keys(project: Path, edit: Edit) -> None:
    """A typing error must not be ignored."""
    edit('    member: "{os}-{arch}/helm"', '    membre: "{os}-{arch}/helm"')

    error = failure(project)

    line = (project / "config/versions.yaml").read_text().splitlines().index('    membre: "{os}-{arch}/helm"') + 1
    assert error.what == f"{project}/config/versions.yaml:{line}: tools.helm.membre: unknown key"
    assert error.facts == {"allowed": "version, url, checksum_url, member"}


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("  jaeger: {repository", "  jaeger: {stage: obs, repository", "'stage' is there twice"),
        ("manifests:\n", "charts: {}\nmanifests:\n", "'charts' is there twice"),
        ("schema: 1", "schema: 2", "schema: 2 is not known"),
        ("schema: 1\n", "schema: 1\nbundles: {}\n", "bundles: unknown key"),
        ("  version: 1.32.2\n  node_image", "  node_image", "kubernetes.version: is missing"),
        ("version: bb4dae24", "version: 1.30", r"envoy-ratelimit.version: text is wanted, not a number \(1.3\)"),
        ("version: bb4dae24", "version: latest", "'latest' is not one exact version"),
        ("version: bb4dae24", "version: 1.2.x", "'1.2.x' is not one exact version"),
        ("version: bb4dae24", "version: '>=1.2'", "'>=1.2' is not one exact version"),
        ("version: bb4dae24", "version: ''", "envoy-ratelimit.version: text is wanted"),
        ("digest: sha256:f226", "digest: sha256:f22", "kubernetes.digest: 'sha256:f22.*' is not a digest"),
        ("version: 1.55.0, stage: obs", "version: 1.55.0, stage: monitoring", "no stage 'monitoring'"),
        ("docker.io/jaegertracing/all-in-one", "jaegertracing/all-in-one", "is not a repository"),
        ("docker.io/jaegertracing/all-in-one", '"docker.io/jaegertracing/all-in-one:1"', "is not a repository"),
        ("repo: https://kiali.org/", "repo: http://kiali.org/", "is not an address"),
        ("v{version}/experimental", "v{verison}/experimental", r"unknown placeholder \{verison\}"),
        ("v{version}/experimental", "v{version}-{os}/experimental", r"unknown placeholder \{os\}"),
        ('{kubernetes: ">=1.28"}', '{kubernetes: "1.28+"}', "'1.28\\+' is not a range"),
        ('{kubernetes: ">=1.28"}', '{kubernets: ">=1.28"}', "needs.kubernets: no such product"),
        ("pins: [tools.kind]", "pins: [tools.knid]", "tools.knid is not pinned"),
        ("pins: [tools.kind]", "pins: []", "no pin"),
        ("pins: [tools.kind]", "pins: tools.kind", "a list of texts is wanted"),
        ("manifests:\n  knative-serving-crds:", "manifests:\n  - knative-serving-crds:", "versions.yaml:"),
    ],
)
def test_what_is_wrong_in_the_file_is_named(project: Path, edit: Edit, old: str, new: str, said: str) -> None:
    """File, line and key of each."""
    edit(old, new)

    error = failure(project)

    assert re.search(said, error.what), error.what
    assert re.match(rf"{project}/config/versions\.yaml:\d+: ", error.what), error.what


def test_a_missing_entry_names_file_and_key(project: Path, edit: Edit) -> None:
    """At once when a range or a command needs it, otherwise when it is asked for."""
    found = versions.load(ROOT)
    with pytest.raises(BadInput, match=r"config/versions\.yaml: images\.istio-pilto is missing"):
        found.images["istio-pilto"]

    edit("  redis: {repository: docker.io/library/redis, version: 6.0.6, stage: gateway}\n", "")
    assert "redis" not in versions.load(project).images, "nothing needs it yet"

    edit("  kiali: {version: 2.11.0", "  kialli: {version: 2.11.0")
    assert "charts.kiali is not pinned" in failure(project).what


def test_a_missing_tool_is_found_at_once(project: Path, edit: Edit) -> None:
    """No product has helm among its pins."""
    edit("  helm:\n", "  hlem:\n")

    assert failure(project).what == f"{project}/config/versions.yaml: tools.helm is missing"


def test_a_pin_outside_the_vendors_range_names_key_and_range(project: Path, edit: Edit) -> None:
    """The seed's Kubernetes is inside all of them; a newer one is not."""
    edit("  version: 1.32.2\n  node_image", "  version: 1.33.1\n  node_image")

    error = failure(project)

    assert re.search(r"versions\.yaml:\d+: kubernetes\.version: 1\.33\.1 is outside what kubectl 1\.32\.2", error.what)
    assert error.facts["allowed"] == "same minor"
    assert "kubernetes 1.33.1 is outside >=1.30,<1.33 (what kserve v0.15.0 supports)" in str(error.facts["also"])


@pytest.mark.parametrize(
    ("old", "new", "said", "allowed"),
    [
        ("chart: istiod, stage", "chart: istiod, stage", "", ""),
        ("istiod: {version: 1.26.2", "istiod: {version: 1.26.3", "charts.istiod.version: 1.26.3", "1.26.2"),
        ("pilot, version: 1.26.2", "pilot, version: 1.26.2-distroless", "", ""),
        ("chart: grafana, stage", "chart: grafana, stage", "", ""),
        ("grafana: {version: 7.3.7", "grafana: {version: 7.3.8", "", ""),
        ("grafana/grafana, version: 10.4.0", "grafana/grafana, version: 10.4.1", "images.grafana.version", "==10.4.0"),
    ],
)
def test_pins_of_one_product_agree(project: Path, edit: Edit, old: str, new: str, said: str, allowed: str) -> None:
    """And a chart goes with the application it was made for. Suffixes of a tag do not count."""
    edit(old, new)

    if not said:
        versions.load(project)
        return
    error = failure(project)
    assert said in error.what
    assert error.facts["allowed"] == allowed


# The overlay of source packages


def test_the_real_overlay_says_what_it_replaces_and_why() -> None:
    """Nothing of it shows with another source."""
    assert versions.load(ROOT).overlaid == ()
    found = versions.load(ROOT, "packages")

    assert found.overlaid
    assert all(each.why and each.pin != each.used for each in found.overlaid)
    assert all(each.why for each in found.outside)
    assert "kubernetes.version" in {each.key for each in found.overlaid}
    assert found.kubernetes.node_image.endswith(f":v{found.kubernetes.version}")


def test_what_is_built_here_has_no_publishers_digest() -> None:
    """Its bytes are its own."""
    found = versions.load(ROOT, "packages")

    assert {image.digest for image in found.images.values()} == {""}
    assert found.kubernetes.digest == ""


def test_an_overlay_outside_a_range_is_listed_with_its_reason(project: Path) -> None:
    """And one that stays inside is not."""
    overlay(project, "schema: 1\nversions:\n  kubernetes: {version: 1.34.3, why: not served}\n"
                     "  tools: {kubectl: {version: 1.34.3, why: the same}}\n")  # fmt: skip

    found = versions.load(project, "packages")

    assert [each.key for each in found.overlaid] == ["kubernetes.version", "tools.kubectl.version"]
    assert {(each.key, each.allowed, each.why) for each in found.outside} == {
        ("kubernetes", ">=1.29,<1.34", "not served"),
        ("kubernetes", ">=1.30,<1.33", "not served"),
        ("kubernetes", ">=1.30,<1.34", "not served"),
    }
    overlay(project, "schema: 1\nversions:\n  kubernetes: {version: 1.32.0, why: a test}\n")
    assert versions.load(project, "packages").outside == ()


def test_an_image_may_be_absent_from_an_overlay(project: Path) -> None:
    """What a stand-in does not have; the product it belongs to is still checked."""
    overlay(
        project, "schema: 1\nversions:\n  images: {net-istio-webhook: {absent: true, why: the stand-in has none}}\n"
    )

    found = versions.load(project, "packages")

    assert "net-istio-webhook" not in found.images
    assert "images.net-istio-webhook" not in found.products["net-istio"].pins
    assert found.overlaid[0].used == "nothing"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("kubernetes: {version: 1.34.3}", "versions.kubernetes.why: is missing"),
        ("kubernetes: {version: 1.34.3, why: ''}", "versions.kubernetes.why: text is wanted"),
        ("kubernetes: {verison: 1.34.3, why: x}", "versions.kubernetes.verison: unknown key"),
        ("charts: {istoid: {version: 1.31.0, why: x}}", "versions.charts.istoid: no such pin"),
        ("bundles: {}", "versions.bundles: unknown key"),
        ("charts: {istiod: {version: latest, why: x}}", "'latest' is not one exact version"),
        ("charts: {istiod: {absent: true, why: x}}", "only an image can be absent"),
        ("images: {redis: {absent: false, why: x}}", "only an image can be absent"),
        ("kubernetes: [1]", "versions.kubernetes: a mapping is wanted"),
    ],
)
def test_what_is_wrong_in_an_overlay_is_named(project: Path, text: str, said: str) -> None:
    """It is as strict as the file it lies over."""
    overlay(project, f"schema: 1\nversions:\n  {text}\n")

    error = failure(project, "packages")

    assert said in error.what
    assert "config/packages.yaml" in error.what


# Ranges


@pytest.mark.parametrize(
    ("text", "inside", "outside"),
    [
        (">=1.30,<1.33", ["1.30", "v1.30.0", "1.32.99", "1.32.2-rc.1"], ["1.29.14", "1.33", "2.31"]),
        ("==2.50.1", ["v2.50.1"], ["2.50.2", "2.50"]),
        (">1.2.3,<=1.3", ["1.2.4", "1.3.0"], ["1.2.3", "1.3.1"]),
    ],
)
def test_ranges(text: str, inside: list[str], outside: list[str]) -> None:
    """Numbers are compared as numbers, and what follows them does not count."""
    assert [each for each in inside if not Range(text).allows(each)] == []
    assert [each for each in outside if Range(text).allows(each)] == []


def test_versions_are_read_out_of_tags() -> None:
    """Publishers write them in many ways."""
    assert compatibility.triple("distroless-v1.34.1") == (1, 34, 1)
    assert compatibility.triple("1.31.0-alpha.eed52ebb66ad") == (1, 31, 0)
    assert compatibility.triple("v1.9") < compatibility.triple("v1.10")
    with pytest.raises(BadInput, match="has no version number"):
        compatibility.triple("stable")


def test_the_file_is_what_its_dump_says() -> None:
    """No anchors, no surprises: what is read can be written."""
    data = yamlfile.load(ROOT / versions.FILE)

    assert yamlfile.parse_all(yamlfile.dump(data), where="dump") == [data]
