"""A session: what is wanted, as far as files and cluster tell, and when the cluster is asked."""

import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tasks.lib import converge, lockwants, names, session as module, tenancy, versions
from tasks.lib.box import Box
from tasks.lib.component import Status
from tasks.lib.container import ContainerEngine, Fault
from tasks.lib.converge import Run
from tasks.lib.errors import BadInput, BoxError, ClusterGone, NotAvailable
from tasks.lib.kube import apply
from tasks.lib.kube.api import Obj, Ref
from tasks.lib.packages.store import Store
from tasks.lib.providers.existing import ExistingProvider
from tasks.lib.providers.kind import KindProvider
from tasks.lib.providers.kindcommand import Wanted
from tasks.lib.session import Session
from tasks.lib.settings import Settings
from tasks.lib.sources import Choice
from tasks.lib.tenancy import Tenant
from tests.fakes import FakeKube

ROOT = Path(__file__).parents[2]
A = Tenant(name="a", quota={"pods": "1"})
ADDED = Tenant(name="d", summary="by command", quota={"pods": "2"}, configured=False)


class Cluster:
    """A provider whose cluster is there, is not, or does not say, and which counts how often that was asked."""

    name = "kind"
    owned = True

    def __init__(self) -> None:
        self.there: bool | None = True
        self.asked = 0

    def exists(self) -> bool | None:
        self.asked += 1
        return self.there


def namespace(tenant: Tenant) -> Obj:
    return tenancy.tenant_objects(replace(tenant, quota={**dict.fromkeys(tenancy.QUOTA_KEYS, "1"), **tenant.quota}))[0]


def silent(_verb: str, _what: str) -> None:
    raise ClusterGone("https://fake.example does not answer")


@pytest.fixture
def kube() -> FakeKube:
    return FakeKube(namespace(A), namespace(ADDED))


@pytest.fixture
def cluster() -> Cluster:
    return Cluster()


@pytest.fixture
def opened(tmp_path: Path, cluster: Cluster, kube: FakeKube, monkeypatch: pytest.MonkeyPatch) -> Session:
    (tmp_path / "config").mkdir()
    shutil.copy(ROOT / "config/models.yaml", tmp_path / "config")
    shutil.copytree(ROOT / "manifests/models", tmp_path / "manifests/models")
    rest: dict[str, Any] = {"versions": None, "source": None, "tools": None, "provider": cluster}
    # Where Box has a client once it was asked for; one that was let go is made again.
    monkeypatch.setattr(Box, "kube", property(lambda _: kube))
    return Session(box=Box(root=tmp_path, settings=Settings(), **rest), configured=[A])


def models_of(opened: Session, *tenants: str) -> None:
    rest = "format: sklearn, trainer: sklearn-iris, example: {instances: [[1]], predictions: [0]}"
    rows = "".join(f"  - {{name: m, tenant: {each}, {rest}}}\n" for each in tenants)
    (opened.box.root / "config/models.yaml").write_text(f"schema: 1\nmodels:\n{rows}")


def test_the_cluster_is_asked_when_tenants_are_wanted_and_once(
    opened: Session, cluster: Cluster, kube: FakeKube
) -> None:
    assert cluster.asked == 0
    assert [each.name for each in opened.tenants] == ["a", "d"]
    assert "tenant-d" in opened.graph
    assert opened.tenants[1].summary == "by command"
    assert (cluster.asked, kube.count("list")) == (1, 1)


def test_without_a_cluster_the_files_are_all_there_is(opened: Session, cluster: Cluster, kube: FakeKube) -> None:
    cluster.there = False
    assert [each.name for each in opened.tenants] == ["a"]
    assert kube.calls == []


def test_a_cluster_of_which_nothing_is_known_is_not_one_without_tenants(opened: Session, cluster: Cluster) -> None:
    cluster.there = None
    assert opened.added is None
    assert [each.name for each in opened.tenants] == ["a"]


def test_files_win_over_the_cluster_and_the_command_over_both(opened: Session, kube: FakeKube) -> None:
    kube.create(namespace(Tenant(name="b", quota={"pods": "3"}, configured=False)))
    b, d = Tenant(name="b", quota={"pods": "4"}), replace(ADDED, quota={"pods": "5"})
    found = replace(opened, configured=[A, b], changed=[d, Tenant(name="e")]).tenants
    assert [(each.name, each.quota.get("pods")) for each in found] == [("a", "1"), ("b", "4"), ("d", "5"), ("e", None)]


def test_a_cluster_that_does_not_answer_is_not_one_without_tenants(opened: Session, kube: FakeKube) -> None:
    models_of(opened, "a", "d")
    kube.before = silent
    assert opened.added is None
    assert [each.name for each in opened.tenants] == ["a"]
    assert [each.tenant for each in opened.models] == ["a"], "whose models cannot be known are left out"

    kube.before = lambda _verb, _what: None
    assert opened.added is None, "what was read is not read again"
    again = opened.anew()
    assert [each.name for each in again.tenants] == ["a", "d"]
    assert [each.tenant for each in again.models] == ["a", "d"]


def test_a_model_of_nobody_is_bad_input_where_tenants_are_known(opened: Session, cluster: Cluster) -> None:
    models_of(opened, "x")
    with pytest.raises(BadInput, match="no tenant 'x'"):
        _ = opened.models
    cluster.there = False
    with pytest.raises(BadInput, match="no tenant 'x'"):
        _ = replace(opened).models


def test_files_are_read_before_anything_is_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_: object) -> Box:
        raise AssertionError("a box was opened")

    def bad(*_: object) -> Any:
        raise BadInput("models.yaml: no")

    monkeypatch.setattr(module, "open_box", refuse)
    with pytest.raises(BadInput, match="--source"):
        module.open_session({}, source="nowhere")
    monkeypatch.setattr("tasks.lib.modelling.load", bad)
    with pytest.raises(BadInput, match="models"):
        module.open_session({})


@pytest.mark.parametrize(
    ("given", "name"),
    [({}, "kind"), ({"context": "c"}, "existing"), ({"kubeconfig": "f"}, "existing"), ({"provider": "kind"}, "kind"),
     ({"provider": "existing"}, "existing")],
)  # fmt: skip
def test_a_cluster_that_is_named_is_the_one(given: dict[str, Any], name: str) -> None:
    assert module.provider_name(Settings(**given)) == name


# An engine that does not answer


class Engine:
    """A container engine with a fault; asking it for more fails the test."""

    def __init__(self, fault: Fault | None, output: str = "") -> None:
        self.fault, self.output = fault, output
        self.ensured = False

    def probe(self) -> Any:
        return SimpleNamespace(fault=self.fault)

    def ensure(self, **_: object) -> str:
        self.ensured = True
        if self.fault:
            raise NotAvailable(str(self.fault))
        return "27"

    def docker(self, *words: object, **_: object) -> Any:
        assert self.fault is None, f"docker {words}"
        return SimpleNamespace(stdout=self.output, returncode=0)


def kind(engine: Engine, root: Path) -> KindProvider:
    wanted = Wanted(cluster="c", version="1.32.2", workers=1, http_port=80, https_port=443)
    anything: Any = engine
    return KindProvider(
        wanted, engine=anything, source=anything, kind=lambda: root / "kind", store=Store(root), kubeconfig=root / "k"
    )


@pytest.mark.parametrize("fault", list(Fault))
def test_without_an_engine_that_answers_there_is_no_cluster(fault: Fault, tmp_path: Path) -> None:
    provider = kind(Engine(fault), tmp_path)
    gone = fault in {Fault.NO_CLIENT, Fault.OTHER_ENGINE}
    assert provider.exists() is (False if gone else None), "an engine that does not answer may have it"
    assert provider.info()["nodes"] == "none"
    assert provider.look().reason == str(fault)


def test_an_api_server_that_does_not_answer_says_nothing_of_its_cluster(tmp_path: Path) -> None:
    (tmp_path / "k").write_text("apiVersion: v1\nkind: Config\n")
    provider = ExistingProvider(kubeconfig=str(tmp_path / "k"), context="", unsupported=lambda _: {})
    assert provider.exists() is None


def test_with_one_its_containers_say(tmp_path: Path) -> None:
    assert kind(Engine(None, "c-control-plane\tcontrol-plane\texited\n"), tmp_path).exists()
    assert not kind(Engine(None), tmp_path).exists()


@pytest.mark.parametrize("fault", [Fault.NO_DAEMON, Fault.REFUSED, Fault.BROKEN])
def test_what_an_engine_may_have_is_not_said_to_be_gone(fault: Fault, tmp_path: Path) -> None:
    engine = Engine(fault)
    with pytest.raises(NotAvailable):
        kind(engine, tmp_path).delete(lambda _: None)
    assert engine.ensured


def test_without_any_engine_nothing_is_there_to_delete(tmp_path: Path) -> None:
    engine = Engine(Fault.NO_CLIENT)
    assert kind(engine, tmp_path).delete(lambda _: None) == []
    assert not engine.ensured


# A cluster that is there and silent


def record(kube: FakeKube, *components: str) -> None:
    for component in components:
        config = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "c", "namespace": "app"}}
        home = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "app"}}
        apply.apply_all(kube, [home, {**config, "metadata": {"name": component, "namespace": "app"}}], component)


def kept(kube: FakeKube, component: str) -> bool:
    return Ref("v1", "ConfigMap", names.PLATFORM_NAMESPACE, f"inventory-{component}").key in kube.store


@pytest.fixture
def repaired(opened: Session, kube: FakeKube, monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Runs of the cluster alone, after which it answers."""
    runs: list[Any] = []

    def up(given: Session, wanted: list[str], **more: object) -> Run:
        runs.append((given, wanted, more))
        kube.before = lambda _verb, _what: None
        return Run()

    monkeypatch.setattr(converge, "up", up)
    kube.before = silent
    assert opened.added is None
    return runs


def test_it_is_repaired_first_and_its_tenants_are_read_then(opened: Session, repaired: list[Any]) -> None:
    found = converge.awake(opened, "invoke up", wait=False)

    assert [wanted for _, wanted, _ in repaired] == [["cluster"]]
    assert repaired[0][2] == {"wait": False, "command": "invoke up"}
    assert [each.name for each in found.tenants] == ["a", "d"]
    assert converge.awake(found, "invoke up") is found


def test_its_repair_failing_is_the_end(opened: Session, kube: FakeKube, monkeypatch: pytest.MonkeyPatch) -> None:
    kube.before = silent
    monkeypatch.setattr(converge, "up", lambda *_, **__: Run(error=BoxError("the disk is full")))
    with pytest.raises(BoxError, match="the disk is full"):
        converge.awake(opened, "invoke up")


def test_so_is_a_repair_after_which_it_is_still_silent(
    opened: Session, kube: FakeKube, monkeypatch: pytest.MonkeyPatch
) -> None:
    kube.before = silent
    monkeypatch.setattr(converge, "up", lambda *_, **__: Run())
    with pytest.raises(ClusterGone, match="tenants that were added by command cannot be read"):
        converge.awake(opened, "invoke up")


# Pruning


def test_tenants_that_were_not_known_at_the_beginning_are_not_removed(opened: Session, kube: FakeKube) -> None:
    record(kube, "tenant-d", "tenant-gone")
    vars(opened)["added"] = []  # the engine was away, or another run added it while this one waited

    found = converge.prune(opened)

    assert {name: each.status for name, each in found.items()} == {"tenant-gone": Status.CHANGED}
    assert kept(kube, "tenant-d")
    assert not kept(kube, "tenant-gone")


@pytest.mark.parametrize("there", [None, False])
def test_they_are_read_from_the_cluster_whatever_the_provider_says_of_it(
    opened: Session, cluster: Cluster, kube: FakeKube, there: bool | None
) -> None:
    record(kube, "tenant-d", "tenant-gone")
    cluster.there = there  # the engine, or the API server, did not answer for a moment

    assert set(converge.prune(opened)) == {"tenant-gone"}
    assert kept(kube, "tenant-d")


def test_nothing_is_removed_while_they_cannot_be_read(opened: Session, kube: FakeKube) -> None:
    record(kube, "tenant-d", "tenant-gone")

    def no_namespaces(verb: str, what: str) -> None:
        if (verb, what) == ("list", "Namespace"):
            raise ClusterGone("https://fake.example does not answer")

    assert [each.name for each in opened.tenants] == ["a", "d"]
    kube.before = no_namespaces
    with pytest.raises(ClusterGone, match="cannot be read"):
        converge.prune(opened)
    assert kept(kube, "tenant-d")
    assert kept(kube, "tenant-gone")


# Opening


@pytest.mark.parametrize("name", ["kind", "existing"])
def test_a_box_is_opened_whether_or_not_a_cluster_can_be_had(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    pins = versions.load(ROOT)
    source: Any = SimpleNamespace(name="upstream")
    choice = Choice(source=source, versions=pins, why=("upstream: the first that works",))
    monkeypatch.setattr("tasks.lib.sources.detect", lambda *_: choice)
    monkeypatch.setattr(lockwants, "told", lambda *_: "not locked: 3 of 9")
    monkeypatch.setattr(ContainerEngine, "probe", lambda _: pytest.fail("asked the engine"))

    box = module.open_box(Settings(provider=name))

    assert box.provider.name == name
    assert box.notes == ("upstream: the first that works", f"{name}: asked for", "not locked: 3 of 9")
    monkeypatch.setattr(lockwants, "told", lambda *_: "")
    assert module.open_box(Settings()).notes[1:] == ("kind: nothing else is named",)
