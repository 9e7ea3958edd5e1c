"""The three reports of the same findings, word for word."""

import json
from xml.etree import ElementTree as ET

from tasks.lib import checkreport, report
from tasks.lib.checks import Check, Finding, Result, failed, passed, skipped
from tasks.lib.provenance import Provenance
from tasks.lib.versions import Outside, Overlaid

ORIGIN = Provenance(
    source="built here",
    overlaid=(Overlaid(key="charts.istiod", pin="1.26.2", used="1.31.0", why="no record"),),
    outside=(
        Outside(key="charts.istiod", version="1.31.0", allowed="<1.27", by="what kiali 2 supports", why="no record"),
    ),
    standins={"net-istio 1.14.1": "its own code"},
)


def finding(
    check_id: str, claim: str, result: Result, seconds: float = 0.0, subject: str = "", fix: str = ""
) -> Finding:
    made = Check(
        id=check_id, claim=claim, probe=lambda _: result, stage=check_id.partition(".")[0], subject=subject, fix=fix
    )  # fmt: skip
    return Finding(check=made, result=result, elapsed_s=seconds)


FINDINGS = [
    finding("mesh.ready", "istiod is ready", passed(), 0.31, "istiod"),
    finding(
        "mesh.plaintext-refused", "a pod outside the mesh cannot reach a model in clear text",
        failed("HTTP 200 came back in clear text", "first\nsecond \x1b[31m"), 2.0, fix="invoke mesh --force",
    ),
    finding(
        "models.reaches-zero", "iris reaches zero", passed("zero after 95 s", measured={"to_zero_s": 95.2}), 101.4,
        "a/iris",
    ),
    finding("network.apart", "tenants are kept apart", skipped("there is only one tenant"), 0.001),
]  # fmt: skip

TABLE = """\
mesh
  ✓ istiod is ready                                              0.3s
  ✗ a pod outside the mesh cannot reach a model in clear text    2.0s
      HTTP 200 came back in clear text
      first
      second  [31m
      fix: invoke mesh --force        docs/reference/checks.md#meshplaintext-refused
models
  ✓ iris reaches zero                                            101s
      zero after 95 s
network
  ⊘ tenants are kept apart
      skipped: there is only one tenant
1 of 4 checks failed, 1 skipped
"""

JUNIT = """\
<testsuites tests="4" failures="1" errors="0" skipped="1" time="103.500">
  <testsuite name="invoke verify" tests="4" failures="1" errors="0" skipped="1" time="103.500">
    <properties>
      <property name="source" value="built here" />
      <property name="version charts.istiod" value="1.31.0 instead of 1.26.2: no record" />
      <property name="outside charts.istiod" value="charts.istiod 1.31.0 is outside &lt;1.27 (what kiali 2 supports)" />
      <property name="stand-in for net-istio 1.14.1" value="untested: its own code" />
    </properties>
    <testcase classname="mesh" name="mesh.ready istiod" time="0.310" />
    <testcase classname="mesh" name="mesh.plaintext-refused" time="2.000">
      <failure message="HTTP 200 came back in clear text" type="mesh.plaintext-refused">\
a pod outside the mesh cannot reach a model in clear text
HTTP 200 came back in clear text
first
second [31m
fix: invoke mesh --force
docs/reference/checks.md#meshplaintext-refused</failure>
    </testcase>
    <testcase classname="models" name="models.reaches-zero a/iris" time="101.400">
      <system-out>zero after 95 s</system-out>
    </testcase>
    <testcase classname="network" name="network.apart" time="0.001">
      <skipped message="there is only one tenant" />
    </testcase>
  </testsuite>
</testsuites>
"""

HEADER = """\
source: built here
versions that differ from the pins:
  charts.istiod: 1.31.0 instead of 1.26.2: no record
because of that outside what vendors support:
  charts.istiod 1.31.0 is outside <1.27 (what kiali 2 supports)
stand-ins, and what they leave untested:
  net-istio 1.14.1: its own code
"""


def test_the_table() -> None:
    assert checkreport.table(FINDINGS, report.UNICODE) == TABLE


def test_the_table_in_ascii() -> None:
    told = checkreport.table(FINDINGS, report.ASCII)
    assert told.isascii()
    assert "  + istiod is ready" in told
    assert "  x a pod outside" in told
    assert "  - tenants are kept apart" in told


def test_the_last_line_counts_skips_as_skips() -> None:
    good, bad, cannot = FINDINGS[0], FINDINGS[1], FINDINGS[3]
    assert checkreport.totals([good, good]) == "2 checks passed"
    assert checkreport.totals([good]) == "1 check passed"
    assert checkreport.totals([good, cannot]) == "1 of 2 checks passed, 1 skipped"
    assert checkreport.totals([cannot]) == "0 of 1 check passed, 1 skipped"
    assert checkreport.totals([bad, good]) == "1 of 2 checks failed"
    assert checkreport.totals([bad, good, cannot]) == "1 of 3 checks failed, 1 skipped"


def test_junit() -> None:
    told = checkreport.as_junit(FINDINGS, ORIGIN, wall_s=103.5)
    assert told == JUNIT
    assert len(ET.fromstring(told).findall(".//testcase")) == 4  # noqa: S314 (our own text)


def test_json() -> None:
    told = json.loads(checkreport.as_json(FINDINGS, ORIGIN, {"provider": "kind"}, wall_s=103.5))
    assert {key: told[key] for key in told if key != "checks"} == {
        "schema": 1,
        "source": "built here",
        "overlaid": [{"key": "charts.istiod", "pin": "1.26.2", "used": "1.31.0", "why": "no record"}],
        "outside": [
            {
                "key": "charts.istiod",
                "version": "1.31.0",
                "allowed": "<1.27",
                "by": "what kiali 2 supports",
                "why": "no record",
            },
        ],
        "standins": {"net-istio 1.14.1": "its own code"},
        "cluster": {"provider": "kind"},
        "seconds": 103.5,
        "passed": 2,
        "failed": 1,
        "skipped": 1,
    }
    assert told["checks"][2] == {
        "id": "models.reaches-zero",
        "subject": "a/iris",
        "stage": "models",
        "claim": "iris reaches zero",
        "verdict": "passed",
        "says": "zero after 95 s",
        "evidence": "",
        "measured": {"to_zero_s": 95.2},
        "parts": [],
        "seconds": 101.4,
        "fix": "",
        "docs": "docs/reference/checks.md#modelsreaches-zero",
    }


def test_the_header_says_what_the_report_is_worth() -> None:
    assert ORIGIN.text() == HEADER
    assert Provenance(source="upstream").text() == "source: upstream\n"
