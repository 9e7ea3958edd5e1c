"""What a person may get wrong in a YAML file, and that the answer names the place."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from tasks.lib import yamlfile
from tasks.lib.errors import BadInput


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A file to be filled."""
    return tmp_path / "box.yaml"


def test_a_good_file_is_plain_data(file: Path) -> None:
    """Located mappings are dicts to everybody else."""
    file.write_text("a: 1\nb:\n  c: [x, y]\n  d: null\n")

    found = yamlfile.load(file)

    assert found == {"a": 1, "b": {"c": ["x", "y"], "d": None}}
    assert isinstance(found["b"], dict)
    assert isinstance(found, yamlfile.Located)
    assert isinstance(found["b"], yamlfile.Located)
    assert (found.lines["b"], found["b"].lines["d"]) == (2, 4)


def test_an_empty_file_is_nothing(file: Path) -> None:
    """It is up to the reader to say what it misses."""
    file.write_text("# nothing\n")

    assert yamlfile.load(file) is None


@pytest.mark.parametrize(
    ("text", "line", "said"),
    [
        ("a: 1\nb: 2\na: 3\n", 3, "'a' is there twice"),
        ("a:\n  b: 1\n  c: 2\n  b: 3\n", 4, "'b' is there twice"),
        ("a: [1, 2\nb: 3\n", 2, "expected"),
        ("a: 1\n\tb: 2\n", 2, "found"),
        ("a: b: c\n", 1, "mapping values are not allowed"),
        ("a: !!python/object:os.system x\n", 1, "could not determine a constructor"),
        ("a: &x 1\nb: *y\n", 2, "undefined alias"),
    ],
)
def test_malformed_yaml_names_file_and_line(file: Path, text: str, line: int, said: str) -> None:
    """Whatever the parser stumbles over."""
    file.write_text(text)

    for read in (yamlfile.load, yamlfile.load_all):
        with pytest.raises(BadInput) as caught:
            read(file)
        assert caught.value.what.startswith(f"{file}:{line}: ")
        assert said in caught.value.what


def test_pyyaml_alone_would_let_a_duplicate_key_pass() -> None:
    """The reason for this module; if this fails, PyYAML has learned it and half of the module can go."""
    assert yaml.safe_load("a: 1\na: 2\n") == {"a": 2}


def test_merged_keys_may_be_overridden(file: Path) -> None:
    """That is what a merge is for."""
    file.write_text("x: &x {a: 1, b: 2}\ny:\n  <<: *x\n  a: 3\n")

    assert yamlfile.load(file)["y"] == {"a": 3, "b": 2}
    assert yamlfile.load_all(file)[0]["y"] == {"a": 3, "b": 2}


@pytest.mark.parametrize(
    ("content", "said"),
    [(None, "no such file"), (b"a: \xff\n", "not UTF-8"), (b"a: 1\n---\nb: 2\n", "2 documents")],
)
def test_what_is_not_one_readable_document(file: Path, content: bytes | None, said: str) -> None:
    """A file that is not there, not text, or too much."""
    if content is not None:
        file.write_bytes(content)

    with pytest.raises(BadInput, match=said):
        yamlfile.load(file)


def test_documents_of_a_text_are_read_in_order() -> None:
    """As helm prints them; an empty one stays, for the caller to drop."""
    assert yamlfile.parse_all("a: 1\n---\n---\nb: 2\n", where="chart x") == [{"a": 1}, None, {"b": 2}]


def test_a_text_without_a_file_is_named_by_its_caller() -> None:
    """Helm's output has no file."""
    with pytest.raises(BadInput, match=r"^chart x:2: "):
        yamlfile.parse_all("a: 1\na: 2\n", where="chart x")


def read(file: Path, text: str) -> Any:
    """Write a file and read it back."""
    file.write_text(text)
    return yamlfile.load(file)


def test_an_unknown_key_names_line_and_allowed_keys(file: Path) -> None:
    """The line is that of the key, not of the mapping."""
    given = read(file, "tenant:\n  name: a\n  qouta: 1\n")

    with pytest.raises(BadInput) as caught:
        yamlfile.mapping(given["tenant"], where=f"{file}: tenant", required=("name",), optional=("quota",))

    assert caught.value.what == f"{file}:3: tenant.qouta: unknown key"
    assert caught.value.facts == {"allowed": "name, quota"}


def test_a_missing_key_names_the_mapping_it_is_missing_in(file: Path) -> None:
    """There is no line of its own to name."""
    given = read(file, "other: 1\ntenant:\n  quota: 1\n")

    with pytest.raises(BadInput) as caught:
        yamlfile.mapping(given["tenant"], where=f"{file}: tenant", required=("name",), optional=("quota",))

    assert caught.value.what == f"{file}:3: tenant.name: is missing"


def test_the_place_is_a_fact_when_the_caller_calls_the_file_otherwise(file: Path) -> None:
    """Callers that name the file relative to the project."""
    given = read(file, "a: 1\n")

    with pytest.raises(BadInput) as caught:
        yamlfile.mapping(given, where="config/box.yaml", optional=("b",))

    assert caught.value.what == "config/box.yaml: a: unknown key"
    assert caught.value.facts == {"at": f"{file}:1", "allowed": "b"}


def test_a_date_and_an_equals_sign_are_text(file: Path) -> None:
    """As they are for Kubernetes; both occur in vendors' manifests."""
    expected = {"since": "2024-02-30", "enum": ["=", "!="]}

    assert read(file, "since: 2024-02-30\nenum: [=, '!=']\n") == expected
    assert yamlfile.load_all(file) == [expected]


@pytest.mark.parametrize("given", [None, [], "x", 3, True])
def test_what_is_not_a_mapping_is_called_by_its_name(given: Any) -> None:
    """A list where a mapping should be."""
    with pytest.raises(BadInput, match=r"^here: a mapping is wanted, not "):
        yamlfile.mapping(given, where="here")


def test_a_key_must_be_text(file: Path) -> None:
    """YAML reads `on:` as true and `1:` as a number."""
    given = read(file, "on: 1\n")

    with pytest.raises(BadInput, match=r"box.yaml:1: True: the key is true or false \(True\), not text"):
        yamlfile.table(given, where=str(file))


def test_text_that_yaml_takes_for_a_number_is_to_be_quoted(file: Path) -> None:
    """The classic: version 1.30 becomes 1.3."""
    given = read(file, "a:\n  version: 1.30\n")

    with pytest.raises(BadInput) as caught:
        yamlfile.text(given["a"], "version", where=f"{file}: a")

    assert caught.value.what == f"{file}:2: a.version: text is wanted, not a number (1.3)"
    assert caught.value.hint == 'quote it: version: "1.3"'


def test_text_has_a_default_only_when_it_is_absent(file: Path) -> None:
    """Null and empty are mistakes, not absence."""
    given = read(file, 'a: ""\nb: null\n')

    assert yamlfile.text(given, "c", where="x", default="d") == "d"
    for key in ("a", "b"):
        with pytest.raises(BadInput):
            yamlfile.text(given, key, where="x", default="d")


def test_lists_hold_texts_only(file: Path) -> None:
    """A number among them is found."""
    given = read(file, "a: [x, 1]\nb: [x, y]\n")

    assert yamlfile.texts(given, "b", where="x") == ("x", "y")
    with pytest.raises(BadInput, match="a list of texts is wanted"):
        yamlfile.texts(given, "a", where="x")


def test_what_is_written_is_read_back(file: Path) -> None:
    """Also mappings that came out of a file, and the same mapping twice without an alias."""
    given = read(file, "b: {x: '1.30', y: [1, true, null]}\na: ünïcode\n")
    given["c"] = given["b"]

    written = yamlfile.dump(given)

    assert written.startswith("b:\n  x: '1.30'\n")
    assert "&" not in written
    file.write_text(written)
    assert yamlfile.load(file) == given
    assert yamlfile.parse_all(yamlfile.dump_all([given, given]), where="x") == [given, given]
