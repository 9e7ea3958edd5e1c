"""What each hop costs: the figures and the report, the objects, what may be asked for, and the program in the pod."""

import json
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from bench import path, pathfigures, pathpods
from bench.pathfigures import ALL, CROWD, POD, STEADY, VERIFIED, WAYS, Conditions, Sample
from bench.pathpods import Target
from tasks import components
from tasks.lib import keys, provenance, tokens, versions
from tasks.lib.checks import Scene
from tasks.lib.errors import BadInput, NotReady
from tasks.lib.kube import wait
from tasks.lib.modelling import Model
from tasks.lib.provenance import Provenance
from tasks.lib.tenancy import Tenant
from tests import programs

ROOT = Path(__file__).parents[2]
TOKEN, ECHO_TOKEN = "the-token", "the-echo's-token"
IMAGES = {pathpods.FORTIO: "registry.example/fortio:1", pathpods.PYTHON: "registry.example/python:1"}
MODEL = Model(name="iris", tenant="a", format="sklearn", trainer="iris", instances=[[1.5, 2]], predictions=[1])
TARGET = Target(revision="iris-predictor-00002", private="iris-predictor-00002-private", mode="Proxy")
GIVEN = Conditions(
    model="a/iris", rounds=3, rate=20.0, requests={STEADY: 100, CROWD: 150}, connections={STEADY: 4, CROWD: 4},
    mode="Proxy", before=1, after=1,
)  # fmt: skip

P50 = dict(zip(WAYS, (5.0, 7.0, 8.0, 12.0, 1.0, 1.5, 1.8), strict=True))


def sample(way: str, number: int = 1, load: str = STEADY, **more: Any) -> Sample:
    """One round. Each is slower than the one before by the same for all ways: the machine is busier."""
    p50 = P50[way] + number
    per_s = 19.6 if load == STEADY else 1000 / p50
    given = {
        "round": number, "load": load, "way": way, "requests": 100, "codes": {"200": 100}, "per_s": per_s,
        "mean_ms": p50, "p50_ms": p50, "p95_ms": 2 * p50, "p99_ms": 3 * p50,
    }  # fmt: skip
    return Sample(**{**given, **more})


SAMPLES = [sample(way, number, load) for number in (1, 2, 3) for load in (STEADY, CROWD) for way in WAYS]


# The figures


def test_a_way_is_the_median_of_its_rounds() -> None:
    found = pathfigures.figures(SAMPLES, GIVEN).way(POD)
    assert (found.p50_ms, found.p95_ms, found.p99_ms) == (7.0, 14.0, 21.0)
    assert (found.requests, found.errors, found.crowd_errors) == (300, 0, 0)
    assert found.most_per_s == pytest.approx(1000 / 7)


def test_a_hop_is_the_median_of_differences_within_a_round() -> None:
    """A round in which everything was slow says as much of a hop as any other."""
    slow = [replace(each, mean_ms=each.mean_ms + 50, p50_ms=each.p50_ms + 50, p95_ms=each.p95_ms + 50)
            if each.round == 3 else each for each in SAMPLES]  # fmt: skip
    for samples in (SAMPLES, slow):
        found = pathfigures.figures(samples, GIVEN)
        assert [(each.what, each.mean_ms, each.p95_ms) for each in found.hops[1:]] == [
            ("activator", 2.0, 4.0),
            ("Knative's local gateway", 1.0, 2.0),
            ("ingress gateway and edge", 4.0, 8.0),
        ]
        assert (found.together.mean_ms, found.together.p50_ms, found.together.p95_ms) == (7.0, 7.0, 14.0)
        assert [round(each.p50_ms, 6) for each in found.isolation] == [0.5, 0.3]


def test_the_shares_of_pod_and_hops_are_the_whole() -> None:
    found = pathfigures.figures(SAMPLES, GIVEN)
    assert sum(each.share for each in found.hops) == pytest.approx(1)
    assert found.hops[0].share == pytest.approx(7 / 14)


def test_what_is_not_200_is_an_error_of_its_load() -> None:
    refused = {"200": 98, "429": 1, "-1": 1}
    samples = [replace(each, codes=refused) if (each.way, each.load, each.round) == (ALL, STEADY, 2) else each
               for each in SAMPLES]  # fmt: skip
    found = pathfigures.figures(samples, GIVEN)
    assert (found.way(ALL).errors, found.way(ALL).crowd_errors, found.way(POD).errors) == (2, 0, 0)
    assert found.way(ALL).codes == {"200": 598, "429": 1, "-1": 1}


def test_aims_are_held_beside_the_figures() -> None:
    good = {each.name: (each.found, each.met) for each in pathfigures.aims(pathfigures.figures(SAMPLES, GIVEN))}
    assert good == {
        "all hops add at p95, in ms": (14.0, False),
        "errors at the steady rate": (0, True),
        "steady rate / what all hops carry": (0.28, True),
    }
    quick = [replace(each, p95_ms=each.p50_ms) for each in SAMPLES]
    assert pathfigures.aims(pathfigures.figures(quick, GIVEN))[0].met
    failing = [replace(each, codes={"503": 100}) if each.way == POD else each for each in SAMPLES]
    assert not pathfigures.aims(pathfigures.figures(failing, GIVEN))[1].met
    fast = replace(GIVEN, rate=100.0)
    assert not pathfigures.aims(pathfigures.figures(SAMPLES, fast))[2].met


def test_the_figures_for_people() -> None:
    assert pathfigures.text(pathfigures.figures(SAMPLES, GIVEN)).splitlines() == [
        "  a/iris: 3 rounds, each way in turn; medians of the rounds",
        "  steady: 100 requests, 20 a second (19.6 at least)",
        "  at most: 150 requests, as fast as 4 connections go",
        "  Knative's gateway asks the activator (Proxy); pods of the model: 1 before, 1 after",
        "  from round to round the pod alone took 6.0 to 8.0 ms at p50",
        "",
        "  steady                            p50      p95      p99  errors    at most  errors",
        "  pod                            7.0 ms  14.0 ms  21.0 ms       0      143/s       0",
        "  activator                      9.0 ms  18.0 ms  27.0 ms       0      111/s       0",
        "  local gateway                 10.0 ms  20.0 ms  30.0 ms       0      100/s       0",
        "  all hops                      14.0 ms  28.0 ms  42.0 ms       0       71/s       0",
        "  echo                           3.0 ms   6.0 ms   9.0 ms       0      333/s       0",
        "  echo, sidecar                  3.5 ms   7.0 ms  10.5 ms       0      286/s       0",
        "  echo, sidecar that verifies    3.8 ms   7.6 ms  11.4 ms       0      263/s       0",
        "",
        "  adds                                 mean  share        p50        p95",
        "  the pod itself                    7.00 ms    50%    7.00 ms   14.00 ms",
        "  activator                         2.00 ms    14%    2.00 ms    4.00 ms",
        "  Knative's local gateway           1.00 ms     7%    1.00 ms    2.00 ms",
        "  ingress gateway and edge          4.00 ms    29%    4.00 ms    8.00 ms",
        "  all hops together                 7.00 ms    50%    7.00 ms   14.00 ms",
        "",
        "  isolation, at an echo                mean  share        p50        p95",
        "  a sidecar on the server's side    0.50 ms     4%    0.50 ms    1.00 ms",
        "  its verifying the token           0.30 ms     2%    0.30 ms    0.60 ms",
        "",
        "                                       found      aim",
        "  all hops add at p95, in ms              14    <= 10  no",
        "  errors at the steady rate                0     <= 0  yes",
        "  steady rate / what all hops carry     0.28     <= 1  yes",
    ]
    served = pathfigures.text(pathfigures.figures(SAMPLES, replace(GIVEN, mode="Serve")))
    assert "Knative's gateway asks the pods themselves (Serve)" in served


def test_the_figures_as_values() -> None:
    found = json.loads(json.dumps(pathfigures.values(pathfigures.figures(SAMPLES, GIVEN), SAMPLES)))
    assert found["conditions"]["rate"] == 20.0
    assert found["together"]["p95_ms"] == 14.0
    assert found["aims"][0] == {"name": "all hops add at p95, in ms", "found": 14.0, "most": 10.0, "met": False}
    assert len(found["samples"]) == len(SAMPLES)


def test_a_log_is_read_up_to_the_line_that_is_being_written() -> None:
    whole = json.dumps(vars(sample(POD)))
    assert pathfigures.parse(f'{whole}\n{{"round": 1, "lo') == ([sample(POD)], "")
    assert pathfigures.parse(f'{whole}\n{{"end": true}}\n') == ([sample(POD)], "end")
    assert pathfigures.parse('{"failed": "pod: answers 503"}\n') == ([], "pod: answers 503")


# The objects


def ways() -> list[pathpods.Way]:
    found = pathpods.model_ways(MODEL, TARGET, "example.com", TOKEN)
    return [*found, *pathpods.echo_ways(found[0].payload, ECHO_TOKEN)]


def test_the_same_request_goes_each_way() -> None:
    found = {each.name: each for each in ways()}
    assert tuple(found) == WAYS
    assert {each.payload for each in found.values()} == {'{"instances": [[1.5, 2]]}'}
    path_ = "/v1/models/iris:predict"
    assert [each.url for each in found.values()] == [
        f"http://iris-predictor-00002-private.tenant-a.svc.cluster.local{path_}",
        f"http://activator-service.knative-serving.svc.cluster.local{path_}",
        f"http://iris-predictor.tenant-a.svc.cluster.local{path_}",
        f"http://istio-ingressgateway.istio-system.svc.cluster.local{path_}",
        "http://bare.verify-path.svc.cluster.local/",
        "http://sidecar.verify-path.svc.cluster.local/",
        "http://echo.tenant-verify-path.svc.cluster.local/",
    ]
    assert "Host: iris-predictor.tenant-a.example.com" in found[ALL].headers
    assert [name for name, each in found.items() if each.limited] == [ALL]
    assert [name for name, each in found.items() if not each.guarded] == [pathfigures.BARE, pathfigures.SIDECAR]


def test_tokens_are_in_the_secret_and_nowhere_else() -> None:
    order = pathpods.order(ways(), GIVEN, 540)
    held, pod = pathpods.caller("name", order, IMAGES, ROOT / "manifests" / pathpods.SCRIPT, 600)
    assert held["kind"] == "Secret"
    assert TOKEN not in json.dumps(pod)
    assert ECHO_TOKEN not in json.dumps(pod)
    load = pod["spec"]["containers"][0]
    assert load["args"][load["args"].index("-http-port") + 1].startswith("127.0.0.1:"), (
        "nobody else may have it at work"
    )
    assert load["args"][load["args"].index("-loglevel") + 1] == "warning", "it logs what it is asked for, with headers"
    assert pod["metadata"]["namespace"] == "knative-serving"
    assert pod["metadata"]["labels"]["sidecar.istio.io/inject"] == "true"


def test_one_echo_has_the_policies_of_a_tenant_and_its_model() -> None:
    made = pathpods.echoes("image", keys.jwks(keys.new_ring()), 600)
    pods = {each["metadata"]["name"]: each for each in made if each["kind"] == "Pod"}
    inject = {name: each["metadata"]["labels"]["sidecar.istio.io/inject"] for name, each in pods.items()}
    assert inject == {"bare": "false", "sidecar": "true", "echo": "true"}
    policies = [each for each in made if each["apiVersion"].startswith("security.istio.io")]
    assert {each["kind"] for each in policies} == {"RequestAuthentication", "AuthorizationPolicy"}
    assert {each["metadata"]["namespace"] for each in policies} == {pods["echo"]["metadata"]["namespace"]}
    chosen = [each["spec"]["selector"]["matchLabels"] for each in policies if "selector" in each["spec"]]
    assert chosen
    assert all(each.items() <= pods["echo"]["metadata"]["labels"].items() for each in chosen)
    assert pods["sidecar"]["metadata"]["namespace"] != pods["echo"]["metadata"]["namespace"]


def test_up_does_not_fetch_what_only_this_needs() -> None:
    fortio = versions.load(ROOT).images[pathpods.FORTIO]
    assert fortio.stage == path.STAGE
    assert path.STAGE not in components.STAGES


# What may be asked for


def session(*models: Model, limit: int = 600) -> Any:
    tenant = Tenant(name="a", requests_per_minute=limit)
    known = {each.name: each for each in models}
    return SimpleNamespace(models=list(models), model=known.__getitem__, tenant=lambda _: tenant)


def test_the_first_model_is_asked_by_default() -> None:
    other = replace(MODEL, name="other")
    assert path.wanted(session(MODEL, other), "", "5", "20").model == MODEL
    found = path.wanted(session(MODEL, other), "other", "2", "12.5")
    assert (found.model, found.rounds, found.rate) == (other, 2, 12.5)


@pytest.mark.parametrize(
    ("rounds", "rate", "limit", "why"),
    [
        ("many", "20", 600, "are numbers"),
        ("0", "20", 600, "--rounds"),
        ("101", "20", 600, "--rounds"),
        ("5", "0.5", 600, "--rate"),
        ("5", "nan", 600, "--rate"),
        ("5", "108", 600, "tenant's limit"),
        ("5", "20", 150, "tenant's limit"),
    ],
)
def test_what_cannot_be_measured_is_refused(rounds: str, rate: str, limit: int, why: str) -> None:
    with pytest.raises(BadInput, match=why):
        path.wanted(session(MODEL, limit=limit), "", rounds, rate)


def test_a_model_without_an_example_is_not_measured() -> None:
    with pytest.raises(BadInput, match="no model with an example"):
        path.wanted(session(replace(MODEL, instances=())), "", "5", "20")
    with pytest.raises(BadInput, match="no model with an example"):
        path.wanted(session(), "", "5", "20")


def test_tokens_outlive_the_longest_run_and_no_limit_of_theirs() -> None:
    longest = replace(GIVEN, rounds=path.MOST_ROUNDS)
    assert path.most_s(longest, len(WAYS), 540) + 2 * path.START_S < tokens.LONGEST_S


def box(revision: str, private: str) -> Any:
    def get(ref: Any) -> dict[str, Any] | None:
        if ref.kind == "Service":
            return {"status": {"latestReadyRevisionName": revision}}
        return {"spec": {"mode": "Proxy"}, "status": {"privateServiceName": private}} if ref.name == "r-2" else None

    return SimpleNamespace(kube=SimpleNamespace(get=get))


def test_the_model_is_where_knative_says() -> None:
    assert path.find(box("r-2", "r-2-private"), MODEL) == Target(revision="r-2", private="r-2-private", mode="Proxy")
    for revision, private in (("", ""), ("r-2", ""), ("r-3", "r-3-private")):
        with pytest.raises(NotReady, match="no revision that is ready"):
            path.find(box(revision, private), MODEL)


def test_a_pod_on_its_way_out_does_not_count() -> None:
    def pod(phase: str, **meta: str) -> dict[str, Any]:
        return {"metadata": {"name": "p", **meta}, "status": {"phase": phase, "podIP": "10.0.0.1"}}

    there = [pod("Running"), pod("Running", deletionTimestamp="now"), pod("Pending")]
    box: Any = SimpleNamespace(kube=SimpleNamespace(list=lambda *_: there))
    assert path._running(box, MODEL) == 1


def test_the_report_says_where_things_come_from(monkeypatch: pytest.MonkeyPatch) -> None:
    origin = Provenance(source="built here", name="packages", standins={"Istio's Envoy": "its filters"})
    monkeypatch.setattr(provenance, "of", lambda _: origin)
    nowhere: Any = None
    found = pathfigures.figures(SAMPLES, GIVEN)
    assert path.told(nowhere, found, SAMPLES, as_json=False).endswith(
        "\n\n  source packages: 1 stand-in; invoke versions.list   shows them\n"
    )
    values = json.loads(path.told(nowhere, found, SAMPLES, as_json=True))
    assert (values["standins"], values["conditions"]["mode"]) == ({"Istio's Envoy": "its filters"}, "Proxy")


def heard(*logs: str) -> list[Sample]:
    """Return what is read from a pod that says one of these each time it is asked, and what was said meanwhile."""
    left, asked = list(logs), list[str]()

    def raw(verb: str, where: str, **_: Any) -> str:
        asked.append(where)
        return left.pop(0) if len(left) > 1 else left[0]

    box: Any = SimpleNamespace(kube=SimpleNamespace(raw=raw), cancel=threading.Event())
    said: Any = lambda _: None  # noqa: E731
    found = path._heard(Scene(box=box, say=said, looks={}, deadline=time.monotonic() + 60), "verify-path-1", 3, 0.2)
    assert set(asked) == {"/api/v1/namespaces/knative-serving/pods/verify-path-1/log?container=driver"}
    return found


def test_the_pod_is_heard_to_its_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wait, "POLL_S", 0.01)
    line = json.dumps(vars(sample(POD))) + "\n"
    assert heard("", line, line + '{"end": true}\n') == [sample(POD)]
    with pytest.raises(NotReady, match="could not be measured: pod: answers 503"):
        heard('{"failed": "pod: answers 503"}\n')
    with pytest.raises(NotReady, match="took more than") as caught:
        heard(line)
    assert caught.value.facts == {"done": "measuring: round 1 of 3"}


# The program in the pod


@pytest.fixture(name="driver", scope="module")
def _driver() -> ModuleType:
    return programs.load(ROOT / "manifests" / pathpods.SCRIPT)


class Fortio(BaseHTTPRequestHandler):
    """Answers as fortio does, and refuses as a guarded way does without a token: unless its name is in `open`."""

    asked: list[dict[str, Any]]
    open: set[str]

    def do_GET(self) -> None:
        self.answer({})

    def do_POST(self) -> None:
        given = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.asked.append(given)
        allowed = any(each.startswith("Authorization:") for each in given["headers"]) or given["url"] in self.open
        times = [{"Percentile": each, "Value": each / 1e4} for each in (50, 95, 99)]
        self.answer(
            {
                "RetCodes": {"200" if allowed else "403": int(given["n"])}, "ActualQPS": 19.5,
                "DurationHistogram": {"Count": int(given["n"]), "Avg": 0.006, "Percentiles": times},
            }
        )  # fmt: skip

    def answer(self, body: object) -> None:
        data = json.dumps(body).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        pass


@pytest.fixture(name="fortio")
def _fortio() -> Iterator[tuple[type[Fortio], str]]:
    handler = type("Handler", (Fortio,), {"asked": [], "open": set()})
    server = HTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield handler, f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()


def run(driver: ModuleType, order: dict[str, Any], folder: Path, capsys: pytest.CaptureFixture[str]) -> str:
    file = folder / "order.json"
    file.write_text(json.dumps(order))
    driver.main(str(file))
    return capsys.readouterr().out


def order(address: str, rounds: int = 2) -> dict[str, Any]:
    made = pathpods.order(ways(), replace(GIVEN, rounds=rounds), 10_000)
    return {**made, "fortio": f"{address}/fortio/rest/run", "status": f"{address}/fortio/rest/status", "ready_s": 0}


def test_each_way_is_measured_in_each_round_in_another_order(
    driver: ModuleType, fortio: tuple[type[Fortio], str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    handler, address = fortio
    out = run(driver, order(address), tmp_path, capsys)
    samples, ended = pathfigures.parse(out)
    assert ended == pathfigures.END
    asked = [(number, way) for number, ways in ((1, WAYS), (2, (*WAYS[1:], WAYS[0]))) for way in ways]
    assert [(each.round, each.way, each.load) for each in samples] == [
        (number, way, load) for number, way in asked for load in (CROWD, STEADY)
    ]
    assert samples[1] == Sample(
        round=1, load=STEADY, way=POD, requests=100, codes={"200": 100}, per_s=19.5, mean_ms=6.0, p50_ms=5.0,
        p95_ms=9.5, p99_ms=9.9,
    )  # fmt: skip
    assert TOKEN not in out
    loads = [each for each in handler.asked if each["n"] != "1"]
    assert {(each["qps"], each["n"], each["c"]) for each in loads} == {("20.0", "100", "4"), ("-1", "150", "4")}
    assert all(isinstance(value, str) for each in loads for key, value in each.items() if key != "headers")


def test_a_guarded_way_that_lets_in_without_a_token_is_not_measured(
    driver: ModuleType, fortio: tuple[type[Fortio], str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    handler, address = fortio
    handler.open.update(each.url for each in ways() if each.name == VERIFIED)
    out = run(driver, order(address), tmp_path, capsys)
    assert pathfigures.parse(out) == ([], f"ValueError: {VERIFIED}: answers 200 without a token")


def test_a_fortio_that_is_not_there_is_told(
    driver: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(driver, "RETRY_S", 0.05)
    out = run(driver, {**order("http://127.0.0.1:1"), "run_s": 0.1}, tmp_path, capsys)
    assert "refused" in pathfigures.parse(out)[1]


def test_no_minute_has_more_than_the_limit(driver: ModuleType) -> None:
    pace, now, sent = driver.Pace(540), 0.0, list[tuple[float, int]]()
    for _ in range(20):
        now += pace.wait_s(154, now)
        pace.note(154, now)
        sent.append((now, 154))
        now += 1.0
    for begun, _ in sent:
        assert sum(count for at, count in sent if begun <= at < begun + driver.MINUTE_S) <= 540
    assert now < 20 * driver.MINUTE_S / 2, "and not much less either"
    assert driver.Pace(100).wait_s(154, 0.0) == 0.0
