"""What came of the checks, for people (a table), for programs (JSON) and for CI (JUnit XML). Pure text."""

import json
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict
from typing import Any
from xml.etree import ElementTree as ET

from tasks.lib.checks import Check, Finding, Part, Verdict
from tasks.lib.provenance import Provenance
from tasks.lib.report import Marks, clean, duration

SCHEMA = 1
DOCS = "docs/reference/checks.md"

_CLAIM_WIDTH = 96
_INDENT = " " * 6


def page(check: Check) -> str:
    """Return where the documentation of a check is."""
    return f"{DOCS}#{check.id.replace('.', '')}"


def table(findings: Sequence[Finding], marks: Marks, *, verdicts: Collection[Verdict] = tuple(Verdict)) -> str:
    """Return the findings of these verdicts under the name of their stage, and the totals of all."""
    shown = [each for each in findings if each.result.verdict in verdicts]
    width = min(max((len(each.check.claim) for each in shown), default=0), _CLAIM_WIDTH)
    blocks = [
        "\n".join([stage, *(_row(each, marks, width) for each in shown if each.check.stage == stage)])
        for stage in dict.fromkeys(each.check.stage for each in shown)
    ]
    return "\n".join([*blocks, totals(findings)]) + "\n"


def _row(finding: Finding, marks: Marks, width: int) -> str:
    check, result = finding.check, finding.result
    took = duration(finding.elapsed_s) if finding.elapsed_s and result.verdict is not Verdict.SKIPPED else ""
    lines = [f"  {_mark(result.verdict, marks)} {clean(check.claim, marks):<{width}}  {took:>6}".rstrip()]
    if result.says:
        word = "skipped: " if result.verdict is Verdict.SKIPPED else ""
        lines.append(f"{_INDENT}{word}{clean(result.says, marks)}")
    lines += [f"{_INDENT}{clean(line, marks)}".rstrip() for line in result.evidence.splitlines() if line.strip()]
    if result.verdict is Verdict.FAILED:
        fix = f"fix: {clean(check.fix, marks)}        " if check.fix else ""
        lines.append(f"{_INDENT}{fix}{page(check)}")
    return "\n".join(lines)


def _mark(verdict: Verdict, marks: Marks) -> str:
    return {Verdict.PASSED: marks.done, Verdict.FAILED: marks.failed, Verdict.SKIPPED: marks.not_done}[verdict]


def totals(findings: Sequence[Finding]) -> str:
    """Return the last line: "1 of 9 checks failed, 1 skipped"."""
    count, all_ = counts(findings), len(findings)
    skips = f", {count['skipped']} skipped" if count["skipped"] else ""
    if count["failed"]:
        return f"{count['failed']} of {_checks(all_)} failed{skips}"
    return f"{count['passed']} of {_checks(all_)} passed{skips}" if skips else f"{_checks(all_)} passed"


def _checks(number: int) -> str:
    return f"{number} check{'' if number == 1 else 's'}"


def counts(findings: Sequence[Finding]) -> dict[str, int]:
    """Return how many passed, failed and were skipped."""
    found = Counter(each.result.verdict for each in findings)
    return {verdict.value: found[verdict] for verdict in Verdict}


def as_json(
    findings: Sequence[Finding], provenance: Provenance, cluster: Mapping[str, str], *, wall_s: float
) -> str:  # fmt: skip
    """Return everything as one JSON document."""
    whole = {
        "schema": SCHEMA,
        **provenance.facts(),
        "cluster": dict(cluster),
        "seconds": round(wall_s, 3),
        **counts(findings),
        "checks": [_record(each) for each in findings],
    }
    return json.dumps(whole, indent=2) + "\n"


def _record(finding: Finding) -> dict[str, Any]:
    check, result = finding.check, finding.result
    return {
        "id": check.id,
        "subject": check.subject,
        "stage": check.stage,
        "claim": check.claim,
        "verdict": result.verdict.value,
        "says": result.says,
        "evidence": result.evidence,
        "measured": dict(result.measured),
        "parts": [asdict(part) for part in result.parts],
        "seconds": round(finding.elapsed_s, 3),
        "fix": check.fix,
        "docs": page(check),
    }


def as_junit(findings: Sequence[Finding], provenance: Provenance, *, wall_s: float) -> str:
    """Return a JUnit report: one suite, a case for each check and each of its parts, origins as properties."""
    count, parts = counts(findings), [part for each in findings for part in each.result.parts]
    wrong = sum(bool(part.wrong) for part in parts)
    numbers = {
        "tests": str(len(findings) + len(parts)), "failures": str(count["failed"] + wrong),
        "errors": "0", "skipped": str(count["skipped"]), "time": f"{wall_s:.3f}",
    }  # fmt: skip
    root = ET.Element("testsuites", numbers)
    suite = ET.SubElement(root, "testsuite", {"name": "invoke verify", **numbers})
    properties = ET.SubElement(suite, "properties")
    for name, value in _properties(provenance):
        ET.SubElement(properties, "property", {"name": name, "value": _printable(value)})
    for finding in findings:
        _case(suite, finding)
        for part in finding.result.parts:
            _part(suite, finding.check, part)
    ET.indent(root)
    return ET.tostring(root, encoding="unicode", xml_declaration=False) + "\n"


def _properties(provenance: Provenance) -> list[tuple[str, str]]:
    return [
        ("source", provenance.source),
        *((f"version {each.key}", f"{each.used} instead of {each.pin}: {each.why}") for each in provenance.overlaid),
        *((f"outside {each.key}", each.says) for each in provenance.outside),
        *((f"stand-in for {what}", f"untested: {untested}") for what, untested in provenance.standins.items()),
    ]


def _case(suite: ET.Element, finding: Finding) -> None:
    check, result = finding.check, finding.result
    attributes = {"classname": check.stage, "name": check.name, "time": f"{finding.elapsed_s:.3f}"}
    case = ET.SubElement(suite, "testcase", attributes)
    if result.verdict is Verdict.FAILED:
        failure = ET.SubElement(case, "failure", {"message": _printable(result.says), "type": check.id})
        told = [check.claim, result.says, result.evidence, f"fix: {check.fix}" if check.fix else "", page(check)]
        failure.text = _printable("\n".join(filter(None, told)))
    elif result.verdict is Verdict.SKIPPED:
        ET.SubElement(case, "skipped", {"message": _printable(result.says)})
    elif result.says:
        ET.SubElement(case, "system-out").text = _printable("\n".join(filter(None, [result.says, result.evidence])))


def _part(suite: ET.Element, check: Check, part: Part) -> None:
    case = ET.SubElement(suite, "testcase", {"classname": check.name, "name": _printable(part.name), "time": "0"})
    if part.wrong:
        failure = ET.SubElement(case, "failure", {"message": _printable(part.wrong), "type": check.id})
        failure.text = page(check)
    elif part.seen:
        ET.SubElement(case, "system-out").text = _printable(part.seen)


def _printable(text: str) -> str:
    """Leave out what XML cannot hold."""
    return "".join(each for each in text if each.isprintable() or each in "\n\t")
