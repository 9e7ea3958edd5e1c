"""Registries beside the cluster: made once, found again, reached by the nodes."""

import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from tasks.lib import mirror, shell
from tasks.lib.errors import CommandFailed, NotReady
from tasks.lib.mirror import Mirror, cache_hosts, cache_name, hosts_file, pushed_hosts
from tasks.lib.packages.store import Store
from tests.registry_server import RegistryServer


class FakeEngine:
    """An engine as a dict of containers; an undeclared command fails the test."""

    def __init__(self, address: str) -> None:
        self.address = address
        self.containers: dict[str, dict[str, str]] = {}
        self.networks: set[str] = set()
        self.volumes: set[str] = set()
        self.calls: list[str] = []

    def docker(self, *args: str | Path, check: bool = True, timeout_s: float | None = None) -> shell.Result:
        words = [str(each) for each in args]
        self.calls.append(" ".join(words[:2]))
        code, out = self._answer(words)
        if check and code:
            raise CommandFailed("docker", returncode=code, output=out)
        return shell.Result(returncode=code, stdout=out, stderr="")

    def _answer(self, words: list[str]) -> tuple[int, str]:
        name = words[-1]
        match words[:2]:
            case ["network", "inspect"]:
                return int(name not in self.networks), ""
            case ["network", "create"]:
                self.networks.add(name)
            case ["container", "inspect"]:
                return self._inspect(name, words[words.index("--format") + 1])
            case ["run", "--detach"]:
                self._run(words)
            case ["start", _]:
                self.containers[name]["running"] = "true"
            case ["rm", "--force"]:
                del self.containers[name]
            case ["port", _]:
                return 0, self.address
            case ["logs", "--tail"]:
                return 0, "it did not like its configuration"
            case _:
                raise AssertionError(words)
        return 0, ""

    def _inspect(self, name: str, template: str) -> tuple[int, str]:
        if name not in self.containers:
            return 1, ""
        key = "recipe" if "Labels" in template else "running" if "Running" in template else "id"
        return 0, self.containers[name].get(key, "id")

    def _run(self, words: list[str]) -> None:
        labels = [words[at + 1] for at, word in enumerate(words) if word == "--label"]
        recipe = next(each.partition("=")[2] for each in labels if "recipe" in each)
        self.containers[words[words.index("--name") + 1]] = {
            "recipe": recipe, "running": "true", "image": words[-1], "words": " ".join(words),
        }  # fmt: skip
        self.volumes.add(words[words.index("--volume") + 1].partition(":")[0])


@pytest.fixture
def engine() -> Iterator[FakeEngine]:
    with RegistryServer() as server:
        yield FakeEngine(server.url.removeprefix("http://"))


def make(engine: FakeEngine, tmp_path: Path, **more: str) -> Mirror:
    return Mirror(engine=engine, store=Store(tmp_path), image=more.pop("image", "registry:1"), **more)  # type: ignore[arg-type]


def test_the_first_run_makes_it_and_the_second_finds_it(engine: FakeEngine, tmp_path: Path) -> None:
    assert make(engine, tmp_path).ensure().url == f"http://{engine.address}"
    words = engine.containers["kind-registry"]["words"]
    assert "--network kind" in words
    assert "--publish 127.0.0.1::5000" in words
    assert "--volume inference-in-a-box-mirror:/var/lib/registry" in words
    engine.calls.clear()
    make(engine, tmp_path).ensure()
    assert {"run --detach", "rm --force", "network create"}.isdisjoint(engine.calls)


def test_a_stopped_one_is_started(engine: FakeEngine, tmp_path: Path) -> None:
    make(engine, tmp_path).ensure()
    engine.containers["kind-registry"]["running"] = "false"
    make(engine, tmp_path).ensure()
    assert "start kind-registry" in engine.calls


def test_another_image_makes_it_anew_over_the_same_volume(engine: FakeEngine, tmp_path: Path) -> None:
    make(engine, tmp_path).ensure()
    make(engine, tmp_path, image="registry:2").ensure()
    assert engine.containers["kind-registry"]["image"] == "registry:2"
    assert engine.volumes == {"inference-in-a-box-mirror"}


def test_one_that_does_not_answer_is_an_error_with_its_last_lines(
    engine: FakeEngine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mirror, "_WAIT_S", 0.05)
    engine.address = "127.0.0.1:1"
    with pytest.raises(NotReady, match="did not answer") as caught:
        make(engine, tmp_path).ensure()
    assert "it did not like its configuration" in str(caught.value)


def test_a_cache_knows_its_upstream(engine: FakeEngine, tmp_path: Path) -> None:
    name = cache_name("gcr.io")
    make(engine, tmp_path, name=name, upstream="https://gcr.io").ensure()
    assert "--env REGISTRY_PROXY_REMOTEURL=https://gcr.io" in engine.containers[name]["words"]
    assert engine.volumes == {"inference-in-a-box-kind-cache-gcr-io"}


def test_the_nodes_pull_everything_through_what_we_push_to() -> None:
    (text,) = pushed_hosts().values()
    assert tomllib.loads(text) == {"host": {"http://kind-registry:5000": {"capabilities": ["pull", "resolve"]}}}
    assert list(pushed_hosts()) == ["_default"]


def test_the_nodes_fall_back_to_the_real_registry_when_a_cache_is_away() -> None:
    found = {host: tomllib.loads(text) for host, text in cache_hosts(["docker.io", "quay.io", "quay.io"]).items()}
    assert found["docker.io"]["server"] == "https://registry-1.docker.io"
    assert list(found["docker.io"]["host"]) == ["http://kind-cache-docker-io:5000"]
    assert found["quay.io"]["server"] == "https://quay.io"
    assert len(found) == 2


def test_a_folder_of_a_registry_is_part_of_the_path() -> None:
    found = tomllib.loads(hosts_file("https://registry.example.com/proxy"))
    assert found["host"]["https://registry.example.com/v2/proxy"]["override_path"] is True
