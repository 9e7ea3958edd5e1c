"""Charts and manifests out of Go modules, made what their release process would have made of them."""

import re
import shutil
from collections.abc import Callable
from pathlib import Path

from tasks.lib import yamlfile
from tasks.lib.errors import BadInput
from tasks.lib.packages.gomodule import GoModules
from tasks.lib.packages.recipes import FILE, Chart, Module, Recipes
from tasks.lib.packages.store import Store, digest

FORMAT = 1

_KO = re.compile(r"ko://[\w./-]+")
_UNRELEASED = "app.kubernetes.io/version: devel"

Ref = Callable[[str], str]
"""From the name of an image to its reference."""


class Charts:
    """Charts and manifests by the names that config/versions.yaml gives them."""

    def __init__(self, store: Store, recipes: Recipes, modules: GoModules) -> None:
        self._store = store
        self._recipes = recipes
        self._modules = modules

    def chart(self, name: str, version: str) -> Path:
        """Return an unpacked chart. Raises FetchFailed when its module cannot be had."""
        recipe = self._recipes.chart(name)
        module = self._recipes.module(recipe.module)
        key = digest(
            [FORMAT, module.module, module.version, recipe.path, recipe.header, dict(recipe.definitions), recipe.values]
        )
        target = self._store.path("charts", f"{name}-{version}-{key}")
        return self._store.once(target, lambda work: self._chart(recipe, module, version, work))

    def manifest(self, name: str, version: str, ref: Ref) -> Path:
        """Return a manifest with every image named by its reference. Raises BadInput for one that has none."""
        recipe = self._recipes.manifest(name)
        if recipe.standin:
            text = self._standin(recipe.standin, recipe.path, ref)
        else:
            text = self._joined(self._recipes.module(recipe.module), recipe.paths, version)
            images = self._ko()
            text = _KO.sub(lambda found: ref(_image(images, found[0], name)), text)
        target = self._store.path("manifests", f"{name}-{version}-{digest(text)}.yaml")
        return self._store.once(target, lambda work: _write(work, text))

    def _chart(self, recipe: Chart, module: Module, version: str, into: Path) -> None:
        source = self._modules.download(module.module, module.version).dir
        shutil.copytree(source / recipe.path, into, copy_function=shutil.copyfile)
        for folder in [into, *(each for each in into.rglob("*") if each.is_dir())]:
            folder.chmod(0o755)  # the module's own are read-only
        header = yamlfile.load(into / (recipe.header or "Chart.yaml"))
        header.update(version=version, appVersion=version)
        (into / "Chart.yaml").write_text(yamlfile.dump(header))
        if recipe.values:
            # Its placeholders stay: they stand where our values name an image.
            (into / recipe.values).rename(into / "values.yaml")
        if recipe.definitions:
            crds = [each.read_text().rstrip() for each in sorted((source / recipe.definitions["path"]).glob("*.yaml"))]
            condition = f"{{{{- if .Values.{recipe.definitions['value']} }}}}"
            text = "\n".join([condition, "\n---\n".join(crds), "{{- end }}", ""])
            (into / "templates" / "crds.yaml").write_text(text)

    def _joined(self, module: Module, paths: tuple[str, ...], version: str) -> str:
        """Return the module's files under `paths` as one text, links followed, in the order of their names."""
        found = self._modules.download(module.module, module.version)
        files = {
            str(each.relative_to(found.dir)): each
            for path in paths
            for each in [found.dir / path, *(found.dir / path).rglob("*")]
            if each.suffix == ".yaml" and each.is_file()
        }
        for link, leads_to in module.links.items():
            if any(link == path or link.startswith(f"{path}/") for path in paths):
                files[link] = self._linked(found.gomod, leads_to)
        release = re.sub(r"^\D*", "", version)
        text = "\n---\n".join(files[name].read_text().strip() for name in sorted(files))
        return text.replace(_UNRELEASED, f'app.kubernetes.io/version: "{release}"') + "\n"

    def _linked(self, gomod: Path, leads_to: str) -> Path:
        host, name, path = leads_to.split("/", 2)
        module = f"{host}/{name}"
        return self._modules.download(module, self._modules.requirement(gomod, module)).dir / path

    def _ko(self) -> dict[str, str]:
        """From `ko://` references to the images that hold the command."""
        return {
            f"ko://{self._recipes.module(file.module).package(file.command)}": image.name
            for image in self._recipes.images.values()
            for file in image.files.values()
            if file.command
        }

    def _standin(self, name: str, path: str, ref: Ref) -> str:
        folder = self._recipes.root / "tasks/lib/packages/standins"
        text = (folder / name / path).read_text()
        programs = sorted([*(folder / name).glob("*.py"), *folder.glob("*.py")])
        # The image keeps its upstream tag: what tells the pods that it is another one is this.
        text = text.replace("${{ program }}", digest([each.read_text() for each in programs]))
        return re.sub(r"\$\{\{ image:([\w-]+) \}\}", lambda found: ref(found[1]), text)


def _image(images: dict[str, str], reference: str, manifest: str) -> str:
    if reference not in images:
        raise BadInput(f"{FILE}: manifests.{manifest}: no image holds {reference}")
    return images[reference]


def _write(path: Path, text: str) -> None:
    path.write_text(text)
