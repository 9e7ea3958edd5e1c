"""Tools are downloaded whole, with the right checksum and the right version, or not at all."""

import hashlib
import io
import socket
import tarfile
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tasks.lib import tools
from tasks.lib.errors import FetchFailed, NotAvailable
from tasks.lib.lockfile import Entry, Lock
from tasks.lib.tools import Tools
from tasks.lib.versions import Kubernetes, Pins, Tool, Versions
from tests.unit.webserver import Site, serve

VERSION = "1.2.3"


def program(says: str) -> bytes:
    """Return a program that says a version, and counts how often it was asked."""
    return f"#!/bin/sh\necho asked >>\"$0.asked\" 2>/dev/null\necho '{says}'\n".encode()


HELM = program(f"v{VERSION}")


def archive(content: bytes, member: str = "linux-amd64/helm") -> bytes:
    """Return a .tar.gz with one file."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz") as tar:
        info = tarfile.TarInfo(member)
        info.size, info.mode = len(content), 0o755
        tar.addfile(info, io.BytesIO(content))
    return out.getvalue()


def sha256(content: bytes) -> str:
    """Return a checksum in hexadecimal."""
    return hashlib.sha256(content).hexdigest()


class Source:
    """A source that has some tools itself."""

    name = "test"

    def __init__(self, **own: Path) -> None:
        self.own = own

    def tool(self, name: str) -> Path | None:
        """Return what the test gave."""
        return self.own.get(name)


@pytest.fixture
def site() -> Iterator[Site]:
    """A publisher."""
    with serve() as running:
        yield running


@pytest.fixture(autouse=True)
def _linux(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("platform.system", lambda: "Linux")
    monkeypatch.setattr("platform.machine", lambda: "x86_64")


def versions(url: str, *, version: str = VERSION, member: str = "{os}-{arch}/helm") -> Versions:
    """Pin tools that a server publishes: helm in an archive, kind and kubectl bare."""
    pins: Pins[Tool] = Pins()
    pins["helm"] = Tool(
        name="helm", version=version, member=member,
        url=f"{url}/helm-v{{version}}-{{os}}-{{arch}}.tar.gz", checksum_url=f"{url}/helm-v{{version}}.sha256sum",
    )  # fmt: skip
    for name in ("kind", "kubectl"):
        pins[name] = Tool(
            name=name, version=version, url=f"{url}/{name}-{{os}}-{{arch}}", checksum_url=f"{url}/{name}.sha256"
        )
    return Versions(
        source="upstream", kubernetes=Kubernetes(version=version, node_image="node"), tools=pins,
        charts=Pins(), manifests=Pins(), images=Pins(),
    )  # fmt: skip


def publish(site: Site, content: bytes, *, stated: str = "", missing: int = 0) -> None:
    """Publish helm with its checksum file."""
    site.put(f"/helm-v{VERSION}-linux-amd64.tar.gz", content, missing=missing)
    line = f"{stated or sha256(content)}  helm-v{VERSION}-linux-amd64.tar.gz\n"
    site.put(f"/helm-v{VERSION}.sha256sum", line.encode())


def leftovers(root: Path) -> list[str]:
    """Return what is in the folder beside finished tools and locks."""
    return sorted(
        path.name for path in (root / ".box/bin").iterdir() if path.name != "locks" and not path.name.endswith(".asked")
    )


def test_a_tool_is_fetched_once_and_asked_for_its_version(tmp_path: Path, site: Site) -> None:
    """The second run only asks."""
    publish(site, archive(HELM))
    said: list[str] = []

    path = Tools(tmp_path, versions(site.url), Source(), say=said.append).path("helm")

    assert path == tmp_path / ".box/bin/helm-1.2.3"
    assert path.read_bytes() == HELM
    assert (tmp_path / ".box/bin/helm").resolve() == path
    host = site.url.removeprefix("http://")
    assert said == [
        f"fetching helm 1.2.3 from {host}",
        f"helm 1.2.3 is not locked yet: checked against what {host} publishes",
    ]
    again = Tools(tmp_path, versions(site.url), Source(), say=said.append)
    assert again.path("helm") == again.path("helm") == path
    assert len(said) == 2
    assert site.count(f"/helm-v{VERSION}-linux-amd64.tar.gz") == 1
    assert path.with_name(path.name + ".asked").read_text().count("asked") == 1, "once in a run, not at each use"
    assert leftovers(tmp_path) == ["helm", "helm-1.2.3"]


def test_kind_and_kubectl_say_their_versions_in_their_own_ways(tmp_path: Path, site: Site) -> None:
    """And both are bare files."""
    said = {
        "kind": program("kind version 1.2.3"),
        "kubectl": program('{"kustomizeVersion": "v5.0.0", "clientVersion": {"gitVersion": "v1.2.3"}}'),
    }
    for name, content in said.items():
        site.put(f"/{name}-linux-amd64", content)
        site.put(f"/{name}.sha256", sha256(content).encode())
    found = Tools(tmp_path, versions(site.url), Source())

    assert {name: found.path(name).read_bytes() for name in said} == said


def test_a_locked_checksum_is_used_without_asking_the_publisher(tmp_path: Path, site: Site) -> None:
    """The publisher's own file could be replaced together with the tool."""
    content = archive(HELM)
    publish(site, content, stated="0" * 64)
    pins = versions(site.url)
    of = f"{site.url}/helm-v{VERSION}-{{os}}-{{arch}}.tar.gz"
    lock = Lock(entries={"tools.helm": Entry(of=of, kind="sha256", value={"linux-amd64": sha256(content)})})

    Tools(tmp_path, pins, Source(), lock=lock).path("helm")

    assert site.count(f"/helm-v{VERSION}.sha256sum") == 0


def test_a_lock_of_another_version_is_not_used(tmp_path: Path, site: Site) -> None:
    """It is stale; the publisher is asked instead."""
    publish(site, archive(HELM))
    lock = Lock(entries={"tools.helm": Entry(of="https://else", kind="sha256", value={"linux-amd64": "0" * 64})})

    Tools(tmp_path, versions(site.url), Source(), lock=lock).path("helm")

    assert site.count(f"/helm-v{VERSION}.sha256sum") == 1


def refused() -> str:
    """Return an address where nobody listens."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{taken.getsockname()[1]}"


def test_a_wrong_checksum_names_address_expected_and_got(tmp_path: Path, site: Site) -> None:
    """And leaves nothing behind."""
    content = archive(HELM)
    publish(site, content, stated="ab" * 32)

    with pytest.raises(FetchFailed) as caught:
        Tools(tmp_path, versions(site.url), Source()).path("helm")

    assert caught.value.what == "helm 1.2.3: wrong checksum"
    assert caught.value.facts == {
        "url": f"{site.url}/helm-v{VERSION}-linux-amd64.tar.gz",
        "expected": f"sha256:{'ab' * 32} ({site.url}/helm-v{VERSION}.sha256sum)",
        "got": f"sha256:{sha256(content)}",
    }
    assert leftovers(tmp_path) == []


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        ("cut off", "tar.gz"),
        ("no tool", "tar.gz: HTTP 404"),
        ("no checksum", "sha256sum: HTTP 404"),
        ("checksum is a page", "sha256sum: no checksum in the answer"),
        ("refused", "cannot be reached"),
        ("not an archive", "helm cannot be taken out of the archive"),
        ("another member", "linux-amd64/helm cannot be taken out of the archive"),
        ("half an archive", "helm cannot be taken out of the archive"),
    ],
)
def test_what_cannot_be_had_leaves_nothing_behind_and_heals(tmp_path: Path, site: Site, fault: str, said: str) -> None:
    """The address is in the answer, and the next run succeeds."""
    good = archive(HELM)
    content = {"not an archive": b"<html>", "another member": archive(HELM, "x"), "half an archive": good[:90]}
    publish(site, content.get(fault, good), missing=100 if fault == "cut off" else 0)
    if fault == "no tool":
        site.answers.pop(f"/helm-v{VERSION}-linux-amd64.tar.gz")
    if fault == "no checksum":
        site.answers.pop(f"/helm-v{VERSION}.sha256sum")
    if fault == "checksum is a page":
        site.put(f"/helm-v{VERSION}.sha256sum", b"<html>login</html>")
    url = refused() if fault == "refused" else site.url

    with pytest.raises(FetchFailed) as caught:
        Tools(tmp_path, versions(url), Source()).path("helm")

    assert said in str(caught.value)
    assert url in str(caught.value)
    if fault == "cut off":
        assert "100 more expected" in str(caught.value)
    assert leftovers(tmp_path) == []
    publish(site, good)
    assert Tools(tmp_path, versions(site.url), Source()).path("helm").read_bytes() == HELM


@pytest.mark.parametrize(
    ("says", "said"),
    [
        ("v1.2.4", "helm 1.2.3 says that it is v1.2.4"),
        ("v1.2.30", "helm 1.2.3 says that it is v1.2.30"),
        ("v1.2", "helm 1.2.3 says that it is v1.2"),
        ("", "helm 1.2.3 says that it is nothing"),
    ],
)
def test_a_tool_that_says_another_version_is_not_taken(tmp_path: Path, site: Site, says: str, said: str) -> None:
    """A right checksum of a wrong file."""
    publish(site, archive(program(says)))

    with pytest.raises(FetchFailed) as caught:
        Tools(tmp_path, versions(site.url), Source()).path("helm")

    assert caught.value.what == said
    assert caught.value.facts["expected"] == VERSION
    assert leftovers(tmp_path) == []


def test_build_metadata_does_not_count(tmp_path: Path, site: Site) -> None:
    """Distributors add it."""
    publish(site, archive(program("v1.2.3+g4567")))

    assert Tools(tmp_path, versions(site.url), Source()).path("helm").exists()


def test_what_does_not_run_here_is_not_taken(tmp_path: Path, site: Site) -> None:
    """A program of another machine."""
    publish(site, archive(b"\x7fELF not for us"))

    with pytest.raises(FetchFailed, match=r"helm 1\.2\.3 does not run here"):
        Tools(tmp_path, versions(site.url), Source()).path("helm")


def test_a_tool_damaged_later_is_fetched_again(tmp_path: Path, site: Site) -> None:
    """Whatever happened to it."""
    publish(site, archive(HELM))
    path = Tools(tmp_path, versions(site.url), Source()).path("helm")
    path.write_bytes(program("v9.9.9"))
    said: list[str] = []
    fresh = Tools(tmp_path, versions(site.url), Source(), say=said.append)

    assert fresh.state("helm") == "helm 1.2.3 says that it is v9.9.9; to be fetched again"
    assert fresh.path("helm").read_bytes() == HELM
    assert said[0] == "helm 1.2.3 says that it is v9.9.9; fetching it again"
    assert fresh.state("helm") == VERSION
    assert fresh.state("kind") == "1.2.3, to be fetched"


def test_two_versions_live_side_by_side(tmp_path: Path, site: Site) -> None:
    """A run with another source does not disturb this one; the plain name follows the last."""
    publish(site, archive(HELM))
    own = tmp_path / "built"
    own.write_bytes(program("v2.0.0"))
    first = Tools(tmp_path, versions(site.url), Source()).path("helm")

    second = Tools(tmp_path, versions(site.url, version="2.0.0"), Source(helm=own)).path("helm")

    assert first.read_bytes() == HELM
    assert second.read_bytes() == own.read_bytes()
    assert (tmp_path / ".box/bin/helm").resolve() == second


def test_a_sources_own_tool_is_held_against_the_pin_too(tmp_path: Path) -> None:
    """Built from a module of another version."""
    own = tmp_path / "built"
    own.write_bytes(program("v2.0.0"))

    with pytest.raises(FetchFailed, match=r"helm 1\.2\.3 says that it is v2\.0\.0") as caught:
        Tools(tmp_path, versions("http://nowhere.invalid"), Source(helm=own)).path("helm")

    assert caught.value.facts["from"] == "source test"


def test_many_threads_and_runs_fetch_it_once(tmp_path: Path, site: Site) -> None:
    """Components ask at the same time; so do two runs."""
    publish(site, archive(HELM))
    runs = [Tools(tmp_path, versions(site.url), Source()) for _ in range(2)]
    found: list[Path] = []
    threads = [threading.Thread(target=lambda run=run: found.append(run.path("helm"))) for run in runs * 4]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(found) == 8
    assert len(set(found)) == 1
    assert site.count(f"/helm-v{VERSION}-linux-amd64.tar.gz") == 1


def test_what_a_killed_run_left_is_removed(tmp_path: Path, site: Site) -> None:
    """Its temporary folder, with half a download in it."""
    publish(site, archive(HELM))
    left = tmp_path / ".box/bin/.helm-1.2.3.abcd"
    left.mkdir(parents=True)
    (left / "archive").write_bytes(b"half")

    Tools(tmp_path, versions(site.url), Source()).path("helm")

    assert leftovers(tmp_path) == ["helm", "helm-1.2.3"]


@pytest.mark.parametrize(("system", "machine"), [("Windows", "AMD64"), ("Linux", "riscv64")])
def test_a_machine_without_tools_is_told_so(monkeypatch: pytest.MonkeyPatch, system: str, machine: str) -> None:
    """And what to do about it."""
    monkeypatch.setattr("platform.system", lambda: system)
    monkeypatch.setattr("platform.machine", lambda: machine)

    with pytest.raises(NotAvailable, match=f"no tools are published for {system} on {machine}"):
        tools.here()
