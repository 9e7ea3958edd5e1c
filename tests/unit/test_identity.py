"""Keys and revocations in a cluster: made once, derived from, rotated, and never shown."""

import base64
import io
import json
import re
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from tasks import components as platform
from tasks.components import identity as components
from tasks.lib import access, converge, identity, keys, names, tokens
from tasks.lib.box import Box
from tasks.lib.errors import BadInput, ClusterGone, NotReady
from tasks.lib.kube import apply
from tasks.lib.kube.api import ApiError, Ref
from tasks.lib.session import Session
from tasks.lib.tenancy import Tenant
from tests import boxes
from tests.fakes import FakeKube

NOW = 2_000_000.0
DAY = 86400
SECRET = Ref("v1", "Secret", names.PLATFORM_NAMESPACE, "jwt-keys")
PODS = f"/api/v1/namespaces/{names.PLATFORM_NAMESPACE}/pods/http:{{}}:8080/proxy/.well-known/jwks.json"
SERVICE = f"/api/v1/namespaces/{names.PLATFORM_NAMESPACE}/services/http:jwt-server:8080/proxy/.well-known/jwks.json"
JTI = "a" * 32
STDIN = "-"


@pytest.fixture(name="kube")
def _kube() -> FakeKube:
    kube = FakeKube()
    apply.apply_all(kube, [], "jwt-keys", create_only=components.key_material(boxes.box(kube)))
    return kube


@pytest.fixture(name="box")
def _box(kube: FakeKube) -> Box:
    return boxes.box(kube)


def stored(kube: FakeKube) -> dict[str, str]:
    found = kube.get(SECRET)
    assert found
    return {name: base64.b64decode(value).decode() for name, value in found["data"].items()}


def ids(found: Mapping[str, Any]) -> set[str]:
    return {each["kid"] for each in found["keys"]}


def kids(kube: FakeKube) -> dict[str, str]:
    return {name: keys.kid(pem) for name, pem in stored(kube).items()}


# keys


def test_keys_are_made_once_and_survive_every_run_after(kube: FakeKube, box: Box) -> None:
    before = stored(kube)
    changes = apply.apply_all(kube, [], "jwt-keys", create_only=components.key_material(box))
    assert (changes.count, stored(kube)) == (0, before)


def test_what_is_public_is_derived_from_the_live_secret(kube: FakeKube, box: Box) -> None:
    found = identity.public_jwks(box)
    assert ids(found) == set(kids(kube).values())
    assert found == identity.public_jwks(box)
    assert not {"d", "k"} & {name for each in found["keys"] for name in each}


def test_a_rendering_without_a_cluster_or_a_secret_has_no_keys() -> None:
    assert identity.public_jwks(boxes.box(FakeKube())) == {"keys": []}
    assert identity.revoked(boxes.box(FakeKube())) == {}
    away = boxes.box(provider=SimpleNamespace(exists=lambda: False, kubeconfig=_gone))
    assert identity.public_jwks(away) == {"keys": []}


def test_a_cluster_that_is_there_and_does_not_answer_is_no_empty_set() -> None:
    away = boxes.box(provider=SimpleNamespace(exists=lambda: True, kubeconfig=_gone))
    with pytest.raises(ClusterGone):
        identity.public_jwks(away)


def _gone() -> Path:
    raise ClusterGone("away")


def test_without_keys_nothing_is_signed_or_rotated() -> None:
    empty = boxes.box(FakeKube())
    with pytest.raises(NotReady) as caught:
        identity.ring(empty)
    assert caught.value.hint == "invoke gateway"
    with pytest.raises(NotReady):
        identity.rotate(empty, now=NOW)
    with pytest.raises(NotReady):
        identity.revoke(empty, JTI, 5, NOW)


def test_a_damaged_secret_is_named_and_not_shown(kube: FakeKube, box: Box) -> None:
    kube.edit(SECRET, "data.current", base64.b64encode(b"tell-nobody").decode())
    with pytest.raises(BadInput, match="Secret jwt-keys: current is not") as caught:
        identity.ring(box)
    assert "tell-nobody" not in str(caught.value)
    kube.edit(SECRET, "data.current", base64.b64encode(b"\xff\xfe").decode())
    with pytest.raises(BadInput, match="not text"):
        identity.ring(box)


# rotation


def test_a_rotation_moves_every_key_by_one(kube: FakeKube, box: Box) -> None:
    before = kids(kube)
    identity.rotate(box, now=NOW)
    after = kids(kube)
    assert (after["previous"], after["current"]) == (before["current"], before["next"])
    assert len(set(after.values()) | set(before.values())) == 4
    assert set(stored(kube)) == {"previous", "current", "next"}
    assert "PRIVATE" not in stored(kube)["previous"]
    live = kube.get(SECRET)
    assert live
    assert live["metadata"]["labels"] == {names.COMPONENT_LABEL: "jwt-keys"}
    changes = apply.apply_all(kube, [], "jwt-keys", create_only=components.key_material(box))
    assert (changes.count, kids(kube)) == (0, after)


def test_a_second_one_waits_until_no_token_can_be_refused_by_it(kube: FakeKube, box: Box) -> None:
    identity.rotate(box, now=NOW)
    before = stored(kube)
    for later in (1, DAY, DAY + keys.LEEWAY_S - 1):
        with pytest.raises(BadInput, match="rotated less than 24h ago") as caught:
            identity.rotate(box, now=NOW + later)
    assert "--drop-previous" in caught.value.hint
    assert stored(kube) == before
    identity.rotate(box, now=NOW + DAY + keys.LEEWAY_S)
    assert stored(kube) != before


def test_dropping_the_previous_one_is_asked_for(kube: FakeKube, box: Box) -> None:
    identity.rotate(box, now=NOW)
    before = kids(kube)
    identity.rotate(box, now=NOW + 1, drop_previous=True)
    assert kids(kube)["previous"] == before["current"]
    assert before["previous"] not in ids(identity.public_jwks(box))


def test_withdrawing_leaves_none_of_the_old_and_the_next_rotation_is_free(kube: FakeKube, box: Box) -> None:
    before = set(kids(kube).values())
    identity.rotate(box, now=NOW, withdraw=True)
    assert not before & set(kids(kube).values())
    identity.rotate(box, now=NOW + 1)


def test_somebody_elses_write_in_between_is_not_overwritten(
    kube: FakeKube, box: Box, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent: list[dict[str, Any]] = []

    def refuse(obj: dict[str, Any], **given: Any) -> dict[str, Any]:
        sent.append(obj)
        assert given == {"patience_s": 0}
        raise ApiError("conflict", status=409, reason="Conflict")

    live = kube.get(SECRET)
    assert live
    monkeypatch.setattr(kube, "apply", refuse)
    with pytest.raises(ApiError):
        identity.rotate(box, now=NOW)
    assert sent[0]["metadata"]["resourceVersion"] == live["metadata"]["resourceVersion"]


# revocation


def test_revoked_tokens_are_listed_pruned_when_written_and_not_by_looking(box: Box) -> None:
    assert identity.revoked(box) == {}
    identity.revoke(box, JTI, int(NOW) + 10, NOW)
    identity.revoke(box, "b" * 32, int(NOW) + 5000, NOW)
    assert identity.revoked(box) == {JTI: int(NOW) + 10, "b" * 32: int(NOW) + 5000}
    identity.revoke(box, "c" * 32, int(NOW) + 5000, NOW + 1000)
    assert list(identity.revoked(box)) == ["b" * 32, "c" * 32]


def test_the_list_survives_every_run(kube: FakeKube, box: Box) -> None:
    identity.revoke(box, JTI, int(NOW) + 10, NOW)
    assert apply.apply_all(kube, [], "jwt-keys", create_only=components.key_material(box)).count == 0
    assert list(identity.revoked(box)) == [JTI]


# the components


def test_nothing_that_is_rendered_or_remembered_holds_a_private_half(kube: FakeKube, box: Box) -> None:
    objects = [*components.KEYS.objects(box), *components.IDENTITY.objects(box)]
    assert not [each for each in objects if each["kind"] == "Secret"]
    secret = stored(kube)
    private = [secret["current"], secret["next"]]
    lines = {line for pem in private for line in pem.splitlines() if not line.startswith("---")}
    everything = json.dumps([obj for key, obj in kube.store.items() if key.kind != "Secret"] + objects)
    assert "BEGIN" not in everything
    assert not [line for line in lines if line in everything]


def test_the_server_is_as_locked_as_it_can_be(box: Box) -> None:
    found = {(each["kind"], each["metadata"]["name"]): each for each in components.IDENTITY.objects(box)}
    pod = found["Deployment", "jwt-server"]["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    assert pod["automountServiceAccountToken"] is False
    assert found["ServiceAccount", "jwt-server"]["automountServiceAccountToken"] is False
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]},
    }  # fmt: skip
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert all("secret" not in each for each in pod["volumes"])
    assert all(isinstance(each, str) for each in [*container["command"], *container["args"]])
    policy = found["NetworkPolicy", "jwt-server"]["spec"]
    assert policy["policyTypes"] == ["Ingress", "Egress"]
    assert "egress" not in policy


def served(kube: FakeKube, box: Box, *pods: str) -> None:
    for name in pods:
        meta = {"name": name, "namespace": names.PLATFORM_NAMESPACE, "labels": {"app": "jwt-server"}}
        kube.create({"apiVersion": "v1", "kind": "Pod", "metadata": meta})
        kube.answers[PODS.format(name)] = identity.public_jwks(box)
    kube.answers[SERVICE] = identity.public_jwks(box)


def test_ready_is_every_replica_with_exactly_the_keys_of_the_secret(kube: FakeKube, box: Box) -> None:
    assert components.publishes(box) == "jwt-server has no pods"
    served(kube, box, "one", "two")
    assert components.publishes(box) is None
    whole = identity.public_jwks(box)
    for wrong in ({"keys": whole["keys"][:2]}, {"keys": [*whole["keys"], whole["keys"][0]]}, "not JSON", {}):
        kube.answers[PODS.format("two")] = wrong
        assert components.publishes(box) == "two does not publish the keys of the Secret yet"
    kube.answers[PODS.format("two")] = ApiError("x", status=503)
    assert components.publishes(box) == "two: HTTP 503"
    kube.answers[PODS.format("two")] = whole
    identity.rotate(box, now=NOW)
    assert "does not publish" in str(components.publishes(box))


def test_a_change_of_the_program_makes_new_pods(box: Box, tmp_path: Path) -> None:
    def programs(root: Path) -> set[str]:
        found = components.server_objects(boxes.box(box.kube, root=root))
        (pod,) = (each["spec"]["template"]["spec"] for each in found if each["kind"] == "Deployment")
        named = {each["configMap"]["name"] for each in pod["volumes"]} - {"jwks"}
        assert named <= {each["metadata"]["name"] for each in found if each["kind"] == "ConfigMap"}
        return named

    folder = tmp_path / "manifests/identity"
    folder.mkdir(parents=True)
    for name in ("server.yaml", "server.py"):
        (folder / name).write_text((boxes.ROOT / "manifests/identity" / name).read_text())
    before = programs(tmp_path)
    (folder / "server.py").write_text("pass\n")
    assert programs(tmp_path) != before


# the commands


@dataclass
class Runs:
    """What was converged, and the published keys at that time."""

    seen: list[tuple[list[str], set[str], int]]
    error: Exception | None = None


@pytest.fixture(name="runs")
def _runs(monkeypatch: pytest.MonkeyPatch, box: Box) -> Runs:
    runs = Runs([])

    def up(_: object, wanted: list[str], **__: object) -> object:
        runs.seen.append((wanted, ids(identity.public_jwks(box)), len(identity.revoked(box))))
        return SimpleNamespace(error=runs.error)

    @contextmanager
    def turn(*_: object, **__: object) -> Iterator[object]:
        yield SimpleNamespace(acquire=lambda: None)

    monkeypatch.setattr(converge, "up", up)
    monkeypatch.setattr(converge, "turn", turn)
    return runs


@pytest.fixture(name="session")
def _session(box: Box) -> Session:
    box.provider = cast("Any", SimpleNamespace(exists=lambda: True, owned=True, ensure_engine=lambda _: None))
    return Session(box=box, configured=[Tenant(name="a"), Tenant(name="b")])


def minted(session: Session, capsys: pytest.CaptureFixture[str], **given: str) -> tuple[str, str]:
    access.token(session, "a", **{"ttl": "1h", "model": "", **given})
    said = capsys.readouterr()
    return said.out, said.err


def test_a_token_stands_alone_on_standard_output(session: Session, capsys: pytest.CaptureFixture[str]) -> None:
    out, err = minted(session, capsys)
    assert re.fullmatch(r"[\w-]+\.[\w-]+\.[\w-]+\n", out)
    claims = tokens.verify(out.strip(), identity.public_jwks(session.box), time.time())
    assert (claims["tenant"], claims["sub"], claims["exp"] - claims["iat"]) == ("a", "tenant:a", 3600)
    assert err == f"expires {tokens.stamp(claims['exp'])}  jti {claims['jti']}\n"


@pytest.mark.parametrize(
    "given", [{"ttl": "25h"}, {"ttl": "1"}, {"name": "nobody"}, {"name": "A/../b"}, {"model": "nothing"}]
)
def test_what_cannot_be_is_refused_before_a_key_is_read(
    kube: FakeKube, session: Session, capsys: pytest.CaptureFixture[str], given: dict[str, str]
) -> None:
    kube.calls.clear()
    with pytest.raises(BadInput):
        access.token(session, **cast("Any", {"name": "a", "ttl": "1h", "model": "", **given}))
    assert capsys.readouterr().out == ""
    assert [what for _, what in kube.calls if "Secret" in what] == []


def test_a_rotation_publishes_before_it_signs_and_after(
    kube: FakeKube, session: Session, runs: Runs, capsys: pytest.CaptureFixture[str]
) -> None:
    token, _ = minted(session, capsys)
    before = kids(kube)
    access.rotate_keys(session, drop_previous=False, withdraw=False)
    after = kids(kube)
    (first, known, _), (second, published, _) = runs.seen
    assert first == second == access.dependents(session)
    assert after["current"] in known, "what signs now was published before"
    assert known == set(before.values())
    assert published == set(after.values())
    assert tokens.verify(token.strip(), identity.public_jwks(session.box), time.time())
    out = capsys.readouterr().out
    assert out.split() == [word for name in keys.NAMES for word in (name, after[name])]


def test_nothing_rotates_while_the_next_key_is_not_known_everywhere(
    kube: FakeKube, session: Session, runs: Runs
) -> None:
    before, runs.error = stored(kube), NotReady("identity: not yet")
    with pytest.raises(NotReady):
        access.rotate_keys(session, drop_previous=False, withdraw=False)
    assert stored(kube) == before


def test_a_token_is_revoked_by_its_file_or_its_id(
    session: Session, runs: Runs, capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = (minted(session, capsys)[0] for _ in range(2))
    (tmp_path / "token").write_text(first)
    access.revoke(session, jti="", token_file=str(tmp_path / "token"))
    monkeypatch.setattr("sys.stdin", io.StringIO(second))
    access.revoke(session, jti="", token_file=STDIN)
    access.revoke(session, jti=JTI, token_file="")
    assert [each[2] for each in runs.seen] == [1, 2, 3], "applied after it was written"
    assert len(identity.revoked(session.box)) == 3
    said = capsys.readouterr()
    for text in (first.strip(), second.strip()):
        assert text not in said.out + said.err


@pytest.mark.parametrize("text", ["", "a b", "a.b.c", "eyJhbGciOiJub25lIn0.e30.", "x" * 20_000, "é"])
def test_what_is_no_token_of_ours_is_refused_and_not_shown(
    session: Session, runs: Runs, tmp_path: Path, text: str
) -> None:
    (tmp_path / "token").write_text(text)
    with pytest.raises(BadInput) as caught:
        access.revoke(session, jti="", token_file=str(tmp_path / "token"))
    assert len(text) < 4 or text not in str(caught.value)
    assert (runs.seen, identity.revoked(session.box)) == ([], {})


@pytest.mark.parametrize(("jti", "file"), [("", ""), (JTI, "-"), ("short", ""), ("", "/nowhere/token")])
def test_one_of_both_is_wanted(session: Session, runs: Runs, jti: str, file: str) -> None:
    with pytest.raises(BadInput):
        access.revoke(session, jti=jti, token_file=file)
    assert (runs.seen, identity.revoked(session.box)) == ([], {})


def test_what_depends_on_the_keys_is_found_by_its_needs(session: Session) -> None:
    found = access.dependents(session)
    assert components.IDENTITY.name in found
    graph = session.graph
    assert all(components.IDENTITY.name in graph.closure([name]) for name in found)
    assert not [name for name in found if graph[name].left_out]
    assert platform.STAGES.index("gateway")
