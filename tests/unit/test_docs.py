"""The documentation against the code: links, commands, decisions, errors, versions, the picture of the graph."""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from urllib.parse import unquote

import pytest
from invoke.parser import ParserContext

import tasks
from tasks.components import platform
from tasks.lib import errors, versions
from tasks.lib.component import Component
from tasks.lib.graph import Graph
from tasks.lib.modelling import Model
from tasks.lib.tenancy import Tenant
from tests.commandline import arguments

ROOT = Path(__file__).parents[2]
GRAPH = ROOT / "docs/concepts/graph.md"
TROUBLE = ROOT / "docs/guides/troubleshooting.md"
PAGES = [
    *sorted(ROOT.glob("docs/**/*.md")),
    *(path for path in (ROOT / "README.md", ROOT / "CONTRIBUTING.md") if path.exists()),
]
WRITTEN_BY_HAND = [path for path in PAGES if path.parent != ROOT / "docs/reference"]
SEARCHED = ("tasks", "manifests", "config", "scripts", "tests")

_FENCE = re.compile(r"^ *```(\w*)\n(.*?)^ *```$", re.MULTILINE | re.DOTALL)
_SPAN = re.compile(r"`([^`\n]+)`")
_LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
_COMMAND = re.compile(r"(?<![\w.-])inv(?:oke)? +([a-z][\w.-]*)([^\n|;&#]*)")
_OPTION = re.compile(r"(?<!\S)--[a-z][\w-]*")
_DECISION = re.compile(r"docs/adr/(\d{4})")
_SHORTEST_PIN = 5


def name(path: Path) -> str:
    """Name a page in a message."""
    return str(path.relative_to(ROOT)) if path.is_relative_to(ROOT) else path.name


def anchors(text: str) -> set[str]:
    """Return the anchors of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", _FENCE.sub("", text), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", each.strip().lower()).replace(" ", "-") for each in headings}


def broken_links(path: Path) -> list[str]:
    """Return the relative links of a page that lead nowhere."""
    targets = _LINK.findall(_SPAN.sub("", _FENCE.sub("", path.read_text(encoding="utf-8"))))
    return [f"{name(path)}: {each}" for each in targets if not re.match(r"\w+:", each) and not leads(path, each)]


def leads(path: Path, target: str) -> bool:
    """Whether a relative link on a page leads to a file, and to a heading where it names one."""
    file, _, anchor = target.partition("#")
    there = path.parent / unquote(file) if file else path
    if not there.exists():
        return False
    return not anchor or (there.suffix == ".md" and anchor in anchors(there.read_text(encoding="utf-8")))


def commands(text: str) -> Iterator[tuple[str, list[str]]]:
    """Return every command of ours that stands in code, with its options."""
    code = [each[1] for each in _FENCE.findall(text)] + _SPAN.findall(_FENCE.sub("", text))
    for each in code:
        for found in _COMMAND.finditer(each.replace("\\\n", " ")):
            yield found[1].rstrip("."), _OPTION.findall(found[2])


def options() -> dict[str, set[str]]:
    """Return the commands there are, each with its options."""
    known: dict[str, set[str]] = {}
    for command, aliases in tasks.ns.task_names.items():
        context = ParserContext(name=command, args=arguments()[command])
        known |= {each: {*context.flags, *context.inverse_flags} for each in (command, *aliases)}
    return known


def untrue_commands(path: Path, known: Mapping[str, set[str]]) -> list[str]:
    """Return the commands and options of a page that do not exist."""
    wrong = []
    for command, used in commands(path.read_text(encoding="utf-8")):
        if command not in known:
            wrong.append(f"{name(path)}: invoke {command}")
        else:
            wrong += [f"{name(path)}: invoke {command} {each}" for each in used if each not in known[command]]
    return wrong


def mermaid(graph: Graph[Component]) -> str:
    """Draw a graph: stages as boxes, needs as arrows, dashed what is left out."""
    lines = ["flowchart LR"]
    for stage, members in graph.stages.items():
        lines.append(f"  subgraph stage-{stage} [{stage}]")
        lines += [f"    {each}{':::later' if graph[each].left_out else ''}" for each in members]
        lines.append("  end")
    lines += [f"  {need} --> {each}" for each in graph.names for need in graph[each].needs]
    return "\n".join([*lines, "  classDef later stroke-dasharray: 5 5", ""])


def drawn(text: str) -> list[str]:
    """Return the pictures of a page."""
    return [content for language, content in _FENCE.findall(text) if language == "mermaid"]


def decisions(folder: Path) -> dict[str, list[Path]]:
    """Return the pages of decisions by number."""
    found: dict[str, list[Path]] = {}
    for path in sorted(folder.glob("[0-9]*.md")):
        found.setdefault(path.name[:4], []).append(path)
    return found


def mentioned(folder: Path) -> dict[str, str]:
    """Return the numbers of decisions that files below a folder mention, each with one of these files."""
    files = [path for path in sorted(folder.rglob("*")) if path.is_file() and "__pycache__" not in path.parts]
    return {
        number: name(path)
        for path in files
        for number in _DECISION.findall(path.read_text(encoding="utf-8", errors="replace"))
    }


@pytest.mark.parametrize("path", PAGES, ids=name)
def test_links_lead_somewhere(path: Path) -> None:
    assert broken_links(path) == []


@pytest.mark.parametrize("path", PAGES, ids=name)
def test_commands_and_options_exist(path: Path) -> None:
    assert untrue_commands(path, options()) == []


def test_the_picture_is_the_graph() -> None:
    sample = Model(name="sklearn-iris", tenant="a", format="sklearn", trainer="sklearn-iris")
    wanted = mermaid(platform([Tenant(name="a")], [sample]))
    assert drawn(GRAPH.read_text(encoding="utf-8")) == [wanted], f"{name(GRAPH)} wants this picture:\n\n{wanted}"


def test_every_decision_that_the_code_names_is_written_down() -> None:
    named = {number: where for folder in SEARCHED for number, where in mentioned(ROOT / folder).items()}
    assert named
    known = decisions(ROOT / "docs/adr")
    assert {number: where for number, where in named.items() if number not in known} == {}


def test_decisions_have_one_number_and_a_status() -> None:
    for number, pages in decisions(ROOT / "docs/adr").items():
        assert len(pages) == 1, f"{number} is there twice: {', '.join(map(name, pages))}"
        title, _, status, *_ = pages[0].read_text(encoding="utf-8").splitlines()
        assert title.startswith(f"# {number}. "), name(pages[0])
        assert re.fullmatch(r"Status: (proposed|accepted|superseded by \[?\d{4}.*)", status), name(pages[0])


def test_every_error_is_explained() -> None:
    kinds = [each for each in vars(errors).values() if isinstance(each, type) and issubclass(each, errors.BoxError)]
    wanted = {each.__name__.lower() for each in kinds if each is not errors.BoxError} | {"interrupted"}
    assert wanted - anchors(TROUBLE.read_text(encoding="utf-8")) == set()


def test_no_page_repeats_a_version() -> None:
    pinned = versions.load(ROOT)
    sections = (pinned.tools, pinned.charts, pinned.manifests, pinned.images)
    pins = {each.version.removeprefix("v") for section in sections for each in section.values()}
    long = [re.escape(each) for each in pins if len(each) >= _SHORTEST_PIN]
    pattern = re.compile(rf"(?<![\w.])v?(?:{'|'.join(long)})(?![\w.]\d)")
    repeated = {name(path): found for path in WRITTEN_BY_HAND if (found := pattern.findall(path.read_text("utf-8")))}
    assert repeated == {}


def test_a_link_that_leads_nowhere_is_seen(tmp_path: Path) -> None:
    (tmp_path / "there.md").write_text("# Its title, here\n\n```sh\n# no heading\n```\n")
    page = tmp_path / "page.md"
    page.write_text(
        "# Top\n[a](there.md) [b](gone.md) [c](there.md#its-title-here) [d](there.md#no-heading) [e](#top)\n"
        "[f](#bottom) [g](https://example.com/gone.md) `[h](code.md)`\n```\n[i](fenced.md)\n```\n"
    )
    assert broken_links(page) == ["page.md: gone.md", "page.md: there.md#no-heading", "page.md: #bottom"]


def test_a_command_that_does_not_exist_is_seen(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(
        "We invoke nothing. `invoke up --jobs 2`, `invoke updo`, `invoke.yaml`, `invoke STAGE`, `invoke --list`\n"
        "```sh\n./scripts/invoke tenant.list --json | grep --quiet a\ninvoke tenant.lost\n"
        "invoke up --no-wait \\\n  --fast   # not --slow\n```\n"
    )
    wrong = ["invoke tenant.lost", "invoke up --fast", "invoke updo"]
    assert untrue_commands(page, options()) == [f"page.md: {each}" for each in wrong]


def test_a_picture_that_is_not_the_graph_is_seen() -> None:
    one, two = platform([], []), platform([Tenant(name="a")], [])
    assert mermaid(one) != mermaid(two)
    assert (
        "  subgraph stage-mesh [mesh]\n    istio-base\n    istiod\n    ingress-gateway\n    mesh-policies\n  end\n"
        in mermaid(one)
    )
    assert "  istio-base --> istiod\n" in mermaid(one)
    assert "    ai-gateway:::later\n" in mermaid(one)
    assert drawn("```sh\na\n```\n\n```mermaid\nb\n```\n") == ["b\n"]


def test_a_decision_without_a_page_is_seen(tmp_path: Path) -> None:
    (tmp_path / "code.py").write_text(f"# see docs/adr/{1:04}\n# and docs/adr/{77:04}-title.md\n")
    (tmp_path / "0001-title.md").touch()
    assert mentioned(tmp_path) == {"0001": "code.py", "0077": "code.py"}
    assert list(decisions(tmp_path)) == ["0001"]
