"""Charts and manifests out of modules: versions, definitions, links and image references."""

from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from tasks.lib.errors import BadInput
from tasks.lib.packages import recipes
from tasks.lib.packages.charts import Charts
from tasks.lib.packages.gomodule import Download
from tasks.lib.packages.recipes import Chart, File, Image, Manifest, Module, Recipes
from tasks.lib.packages.store import Store

ROOT = Path(__file__).parents[2]
MODULE = Module(
    name="knative", module="knative.dev/serving", version="v0.41.1", stage="serving", seconds=1,
    commands={"queue": "cmd/queue"}, links={"config/core/link.yaml": "knative.dev/caching/config/image.yaml"},
)  # fmt: skip


class FakeModules:
    """Modules that lie in a folder, one below each name."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def download(self, module: str, version: str) -> Download:
        return Download(dir=self.root / module, gomod=self.root / "go.mod", sum=f"h1:{version}")

    def requirement(self, gomod: Path, module: str) -> str:
        assert gomod == self.root / "go.mod"
        return "v0.0.1"


@pytest.fixture
def files(tmp_path: Path) -> Path:
    root = tmp_path / "modules"
    texts = {
        "knative.dev/serving/config/core/b.yaml": "image: ko://knative.dev/serving/cmd/queue\n",
        "knative.dev/serving/config/core/a.yaml": "app.kubernetes.io/version: devel\n",
        "knative.dev/serving/config/core/notes.md": "nothing",
        "knative.dev/caching/config/image.yaml": "linked: true\n",
        "knative.dev/serving/chart/Chart.template.yaml": "name: it\nversion: v0.1.0\nappVersion: v0.1.0\n",
        "knative.dev/serving/chart/templates/x.yaml": "kind: X\n",
        "knative.dev/serving/crds/one.yaml": "kind: One\n",
        "knative.dev/serving/crds/two.yaml": "kind: Two\n",
    }
    for name, text in texts.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    for folder in (root / "knative.dev/serving/chart", root / "knative.dev/serving/chart/templates"):
        folder.chmod(0o555)
    return root


def known(root: Path) -> Recipes:
    image = Image(name="queue", files={"/queue": File(module="knative", command="queue")}, entrypoint=("/queue",))
    return replace(
        recipes.load(ROOT),
        root=root,
        modules={"knative": MODULE},
        images={"queue": image},
        charts={
            "it": Chart(
                module="knative", path="chart", header="Chart.template.yaml",
                definitions={"path": "crds", "value": "installCRDs"},
            )
        },
        manifests={
            "core": Manifest(module="knative", paths=("config/core",)),
            "part": Manifest(module="knative", paths=("config/core/a.yaml",)),
            "own": Manifest(standin="thing", path="manifest.yaml"),
        },
    )  # fmt: skip


def charts(tmp_path: Path, files: Path, recipe: Recipes | None = None) -> Charts:
    return Charts(Store(tmp_path / "cache"), recipe or known(tmp_path), FakeModules(files))  # type: ignore[arg-type]


def test_a_chart_gets_the_version_its_release_would_have(tmp_path: Path, files: Path) -> None:
    folder = charts(tmp_path, files).chart("it", "v1.11.5")
    header = yaml.safe_load((folder / "Chart.yaml").read_text())
    assert header == {"name": "it", "version": "v1.11.5", "appVersion": "v1.11.5"}
    assert (folder / "templates" / "x.yaml").exists()


def test_definitions_become_a_template_behind_their_value(tmp_path: Path, files: Path) -> None:
    folder = charts(tmp_path, files).chart("it", "v1.11.5")
    text = (folder / "templates" / "crds.yaml").read_text()
    assert text == "{{- if .Values.installCRDs }}\nkind: One\n---\nkind: Two\n{{- end }}\n"


def test_a_manifest_follows_links_and_names_images(tmp_path: Path, files: Path) -> None:
    path = charts(tmp_path, files).manifest("core", "1.14.1", lambda name: f"example.com/{name}:v1")
    assert path.read_text().split("\n---\n") == [
        'app.kubernetes.io/version: "1.14.1"', "image: example.com/queue:v1", "linked: true\n",
    ]  # fmt: skip


def test_a_manifest_takes_only_its_own_paths(tmp_path: Path, files: Path) -> None:
    text = charts(tmp_path, files).manifest("part", "1.14.1", str).read_text()
    assert "linked" not in text
    assert "image" not in text


def test_another_reference_makes_another_file(tmp_path: Path, files: Path) -> None:
    made = charts(tmp_path, files)
    assert made.manifest("core", "1", lambda name: f"a/{name}") != made.manifest("core", "1", lambda name: f"b/{name}")


def test_a_command_that_no_image_holds_is_named(tmp_path: Path, files: Path) -> None:
    without = replace(known(tmp_path), images={})
    with pytest.raises(BadInput, match=r"manifests\.core: no image holds ko://knative\.dev/serving/cmd/queue"):
        charts(tmp_path, files, without).manifest("core", "1", str)


def test_a_standin_brings_its_own_manifest(tmp_path: Path, files: Path) -> None:
    folder = tmp_path / "tasks/lib/packages/standins/thing"
    folder.mkdir(parents=True)
    (folder / "manifest.yaml").write_text('image: "${{ image:queue }}"\nother: ${{ other }}\n')
    text = charts(tmp_path, files).manifest("own", "1", lambda name: f"example.com/{name}:v1").read_text()
    assert text == 'image: "example.com/queue:v1"\nother: ${{ other }}\n'
