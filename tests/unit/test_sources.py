"""Sources: which one is taken and why, what they ask, and what a bad download leaves (nothing)."""

import hashlib
import queue
import socket
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tasks.lib import lockwants, shell, versions
from tasks.lib.container import ContainerEngine
from tasks.lib.errors import BadInput, BoxError, CommandFailed, FetchFailed, NotAvailable
from tasks.lib.lockfile import Entry, Lock
from tasks.lib.mirror import Mirror
from tasks.lib.packages import indexes, recipes
from tasks.lib.packages.store import Store
from tasks.lib.sources import Source, detect, fetch, reach, upstream
from tasks.lib.sources.factory import maker
from tasks.lib.sources.mirror import MirrorSource, parse
from tasks.lib.sources.packages import PackagesSource
from tasks.lib.sources.upstream import Upstream

ROOT = Path(__file__).parents[2]


class Spoken:
    """Keeps what was said."""

    def __init__(self) -> None:
        self.texts: list[str] = []

    def __call__(self, text: str, /) -> None:
        self.texts.append(text)

    def line(self, text: str, /) -> None:
        self.texts.append(text)


def settings(source: str = "auto", mirror: str = "") -> Any:
    return SimpleNamespace(source=source, mirror=mirror)


def choose(reasons: Mapping[str, str | None], **asked: str) -> Any:
    def make(name: str, _: object) -> Source:
        return SimpleNamespace(name=name, available=lambda: reasons[name])

    return detect(settings(**asked), lambda name: f"versions of {name}", make)  # type: ignore[arg-type,return-value]


def test_auto_takes_the_first_that_works_and_says_why_not_the_others() -> None:
    choice = choose({"upstream": "HTTP 403\nfrom docker.io", "packages": None})
    assert (choice.source.name, choice.versions) == ("packages", "versions of packages")
    assert choice.why == ("not upstream: HTTP 403 from docker.io", "packages: the first that works")


def test_auto_asks_a_mirror_only_where_one_is_configured() -> None:
    reasons = {"upstream": "away", "mirror": None, "packages": None}
    assert choose(reasons).source.name == "packages"
    assert choose(reasons, mirror="mirror.example.com:5000").source.name == "mirror"


def test_a_source_that_is_asked_for_is_not_replaced() -> None:
    with pytest.raises(NotAvailable, match="source upstream does not work here") as caught:
        choose({"upstream": "docker.io: HTTP 403", "packages": None}, source="upstream")
    assert "docker.io: HTTP 403" in str(caught.value)


def test_when_nothing_works_everything_that_was_tried_is_said() -> None:
    with pytest.raises(NotAvailable, match="no source") as caught:
        choose({"upstream": "no route", "packages": "no go"})
    assert caught.value.facts == {"upstream": "no route", "packages": "no go"}


def test_an_unknown_source_is_bad_input() -> None:
    with pytest.raises(BadInput, match="no source 'cloud'") as caught:
        choose({}, source="cloud")
    assert "upstream" in str(caught.value)


class Web:
    """A web server of answers: path → (status, body). A body shorter than promised is a cut-off download."""

    def __init__(self) -> None:
        self.answers: dict[str, tuple[int, bytes]] = {}
        self.missing_bytes = 0
        self.asked: list[str] = []
        self.over = threading.Event()
        web = self

        class Handler(BaseHTTPRequestHandler):
            def log_message(self, *_: object) -> None:
                pass

            def do_HEAD(self) -> None:
                self._answer(body=False)

            def do_GET(self) -> None:
                self._answer(body=True)

            def _answer(self, *, body: bool) -> None:
                web.asked.append(f"{self.command} {self.path}")
                status, content = web.answers.get(self.path, (404, b""))
                if status == 0:
                    web.over.wait(60)
                    return
                self.send_response(status)
                self.send_header("Content-Length", str(len(content) + web.missing_bytes))
                self.end_headers()
                if body:
                    self.wfile.write(content)

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"


@pytest.fixture
def web() -> Iterator[Web]:
    running = Web()
    threading.Thread(target=running.server.serve_forever, args=(0.01,), daemon=True).start()
    yield running
    running.over.set()
    running.server.shutdown()
    running.server.server_close()


def test_a_refusal_is_told_from_an_answer(web: Web, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reach, "EACH_S", 60.0)
    monkeypatch.setattr(reach, "ALL_S", 60.0)
    for status in (200, 302, 401, 403, 404, 502):
        web.answers[f"/{status}"] = (status, b"")
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        closed = f"http://127.0.0.1:{unused.getsockname()[1]}/"
    found = reach.probe({path[1:]: f"{web.url}{path}" for path in web.answers} | {"closed": closed})
    assert found.keys() == {"403", "502", "closed"}
    assert found["403"] == "HTTP 403"
    assert "refused" in found["closed"]


def test_an_address_that_does_not_answer_is_given_its_time_and_no_more(
    web: Web, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reach, "EACH_S", 0.2)
    monkeypatch.setattr(reach, "ALL_S", 60.0)
    web.answers["/slow"] = (0, b"")
    assert reach.probe({"slow": f"{web.url}/slow"}) == {"slow": "no answer within 0.2 s"}


def test_no_number_of_silent_addresses_holds_it_up(web: Web, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reach, "EACH_S", 60.0)
    monkeypatch.setattr(reach, "ALL_S", 0.1)
    web.answers["/slow"] = (0, b"")
    started = time.monotonic()
    found = reach.probe({f"host {number}": f"{web.url}/slow" for number in range(20)})
    assert time.monotonic() - started < 30
    assert set(found.values()) == {"no answer within 0.1 s"}


def test_a_file_is_fetched_once(web: Web, tmp_path: Path) -> None:
    web.answers["/x.yaml"] = (200, b"kind: X")
    right = hashlib.sha256(b"kind: X").hexdigest()
    for _ in range(2):
        path = fetch.fetch(Store(tmp_path), f"{web.url}/x.yaml", tmp_path / "x.yaml", f"sha256:{right}")
        assert path.read_bytes() == b"kind: X"
    assert web.asked == ["GET /x.yaml"]


@pytest.mark.parametrize(
    ("sha256", "missing", "complaint"),
    [("0" * 64, 0, "wrong checksum"), ("", 5, "cut off|cannot be fetched"), ("", -1, "HTTP 404")],
)
def test_a_bad_download_leaves_nothing(web: Web, tmp_path: Path, sha256: str, missing: int, complaint: str) -> None:
    if missing >= 0:
        web.answers["/x.yaml"] = (200, b"kind: X")
        web.missing_bytes = missing
    with pytest.raises(FetchFailed, match=complaint):
        fetch.fetch(Store(tmp_path / "cache"), f"{web.url}/x.yaml", tmp_path / "x.yaml", sha256)
    assert not list(tmp_path.glob("**/*x.yaml*"))


def up(tmp_path: Path, **more: Any) -> Upstream:
    return Upstream(versions.load(ROOT), Store(tmp_path), helm=lambda: Path("helm"), **more)


def test_upstream_asks_each_host_once_and_only_for_the_stages_of_this_version(tmp_path: Path) -> None:
    asked = up(tmp_path, stages=("cluster", "certs", "mesh", "serving")).addresses()
    assert asked["charts.jetstack.io"] == "https://charts.jetstack.io/index.yaml"
    assert asked["docker.io"] == "https://registry-1.docker.io/v2/"
    assert asked["ghcr.io"] == "https://ghcr.io/v2/"
    assert asked["github.com"].startswith("https://github.com/knative/")
    assert "grafana.github.io" not in asked
    assert "grafana.github.io" in up(tmp_path).addresses()


def test_upstream_names_what_cannot_be_reached(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reach, "probe", lambda given: dict.fromkeys(given, "HTTP 403"))
    reason = up(tmp_path).available()
    assert reason is not None
    assert reason.count("HTTP 403") == upstream._LISTED
    assert "more" in reason
    monkeypatch.setattr(reach, "probe", lambda given: {})
    assert up(tmp_path).available() is None


def fake_pull(content: bytes) -> Any:
    def run(argv: Any, **_: Any) -> shell.Result:
        words = [str(word) for word in argv]
        assert words[:2] == ["helm", "pull"]
        folder = Path(words[words.index("--destination") + 1])
        (folder / "chart.tgz").write_bytes(content)
        return shell.Result(returncode=0, stdout=" ".join(words), stderr="")

    return run


def test_a_chart_is_pulled_once_and_checked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shell, "run", fake_pull(b"chart"))
    right = hashlib.sha256(b"chart").hexdigest()
    assert up(tmp_path, locked=lambda kind, name: right).chart("istiod").read_bytes() == b"chart"
    with pytest.raises(FetchFailed, match="chart kserve: wrong checksum"):
        up(tmp_path, locked=lambda kind, name: "0" * 64).chart("kserve")
    assert [each.name for each in (tmp_path / "charts").iterdir()] == ["istiod-1.26.2.tgz"]


def test_what_an_earlier_run_fetched_is_held_against_the_lock_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, web: Web
) -> None:
    monkeypatch.setattr(shell, "run", fake_pull(b"chart"))
    path = up(tmp_path).chart("istiod")
    with pytest.raises(FetchFailed, match=r"istiod-1\.26\.2\.tgz: not the locked file") as caught:
        up(tmp_path, locked=lambda kind, name: "0" * 64).chart("istiod")
    assert caught.value.hint.startswith(f"rm {path}")

    web.answers["/file"] = (200, b"content")
    target = tmp_path / "manifests/file"
    fetch.fetch(Store(tmp_path), f"{web.url}/file", target)
    with pytest.raises(FetchFailed, match="not the locked file"):
        fetch.fetch(Store(tmp_path), f"{web.url}/file", target, "0" * 64)
    right = hashlib.sha256(b"content").hexdigest()
    assert fetch.fetch(Store(tmp_path), f"{web.url}/file", target, f"sha256:{right}") == target


def test_a_lock_of_another_version_is_not_used(tmp_path: Path) -> None:
    pins = versions.load(ROOT)
    wanted = {each.key: each for each in lockwants.of_versions(pins)}
    entries = {
        "charts.istiod": Entry(of=wanted["charts.istiod"].of, kind="sha256", value="a" * 64),
        "charts.kserve": Entry(of="oci://ghcr.io/kserve/charts kserve v0.14.0", kind="sha256", value="b" * 64),
    }
    make = maker(
        root=ROOT, cache=tmp_path, mirror="", engine=ContainerEngine(Store(tmp_path)),
        helm=lambda _versions, _source: Path("helm"), lock=Lock(entries=entries),
    )  # fmt: skip
    made = make("upstream", pins)
    assert isinstance(made, Upstream)
    assert made._locked("charts", "istiod") == "a" * 64
    assert made._locked("charts", "kserve") == ""


def test_a_chart_that_helm_cannot_pull_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> shell.Result:
        raise CommandFailed("helm: exit status 1", returncode=1, output="403 Forbidden")

    monkeypatch.setattr(shell, "run", refuse)
    with pytest.raises(FetchFailed, match="chart kserve-crd could not be pulled") as caught:
        up(tmp_path).chart("kserve-crd")
    assert "oci://ghcr.io/kserve/charts/kserve-crd --version v0.15.0" in str(caught.value)


def test_upstream_starts_a_cache_for_each_registry_of_the_stage(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[str] = []
    monkeypatch.setattr(Mirror, "ensure", lambda self: started.append(self.name))
    source = up(tmp_path, engine=ContainerEngine(Store(tmp_path)))
    source.prepare(["certs"], Spoken())
    assert started == ["kind-cache-quay-io"]
    source.prepare(["serving"], Spoken())
    assert started[1:] == ["kind-cache-docker-io", "kind-cache-gcr-io", "kind-cache-quay-io"]
    assert "docker.io" in source.containerd_hosts()


def test_without_containers_of_ours_there_are_no_caches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Mirror, "ensure", lambda self: pytest.fail("started a cache"))
    up(tmp_path).prepare(["certs"], Spoken())
    assert up(tmp_path).containerd_hosts() == {}


def test_the_node_image_is_taken_by_its_digest(tmp_path: Path) -> None:
    assert up(tmp_path).node_image().startswith("docker.io/kindest/node:v1.32.2@sha256:")


@pytest.mark.parametrize(
    ("address", "found"),
    [
        ("mirror.example.com:5000", ("https://mirror.example.com:5000", "https://mirror.example.com:5000")),
        ("http://10.0.0.5:5000/", ("http://10.0.0.5:5000", "http://10.0.0.5:5000")),
        ("r.example.com/proxy, http://f.example.com/box", ("https://r.example.com/proxy", "http://f.example.com/box")),
    ],
)
def test_what_a_mirror_is_given_as(address: str, found: tuple[str, str]) -> None:
    assert parse(address) == found


@pytest.mark.parametrize("address", ["", " ", "a,b,c", "ftp://x", "a,,b", "https://"])
def test_what_is_not_a_mirror(address: str) -> None:
    with pytest.raises(BadInput, match="--mirror"):
        parse(address)


def test_a_mirror_serves_files_below_its_base(web: Web, tmp_path: Path) -> None:
    source = MirrorSource(versions.load(ROOT), Store(tmp_path), f"{web.url},{web.url}/box")
    web.answers["/box/charts/gateway-1.26.2.tgz"] = (200, b"chart")
    web.answers["/box/manifests/net-istio-1.14.1.yaml"] = (200, b"kind: X")
    assert source.chart("istio-gateway").read_bytes() == b"chart"
    assert source.manifest("net-istio").read_bytes() == b"kind: X"
    assert list(source.containerd_hosts()) == ["_default"]
    assert {"index.docker.io", "gcr.io", "kind.local"} <= set(source.registries_without_tag_resolving())
    assert source.available() is None
    web.answers["/v2/"] = (403, b"")
    assert source.available() == f"{web.url}/v2/: HTTP 403"


def test_a_mirror_at_one_address_is_asked_for_both_of_its_sides(web: Web, tmp_path: Path) -> None:
    source = MirrorSource(versions.load(ROOT), Store(tmp_path), web.url)
    assert source.available() is None
    web.answers["/v2/"] = (502, b"")
    assert source.available() == f"{web.url}/v2/: HTTP 502"
    web.answers |= {"/v2/": (200, b""), "/": (403, b"")}
    assert source.available() == f"{web.url}/: HTTP 403"


def packages(tmp_path: Path, **more: Any) -> PackagesSource:
    store = Store(tmp_path)
    return PackagesSource(
        versions.load(ROOT, "packages"), store, recipes.load(ROOT), engine=ContainerEngine(store), **more
    )


class Workshop:
    """A workshop that builds by noting it."""

    def __init__(self) -> None:
        self.built: list[str] = []
        self.fail = ""
        self.hold = threading.Event()
        self.hold.set()

    def build(self, name: str, stop: threading.Event) -> Path:
        if name == self.fail:
            raise FetchFailed(f"{name} is not served")
        self.hold.wait(60)
        if not stop.is_set():
            self.built.append(name)
        return Path("/nowhere")

    def progress(self, names: list[str]) -> str:
        return f"building {', '.join(names)}"


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[PackagesSource, Workshop, list[str]]:
    source, workshop, made = packages(tmp_path), Workshop(), list[str]()
    monkeypatch.setattr(source, "_workshop", workshop)
    monkeypatch.setattr(source, "_push", lambda name, stop: made.append(f"image {name}"))
    monkeypatch.setattr(source, "_fetch_chart", lambda name, stop: made.append(f"chart {name}"))
    monkeypatch.setattr(source, "_build_node", lambda stop: made.append("node image"))
    return source, workshop, made


def test_a_stage_makes_its_own_pieces_and_no_others(bench: tuple[PackagesSource, Workshop, list[str]]) -> None:
    source, workshop, made = bench
    source.prepare(["mesh"], Spoken())
    assert workshop.built == ["istio"]
    assert sorted(made) == [
        "chart istio-base", "chart istio-gateway", "chart istiod", "image istio-pilot", "image istio-proxy",
    ]  # fmt: skip
    made.clear()
    source.prepare(["cluster"], Spoken())
    assert made == ["node image"]
    assert {"kubernetes", "kind", "helm", "registry"} <= set(workshop.built)


def test_the_first_failure_ends_a_stage_and_stops_what_waits(
    bench: tuple[PackagesSource, Workshop, list[str]],
) -> None:
    source, workshop, _ = bench
    workshop.fail = "kserve"
    workshop.hold.clear()
    with pytest.raises(FetchFailed, match="kserve is not served"):
        source.prepare(["serving"], Spoken())
    workshop.hold.set()
    assert "knative" not in workshop.built


def test_a_cancelled_run_is_not_ready(bench: tuple[PackagesSource, Workshop, list[str]]) -> None:
    cancel = threading.Event()
    cancel.set()
    with pytest.raises(BoxError, match="interrupted"):
        bench[0].prepare(["mesh"], Spoken(), cancel)
    assert bench[1].built == []


def test_what_is_under_way_is_said(
    bench: tuple[PackagesSource, Workshop, list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    from tasks.lib.sources import packages as module

    source, workshop, _ = bench
    monkeypatch.setattr(module, "_TICK_S", 0.01)
    workshop.hold.clear()

    class Heard(Spoken):
        def __call__(self, text: str, /) -> None:
            super().__call__(text)
            workshop.hold.set()

    said = Heard()
    source.prepare(["mesh"], said)
    assert "building istio" in said.texts


def test_begun_builds_run_in_the_background_and_fail_only_when_needed(
    bench: tuple[PackagesSource, Workshop, list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    source, workshop, _ = bench
    based = threading.Event()
    monkeypatch.setattr(source._base, "tar", based.set)
    workshop.fail = "kserve"
    source.begin(["certs", "serving"])
    assert based.wait(60)
    deadline = time.monotonic() + 60
    while len(workshop.built) < len({"cert-manager", "knative", "kube-rbac-proxy", "versitygw"}):
        assert time.monotonic() < deadline
        time.sleep(0.005)
    assert "istio" not in workshop.built
    with pytest.raises(FetchFailed, match="kserve is not served"):
        source.prepare(["serving"], Spoken())


def test_all_stages_are_begun_at_once_and_what_breaks_there_is_not_told_there(
    bench: tuple[PackagesSource, Workshop, list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    source, workshop, _ = bench
    stages = ["cluster", "certs", "mesh", "serving"]
    waiting: queue.Queue[str] = queue.Queue()

    def build(name: str, _: threading.Event) -> Path:
        waiting.put(name)
        workshop.hold.wait(60)
        raise OSError("the disk is full")

    monkeypatch.setattr(source._base, "tar", lambda: waiting.put("base"))
    monkeypatch.setattr(workshop, "build", build)
    workshop.hold.clear()
    before = set(threading.enumerate())
    source.begin(stages)
    wanted = {"base", *(name for name, each in recipes.load(ROOT).modules.items() if each.stage in stages)}
    assert {waiting.get(timeout=60) for _ in wanted} == wanted
    workshop.hold.set()
    for thread in set(threading.enumerate()) - before:
        thread.join(60)


def test_packages_is_for_clusters_of_our_own_and_known_machines(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "clusters of our own" in str(packages(tmp_path, local=False).available())
    monkeypatch.setattr("platform.machine", lambda: "riscv64")
    assert "riscv64" in str(packages(tmp_path).available())


def test_packages_names_every_registry_that_is_away(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = packages(tmp_path)
    monkeypatch.setattr("platform.machine", lambda: "x86_64")
    monkeypatch.setattr("platform.system", lambda: "Linux")
    monkeypatch.setattr("os.geteuid", lambda: 0)
    # Put where the property keeps its answer: setattr would first ask the machine's own `go` for it.
    monkeypatch.setitem(vars(source._modules), "facts", {"GOPROXY": "https://proxy.example,direct"})
    monkeypatch.setattr(indexes, "pypi", lambda: "https://pypi.example/simple")
    monkeypatch.setattr(source, "estimate", lambda: {"Go module kind": 47.0})
    monkeypatch.setattr(reach, "probe", lambda given: {name: f"no route to {url}" for name, url in given.items()})
    reason = str(source.available())
    assert "Go modules: no route to https://proxy.example/k8s.io/kubernetes/@v/" in reason
    assert "PyPI: no route to https://pypi.example/simple/" in reason
    assert "Debian: no route to" in reason
    monkeypatch.setattr(source, "estimate", dict)
    assert source.available() is None


def test_without_go_packages_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(*_: object, **__: object) -> shell.Result:
        raise NotAvailable("go: cannot be run")

    monkeypatch.setattr("platform.machine", lambda: "x86_64")
    monkeypatch.setattr("os.geteuid", lambda: 0)
    monkeypatch.setattr(shell, "run", missing)
    assert "no `go` on PATH" in str(packages(tmp_path).available())


def test_what_no_stage_of_the_platform_needs_does_not_make_packages_unusable(tmp_path: Path) -> None:
    """Only `invoke bench.path` builds fortio: without a network `up` goes on where everything of its own is there."""
    whole, ours = packages(tmp_path).estimate(), packages(tmp_path, stages={"mesh", "serving"}).estimate()
    assert {"Go module fortio", "image fortio", "Go module kind", "image etcd"} <= set(whole)
    assert {"Go module istio", "image istio-proxy", "Go module kserve"} <= set(ours)
    assert not {"Go module fortio", "image fortio", "Go module kind", "image etcd"} & set(ours)


def test_packages_calls_images_by_their_upstream_names(tmp_path: Path) -> None:
    source = packages(tmp_path)
    assert source.ref("kserve-sklearnserver") == "docker.io/kserve/sklearnserver:v0.15.0"
    assert source.ref("knative-queue").startswith("gcr.io/knative-releases/knative.dev/serving/cmd/queue:")
    assert source.node_image().startswith("docker.io/kindest/node:v")
    assert source.values("istiod")["telemetry"] == {"enabled": False}
    assert any("net-istio" in each for each in source.standins())


def test_every_image_of_the_stages_that_packages_builds_has_a_recipe() -> None:
    known, pins = recipes.load(ROOT), versions.load(ROOT, "packages")
    wanted = [image.name for image in pins.images.values() if image.stage in {"certs", "mesh", "serving"}]
    assert [name for name in wanted if name not in known.images] == []


@pytest.mark.parametrize(
    ("setting", "proxy"),
    [
        ("https://proxy.golang.org,direct", "https://proxy.golang.org"),
        ("https://a.example/go/|https://b.example", "https://a.example/go"),
        ("direct", ""),
        ("off", ""),
    ],
)
def test_the_first_module_proxy_is_asked(setting: str, proxy: str) -> None:
    assert indexes.go_proxy(setting) == proxy


def test_every_source_can_be_made(tmp_path: Path) -> None:
    make = maker(
        root=ROOT, cache=tmp_path, mirror="m.example.com", engine=ContainerEngine(Store(tmp_path)),
        helm=lambda _versions, _source: Path("helm"),
    )  # fmt: skip
    for name in ("upstream", "mirror", "packages"):
        source = make(name, versions.load(ROOT, name))
        assert source.name == name
        assert source.describe()
        assert replace(versions.load(ROOT, name)).source == name
