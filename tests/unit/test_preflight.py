"""When the machine is looked at, what is asked then, and that nothing that is missing ends the looking."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tasks import components
from tasks.lib import facts, preflight, session as module, versions
from tasks.lib.box import Box
from tasks.lib.container import Fault, Probe
from tasks.lib.doctor import CHECKS
from tasks.lib.errors import BadInput, ClusterGone, NotAvailable, NotInThisVersion
from tasks.lib.facts import ClusterFacts, Disk, EngineFacts, Facts
from tasks.lib.graph import Graph
from tasks.lib.session import Session
from tasks.lib.settings import Settings

ROOT = Path(__file__).parents[2]
PLENTY = Disk(path=Path("/var"), free=10**12, device=1)
FIT = Facts(
    engine=EngineFacts(version="27"),
    memory_available=1 << 40,
    cpus=8,
    engine_disk=PLENTY,
    ports={8080: None, 8443: None},
)


class Provider:
    """A provider that notes what is asked of it."""

    def __init__(self, *, owned: bool = True, there: bool = False) -> None:
        self.owned, self.there = owned, there
        self.name = "kind" if owned else "existing"
        self.ensured = 0
        self.begun: list[str] = []

    def exists(self) -> bool:
        return self.there

    def ensure_engine(self, _: object) -> None:
        self.ensured += 1

    def begin(self, stages: list[str], _: object) -> None:
        """Note what the source of this provider's box begins with."""
        assert not self.ensured, "the engine may take minutes"
        self.begun = stages


def opened(provider: Provider, **given: Any) -> Session:
    chosen = Settings(provider=provider.name, **given)
    rest: dict[str, Any] = {"source": provider, "tools": None, "provider": provider}
    return Session(box=Box(root=ROOT, settings=chosen, versions=versions.load(ROOT), **rest), configured=[])


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """What was asked of a machine that fits."""
    questions: list[dict[str, Any]] = []

    def gather(**given: Any) -> Facts:
        questions.append(given)
        return FIT

    monkeypatch.setattr(facts, "gather", gather)
    return questions


def answer(monkeypatch: pytest.MonkeyPatch, found: Facts) -> None:
    monkeypatch.setattr(facts, "gather", lambda **_: found)


def test_a_cluster_of_ours_that_is_there_is_not_checked(asked: list[dict[str, Any]]) -> None:
    provider = Provider(there=True)
    preflight.require(opened(provider))
    assert asked == []
    assert provider.ensured == 1


def test_sources_and_tools_are_not_asked_again(asked: list[dict[str, Any]]) -> None:
    preflight.require(opened(Provider(), http_port=81, https_port=444))
    (question,) = asked
    assert (question["sources"], question["tools"], question["ports"]) == ({}, {}, (81, 444))


def test_of_someone_elses_cluster_only_itself_is_asked(asked: list[dict[str, Any]]) -> None:
    provider = Provider(owned=False, there=True)
    preflight.require(opened(provider))
    (question,) = asked
    assert question["engine"] is None
    assert question["ports"] == ()
    assert not question["cluster_exists"]()
    assert question["cluster"] is not None


def test_every_fatal_failure_is_named_and_nothing_is_touched(monkeypatch: pytest.MonkeyPatch) -> None:
    engine = EngineFacts(problem="the daemon refuses this user", hint="usermod")
    answer(monkeypatch, Facts(engine=engine, memory_available=1, ports={8080: "nginx, pid 12"}))
    provider = Provider()

    with pytest.raises(NotAvailable) as caught:
        preflight.require(opened(provider))

    assert list(caught.value.facts) == ["engine", "memory", "ports", "skipped"]
    assert (provider.begun, provider.ensured) == ([], 0)


def test_an_engine_that_may_be_installed_is_no_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    engine = EngineFacts(problem="there is no container engine", hint="install Docker", curable=True)
    answer(monkeypatch, Facts(engine=engine, memory_available=1 << 40))
    provider = Provider()
    preflight.require(opened(provider))
    assert provider.ensured == 1


@pytest.mark.parametrize(
    ("wanted", "stages"),
    [
        ((), ["cluster", "certs", "mesh", "serving", "gateway"]),
        (("models",), ["cluster", "certs", "mesh", "serving", "gateway"]),
        (("mesh",), ["cluster", "mesh"]),
        (("cluster",), ["cluster"]),
    ],
    ids=str,
)
@pytest.mark.usefixtures("asked")
def test_the_source_begins_before_there_is_an_engine(wanted: tuple[str, ...], stages: list[str]) -> None:
    provider = Provider()
    preflight.require(opened(provider), *wanted)
    assert (provider.begun, provider.ensured) == (stages, 1)


def test_a_cluster_whose_version_nobody_supports_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    answer(monkeypatch, Facts(provider="existing", cluster=ClusterFacts(context="c", version="v1.20.0")))
    with pytest.raises(NotAvailable, match="its version is supported"):
        preflight.require(opened(Provider(owned=False)))


def test_a_stage_of_a_later_version_is_refused_before_anything_is_asked(
    asked: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    later = SimpleNamespace(name="dreams", stage="dreams", needs=(), left_out="comes later")
    graph = Graph([later])
    monkeypatch.setattr(components, "platform", lambda *_: graph)
    provider = Provider()

    with pytest.raises(NotInThisVersion, match="dreams"):
        preflight.require(opened(provider), "dreams")

    assert (asked, provider.ensured) == ([], 0)
    preflight.require(opened(provider), "models")  # known only when the models are


# invoke doctor


def source(name: str, reason: str | Exception | None) -> Any:
    def available() -> str | None:
        if isinstance(reason, Exception):
            raise reason
        return reason

    return SimpleNamespace(name=name, available=available, tool=lambda _: None)


@pytest.fixture
def nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine where nothing can be had, each in its own way."""

    def no_folder(_: object) -> Any:
        raise PermissionError(13, "Permission denied", "/cache")

    def maker(_: object) -> Any:
        reasons: dict[str, Any] = {"upstream": "no route\nto docker.io", "packages": RuntimeError("boom")}
        return lambda name, _: source(name, reasons[name])

    monkeypatch.setattr(preflight, "ContainerEngine", no_folder)
    monkeypatch.setattr(module, "source_maker", maker)


def test_it_goes_on_whatever_is_missing(nothing: None, capsys: pytest.CaptureFixture[str]) -> None:
    assert not preflight.show({}, {"source": "", "provider": ""}, as_json=False)

    out = capsys.readouterr().out
    for check in CHECKS:
        assert (check.claim in out) is (check.provider in ("", "kind"))
    assert "Permission denied" in out
    assert "not upstream: no route to docker.io; not packages: RuntimeError: boom" in out


def test_the_same_as_values(nothing: None, capsys: pytest.CaptureFixture[str]) -> None:
    preflight.show({}, {}, as_json=True)
    found = {each["id"]: each["level"] for each in json.loads(capsys.readouterr().out)}
    assert list(found) == [check.id for check in CHECKS if check.provider in ("", "kind")]
    assert (found["engine"], found["sources"]) == ("fail", "fail")


def test_a_cluster_that_is_named_is_asked_and_no_engine(
    nothing: None, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    options = {"provider": "existing", "context": "c"}
    assert not preflight.show({"kubeconfig": str(tmp_path / "none")}, options, as_json=False)
    out = capsys.readouterr().out
    assert "a container engine answers" not in out
    assert f"✗ the cluster answers                          kubeconfig {tmp_path}/none: no such file" in out


def test_only_what_was_typed_wrong_is_an_error(nothing: None) -> None:
    with pytest.raises(BadInput, match="--source"):
        preflight.show({}, {"source": "nowhere"}, as_json=False)


def test_a_machine_that_fits_is_well(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    answer(
        monkeypatch, Facts(engine=EngineFacts(version="27"), sources={"upstream": facts.Tried(problem="", seconds=0.1)})
    )
    monkeypatch.setattr(preflight, "_tools", lambda *_: {"helm": "3.19.5"})
    assert preflight.show({}, {"source": "upstream"}, as_json=False)
    assert "✓ a container engine answers" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("reasons", "taken"),
    [({"upstream": None, "packages": None}, "upstream"), ({"upstream": "away", "packages": None}, "packages"),
     ({"upstream": "away", "packages": "away"}, "upstream")],
)  # fmt: skip
def test_versions_are_those_of_the_source_that_would_be_taken(
    reasons: dict[str, str | None], taken: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(module, "source_maker", lambda _: lambda name, _: source(name, reasons[name]))
    engine = SimpleNamespace(probe=lambda: Probe(fault=Fault.NO_CLIENT))
    monkeypatch.setattr(preflight, "ContainerEngine", lambda _: engine)
    monkeypatch.setattr(module, "ROOT", tmp_path)
    monkeypatch.setattr(versions, "load", lambda _, name: versions_of(name))

    found, pins = preflight.look(Settings(cache=str(tmp_path)))

    assert pins.source == taken
    assert found.engine is not None
    assert found.engine.problem == str(Fault.NO_CLIENT)
    assert found.tools["kind"] == f"{pins.tools['kind'].version}, to be fetched"


REAL_LOAD = versions.load


def versions_of(name: str) -> Any:
    return REAL_LOAD(ROOT, name)


def test_a_cluster_is_there_only_where_its_engine_answers(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    chosen = Settings(cache=str(tmp_path), cluster="c")
    for fault, output, there in (
        (Fault.NO_DAEMON, "", False),
        (None, "", False),
        (None, "c-control-plane\t\texited", True),
    ):
        engine = SimpleNamespace(
            probe=lambda fault=fault: Probe(fault=fault),
            docker=lambda *_, said=output, **__: SimpleNamespace(stdout=said),
        )
        monkeypatch.setattr(preflight, "ContainerEngine", lambda _, made=engine: made)
        assert preflight._exists(chosen) is there


def test_a_cluster_that_answers_says_its_context_and_version(monkeypatch: pytest.MonkeyPatch) -> None:
    info = {"context": "c", "kubernetes": "v1.32.2"}
    monkeypatch.setattr(module, "existing", lambda *_: SimpleNamespace(info=lambda: info))
    pins = versions.load(ROOT)
    assert preflight._cluster(Settings(), pins) == ClusterFacts(context="c", version="v1.32.2")

    def gone(*_: object) -> Any:
        raise ClusterGone("no answer")

    monkeypatch.setattr(module, "existing", gone)
    monkeypatch.setattr(preflight, "_tools", lambda *_: {})
    found, _ = preflight.look(Settings(provider="existing", source="packages"))
    assert found.cluster == ClusterFacts(problem="no answer")
