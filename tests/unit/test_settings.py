"""What may be set, where it comes from, and what is refused."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from tasks.lib import settings
from tasks.lib.errors import BadInput
from tasks.lib.settings import Settings

ROOT = Path(__file__).parents[2]


def test_the_defaults_come_back_through_invokes_configuration() -> None:
    """As text, so that Invoke has nothing to convert."""
    given = settings.defaults()

    assert all(isinstance(value, str) for value in given.values())
    assert settings.load(given, environ={}) == Settings()


def test_options_win_over_variables_and_variables_over_files() -> None:
    """The order people expect."""
    found = settings.load(
        {"jobs": 2, "workers": 2, "cluster": "one", "install": True},
        environ={"INVOKE_BOX_JOBS": "3", "INVOKE_BOX_WORKERS": "3", "INVOKE_BOX_INSTALL": "false", "HOME": "/x"},
        options={"jobs": 4, "source": None},
    )

    assert (found.cluster, found.workers, found.jobs, found.install) == ("one", 3, 4, False)
    assert found.source == "auto"


@pytest.mark.parametrize(("text", "value"), [("0", False), ("no", False), ("", False), ("TRUE", True), ("1", True)])
def test_yes_and_no(text: str, value: bool) -> None:
    """Invoke alone would take "no" for yes."""
    assert settings.load({}, environ={"INVOKE_BOX_INSTALL": text}).install is value


@pytest.mark.parametrize(
    ("box", "said", "allowed"),
    [
        ({"provider": "minikube"}, "box.provider: 'minikube' is not possible", "auto, kind, existing"),
        ({"source": "Upstream"}, "box.source: 'Upstream' is not possible", "auto, upstream, mirror, packages"),
        ({"jobs": "many"}, "box.jobs: 'many' is not possible", "a whole number from 1 to 64"),
        ({"jobs": 0}, "box.jobs: 0 is not possible", "a whole number from 1 to 64"),
        ({"jobs": True}, "box.jobs: True is not possible", "a whole number from 1 to 64"),
        ({"jobs": 1.5}, "box.jobs: 1.5 is not possible", "a whole number from 1 to 64"),
        ({"jobs": None}, "box.jobs: None is not possible", "a whole number from 1 to 64"),
        ({"workers": 0}, "box.workers: 0 is not possible", "a whole number from 1 to 16"),
        ({"http_port": 65536}, "box.http_port: 65536 is not possible", "a whole number from 1 to 65535"),
        ({"http_port": "-1"}, "box.http_port: '-1' is not possible", "a whole number from 1 to 65535"),
        ({"install": "perhaps"}, "box.install: 'perhaps' is neither yes nor no", "true, false, 1, 0"),
        ({"cluster": "My_Box"}, "box.cluster: 'My_Box' is not possible", None),
        ({"cluster": "x" * 50}, "box.cluster: 'xxx", None),
        ({"cluster": 7}, "box.cluster: 7 is not text", "text"),
        ({"domain": "localhost"}, "box.domain: 'localhost' is not possible", None),
        ({"domain": "-a.example.com"}, "box.domain: '-a.example.com' is not possible", None),
        ({"job": 1}, "box.job: no such setting", None),
    ],
)
def test_a_value_that_is_not_possible(box: dict[str, Any], said: str, allowed: str | None) -> None:
    """Setting, value and what is allowed are in the answer."""
    with pytest.raises(BadInput) as caught:
        settings.load(box, environ={})

    assert caught.value.what.startswith(said)
    if allowed is not None:
        assert caught.value.facts == {"allowed": allowed}


def test_the_answer_names_where_the_value_came_from() -> None:
    """A variable, and an option, as they were typed."""
    with pytest.raises(BadInput, match=r"^INVOKE_BOX_HTTP_PORT: 'x' is not possible"):
        settings.load({}, environ={"INVOKE_BOX_HTTP_PORT": "x"})
    with pytest.raises(BadInput, match=r"^INVOKE_BOX_JOBZ: no such setting"):
        settings.load({}, environ={"INVOKE_BOX_JOBZ": "1"})
    with pytest.raises(BadInput, match=r"^--http-port: 'x' is not possible"):
        settings.load({}, environ={}, options={"http_port": "x"})


@pytest.mark.parametrize(
    ("box", "said"),
    [
        ({"http_port": 8443}, "http_port and https_port are both 8443"),
        ({"source": "mirror"}, "source mirror needs the mirror's address"),
        ({"provider": "kind", "context": "prod"}, "context 'prod' belongs to a cluster that is there already"),
        ({"provider": "kind", "kubeconfig": "x"}, "kubeconfig 'x' belongs to a cluster that is there already"),
    ],
)
def test_settings_that_contradict_each_other(box: dict[str, Any], said: str) -> None:
    """And the same ones where they do not."""
    with pytest.raises(BadInput, match=said):
        settings.load(box, environ={})

    settings.load({"provider": "existing", "context": "prod", "source": "mirror", "mirror": "m:5000"}, environ={})


def test_the_cache_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The one chosen, else where the desktop's rules say."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert settings.cache_dir() == tmp_path / "xdg/inference-in-a-box"

    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    assert settings.cache_dir() == tmp_path / ".cache/inference-in-a-box"

    monkeypatch.delenv("XDG_CACHE_HOME")
    assert Settings().cache_dir() == tmp_path / ".cache/inference-in-a-box"
    assert Settings(cache="~/box").cache_dir() == tmp_path / "box"


def test_invoke_yaml_shows_every_setting_with_its_default() -> None:
    """The file is the reference a user reads: it must not lie."""
    text = (ROOT / "invoke.yaml").read_text()
    shown = yaml.safe_load(re.sub(r"^  # (\w+:)", r"  \1", text, flags=re.MULTILINE))["box"]

    assert shown == {name: getattr(Settings(), name) for name in settings.defaults()}
    assert yaml.safe_load(text) == {"box": {"provider": "auto"}}, "Invoke cannot read an empty section"
